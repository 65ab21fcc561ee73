//! The invariants, as pure functions over the evidence; their numbers are those of docs/ARCHITECTURE.md.
//!
//! All of them look at the end of a run; [`running`] tries the cheapest after each commit, too.
//!
//! `books` looks at the ledger's disk alone; `model` replays it and judges what was answered at the ledger's door, and
//! `linear` judges that without the log; `answers` and `statements` hold what was told against it, `told` what customers
//! were; `whose` asks from and to which account; `cash`, `journal` and `ends` look at the machines; `pins`, `right_pins` and `secrets` at auth and at everything that is written down.

mod answers;
mod books;
mod cash;
mod decode;
mod ends;
mod journal;
pub mod linear;
mod model;
mod pins;
mod right_pins;
pub mod running;
mod secrets;
mod statements;
mod told;
mod whose;

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

/// What must be true at any moment, also of a run that was broken off.
pub const ALWAYS: &[Check] = &[
    books::sums,
    books::order,
    books::lives,
    books::chain,
    model::replay,
    linear::every_window_is_explained,
    answers::told_is_recorded,
    answers::same_id_same_outcome,
    answers::real_time,
    answers::balances,
    statements::statements,
    cash::dispenses,
    journal::nothing_is_cancelled_after_it_was_presented,
    journal::suspect_only_when_unknown,
    journal::what_was_written_stays,
    pins::lockout,
    pins::counts,
    right_pins::right_pins,
    pins::sessions,
    whose::accounts,
    secrets::nowhere,
];

/// What must be true when everything had its time to end.
pub const AT_END: &[Check] = &[
    books::starts_again,
    cash::places,
    cash::captures,
    cash::deposits,
    ends::everything_ended,
    told::receipts_are_true,
    probes,
];

/// All violations that the evidence shows.
pub fn all(evidence: &Evidence) -> Vec<Violation> {
    let at_end = if evidence.at_end { AT_END } else { &[] };
    ALWAYS.iter().chain(at_end).flat_map(|check| check(evidence)).collect()
}

/// What the auditor tried and should not have got.
fn probes(evidence: &Evidence) -> Vec<Violation> {
    let got = evidence.probes.iter().filter(|probe| !probe.as_expected);
    got.map(|probe| Violation::new(probe.invariant, format!("not so: {}: {}", probe.what, probe.got)))
        .collect()
}
