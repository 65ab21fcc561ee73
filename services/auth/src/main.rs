//! Starts the auth service.
fn main() {}
