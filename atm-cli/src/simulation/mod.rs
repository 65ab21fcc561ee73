//! The cash machine as a simulator drives it.

mod evidence;

pub use evidence::{
    DeviceDispense, DeviceEvidence, JournalEvidence, JournalMovement, JournalRecord, JournalStep,
};
