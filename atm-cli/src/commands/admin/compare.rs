//! The comparison behind `admin reconcile`: the device's counters with the journal, to the note, and the journal with
//! the books, transaction by transaction. Pure.
//!
//! The device's own account of a dispense against the journal's explains why a counter is not what the journal
//! expects; what no dispense explains is unexplained. If all of it agrees, invariants 8 and 9 of the design hold:
//! loaded − presented + retracted is what is in cassettes, retract and reject, and what was presented is captured,
//! in suspense, or pending in the journal.

use std::collections::{BTreeMap, BTreeSet};

use atm_types::{Currency, Money};

use super::cash::{self, PLACES};
use crate::device::{Dispense, Notes, Remembered, Step};
use crate::journal::{Account, Counts, Effect, Expected, Kind, Movement, MovementState, Record, State};

/// The books of one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub(super) balance: i64,
    pub(super) pending: i64,
    /// What each transaction changed, in minor units.
    pub(super) entries: BTreeMap<String, i64>,
}

/// Everything that is compared.
pub(super) struct Evidence<'a> {
    pub(super) currency: Currency,
    pub(super) expected: &'a Expected,
    /// All of its effects.
    pub(super) effects: &'a [Effect],
    pub(super) counted: &'a [(Account, Notes)],
    pub(super) history: &'a [Remembered],
    pub(super) books: &'a [(Account, Book)],
}

/// Something that does not agree, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) place: Account,
    /// Snake case, stable.
    pub(super) what: &'static str,
    /// The transaction that explains it, or the dispense that nobody knows.
    pub(super) id: Option<String>,
    /// Of the device against the journal, or of the books against it, in minor units.
    pub(super) minor_units: i64,
    pub(super) notes: Counts,
    /// Whether it is named and will be gone when the transaction is over.
    pub(super) explained: bool,
    pub(super) words: String,
}

/// Everything that does not agree.
pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (place, counted) in evidence.counted {
        found.extend(evidence.device(*place, counted));
    }
    for (place, book) in evidence.books {
        found.extend(evidence.book(*place, book));
    }
    found
}

