//! What must be in each place by the journal, to the note: every load and every other cash movement, what withdrawals
//! paid out, and what was paid in. Pure.
//!
//! It is what the books must say once the bank knows all that the journal knows. So a withdrawal counts from its
//! CAPTURE_PENDING on, and a SUSPECT one does not count: until a person decides, its notes are in the cassettes for the
//! books, wherever they may be. What was compacted counts as the sum that was carried on.

use std::collections::BTreeMap;

use atm_types::TransactionId;

use super::machine::{Ending, Kind, State};
use super::movement::{Account, Movement};
use super::record::Record;
use crate::device::Notes;

/// Notes by denomination, also fewer than none: what came in less what went out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<i64, i64>);

impl Counts {
    pub(crate) fn of_notes(notes: &Notes) -> Self {
        let mut counts = Self::default();
        counts.put(notes);
        counts
    }

    pub(crate) fn put(&mut self, notes: &Notes) {
        notes.iter().for_each(|(denomination, count)| self.change(denomination, i64::from(count)));
    }

    pub(crate) fn take(&mut self, notes: &Notes) {
        notes.iter().for_each(|(denomination, count)| self.change(denomination, -i64::from(count)));
    }

    pub(crate) fn add(&mut self, others: &Self) {
        others.iter().for_each(|(denomination, count)| self.change(denomination, count));
    }

    /// These less `others`.
    pub(crate) fn less(&self, others: &Self) -> Self {
        let mut left = self.clone();
        others.iter().for_each(|(denomination, count)| left.change(denomination, count.saturating_neg()));
        left
    }

    pub(crate) fn of(&self, denomination: i64) -> i64 {
        self.0.get(&denomination).copied().unwrap_or(0)
    }

    /// So many more of one denomination.
    pub(crate) fn change(&mut self, denomination: i64, by: i64) {
        let count = self.0.entry(denomination).or_default();
        *count = count.saturating_add(by);
        if *count == 0 {
            self.0.remove(&denomination);
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Denomination in minor units and count, the largest denomination first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().rev().map(|(denomination, count)| (*denomination, *count))
    }

    pub(crate) fn minor_units(&self) -> i64 {
        self.iter()
            .fold(0, |sum: i64, (denomination, count)| sum.saturating_add(denomination.saturating_mul(count)))
    }

    /// What is more than none of them, and what is missing to none.
    pub(crate) fn apart(&self) -> (Notes, Notes) {
        let side = |sign: i64| {
            self.iter()
                .filter_map(|(denomination, count)| {
                    let count = u32::try_from(count.saturating_mul(sign)).ok()?;
                    Some((denomination, count))
                })
                .collect()
        };
        (side(1), side(-1))
    }
}

/// What one transaction or movement did to one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) id: TransactionId,
    pub(crate) place: Account,
    pub(crate) notes: Counts,
    /// By how much it changes the place's balance in the books, in minor units.
    pub(crate) value: i64,
}

/// Place, denomination and count; under the denomination 0 what the notes count in the books, in minor units.
pub(super) type Carried = Vec<(Account, i64, i64)>;

/// What the journal keeps, and the sum of what it does not keep any more.
pub(crate) struct Expected {
    carried: Carried,
    pub(crate) records: Vec<Record>,
    pub(crate) movements: Vec<Movement>,
}

impl Expected {
    pub(super) fn new(carried: Carried, records: Vec<Record>, movements: Vec<Movement>) -> Self {
        Self { carried, records, movements }
    }

    /// The notes that must be in a place.
    pub(crate) fn notes(&self, place: Account) -> Counts {
        let mut counts = Counts::default();
        for (_, denomination, count) in
            self.carried.iter().filter(|(at, denomination, _)| *at == place && *denomination > 0)
        {
            counts.change(*denomination, *count);
        }
        self.effects()
            .iter()
            .filter(|effect| effect.place == place)
            .for_each(|effect| counts.add(&effect.notes));
        counts
    }

    /// What the books must say of a place, in minor units.
    pub(crate) fn value(&self, place: Account) -> i64 {
        let effects = self.effects();
        let effects = effects.iter().filter(|effect| effect.place == place);
        effects.fold(self.carried_value(place), |sum, effect| sum.saturating_add(effect.value))
    }

