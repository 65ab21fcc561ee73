//! What a ledger answers.

use serde::{Deserialize, Serialize};

use crate::ask::Terms;
use crate::model::Totals;
use crate::step::{Outcome, State};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// With a recorded step.
    Recorded {
        /// The step.
        outcome: Outcome,
        /// Where the transaction was said to stand.
        now: State,
        /// Whether it was said to be a repeat.
        replayed: bool,
    },
    /// With an account that is open.
    Opened {
        /// What it was opened with.
        terms: Terms,
        /// All bytes of it, in hexadecimal.
        bytes: String,
        /// Whether it was said to be a repeat.
        replayed: bool,
    },
    /// With an account as it stood.
    Account(AccountView),
    /// With the sums of all accounts.
    TrialBalance {
        /// The last step that they include.
        sequence: u64,
        /// Whether they were said to balance.
        balanced: bool,
        /// One line for each kind and currency.
        lines: Vec<BalanceLine>,
    },
    /// With the statement that nothing happened.
    Refused(Refused),
    /// With nothing that says what happened.
    Unknown,
}

/// Why nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refused {
    /// The reason for programs, such as ID_REUSED.
    pub reason: String,
    /// The field at fault; empty when it is none in particular.
    pub field: String,
}

impl Refused {
    pub(crate) fn new(reason: &str, field: &str) -> Self {
        Self { reason: reason.to_owned(), field: field.to_owned() }
    }
}

/// An account as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccountView {
    /// The last step that this includes.
    pub sequence: u64,
    /// Its running totals.
    pub totals: Totals,
    /// Posted and available balance.
    pub balance: crate::step::Balance,
}

/// The sums of the accounts of one kind in one currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BalanceLine {
    /// The kind, as in [`Terms`].
    pub kind: String,
    /// The currency's code.
    pub currency: String,
    /// How many accounts there are.
    pub accounts: u64,
    /// Debits posted, credits posted, debits pending, credits pending.
    pub sums: [i128; 4],
}
