//! Notes against books: 8, 9, 10 and 11.

use std::collections::BTreeMap;

use atm_cli::simulation::{DeviceDispense, JournalRecord};
use atm_ledger_core::{Action, Step};
use atm_types::TransactionId;
use uuid::Uuid;

use super::Violation;
use crate::evidence::{Evidence, MachineEvidence, Role};

/// 10 and 11: whatever came out belongs to one transaction that was held before, and came out once.
pub(super) fn dispenses(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &evidence.machines {
        let mut of: BTreeMap<Uuid, &JournalRecord> = BTreeMap::new();
        for record in &machine.journal.records {
            if let Some(id) = record.dispense_id
                && of.insert(id, record).is_some()
            {
                found.push(Violation::new(11, format!("dispense {id} belongs to two transactions")));
            }
        }
        for dispense in &machine.device.dispenses {
            let record = of.get(&dispense.id).copied();
            let held = record.and_then(|record| {
                evidence.ledger.steps.iter().find_map(|step| match &step.action {
                    Action::Hold { transfer, .. } if step.id == record.id => Some(transfer.amount),
                    _ => None,
                })
            });
            found.extend(must_be_held(&machine.name, record, dispense, held));
        }
    }
    found
}

/// 10 and 11: a dispense belongs to a transaction, and so much is held for that and was signed for.
pub(super) fn must_be_held(
    machine: &str,
    record: Option<&JournalRecord>,
    dispense: &DeviceDispense,
    held: Option<i64>,
) -> Option<Violation> {
    let Some(record) = record else {
        let what = format!("{machine} was told of dispense {}, which its journal does not know", dispense.id);
        return Some(Violation::new(11, what));
    };
    let is_held = held.is_some_and(|held| held >= dispense.planned) && !record.authorization.is_empty();
    let what =
        || format!("{} of {} was to be paid out, and nothing was held for it", dispense.planned, record.id);
    (!is_held).then(|| Violation::new(10, what()))
}

/// What stands posted on a place of a machine, in the ledger's books, seen from its debit side.
fn booked(evidence: &Evidence, machine: &str, place: &str) -> i64 {
    let is_place = |role: &Role| matches!(role, Role::Place { machine: of, place: what } if of == machine && *what == place);
    let accounts: Vec<_> =
        evidence.ledger.roles.iter().filter(|(_, role)| is_place(role)).map(|(id, _)| *id).collect();
    let legs = evidence.ledger.steps.iter().flat_map(Step::entries);
    let ours = legs.filter(|(_, leg)| accounts.contains(&leg.account_id));
    ours.map(|(index, leg)| if index == 0 { leg.posted } else { -leg.posted }).sum()
}

/// Whether anything at this machine was ever frozen: then only a person knows where its notes are.
fn had_suspects(evidence: &Evidence, machine: &MachineEvidence) -> bool {
    let theirs = |step: &&Step| step.terminal.to_string() == machine.terminal_id;
    let frozen = |step: &Step| matches!(step.action, Action::Suspend { .. });
    evidence.ledger.steps.iter().filter(theirs).any(frozen)
        || machine.journal.records.iter().any(|record| record.state == "SUSPECT")
}

/// 8: in each place of a machine are the notes that the books have there.
pub(super) fn places(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &evidence.machines {
        let known = |what: &str| match what {
            "deposit" => true,
            _ => !had_suspects(evidence, machine),
        };
        let untold = machine
            .journal
            .movements
            .iter()
            .any(|movement| movement.state != "POSTED" && movement.state != "OPERATOR_POSTED");
        if untold {
            continue;
        }
        for place in ["cassettes", "reject", "retract"].into_iter().filter(|place| known(place)) {
            let (notes, books) = (machine.device.worth(place), booked(evidence, &machine.name, place));
            if notes != books {
                let what = format!("{}: {notes} in {place}, and {books} in the books", machine.name);
                found.push(Violation::new(8, what));
            }
        }
    }
    found
}

/// 9: what customers took is what was captured, withdrawal by withdrawal.
pub(super) fn captures(evidence: &Evidence) -> Vec<Violation> {
    let mut posted: BTreeMap<TransactionId, i64> = BTreeMap::new();
    let mut frozen: BTreeMap<TransactionId, i64> = BTreeMap::new();
    for step in &evidence.ledger.steps {
        let debit = step.action.legs().first().map_or(0, |leg| leg.posted);
        *posted.entry(step.id).or_default() += debit;
        if let Action::Suspend { transfer, legs } = &step.action {
            frozen.insert(step.id, transfer.amount);
            let waits = legs[2].pending;
            if waits != transfer.amount {
                return vec![Violation::new(
                    9,
                    format!("{} is suspended with {waits} of {}", step.id, transfer.amount),
                )];
            }
        }
    }
    let mut found = Vec::new();
    for machine in &evidence.machines {
        let dispenses: BTreeMap<Uuid, &DeviceDispense> =
            machine.device.dispenses.iter().map(|dispense| (dispense.id, dispense)).collect();
        for record in machine.journal.records.iter().filter(|record| record.kind == "withdrawal") {
            if frozen.contains_key(&record.id) || record.state == "SUSPECT" {
                continue;
            }
            let dispense = record.dispense_id.and_then(|id| dispenses.get(&id));
            let taken = dispense.map_or(0, |dispense| dispense.presented - dispense.retracted);
            let captured = posted.get(&record.id).copied().unwrap_or(0);
            if taken != captured {
                let what = format!("{}: {taken} was taken and {captured} captured", record.id);
                found.push(Violation::new(9, what));
            }
        }
    }
    found
}

/// 9: what is in the deposit box is what was credited.
pub(super) fn deposits(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &evidence.machines {
        let open = machine.journal.records.iter().any(|record| record.kind == "deposit" && !record.is_over);
        let untold = machine
            .journal
            .movements
            .iter()
            .any(|movement| movement.state == "PENDING" || movement.state == "REFUSED");
        let (notes, books) = (machine.device.worth("deposit"), booked(evidence, &machine.name, "deposit"));
        if !open && !untold && notes != books {
            let what = format!("{}: {notes} in the deposit box, and {books} in the books", machine.name);
            found.push(Violation::new(9, what));
        }
    }
    found
}
