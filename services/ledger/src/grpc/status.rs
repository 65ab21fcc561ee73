//! The one place where the ledger's failures become answers on the wire: a status for a call, a
//! `CommandError` for one command among many. Both are made from the same [`Explanation`], so a command
//! fails in a batch with exactly what its own RPC would have failed with.

use std::borrow::Cow;
use std::time::Duration;

use atm_ledger_core::{Refusal, TransactionState};
use atm_proto::types::CommandError;
use atm_rpc::status::{self, DOMAIN};
use atm_types::IdSource;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::convert;
use crate::handle::ExecuteError;

/// When a caller may come back to a ledger that was busy or is being restarted.
const COME_BACK: Duration = Duration::from_millis(100);
/// When a caller may come back to a ledger whose disk is full: somebody has to make room.
const COME_BACK_WITH_ROOM: Duration = Duration::from_secs(5);
/// What is wrong with a page token that does not lead to an entry of its account.
pub(super) const FOREIGN_TOKEN: &str = "is not one that this ledger gave for this account";

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Its name in the request.
    pub(super) field: &'static str,
    /// What it must be, to complete the sentence "`field` …".
    pub(super) rule: Cow<'static, str>,
}

impl Malformed {
    pub(super) fn new(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { field, rule: rule.into() }
    }
}

/// Why a call or a command has no effect, or none that is known.
#[derive(Debug)]
pub(super) enum Failure {
    /// A field cannot be read.
    Malformed(Malformed),
    /// The core refused.
    Refused(Refusal),
    /// The deadline passed before the command was decided.
    Expired,
    /// The account that was asked for does not exist.
    AccountNotFound,
    /// The transaction that was asked for does not exist.
    TransactionNotFound,
    /// The caller has seen more of the books than there is: they were restored from an older backup.
    SequenceAhead {
        /// The last sequence there is.
        last_sequence: u64,
    },
    /// The disk is full.
    NoRoom,
    /// Too much is waiting for the writer.
    QueueFull,
    /// The writer has ended.
    Stopped,
    /// Something that is none of the caller's business, logged under the id that this status tells.
    Internal(Status),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Failure {
    /// Why the ledger gave no answer; what a stranger should not read is logged here.
    pub(super) fn unanswered(error: ExecuteError, ids: &dyn IdSource) -> Self {
        match error {
            ExecuteError::QueueFull => Self::QueueFull,
            ExecuteError::Stopped => Self::Stopped,
            ExecuteError::ForeignEntry => Malformed::new("page_token", FOREIGN_TOKEN).into(),
            ExecuteError::Unreadable(error) => Self::Internal(status::internal(ids, &*error)),
        }
    }
}

/// A failure in the words of the wire.
struct Explanation {
    code: Code,
    message: Cow<'static, str>,
    reason: &'static str,
    /// The input field at fault.
    field: Option<(&'static str, Cow<'static, str>)>,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
}

impl Explanation {
    fn new(code: Code, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { code, message, reason, field: None, metadata: Vec::new(), retry_after: None }
    }

