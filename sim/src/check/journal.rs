//! The machines' journals: 12, 14 and 24.

use std::collections::BTreeSet;

use atm_cli::simulation::{JournalRecord, JournalStep};
use atm_types::TransactionId;

use super::Violation;
use super::decode::asked;
use crate::evidence::{Evidence, MachineEvidence};

/// 12: a withdrawal whose notes were presented is never cancelled.
pub(super) fn nothing_is_cancelled_after_it_was_presented(evidence: &Evidence) -> Vec<Violation> {
    let presented: BTreeSet<TransactionId> = evidence
        .machines
        .iter()
        .flat_map(|machine| &machine.journal.records)
        .filter(|record| record.presented.is_some_and(|amount| amount > 0))
        .map(|record| record.id)
        .collect();
    let cancelled = asked(evidence);
    let cancelled = cancelled
        .iter()
        .filter(|asked| asked.call.method == "CancelTransaction" && presented.contains(&asked.id))
        .map(|asked| {
            format!("{} sent a cancel of {}, whose notes were presented", asked.call.caller, asked.id)
        });
    let mut found: Vec<Violation> = cancelled.map(|what| Violation::new(12, what)).collect();
    for machine in &evidence.machines {
        let mut seen = BTreeSet::new();
        for step in &machine.journal.steps {
            if is_given_up(step) && seen.contains(&step.subject) {
                found.push(given_up(&machine.name, &step.subject));
            }
            if is_presented(step) {
                seen.insert(&step.subject);
            }
        }
    }
    found
}

/// Whether this step says that notes were presented.
pub(super) fn is_presented(step: &JournalStep) -> bool {
    step.event == "PRESENTED"
}

/// Whether this step gives a transaction up.
pub(super) fn is_given_up(step: &JournalStep) -> bool {
    step.state == "VOID_PENDING"
}

pub(super) fn given_up(machine: &str, subject: &str) -> Violation {
    Violation::new(12, format!("{machine} gave {subject} up after it had presented its notes"))
}

/// 14: what was once in a journal stays there, whatever dies, until it is so old that it is compacted.
pub(super) fn what_was_written_stays(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &evidence.machines {
        let there: BTreeSet<(i64, &str, &str)> = machine.journal.steps.iter().map(text_of).collect();
        // What is older than the first step was compacted away.
        let first = machine.journal.steps.first().map_or(0, |step| step.sequence);
        let mut kept = machine.written.iter().filter(|step| step.sequence >= first);
        let lost = kept.find(|step| !there.contains(&text_of(step)));
        found.extend(lost.map(|step| {
            let what =
                format!("{} lost step {}, {} of {}", machine.name, step.sequence, step.event, step.subject);
            Violation::new(14, what)
        }));
    }
    found
}

fn text_of(step: &JournalStep) -> (i64, &str, &str) {
    (step.sequence, &step.subject, &step.event)
}

/// 24: a withdrawal is suspect only when its device said that it does not know.
pub(super) fn suspect_only_when_unknown(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &evidence.machines {
        for record in &machine.journal.records {
            if record.kind == "withdrawal"
                && record.state == "SUSPECT"
                && !device_does_not_know(machine, record)
            {
                let what = format!(
                    "{} is suspect ({:?}), and its device knows what came out",
                    record.id, record.reason
                );
                found.push(Violation::new(24, what));
            }
        }
    }
    found
}

fn device_does_not_know(machine: &MachineEvidence, record: &JournalRecord) -> bool {
    let Some(id) = record.dispense_id else { return false };
    let dispense = machine.device.dispenses.iter().find(|dispense| dispense.id == id);
    dispense.is_some_and(|dispense| {
        dispense.step == "presenting" || dispense.step == "retracted" && !dispense.counted
    })
}
