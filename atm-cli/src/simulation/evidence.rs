//! What a cash machine's two memories say, in plain values: for whoever checks a simulated machine from outside.
//!
//! Names are those of the journal and of the device's memory, so that a checker depends on what is stored and not on
//! the types that stored it.

use atm_types::{Money, Timestamp, TransactionId};
use uuid::Uuid;

use crate::journal::{Ending, Movement, Plan, Record};

/// The journal as it is on its disk.
#[derive(Clone, Debug, Default)]
pub struct JournalEvidence {
    /// All transactions, oldest first.
    pub records: Vec<JournalRecord>,
    /// All cash movements, oldest first.
    pub movements: Vec<JournalMovement>,
    /// Every step that was ever written and not compacted away, in order.
    pub steps: Vec<JournalStep>,
    /// Why the machine does not serve: `bank_went_back` or `fenced_off`.
    pub outage: Option<&'static str>,
    /// The name under which the machine's cash is booked.
    pub enrolled_as: Option<String>,
}

/// A transaction in the journal.
#[derive(Clone, Debug)]
pub struct JournalRecord {
    /// Its id.
    pub id: TransactionId,
    /// `withdrawal`, `deposit` or `transfer`.
    pub kind: &'static str,
    /// `INTENT`, `AUTHORIZED`, … `DONE`, `VOIDED`, `SUSPECT`.
    pub state: &'static str,
    /// How it ended, in the words of the journal: `CAPTURED`, `POSTED`, `DECLINED`, `CANCELLED`, `NOT_SENT`, `REFUSED`.
    pub ending: Option<&'static str>,
    /// Why it was declined, cancelled, given up or is suspect.
    pub reason: Option<String>,
    /// What was asked for, in minor units.
    pub amount: i64,
    /// The last four digits of the card.
    pub last_four: String,
    /// Transfers: to whom.
    pub to_account: Option<String>,
    /// The ledger's signed word that it holds the money; empty when there is none.
    pub authorization: Vec<u8>,
    /// Withdrawals: what the device was told to pay out under.
    pub dispense_id: Option<Uuid>,
    /// Deposits: what the device counted the notes in under.
    pub cash_in_id: Option<Uuid>,
    /// What the customer had access to.
    pub presented: Option<i64>,
    /// What of it was taken back and counted.
    pub retracted: Option<i64>,
    /// Whether something was taken back and could not be counted.
    pub retract_uncounted: bool,
    /// What a person decided that the customer got.
    pub resolved: Option<i64>,
    /// What the customer got or is taken to have got.
    pub taken: i64,
    /// The highest commit sequence that the machine had seen when it began.
    pub noted_sequence: u64,
    /// Whether nothing is left to be done about it, by the machine or by a person.
    pub is_over: bool,
}

/// Cash that moved between two places of the machine, or between it and the vault.
#[derive(Clone, Debug)]
pub struct JournalMovement {
    /// Its id, which is the posting's too.
    pub id: TransactionId,
    /// `vault`, `cassettes`, `reject`, `retract`, `deposit` or `suspense`.
    pub from: &'static str,
    /// The same.
    pub to: &'static str,
    /// In minor units.
    pub amount: i64,
    /// The customer's transaction that caused it.
    pub about: Option<TransactionId>,
    /// `PENDING`, `POSTED`, `REFUSED`, `OPERATOR_PENDING`, `OPERATOR_POSTED`.
    pub state: &'static str,
}

/// One step of the journal.
#[derive(Clone, Debug)]
pub struct JournalStep {
    /// Its place in the journal's order.
    pub sequence: i64,
    /// The id of a transaction or movement, or `machine`.
    pub subject: String,
    /// What happened: `INTENT`, `HELD`, `DISPENSE_BEGUN`, …
    pub event: String,
    /// The state that it led to; empty for the machine itself.
    pub state: String,
    /// Why, where there is a why.
    pub reason: Option<String>,
    /// The machine's clock.
    pub time: Timestamp,
}

/// The cash device's own memory.
#[derive(Clone, Debug, Default)]
pub struct DeviceEvidence {
    /// Place, denomination in minor units, and how many pieces are there. `vault` and `customers` may be negative;
    /// all counts of a denomination add up to 0. Places: `cassettes`, `stacker`, `shutter`, `exit`, `customers`,
    /// `reject`, `retract`, `retract_uncounted`, `escrow`, `deposit`, `vault`.
    pub places: Vec<(String, i64, i64)>,
    /// Everything that it was ever told to pay out, in the order of the ids.
    pub dispenses: Vec<DeviceDispense>,
}

impl DeviceEvidence {
    /// What is in a place, in minor units.
    pub fn worth(&self, place: &str) -> i64 {
        let there = self.places.iter().filter(|(name, _, _)| name == place);
        there.map(|(_, denomination, count)| denomination * count).sum()
    }
}

/// A dispense as the device remembers it; amounts in minor units.
#[derive(Clone, Debug)]
pub struct DeviceDispense {
    /// Its id.
    pub id: Uuid,
    /// `accepted`, `picked`, `stacked`, `presenting`, `presented`, `taken`, `retracted` or `rejected`.
    pub step: &'static str,
    /// What was to go wrong with it; `none` for nothing.
    pub fault: &'static str,
    /// What it was told to pay out.
    pub planned: i64,
    /// What it got together.
    pub stacked: i64,
    /// What went to the reject bin.
    pub rejected: i64,
    /// What the customer had access to.
    pub presented: i64,
    /// What was taken back and counted.
    pub retracted: i64,
    /// Whether what was taken back could be counted.
    pub counted: bool,
    /// What somebody who looked for its notes found, in the reject bin and in the retract bin.
    pub found: Option<(i64, i64)>,
}

impl JournalRecord {
    pub(crate) fn of(record: &Record) -> Self {
        let units = |money: Option<Money>| money.map(Money::minor_units);
        Self {
            id: record.id(),
            kind: record.intent.kind.name(),
            state: record.state.name(),
            ending: record.ending.map(Ending::name),
            reason: record.reason.clone(),
            amount: record.intent.amount.minor_units(),
            last_four: record.intent.card.last_four.clone(),
            to_account: record.intent.to_account.clone(),
            authorization: record.authorization.clone(),
            dispense_id: record.dispense_id,
            cash_in_id: record.cash_in_id,
            presented: units(record.presented),
            retracted: units(record.retracted),
            retract_uncounted: record.retract_uncounted,
            resolved: units(record.resolved),
            taken: record.taken().minor_units(),
            noted_sequence: record.noted_sequence,
            is_over: record.state.plan() == Plan::Nothing,
        }
    }
}

impl JournalMovement {
    pub(crate) fn of(movement: &Movement) -> Self {
        Self {
            id: movement.id,
            from: movement.from.name(),
            to: movement.to.name(),
            amount: movement.amount.minor_units(),
            about: movement.about,
            state: movement.state.name(),
        }
    }
}
