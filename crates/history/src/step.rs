//! What a ledger recorded, as it tells it.

use atm_types::{AccountId, TerminalId, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};

use crate::ask::{Terms, Transfer};
use crate::text;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// An account was opened.
    OpenAccount,
    /// A posting was decided.
    Post,
    /// A hold was decided.
    Hold,
    /// A hold was posted.
    Capture,
    /// A hold was released, or an id burnt.
    Cancel,
    /// A hold's lifetime ended.
    Expire,
    /// A capture arrived after its hold was gone.
    CaptureLate,
    /// A hold was frozen.
    Suspend,
    /// A frozen hold was decided.
    Resolve,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Money moved in one step.
    Posted,
    /// Refused for a business reason.
    Declined,
    /// Set aside.
    Held,
    /// The hold was posted.
    Captured,
    /// Released, or never to be.
    Cancelled,
    /// Released at the end of its lifetime.
    Expired,
    /// Posted after the hold was gone.
    CapturedLate,
    /// Frozen.
    Suspect,
}

/// A business refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decline {
    /// The rule, as the wire names it without its prefix, such as INSUFFICIENT_FUNDS.
    pub reason: String,
    /// What was left, in minor units.
    pub available: i64,
}

/// What an account holds, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Balance {
    /// All posted money.
    pub posted: i64,
    /// What of it may be spent.
    pub available: i64,
}

/// A recorded step as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// The transaction.
    #[serde(with = "text")]
    pub id: TransactionId,
    /// The step's place in the one order.
    pub sequence: u64,
    /// When it was committed.
    #[serde(with = "text::time")]
    pub time: Timestamp,
    /// What it did.
    pub kind: Kind,
    /// The state it led to; `None` for an account's opening.
    pub state: Option<State>,
    /// Why not.
    pub decline: Option<Decline>,
    /// What it was about, with its own amount; `None` for an opening and a tombstone.
    pub transfer: Option<Transfer>,
    /// The debited and the credited account right after it.
    pub balances: [Option<Balance>; 2],
    /// When the hold ends, in nanoseconds since 1970.
    pub expire_nanos: Option<i64>,
    /// All bytes of it, in hexadecimal: they may never change.
    pub bytes: String,
}

/// One leg of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The account.
    #[serde(with = "text")]
    pub account: AccountId,
    /// Whether it is a credit.
    pub credit: bool,
    /// Change of the posted total on that side.
    pub posted: i64,
    /// Change of the pending total on that side.
    pub pending: i64,
    /// The account right after it.
    pub balance: Balance,
}

/// A line of the ledger's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// As it is answered.
    pub outcome: Outcome,
    /// Its legs.
    pub entries: Vec<Entry>,
    /// Who owns the transaction.
    #[serde(with = "text")]
    pub terminal: TerminalId,
    /// The account that it opened.
    pub opened: Option<Terms>,
    /// All bytes of the opened account, in hexadecimal.
    pub opened_bytes: String,
}