impl Evidence<'_> {
    /// A counter against the journal.
    fn device(&self, place: Account, counted: &Notes) -> Vec<Finding> {
        let mut rest = Counts::of_notes(counted).less(&self.expected.notes(place));
        if rest.is_zero() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for remembered in self.history.iter().filter(|dispense| !self.is_settled(place, dispense)) {
            let id = remembered.dispense.id;
            let record = self.expected.records.iter().find(|record| record.dispense_id == Some(id));
            if record.is_none() && self.is_forgotten(id) {
                continue;
            }
            let by_journal = record.map(|record| self.by_journal(record, place)).unwrap_or_default();
            let notes = by_device(remembered, place).less(&by_journal);
            if notes.is_zero() {
                continue;
            }
            rest = rest.less(&notes);
            found.push(match record {
                Some(record) => self.of_record(place, record, notes),
                None => self.finding(
                    place,
                    "dispense_not_in_journal",
                    Some(id.to_string()),
                    notes,
                    false,
                    "the device paid out under an id that the journal does not know",
                ),
            });
        }
        for record in self.expected.records.iter().filter(|record| record.state == State::StackPending) {
            if place == Account::Deposit {
                let mut notes = Counts::default();
                notes.take(&record.plan);
                rest = rest.less(&notes);
                found.push(self.of_record(place, record, notes));
            }
        }
        if !rest.is_zero() {
            let words = format!(
                "the device counts {} against the journal, and no transaction explains it",
                cash::in_words(&rest, self.currency)
            );
            found.push(self.finding(place, "counter_differs", None, rest, false, &words));
        }
        found
    }

    /// Whether somebody counted the place after this dispense, so that it explains nothing any more.
    fn is_settled(&self, place: Account, remembered: &Remembered) -> bool {
        let is_count = |movement: &&Movement| {
            [(movement.from, movement.to), (movement.to, movement.from)].contains(&(place, Account::Suspense))
        };
        // Both ids begin with the time at which they were made.
        let counts = self.expected.movements.iter().filter(is_count);
        counts.map(|movement| movement.id.as_uuid()).any(|count| count > remembered.dispense.id)
    }

    /// Whether the journal has compacted what it once knew of this dispense.
    fn is_forgotten(&self, dispense: uuid::Uuid) -> bool {
        let oldest = self.expected.records.iter().filter_map(|record| record.dispense_id).min();
        self.expected.is_shortened() && oldest.is_none_or(|oldest| dispense < oldest)
    }

    /// What a withdrawal did to a place by the journal.
    fn by_journal(&self, record: &Record, place: Account) -> Counts {
        let about = self.expected.movements.iter().filter(|movement| movement.about == Some(record.id()));
        let ids: BTreeSet<_> = about.map(|movement| movement.id).chain([record.id()]).collect();
        let mut counts = Counts::default();
        for effect in self.effects.iter().filter(|effect| effect.place == place && ids.contains(&effect.id)) {
            counts.add(&effect.notes);
        }
        counts
    }

    fn of_record(&self, place: Account, record: &Record, notes: Counts) -> Finding {
        let (what, words) = match record.state {
            State::Suspect => (
                "suspect",
                format!("withdrawal of {} is SUSPECT: these notes may have left", record.intent.amount),
            ),
            State::SuspendPending => (
                "suspend_pending",
                format!(
                    "withdrawal of {} waits to be frozen: these notes may have left",
                    record.intent.amount
                ),
            ),
            State::Done | State::Voided => (
                "device_disagrees",
                format!(
                    "{} of {} ended as {} ({}), and the device remembers it otherwise",
                    record.intent.kind,
                    record.intent.amount,
                    record.state,
                    record.reason.as_deref().unwrap_or("no reason")
                ),
            ),
            State::Intent
            | State::Authorized
            | State::Dispensing
            | State::Presented
            | State::CapturePending
            | State::VoidPending
            | State::StackPending
            | State::ReturnPending => (
                "not_settled",
                format!("{} of {} is still {}", record.intent.kind, record.intent.amount, record.state),
            ),
        };
        let open = !matches!(record.state, State::Done | State::Voided);
        self.finding(place, what, Some(record.id().to_string()), notes, open, &words)
    }

    /// The books against the journal.
    fn book(&self, place: Account, book: &Book) -> Vec<Finding> {
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for effect in self.effects.iter().filter(|effect| effect.place == place) {
            let value = expected.entry(effect.id.to_string()).or_default();
            *value = value.saturating_add(effect.value);
        }
        let mut found = Vec::new();
        let ids: BTreeSet<&String> = expected.keys().chain(book.entries.keys()).collect();
        let (mut forgotten, oldest) = (0_i64, self.oldest());
        for id in ids {
            let by_journal = expected.get(id).copied().unwrap_or(0);
            let by_books = book.entries.get(id).copied().unwrap_or(0);
            if by_journal == by_books {
                continue;
            }
            let known = self.expected.records.iter().any(|record| record.id().to_string() == *id)
                || self.expected.movements.iter().any(|movement| movement.id.to_string() == *id);
            if !known && self.expected.is_shortened() && oldest.as_ref().is_none_or(|oldest| id < oldest) {
                forgotten = forgotten.saturating_add(by_books);
                continue;
            }
            found.push(self.of_books(place, id, by_journal, by_books));
        }
        let carried = self.expected.carried_value(place);
        if forgotten != carried {
            let words = format!(
                "what the journal has forgotten adds up to {}, and in the books to {}",
                Money::new(carried, self.currency),
                Money::new(forgotten, self.currency)
            );
            found.push(self.of_value(place, "forgotten_differs", None, forgotten - carried, false, words));
        }
        let sum = book.entries.values().fold(0_i64, |sum, amount| sum.saturating_add(*amount));
        if sum != book.balance {
            let words = "its entries do not add up to its balance".to_owned();
            found.push(self.of_value(place, "books_do_not_add_up", None, book.balance - sum, false, words));
        }
        found
    }

    /// The oldest id that the journal keeps: before it, it may have forgotten what it once knew.
    fn oldest(&self) -> Option<String> {
        let records = self.expected.records.iter().map(Record::id);
        records
            .chain(self.expected.movements.iter().map(|movement| movement.id))
            .min()
            .map(|id| id.to_string())
    }

    fn of_books(&self, place: Account, id: &str, by_journal: i64, by_books: i64) -> Finding {
        let money = |units| Money::new(units, self.currency);
        let record = self.expected.records.iter().find(|record| record.id().to_string() == id);
        let movement = self.expected.movements.iter().find(|movement| movement.id.to_string() == id);
        let (what, explained, words) = match (record, movement) {
            (Some(record), _) if !matches!(record.state, State::Done | State::Voided) => (
                if by_books == 0 { "pending_in_journal" } else { "not_settled" },
                true,
                format!(
                    "{} of {} is {}: {} by the journal, {} in the books so far",
                    record.intent.kind,
                    record.intent.amount,
                    record.state,
                    money(by_journal),
                    money(by_books)
                ),
            ),
            (Some(record), _) => (
                if by_books == 0 { "missing_in_books" } else { "amounts_differ" },
                false,
                format!(
                    "{} of {} is {} with {}, and the books have {}",
                    record.intent.kind,
                    record.intent.amount,
                    record.state,
                    money(by_journal),
                    money(by_books)
                ),
            ),
            (None, Some(movement)) => {
                let pending =
                    matches!(movement.state, MovementState::Pending | MovementState::OperatorPending);
                let what = match (pending, by_books) {
                    (true, 0) => "pending_in_journal",
                    (true, _) => "not_settled",
                    (false, 0) => "missing_in_books",
                    (false, _) => "amounts_differ",
                };
                let words = format!(
                    "movement of {} from {} to {} is {}{}, and the books have {}",
                    movement.amount,
                    movement.from,
                    movement.to,
                    movement.state,
                    movement.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
                    money(by_books)
                );
                (what, pending && by_books == 0, words)
            }
            (None, None) => (
                "not_in_journal",
                false,
                format!("the books have {}, and the journal does not know the transaction", money(by_books)),
            ),
        };
        self.of_value(place, what, Some(id.to_owned()), by_books.saturating_sub(by_journal), explained, words)
    }

    fn of_value(
        &self,
        place: Account,
        what: &'static str,
        id: Option<String>,
        minor_units: i64,
        explained: bool,
        words: String,
    ) -> Finding {
        Finding { place, what, id, minor_units, notes: Counts::default(), explained, words }
    }

    fn finding(
        &self,
        place: Account,
        what: &'static str,
        id: Option<String>,
        notes: Counts,
        explained: bool,
        words: &str,
    ) -> Finding {
        let minor_units = notes.minor_units();
        Finding { place, what, id, minor_units, notes, explained, words: words.to_owned() }
    }
}

