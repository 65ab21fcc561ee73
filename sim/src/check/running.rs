//! The invariants that are cheap enough to be tried in the middle of a run, whenever something became durable: what
//! breaks one of them stands in the timeline where it happened.
//!
//! They see what a look at the end cannot: whether the hold was there *before* its cash came out.

use std::collections::{BTreeMap, BTreeSet};

use atm_cli::simulation::{DeviceDispense, JournalEvidence, JournalStep};
use atm_ledger::storage::Head;
use atm_ledger_core::{Action, Step};
use atm_types::TransactionId;

use super::{Violation, books, cash, journal};

/// What was seen so far of the whole world.
#[derive(Debug, Default)]
pub struct Running {
    sums: books::Sums,
    lives: books::Lives,
    /// Where the books ended.
    end: u64,
    /// What was set aside for whom.
    held: BTreeMap<TransactionId, i64>,
    /// Withdrawals whose notes were presented, by machine.
    presented: BTreeSet<(String, String)>,
}

impl Running {
    /// 1 to 5, 13, 14 and 16, after a commit of the ledger.
    pub fn ledger(&mut self, head: Head, steps: &[Step]) -> Vec<Violation> {
        let mut found = Vec::new();
        let before = std::mem::replace(&mut self.end, head.sequence);
        if let Some(lost) = books::went_back(before, head.sequence) {
            return vec![lost];
        }
        if steps.len() as u64 != head.sequence - before {
            let what =
                format!("{} steps are what leads from step {before} to {}", steps.len(), head.sequence);
            found.push(Violation::new(16, what));
        }
        for step in steps {
            found.extend(self.sums.add(step));
            found.extend(self.lives.add(step));
            if let Action::Hold { transfer, .. } = &step.action {
                self.held.insert(step.id, transfer.amount);
            }
        }
        found
    }

    /// 10: notes are counted out only for what is held by now.
    pub fn dispense(
        &self,
        journal: &JournalEvidence,
        machine: &str,
        dispense: &DeviceDispense,
    ) -> Option<Violation> {
        let record = journal.records.iter().find(|record| record.dispense_id == Some(dispense.id));
        let held = record.and_then(|record| self.held.get(&record.id)).copied();
        cash::must_be_held(machine, record, dispense, held)
    }

    /// 12: what was presented is not given up.
    pub fn journal(&mut self, machine: &str, step: &JournalStep) -> Option<Violation> {
        let subject = (machine.to_owned(), step.subject.clone());
        let given_up = journal::is_given_up(step) && self.presented.contains(&subject);
        if journal::is_presented(step) {
            self.presented.insert(subject);
        }
        given_up.then(|| journal::given_up(machine, &step.subject))
    }
}