    /// What of that is carried on from what was compacted.
    pub(crate) fn carried_value(&self, place: Account) -> i64 {
        let carried = self.carried.iter().filter(|(at, denomination, _)| *at == place && *denomination == 0);
        carried.fold(0, |sum, (_, _, value)| sum.saturating_add(*value))
    }

    /// Whether anything was ever compacted.
    pub(crate) fn is_shortened(&self) -> bool {
        !self.carried.is_empty()
    }

    /// What every transaction and movement did, in no order.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.movements.iter().flat_map(of_movement).collect();
        effects.extend(self.records.iter().filter_map(|record| of_record(record, &self.movements)));
        effects
    }

    /// What has to be carried on when these are forgotten, so that every sum stays as it is.
    pub(super) fn carried_without(&self, gone: &[String]) -> Carried {
        let stays = |id: TransactionId| !gone.contains(&id.to_string());
        let rest = Self {
            carried: Vec::new(),
            records: self.records.iter().filter(|record| stays(record.id())).cloned().collect(),
            movements: self.movements.iter().filter(|movement| stays(movement.id)).cloned().collect(),
        };
        let mut carried = Vec::new();
        for place in Account::ALL.iter().copied() {
            let value = self.value(place).saturating_sub(rest.value(place));
            // A value of 0 is carried as well: it says that something was forgotten.
            carried.push((place, 0, value));
            let notes = self.notes(place).less(&rest.notes(place));
            carried.extend(notes.iter().map(|(denomination, count)| (place, denomination, count)));
        }
        carried
    }
}

/// The notes of a withdrawal that went out and did not come back, by its plan and its movements.
fn paid_out(record: &Record, movements: &[Movement]) -> Notes {
    let mut back = Notes::none();
    for movement in movements.iter().filter(|movement| movement.about == Some(record.id())) {
        if movement.from == Account::Cassettes {
            back.add_all(&movement.notes);
        }
    }
    let planned =
        record.plan.less(&back).filter(|notes| notes.worth(record.taken().currency()) == record.taken());
    // A person decided that it was another amount: which notes that were is not written anywhere.
    planned.or_else(|| Notes::counted_in(record.taken())).unwrap_or_default()
}

fn of_record(record: &Record, movements: &[Movement]) -> Option<Effect> {
    let (id, kind, state) = (record.id(), record.intent.kind, record.state);
    let mut notes = Counts::default();
    match (kind, state) {
        (Kind::Withdrawal, State::CapturePending | State::Done) => {
            // Before there was a device, no notes were planned.
            if record.dispense_id.is_some() {
                notes.take(&paid_out(record, movements));
            }
            let value = record.taken().minor_units().saturating_neg();
            (value != 0).then_some(Effect { id, place: Account::Cassettes, notes, value })
        }
        (Kind::Deposit, State::StackPending | State::Done | State::Suspect)
            if record.ending == Some(Ending::Posted) =>
        {
            notes.put(&record.plan);
            Some(Effect { id, place: Account::Deposit, notes, value: record.intent.amount.minor_units() })
        }
        (
            Kind::Withdrawal | Kind::Deposit | Kind::Transfer,
            State::Intent
            | State::Authorized
            | State::Dispensing
            | State::Presented
            | State::CapturePending
            | State::Done
            | State::VoidPending
            | State::Voided
            | State::SuspendPending
            | State::Suspect
            | State::StackPending
            | State::ReturnPending,
        ) => None,
    }
}

fn of_movement(movement: &Movement) -> Vec<Effect> {
    let side = |place: Account, sign: i64| {
        let value = movement.amount.minor_units().saturating_mul(sign);
        let mut notes = Counts::default();
        match place {
            // The bank's, and shared by all machines.
            Account::Vault => return None,
            // No place for notes. The books count here what was found too much.
            Account::Suspense => {
                return Some(Effect { id: movement.id, place, notes, value: value.saturating_neg() });
            }
            Account::Cassettes | Account::Reject | Account::Retract | Account::Deposit if sign > 0 => {
                notes.put(&movement.notes);
            }
            Account::Cassettes | Account::Reject | Account::Retract | Account::Deposit => {
                notes.take(&movement.notes);
            }
        }
        Some(Effect { id: movement.id, place, notes, value })
    };
    [side(movement.from, -1), side(movement.to, 1)].into_iter().flatten().collect()
}
