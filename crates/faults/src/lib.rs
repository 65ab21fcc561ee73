//! Places where a program can be told to die ([`fault_point!`]), and bugs that can be planted in it ([`planted`]).
//!
//! The simulator kills a service or a cash machine at each place, and plants each bug to see whether its checkers
//! notice. Both are switched by the thread that they run on, so that simulations beside each other do not meet. Without
//! the feature `armed`, which only the simulator asks for, a fault point is nothing at all and no bug is ever planted:
//! the compiler drops both.

mod bugs;
#[cfg(feature = "armed")]
mod switch;

pub use bugs::Bug;
#[cfg(feature = "armed")]
pub use switch::{Planted, Watching, plant, watch};

/// Stands where a program may be told to die: before and after a durable write, a sending or a receiving.
///
/// A name stands at one place only. The simulator finds all of them in the sources.
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {
        $crate::reached($name)
    };
}

/// Tells whoever watches this thread that a fault point was reached. It may not return.
#[cfg(feature = "armed")]
pub fn reached(point: &'static str) {
    switch::reached(point);
}

/// Nothing.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn reached(_: &'static str) {}

/// Whether this bug is planted on this thread.
#[cfg(feature = "armed")]
pub fn planted(bug: Bug) -> bool {
    switch::planted(bug)
}

/// No.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}
