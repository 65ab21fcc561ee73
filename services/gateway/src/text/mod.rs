//! The text and number utility: pure functions, no I/O.

pub mod case;
pub mod number;
pub mod prime;

pub use number::{Integer, MAX_BITS, NumberError};
