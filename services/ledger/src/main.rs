//! Starts the ledger service.
fn main() {}