    fn field(field: &'static str, rule: impl Into<Cow<'static, str>>, reason: &'static str) -> Self {
        let rule = rule.into();
        let message = format!("{field} {rule}");
        Self { field: Some((field, rule)), ..Self::new(Code::InvalidArgument, reason, message) }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    fn come_back(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }
}

impl Failure {
    fn explain(&self) -> Explanation {
        match self {
            Self::Malformed(malformed) => {
                Explanation::field(malformed.field, malformed.rule.clone(), "INVALID_FIELD")
            }
            Self::Refused(refusal) => explain_refusal(refusal),
            Self::Expired => Explanation::new(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "the deadline passed before the command was decided; nothing was done",
            ),
            Self::AccountNotFound => {
                Explanation::new(Code::NotFound, "ACCOUNT_NOT_FOUND", "there is no such account")
            }
            Self::TransactionNotFound => {
                Explanation::new(Code::NotFound, "TRANSACTION_NOT_FOUND", "there is no such transaction")
            }
            Self::SequenceAhead { last_sequence } => Explanation::new(
                Code::OutOfRange,
                "SEQUENCE_AHEAD",
                "after_sequence is beyond the end of this ledger; was it restored from a backup?",
            )
            .with("last_sequence", last_sequence.to_string()),
            Self::NoRoom => Explanation::new(
                Code::ResourceExhausted,
                "NO_ROOM",
                "the ledger has no room for this command; nothing was done",
            )
            .come_back(COME_BACK_WITH_ROOM),
            Self::QueueFull => Explanation::new(
                Code::ResourceExhausted,
                "QUEUE_FULL",
                "too many commands are waiting; nothing was done",
            )
            .come_back(COME_BACK),
            Self::Stopped => Explanation::new(
                Code::Unavailable,
                "STOPPED",
                "the ledger is going away; the outcome is not known",
            )
            .come_back(COME_BACK),
            Self::Internal(status) => {
                Explanation::new(status.code(), "INTERNAL", status.message().to_owned())
            }
        }
    }
}

fn explain_refusal(refusal: &Refusal) -> Explanation {
    let message = refusal.to_string();
    match refusal {
        Refusal::IdReused { field } => {
            Explanation::new(Code::AlreadyExists, "ID_REUSED", message).with("field", *field)
        }
        Refusal::NotFound => Explanation::new(Code::NotFound, "TRANSACTION_NOT_FOUND", message),
        Refusal::NothingToCapture { state } => {
            Explanation::new(Code::FailedPrecondition, "NOTHING_TO_CAPTURE", message)
                .with("state", convert::state(Some(*state)).as_str_name())
        }
        Refusal::NothingToSuspend { state } => {
            Explanation::new(Code::FailedPrecondition, "NOTHING_TO_SUSPEND", message)
                .with("state", convert::state(Some(*state)).as_str_name())
        }
        Refusal::Suspended => Explanation::new(Code::FailedPrecondition, "SUSPENDED", message)
            .with("state", convert::state(Some(TransactionState::Suspect)).as_str_name()),
        Refusal::NotSuspended { state } => {
            Explanation::new(Code::FailedPrecondition, "NOT_SUSPENDED", message)
                .with("state", convert::state(Some(*state)).as_str_name())
        }
        Refusal::ResolutionExceedsHold { held } => {
            Explanation::new(Code::FailedPrecondition, "RESOLUTION_EXCEEDS_HOLD", message)
                .with("state", convert::state(Some(TransactionState::Suspect)).as_str_name())
                .with("held_minor_units", held.to_string())
        }
        Refusal::CaptureExceedsHold { held, state } => {
            Explanation::new(Code::FailedPrecondition, "CAPTURE_EXCEEDS_HOLD", message)
                .with("state", convert::state(Some(*state)).as_str_name())
                .with("held_minor_units", held.to_string())
        }
        Refusal::Invalid { field, rule } => Explanation::field(field, *rule, "INVALID_FIELD"),
        Refusal::CurrencyMismatch { expected } => {
            Explanation::field("amount.currency_code", format!("must be {expected}"), "CURRENCY_MISMATCH")
                .with("expected", expected.code())
        }
        Refusal::CannotPost => Explanation::new(Code::FailedPrecondition, "CANNOT_POST", message),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        if let Failure::Internal(status) = failure {
            return status;
        }
        let explained = failure.explain();
        let mut details = ErrorDetails::new();
        let metadata = explained.metadata.into_iter().map(|(key, value)| (key.to_owned(), value));
        details.set_error_info(
            explained.reason,
            DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some((field, rule)) = explained.field {
            details.add_bad_request_violation(field, rule);
        }
        if explained.retry_after.is_some() {
            details.set_retry_info(explained.retry_after);
        }
        Self::with_error_details(explained.code, explained.message, details)
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Failure::from(malformed).into()
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        let explained = failure.explain();
        // The field of a repeated id stands in the metadata of a status; here there is one place for both.
        let reused =
            explained.metadata.iter().find(|(key, _)| *key == "field").map(|(_, field)| field.clone());
        let field = explained.field.map(|(field, _)| field.to_owned()).or(reused);
        Self {
            code: explained.code.into(),
            message: explained.message.into_owned(),
            reason: explained.reason.to_owned(),
            field: field.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use atm_types::{Currency, SeededIds};

    use super::*;
    use crate::storage::StoreError;

    fn unanswered(error: ExecuteError) -> Failure {
        Failure::unanswered(error, &SeededIds::new(1))
    }

    fn unreadable() -> ExecuteError {
        ExecuteError::Unreadable(StoreError::damaged("SELECT from /var/lib/secret").into())
    }

    fn all() -> Vec<(Failure, Code, &'static str, Option<&'static str>)> {
        let state = TransactionState::Declined;
        let refused = Failure::Refused;
        vec![
            (
                Malformed::new("amount", "is required").into(),
                Code::InvalidArgument,
                "INVALID_FIELD",
                Some("amount"),
            ),
            (refused(Refusal::IdReused { field: "kind" }), Code::AlreadyExists, "ID_REUSED", Some("kind")),
            (refused(Refusal::NotFound), Code::NotFound, "TRANSACTION_NOT_FOUND", None),
            (
                refused(Refusal::NothingToCapture { state }),
                Code::FailedPrecondition,
                "NOTHING_TO_CAPTURE",
                None,
            ),
            (
                refused(Refusal::CaptureExceedsHold { held: 7, state }),
                Code::FailedPrecondition,
                "CAPTURE_EXCEEDS_HOLD",
                None,
            ),
            (
                refused(Refusal::NothingToSuspend { state }),
                Code::FailedPrecondition,
                "NOTHING_TO_SUSPEND",
                None,
            ),
            (refused(Refusal::Suspended), Code::FailedPrecondition, "SUSPENDED", None),
            (refused(Refusal::NotSuspended { state }), Code::FailedPrecondition, "NOT_SUSPENDED", None),
            (
                refused(Refusal::ResolutionExceedsHold { held: 7 }),
                Code::FailedPrecondition,
                "RESOLUTION_EXCEEDS_HOLD",
                None,
            ),
            (
                refused(Refusal::Invalid { field: "lifetime", rule: "is off" }),
                Code::InvalidArgument,
                "INVALID_FIELD",
                Some("lifetime"),
            ),
            (
                refused(Refusal::CurrencyMismatch { expected: Currency::BDT }),
                Code::InvalidArgument,
                "CURRENCY_MISMATCH",
                Some("amount.currency_code"),
            ),
            (refused(Refusal::CannotPost), Code::FailedPrecondition, "CANNOT_POST", None),
            (Failure::Expired, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
            (Failure::AccountNotFound, Code::NotFound, "ACCOUNT_NOT_FOUND", None),
            (Failure::TransactionNotFound, Code::NotFound, "TRANSACTION_NOT_FOUND", None),
            (Failure::SequenceAhead { last_sequence: 3 }, Code::OutOfRange, "SEQUENCE_AHEAD", None),
            (Failure::NoRoom, Code::ResourceExhausted, "NO_ROOM", None),
            (unanswered(ExecuteError::QueueFull), Code::ResourceExhausted, "QUEUE_FULL", None),
            (unanswered(ExecuteError::Stopped), Code::Unavailable, "STOPPED", None),
            (
                unanswered(ExecuteError::ForeignEntry),
                Code::InvalidArgument,
                "INVALID_FIELD",
                Some("page_token"),
            ),
            (unanswered(unreadable()), Code::Internal, "INTERNAL", None),
        ]
    }

    #[test]
    fn a_command_fails_in_a_batch_with_what_its_own_call_would_have_failed_with() {
        let in_batch: Vec<CommandError> = all().into_iter().map(|(failure, ..)| failure.into()).collect();
        for ((failure, code, reason, field), error) in all().into_iter().zip(in_batch) {
            let call = Status::from(failure);
            assert_eq!((call.code(), status::reason(&call).as_deref()), (code, Some(reason)));
            assert_eq!((error.code, error.reason.as_str()), (i32::from(code), reason));
            assert_eq!(error.message, call.message());
            assert_eq!(error.field, field.unwrap_or_default(), "{reason}");
            assert!(call.details().len() < 4096);
            assert!(!format!("{call:?} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn a_status_names_the_field_the_state_and_when_to_come_back() {
        let info = |status: &Status| status.get_details_error_info().unwrap().metadata;
        let status = Status::from(Failure::Refused(Refusal::IdReused { field: "credit_account_id" }));
        assert_eq!(info(&status)["field"], "credit_account_id");
        let state = TransactionState::Posted;
        let status = Status::from(Failure::Refused(Refusal::NothingToCapture { state }));
        assert_eq!(info(&status)["state"], "TRANSACTION_STATE_POSTED");
        let status = Status::from(Malformed::new("page_token", "is off"));
        assert_eq!(status::violated_field(&status).as_deref(), Some("page_token"));
        for busy in [Failure::QueueFull, Failure::Stopped] {
            assert_eq!(status::retry_delay(&Status::from(busy)), Some(COME_BACK));
        }
        assert_eq!(status::retry_delay(&Status::from(Failure::NoRoom)), Some(COME_BACK_WITH_ROOM));
    }
}
