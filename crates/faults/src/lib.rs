//! Places where a program can be told to die ([`fault_point!`]), and bugs that can be planted in it ([`planted`]).
//!
//! The simulator kills a service or a cash machine at each place, and plants each bug to see whether its checkers
//! notice. Both are switched by the thread that they run on, so that simulations beside each other do not meet. A real
//! process is told by its environment at which place it dies: `ATM_DIE_AT=POINT`, or `POINT:n` for the n-th time that it
//! comes there. Without the feature `armed`, which only the simulator and `tests/kill` ask for, a fault point is nothing
//! at all, nobody reads the environment, and no bug is ever planted: the compiler drops all of it.

mod bugs;
#[cfg(feature = "armed")]
mod doom;
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

/// Tells whoever watches this thread that a fault point was reached, and dies if this is the point to die at. It may not
/// return.
#[cfg(feature = "armed")]
pub fn reached(point: &'static str) {
    switch::reached(point);
    doom::reached(point);
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

/// Ends the process as the kernel does: nothing is flushed, no destructor runs.
#[cfg(feature = "die")]
pub fn die() -> ! {
    loop {
        // It cannot fail for a process and itself; should it all the same, nothing may go on from here.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }
}
