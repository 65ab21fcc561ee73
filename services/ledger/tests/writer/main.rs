//! The writer over its stores: what callers may rely on, as stories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
mod books;
mod checkpoints;
mod histories;
mod large;
mod log;
mod reading;
mod room;
mod second_writer;
mod verification;
