//! Why a request was not carried out. `grpc/status.rs` says what each looks like to a caller.

use std::time::Duration;

use crate::hashing::HashingError;
use crate::session::SignError;
use crate::storage::StorageError;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such card, or the PIN is wrong; counted.
    #[error("the card or the PIN is wrong")]
    WrongCardOrPin,
    /// Three wrong PINs have locked the card, or a number that is no card.
    #[error("the card is locked")]
    CardLocked,
    /// The PIN was right, but an operator has blocked the card.
    #[error("the card is blocked")]
    CardBlocked,
    /// The machine's name belongs to another terminal; not counted.
    #[error("the machine belongs to another terminal")]
    TerminalMismatch,
    /// Another start of the machine, or of a copy of it, took this one's place; not counted.
    #[error("another start of the machine took this one's place")]
    StaleBoot,
    /// There is no room for another machine's name; not counted.
    #[error("no more machines can be added")]
    TooManyMachines,
    /// Too much is going on; not counted.
    #[error("too many PINs are being verified")]
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// An operator named a card that does not exist.
    #[error("there is no such card")]
    NoSuchCard,
    /// An operator named a machine whose name is nobody's.
    #[error("there is no such machine")]
    NoSuchMachine,
    /// The id of an order was used before, for another one.
    #[error("the order's id was used before for another order")]
    OrderIdReused,
    /// Storage failed; whether the attempt was counted is unknown, unless the disk was full: then it was not.
    #[error("storage failed")]
    Storage(#[from] StorageError),
    /// A PIN could not be hashed; not counted.
    #[error("hashing failed")]
    Hashing(#[source] HashingError),
    /// The session could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The task that did the work panicked.
    #[error("a task panicked")]
    Panicked,
}

impl From<HashingError> for Failure {
    fn from(error: HashingError) -> Self {
        match error {
            HashingError::Busy { retry_after } => Self::Busy { retry_after },
            HashingError::Argon2(_) | HashingError::Panicked => Self::Hashing(error),
        }
    }
}
