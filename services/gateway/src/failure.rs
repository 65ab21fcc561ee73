//! Everything that can stop a call, as values. `grpc/status.rs` is the one place that turns them into answers.
//!
//! A business refusal is none of these: it is recorded by the ledger and travels in the response.

use std::borrow::Cow;
use std::time::Duration;

use atm_proto::types::TransactionState;
use tonic::Code;

/// When somebody may come back who found an upstream busy or gone and was not told more.
pub const COME_BACK: Duration = Duration::from_millis(250);

/// Why a call has no outcome to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A field of the request is not acceptable.
    Invalid {
        /// The field's path in the request.
        field: Cow<'static, str>,
        /// Completes the sentence "`field` …".
        rule: Cow<'static, str>,
    },
    /// The call carries no terminal key, or not a well-formed one.
    TerminalKeyRequired,
    /// There is no session, or none that is good here and now. Nothing says which.
    SessionRequired,
    /// Whether sessions are still good cannot be told, because auth was not heard for too long.
    SessionsUnknown,
    /// The call carries no operator token.
    OperatorRequired,
    /// The machine's name belongs to another terminal's key.
    TerminalMismatch,
    /// The machine's name is nobody's yet, so nobody may speak for it.
    TerminalNotBound,
    /// Another start of the machine, or of a copy of it, took this one's place.
    StaleBoot,
    /// The card is unknown or the PIN is wrong.
    WrongCardOrPin,
    /// Too many wrong PINs.
    CardLocked,
    /// An operator blocked the card.
    CardBlocked,
    /// An operator named a card that does not exist.
    CardNotFound,
    /// An operator named a machine that does not exist.
    MachineNotFound,
    /// The id of an operator's order was used before, for another order.
    OrderIdReused,
    /// An operator named an account that does not exist.
    AccountNotFound,
    /// There is no such transaction, or none that this caller may know of.
    TransactionNotFound,
    /// The transaction id was used before with other content.
    IdReused {
        /// The first field that differs.
        field: &'static str,
    },
    /// The account number is taken by an account that differs.
    AccountDiffers {
        /// The first field that differs.
        field: &'static str,
    },
    /// The card number belongs to another account.
    CardOfAnotherAccount,
    /// The account is open, but its opening balance was declined for good.
    OpeningBalanceDeclined,
    /// A capture that no repetition will make succeed.
    NotCapturable {
        /// What stands in the way.
        reason: CaptureObstacle,
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// A suspension that no repetition will make succeed, as a rule because the transaction never held money.
    NotSuspendable {
        /// Where the transaction stands.
        state: TransactionState,
    },
    /// A resolution that no repetition will make succeed.
    NotResolvable {
        /// Where the transaction stands: SUSPECT when more was asked for than is held.
        state: TransactionState,
    },
    /// There is no room for this call now; it was not begun.
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// An upstream could not be reached: the request certainly was not processed.
    NotProcessed {
        /// When to come back.
        retry_after: Duration,
    },
    /// An upstream failed with the request in its hands: nobody knows whether it was processed.
    Unknown {
        /// When to come back.
        retry_after: Duration,
    },
    /// The time was over before an answer came.
    DeadlineOver,
    /// An upstream answered what it never should, or refused this gateway itself.
    Defect(Defect),
}

/// What stands in the way of a capture for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureObstacle {
    /// The transaction never held money.
    NothingToCapture,
    /// More was captured than held.
    CaptureExceedsHold,
    /// It is suspended until a person decides.
    Suspended,
    /// The ledger gave another reason.
    Other,
}

/// An answer that this gateway cannot make sense of. It is logged, and a stranger learns an id only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{upstream} answered {code:?}: {message}")]
pub struct Defect {
    /// Who answered.
    pub upstream: &'static str,
    /// The status code.
    pub code: Code,
    /// The status message, for the log alone.
    pub message: String,
}

impl Failure {
    /// A field of the request is not acceptable; `rule` completes the sentence "`field` …".
    pub fn invalid(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    /// `upstream` left out something that its contract promises.
    pub fn missing(upstream: &'static str, what: &str) -> Self {
        let message = format!("the answer has no {what}");
        Self::Defect(Defect { upstream, code: Code::Ok, message })
    }

    /// The same once another part of the request was done: then "nothing was done" is not so.
    pub fn after_a_part(self) -> Self {
        match self {
            Self::Busy { retry_after } | Self::NotProcessed { retry_after } => Self::Unknown { retry_after },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_that_nothing_was_done_when_a_part_was() {
        let retry_after = COME_BACK;
        for failure in [Failure::Busy { retry_after }, Failure::NotProcessed { retry_after }] {
            assert_eq!(failure.after_a_part(), Failure::Unknown { retry_after });
        }
        assert_eq!(Failure::CardBlocked.after_a_part(), Failure::CardBlocked);
    }
}
