//! The cash machine.
fn main() {}