/// What a dispense did to a place by the device.
fn by_device(remembered: &Remembered, place: Account) -> Counts {
    let Remembered { dispense, found } = remembered;
    let found = found.clone().unwrap_or_default();
    let mut counts = Counts::default();
    match place {
        Account::Cassettes => counts.take(&picked(dispense)),
        Account::Reject => {
            counts.put(&dispense.rejected);
            counts.put(&found.rejected);
        }
        Account::Retract => {
            counts.put(&dispense.retracted);
            counts.put(&found.retracted);
        }
        Account::Vault | Account::Deposit | Account::Suspense => {}
    }
    counts
}

/// What left the cassettes.
fn picked(dispense: &Dispense) -> Notes {
    match dispense.step {
        Step::Accepted => Notes::none(),
        Step::Picked => dispense.planned.clone(),
        Step::Stacked
        | Step::Presenting
        | Step::Presented
        | Step::Taken
        | Step::Retracted
        | Step::Rejected => {
            let mut notes = dispense.stacked.clone();
            notes.add_all(&dispense.rejected);
            notes
        }
    }
}

/// Withdrawals that are, or are about to be, SUSPECT.
pub(super) fn suspects(expected: &Expected) -> Vec<&Record> {
    let suspect = |record: &&Record| {
        record.intent.kind == Kind::Withdrawal
            && matches!(record.state, State::Suspect | State::SuspendPending)
    };
    expected.records.iter().filter(suspect).collect()
}

/// The places whose books are compared.
pub(super) fn booked() -> impl Iterator<Item = Account> {
    PLACES.into_iter().chain([Account::Suspense])
}
