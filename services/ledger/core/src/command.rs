//! What callers ask of the ledger.

use std::time::Duration;

use atm_types::{AccountId, Currency, TerminalId, TransactionId};

use crate::account::AccountTerms;

/// The lifetime of a hold that names none: 24 hours.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest lifetime that a hold may ask for.
pub const LIFETIME_MIN: Duration = Duration::from_secs(1);
/// The longest lifetime that a hold may ask for: 30 days.
pub const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An amount on its way from one account to another. With id, terminal and kind this is what makes two
/// requests the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The account to debit.
    pub debit: AccountId,
    /// The account to credit.
    pub credit: AccountId,
    /// Minor units. More than 0 in a command; a recorded capture may be 0.
    pub amount: i64,
    /// The currency of the amount and of both accounts.
    pub currency: Currency,
}

/// Asks to set money aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The id, minted by the caller.
    pub id: TransactionId,
    /// The owner.
    pub terminal: TerminalId,
    /// What is held.
    pub transfer: Transfer,
    /// How long the hold lives: [`LIFETIME_MIN`] to [`LIFETIME_MAX`].
    pub lifetime: Duration,
}

/// A hold that this ledger once signed, as read from a signature that the caller has verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// What was held.
    pub transfer: Transfer,
}

/// Asks to post a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The id of the hold.
    pub id: TransactionId,
    /// The owner named in the hold.
    pub terminal: TerminalId,
    /// Minor units, 0 to what was held.
    pub amount: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// The hold as this ledger signed it for this id and terminal. It matters only where the hold is not
    /// known, as after a restore from an older backup.
    pub authorization: Option<Authorization>,
}

/// Asks to freeze a hold of which nobody knows whether its cash left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspend {
    /// The id of the hold.
    pub id: TransactionId,
    /// The owner named in the hold.
    pub terminal: TerminalId,
    /// The account that the credit waits on meanwhile.
    pub suspense: AccountId,
    /// As in [`Capture`].
    pub authorization: Option<Authorization>,
}

/// Decides a frozen hold. Whoever asks has the right to: no terminal owns this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The id of the hold.
    pub id: TransactionId,
    /// What the customer got, in minor units: 0 to what was held.
    pub amount: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// Who decides.
    pub operator: Box<str>,
    /// What they go by.
    pub reason: Box<str>,
}

/// One request to change the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens an account, once.
    OpenAccount(AccountTerms),
    /// Moves money in one step.
    Post {
        /// The id, minted by the caller.
        id: TransactionId,
        /// The owner.
        terminal: TerminalId,
        /// What is moved.
        transfer: Transfer,
    },
    /// Sets money aside.
    Hold(Hold),
    /// Posts a hold.
    Capture(Capture),
    /// Fences an id off.
    Cancel {
        /// The id, whether it ever arrived or not.
        id: TransactionId,
        /// The owner.
        terminal: TerminalId,
    },
    /// Freezes a hold.
    Suspend(Suspend),
    /// Decides a frozen hold.
    Resolve(Resolve),
    /// Ends a hold whose lifetime is over. Only the ledger itself asks for it.
    Expire {
        /// The id of the hold.
        id: TransactionId,
    },
}

impl Command {
    /// The id that the command's step is recorded under. An account's opening is recorded under the
    /// account's own id.
    pub const fn id(&self) -> TransactionId {
        match self {
            Self::OpenAccount(terms) => TransactionId::from_uuid(terms.account_id.as_uuid()),
            Self::Hold(hold) => hold.id,
            Self::Capture(capture) => capture.id,
            Self::Suspend(suspend) => suspend.id,
            Self::Resolve(resolve) => resolve.id,
            Self::Post { id, .. } | Self::Cancel { id, .. } | Self::Expire { id } => *id,
        }
    }
}
