//! Everything that a checker may look at: what each program has on its disk, what went over the wire as the cash
//! machines saw it, what customers were told, and what was logged.
//!
//! It is gathered from outside: no program knows that it is watched. A checker is a pure function from [`Evidence`] to
//! violations.

use std::collections::BTreeMap;
use std::time::Duration;

use atm_auth::domain::{Attempt, Card};
use atm_cli::simulation::{DeviceEvidence, JournalEvidence, JournalStep};
use atm_ledger::authorization::Authorizer;
use atm_ledger::storage::{Batch, Head};
use atm_ledger_core::{Account, Step};
use atm_types::{AccountId, Timestamp, TransactionId};

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The seed of the run.
    pub seed: u64,
    /// Simulated time since the beginning.
    pub now: Duration,
    /// Whether the faults are off and everything had its time to end. Of a run that was broken off only what is always
    /// true may be checked.
    pub at_end: bool,
    /// The ledger's disk.
    pub ledger: LedgerEvidence,
    /// Auth's disk.
    pub auth: AuthEvidence,
    /// The cash machines' disks.
    pub machines: Vec<MachineEvidence>,
    /// What was asked of the ledger at its door, and what it answered.
    pub door: Vec<atm_history::Call>,
    /// Every attempt at a call that a machine or an operator made, in the order in which they began.
    pub calls: Vec<Call>,
    /// What customers were told at the end of a key press, in order.
    pub told: Vec<Told>,
    /// Every key press about a transaction, whether or not its machine lived to say anything.
    pub pressed: Vec<Pressed>,
    /// Every line that any program logged, in order, with its fields.
    pub log: Vec<LogLine>,
    /// What the auditor tried at the end.
    pub probes: Vec<Probe>,
    /// What must be in no log and in no journal: card numbers, PINs, keys, tokens and the pepper, as text.
    pub secrets: Vec<Secret>,
}

/// The ledger's disk.
#[derive(Clone, Debug)]
pub struct LedgerEvidence {
    /// Where the chain ends.
    pub head: Head,
    /// All batches in commit order.
    pub batches: Vec<Batch>,
    /// All steps that are in a batch, in commit order.
    pub steps: Vec<Step>,
    /// The bytes of each of them as they are stored, in the same order: what the chain hashes.
    pub stored: Vec<Vec<u8>>,
    /// Steps on the disk that are in no batch.
    pub stray_steps: usize,
    /// The accounts of the last checkpoint.
    pub checkpoint_accounts: Vec<Account>,
    /// The accounts as a ledger that starts now has them: checkpoint and replay; empty if it does not start, and then
    /// `damage` says why.
    pub accounts: Vec<Account>,
    /// Why the ledger would not start on this disk.
    pub damage: Option<String>,
    /// Every head that was ever the end of the chain on this disk, in the order of the commits.
    pub heads: Vec<(Duration, Head)>,
    /// What its holds are signed with.
    pub authorizer: Authorizer,
    /// What is known about accounts.
    pub roles: BTreeMap<AccountId, Role>,
}

/// What an account is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A customer's, by account number.
    Customer(String),
    /// A place of a machine: `cassettes`, `reject`, `retract`, `deposit`, `suspense`.
    Place {
        /// The machine's name.
        machine: String,
        /// Which place.
        place: &'static str,
    },
    /// The vault.
    Vault,
    /// Opening balances.
    OpeningBalance,
}

/// Auth's disk.
#[derive(Clone, Debug)]
pub struct AuthEvidence {
    /// All cards.
    pub cards: Vec<Card>,
    /// All attempts that are not erased, each with its outcome.
    pub attempts: Vec<AttemptRow>,
    /// The count of wrong PINs of each card after each commit that changed it, with the card's last four digits and
    /// whether it is locked then.
    pub counts: Vec<CountChange>,
    /// How often a PIN was really verified, per card: the hasher was asked.
    pub verifications: Vec<(Duration, String)>,
}

/// An attempt as it is stored.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// When it was seen first on the disk, in simulated time.
    pub seen: Duration,
    /// The row.
    pub attempt: AttemptSummary,
}

