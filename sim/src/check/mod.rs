//! The invariants, as pure functions over the evidence; their numbers are those of docs/ARCHITECTURE.md.

use crate::evidence::Evidence;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u8,
    /// What was found, in a sentence with the ids that matter.
    pub what: String,
}

impl Violation {
    /// A violation of this invariant.
    pub fn new(invariant: u8, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// A group of invariants.
pub type Check = fn(&Evidence) -> Vec<Violation>;

/// What is checked in the middle of a run as well as at its end.
pub const ALWAYS: &[Check] = &[];

/// What is checked at the end only, when everything had its time to end.
pub const AT_END: &[Check] = &[];

/// All violations that the evidence shows.
pub fn all(evidence: &Evidence) -> Vec<Violation> {
    let at_end = if evidence.at_end { AT_END } else { &[] };
    ALWAYS.iter().chain(at_end).flat_map(|check| check(evidence)).collect()
}
