//! Why a command has no effect and leaves no trace.

use atm_types::Currency;

use crate::transaction::TransactionState;

/// A command that contradicts what is recorded, or is not well formed. Asking again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The id was used before with other content.
    #[error("the id was used before with another {field}")]
    IdReused {
        /// The first field that differs; only `transaction_id` when the id belongs to another caller.
        field: &'static str,
    },
    /// No transaction with this id belongs to this caller.
    #[error("there is no such transaction")]
    NotFound,
    /// The transaction never held money, so none can be captured.
    #[error("the transaction holds nothing that could be captured")]
    NothingToCapture {
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// The transaction never held money, so there is nothing to freeze.
    #[error("the transaction holds nothing that could be suspended")]
    NothingToSuspend {
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// The hold is frozen: a person decides it, and no machine any more.
    #[error("the transaction is suspended and waits for its resolution")]
    Suspended,
    /// There is nothing to decide.
    #[error("the transaction is not suspended")]
    NotSuspended {
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// A resolution would post more than is frozen.
    #[error("the resolution is larger than the hold")]
    ResolutionExceedsHold {
        /// Minor units that are frozen.
        held: i64,
    },
    /// More was captured than held.
    #[error("the capture is larger than the hold")]
    CaptureExceedsHold {
        /// Minor units that were held.
        held: i64,
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// A field of the command is outside its range.
    #[error("{field} {rule}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The amount is not in the currency of the accounts.
    #[error("the account holds {expected}")]
    CurrencyMismatch {
        /// The currency of the account.
        expected: Currency,
    },
    /// An account is missing, or a total would overflow, where the money must be posted all the same: only
    /// a late capture or a suspension on books restored from an older backup, or totals at the end of 64
    /// bits, can meet this.
    #[error("the books cannot take this posting")]
    CannotPost,
}
