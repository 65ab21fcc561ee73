//! Starts the gateway service.
fn main() {}