/// What matters of an [`Attempt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptSummary {
    /// The machine.
    pub atm_id: String,
    /// The id of the key press.
    pub attempt_id: String,
    /// `opened`, `changed`, `wrong`, `locked`, `blocked`.
    pub outcome: &'static str,
    /// The session that it opened.
    pub session_id: Option<String>,
    /// The last four digits of the card, if it is one.
    pub last_four: Option<String>,
    /// When, on auth's clock.
    pub time: Timestamp,
}

impl AttemptSummary {
    /// Of a row.
    pub fn of(attempt: &Attempt, cards: &[Card]) -> Self {
        use atm_auth::domain::Outcome;
        let (outcome, session) = match &attempt.outcome {
            Outcome::Opened(session) => ("opened", Some(session.session_id.to_string())),
            Outcome::Changed => ("changed", None),
            Outcome::Wrong => ("wrong", None),
            Outcome::Locked => ("locked", None),
            Outcome::Blocked => ("blocked", None),
        };
        let card = cards.iter().find(|card| card.number_key == attempt.number_key);
        Self {
            atm_id: attempt.atm_id.to_string(),
            attempt_id: attempt.attempt_id.to_string(),
            outcome,
            session_id: session,
            last_four: card.map(|card| card.last_four.to_string()),
            time: attempt.time,
        }
    }
}

/// A card's counter after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountChange {
    /// When.
    pub at: Duration,
    /// Which card.
    pub last_four: String,
    /// Wrong PINs since the last right one.
    pub wrong_pins: u8,
    /// Whether an operator has blocked it.
    pub blocked: bool,
}

/// A cash machine.
#[derive(Clone, Debug)]
pub struct MachineEvidence {
    /// Its name.
    pub name: String,
    /// Its terminal id, as the ledger's steps carry it.
    pub terminal_id: String,
    /// What the journal has.
    pub journal: JournalEvidence,
    /// Every step that was seen in the journal at the end of a tick, in the order in which they were seen.
    pub written: Vec<JournalStep>,
    /// What the device remembers.
    pub device: DeviceEvidence,
}

/// One attempt at a call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The machine's name, or `operator`.
    pub caller: String,
    /// Which start of the caller's program it was: 1, 2, 3, …
    pub start: u32,
    /// Attempts of one retry loop share it.
    pub call: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Such as `AuthorizeWithdrawal`.
    pub method: &'static str,
    /// The request's message, encoded.
    pub request: Vec<u8>,
    /// The session token that it carried, if any.
    pub session: Option<String>,
    /// When it began.
    pub began: Duration,
    /// What came back, and when; nothing for what was never answered.
    pub answer: Option<(Duration, Result<Vec<u8>, CallStatus>)>,
}

/// A status instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStatus {
    /// Its code.
    pub code: tonic::Code,
    /// Its message.
    pub message: String,
    /// Its reason, in upper case.
    pub reason: Option<String>,
}

/// A key press about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// When it began.
    pub at: Duration,
    /// Which one.
    pub transaction: TransactionId,
}

/// What a customer was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at: Duration,
    /// By which machine.
    pub machine: String,
    /// Whose card.
    pub card: String,
    /// `withdraw`, `deposit`, `transfer`, `cancel`, `balance` or `change_pin`.
    pub kind: &'static str,
    /// The transaction, once it has an id that matters.
    pub transaction: Option<TransactionId>,
    /// `captured`, `capture_pending`, `posted`, `declined`, `cancelled`, `unknown`; or the exit's reason.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// In minor units: what was asked for, or what was given.
    pub amount: Option<i64>,
    /// Balance and available balance, if they were shown.
    pub balance: Option<(i64, i64)>,
    /// The exit code of the command.
    pub exit: u8,
}

/// A line of a log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// When.
    pub at: Duration,
    /// `ERROR`, `WARN`, `INFO`, …
    pub level: &'static str,
    /// The module that said it.
    pub target: String,
    /// The message and all fields, as text.
    pub text: String,
}

/// What must never be seen.
#[derive(Clone, Debug)]
pub struct Secret {
    /// What it is, for the message: `the PIN of Joty`.
    pub what: String,
    /// The text to look for.
    pub text: String,
}

/// Something that the auditor tried.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The invariant that it tried to break.
    pub invariant: u8,
    /// What should be the case.
    pub what: &'static str,
    /// Whether it was.
    pub as_expected: bool,
    /// What came of it.
    pub got: String,
}
