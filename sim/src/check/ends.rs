//! 23: with no faults left everything ends, or waits for a person.

use std::collections::{BTreeMap, BTreeSet};

use atm_ledger_core::{Action, Step};
use atm_types::TransactionId;

use super::Violation;
use crate::evidence::Evidence;

/// See the module.
pub(super) fn everything_ended(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut over = BTreeSet::new();
    for machine in &evidence.machines {
        for record in &machine.journal.records {
            let ended = matches!(record.state, "DONE" | "VOIDED");
            if !ended && record.state != "SUSPECT" {
                found.push(Violation::new(
                    23,
                    format!("{} of {} is still {}", record.id, machine.name, record.state),
                ));
            }
            if ended {
                over.insert(record.id);
            }
        }
    }
    for (id, hold) in standing(&evidence.ledger.steps) {
        if over.contains(&id) {
            found.push(Violation::new(23, format!("{id} is over at its machine and held at the bank")));
        }
        let Action::Hold { expire_time, .. } = &hold.action else { continue };
        if evidence.ledger.batches.iter().any(|batch| batch.commit_time >= *expire_time) {
            found.push(Violation::new(23, format!("{id} stands although its lifetime is over")));
        }
    }
    found
}

/// Holds that nothing has ended.
fn standing(steps: &[Step]) -> BTreeMap<TransactionId, &Step> {
    let mut standing = BTreeMap::new();
    for step in steps {
        match &step.action {
            Action::Hold { .. } => drop(standing.insert(step.id, step)),
            action if action.ends_hold() => drop(standing.remove(&step.id)),
            _ => {}
        }
    }
    standing
}
