//! What can be asked of a ledger.

use atm_types::{AccountId, Currency, TerminalId, TransactionId};
use serde::{Deserialize, Serialize};

use crate::text;

/// An amount on its way from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transfer {
    /// The account to debit.
    #[serde(with = "text")]
    pub debit: AccountId,
    /// The account to credit.
    #[serde(with = "text")]
    pub credit: AccountId,
    /// Minor units.
    pub minor_units: i64,
    /// The currency of the amount.
    #[serde(with = "text")]
    pub currency: Currency,
}

/// What an account is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// The account.
    #[serde(with = "text")]
    pub account: AccountId,
    /// What it is for, as the wire names it without its prefix: CUSTOMER, CASH, SUSPENSE, OPENING_BALANCE.
    pub kind: String,
    /// The only currency it holds.
    #[serde(with = "text")]
    pub currency: Currency,
    /// The number that customers know it by.
    pub number: String,
    /// Who holds it.
    pub holder_name: String,
    /// How far below zero it may go, in minor units.
    pub overdraft_limit: i64,
    /// The most that may be withdrawn in cash in a day, in minor units; 0 for no limit.
    pub daily_withdrawal_limit: i64,
}

impl Terms {
    /// Whether debits are bounded by what the account holds.
    pub fn is_customer(&self) -> bool {
        self.kind == "CUSTOMER"
    }

    /// Whether it is a place for cash.
    pub fn is_cash(&self) -> bool {
        self.kind == "CASH"
    }

    /// Whether money waits there whose fate nobody knows.
    pub fn is_suspense(&self) -> bool {
        self.kind == "SUSPENSE"
    }

    /// Whether credits raise its balance.
    pub fn is_liability(&self) -> bool {
        self.is_customer() || self.is_suspense()
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Opens an account.
    OpenAccount(Terms),
    /// Moves money.
    Post {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// Its owner.
        #[serde(with = "text")]
        terminal: TerminalId,
        /// What is to move.
        transfer: Transfer,
    },
    /// Sets money aside.
    Hold {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// Its owner.
        #[serde(with = "text")]
        terminal: TerminalId,
        /// What is to be set aside.
        transfer: Transfer,
        /// For how long, in nanoseconds.
        lifetime_nanos: i64,
    },
    /// Posts a hold.
    Capture {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// Its owner.
        #[serde(with = "text")]
        terminal: TerminalId,
        /// How much of it, in minor units.
        minor_units: i64,
        /// The currency of the amount.
        #[serde(with = "text")]
        currency: Currency,
        /// What the ledger's own signature, if a true one came along, says was held.
        signed: Option<Transfer>,
    },
    /// Fences an id off.
    Cancel {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// Its owner.
        #[serde(with = "text")]
        terminal: TerminalId,
    },
    /// Freezes a hold.
    Suspend {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// Its owner.
        #[serde(with = "text")]
        terminal: TerminalId,
        /// Where the credit waits meanwhile.
        #[serde(with = "text")]
        suspense: AccountId,
        /// As in a capture.
        signed: Option<Transfer>,
    },
    /// Decides a frozen hold.
    Resolve {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
        /// What the customer got, in minor units.
        minor_units: i64,
        /// The currency of the amount.
        #[serde(with = "text")]
        currency: Currency,
        /// Whether somebody and a reason were named properly.
        explained: bool,
    },
    /// Ends a hold whose lifetime is over. Only the ledger asks for it.
    Expire {
        /// The transaction.
        #[serde(with = "text")]
        id: TransactionId,
    },
    /// Reads an account.
    GetAccount {
        /// The account.
        #[serde(with = "text")]
        account: AccountId,
    },
    /// Sums all accounts.
    GetTrialBalance,
}

impl Ask {
    /// The id that it would be recorded under; `None` for what only reads.
    pub fn id(&self) -> Option<TransactionId> {
        match self {
            Self::OpenAccount(terms) => Some(TransactionId::from_uuid(terms.account.as_uuid())),
            Self::Post { id, .. }
            | Self::Hold { id, .. }
            | Self::Capture { id, .. }
            | Self::Cancel { id, .. }
            | Self::Suspend { id, .. }
            | Self::Resolve { id, .. }
            | Self::Expire { id } => Some(*id),
            Self::GetAccount { .. } | Self::GetTrialBalance => None,
        }
    }
}
