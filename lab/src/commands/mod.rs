//! One file for each command.

pub mod conform;
pub mod plot;
pub mod proxy;
pub mod run;
pub mod verify;
