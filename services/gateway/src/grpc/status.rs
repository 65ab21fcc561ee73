//! The one place where failures become statuses. What a stranger reads is written here; nothing that an
//! upstream said is handed on.

use std::time::Duration;

use atm_proto::types::{CommandError, TransactionState};
use atm_rpc::status as rich;
use atm_types::IdSource;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::failure::{COME_BACK, CaptureObstacle, Failure};

const SESSION_REQUIRED: &str = "the session is missing or no longer valid: log in at this machine";

/// The status that a failure is answered with.
pub fn status(ids: &dyn IdSource, failure: Failure) -> Status {
    match failure {
        Failure::Invalid { field, rule } => rich::invalid_argument(&field, &rule),
        Failure::TerminalKeyRequired => rich::with_reason(
            Code::Unauthenticated,
            "the terminal key is missing or malformed",
            "TERMINAL_KEY_REQUIRED",
            &[],
        ),
        Failure::SessionRequired => unauthenticated(ids, SESSION_REQUIRED, "SESSION_REQUIRED"),
        Failure::SessionsUnknown => come_back(
            Code::Unavailable,
            "sessions cannot be checked now: nothing was done",
            "NOT_PROCESSED",
            Duration::from_secs(1),
        ),
        Failure::OperatorRequired => {
            unauthenticated(ids, "a valid operator token is required", "OPERATOR_TOKEN_REQUIRED")
        }
        Failure::TerminalMismatch => rich::with_reason(
            Code::PermissionDenied,
            "the machine's id belongs to another terminal",
            "TERMINAL_MISMATCH",
            &[],
        ),
        Failure::TerminalNotBound => rich::with_reason(
            Code::PermissionDenied,
            "the machine's id is not bound to this terminal yet: the first right PIN binds it",
            "TERMINAL_NOT_BOUND",
            &[],
        ),
        Failure::StaleBoot => precondition(
            "another start of this machine took this one's place; was its disk copied or restored?",
            "STALE_BOOT",
        ),
        Failure::WrongCardOrPin => {
            unauthenticated(ids, "the card or the PIN is not right", "WRONG_CARD_OR_PIN")
        }
        Failure::CardLocked => precondition("the card is locked after too many wrong PINs", "CARD_LOCKED"),
        Failure::CardBlocked => precondition("the card is blocked", "CARD_BLOCKED"),
        Failure::CardNotFound => not_found("there is no such card", "CARD_NOT_FOUND"),
        Failure::MachineNotFound => not_found("there is no machine with this name", "MACHINE_NOT_FOUND"),
        Failure::OrderIdReused => rich::with_reason(
            Code::AlreadyExists,
            "the order id was used before for another order",
            "ID_REUSED",
            &[],
        ),
        Failure::AccountNotFound => not_found("there is no such account", "ACCOUNT_NOT_FOUND"),
        Failure::TransactionNotFound => not_found("there is no such transaction", "TRANSACTION_NOT_FOUND"),
        Failure::IdReused { field } => rich::with_reason(
            Code::AlreadyExists,
            format!("the transaction id was used before with another {field}"),
            "ID_REUSED",
            &[("field", field.to_owned())],
        ),
        Failure::AccountDiffers { field } => rich::with_reason(
            Code::AlreadyExists,
            format!("the account number is taken by an account with another {field}"),
            "ACCOUNT_DIFFERS",
            &[("field", field.to_owned())],
        ),
        Failure::CardOfAnotherAccount => rich::with_reason(
            Code::AlreadyExists,
            "the card number belongs to another account",
            "CARD_OF_ANOTHER_ACCOUNT",
            &[("field", "card_number".to_owned())],
        ),
        Failure::OpeningBalanceDeclined => precondition(
            "the account is open, but its opening balance was declined for good",
            "OPENING_BALANCE_DECLINED",
        ),
        Failure::NotCapturable { reason, state } => not_capturable(reason, state),
        Failure::NotSuspendable { state: state @ TransactionState::Unspecified } => {
            in_state("the transaction cannot be suspended", "NOT_SUSPENDABLE", state)
        }
        Failure::NotSuspendable { state } => {
            in_state("the transaction holds nothing that could be suspended", "NOTHING_TO_SUSPEND", state)
        }
        Failure::NotResolvable { state: state @ TransactionState::Suspect } => {
            in_state("the amount is larger than what is held", "RESOLUTION_EXCEEDS_HOLD", state)
        }
        Failure::NotResolvable { state: state @ TransactionState::Unspecified } => {
            in_state("the transaction cannot be resolved", "NOT_RESOLVABLE", state)
        }
        Failure::NotResolvable { state } => in_state("the transaction is not suspect", "NOT_SUSPECT", state),
        Failure::Busy { retry_after } => {
            come_back(Code::ResourceExhausted, "too much at once: nothing was done", "BUSY", retry_after)
        }
        Failure::NotProcessed { retry_after } => come_back(
            Code::Unavailable,
            "the bank cannot be reached now: nothing was done",
            "NOT_PROCESSED",
            retry_after,
        ),
        Failure::Unknown { retry_after } => come_back(
            Code::Unavailable,
            "the bank did not answer: what happened is not known; send the same request again",
            "OUTCOME_UNKNOWN",
            retry_after,
        ),
        Failure::DeadlineOver => rich::with_reason(
            Code::DeadlineExceeded,
            "no answer in time: what happened is not known; send the same request again",
            "OUTCOME_UNKNOWN",
            &[],
        ),
        Failure::Defect(defect) => rich::internal(ids, &defect),
    }
}

/// The same failure as the result of one row of a batch.
pub fn command_error(ids: &dyn IdSource, failure: Failure) -> CommandError {
    let field = match &failure {
        Failure::Invalid { field, .. } => field.to_string(),
        Failure::IdReused { field } | Failure::AccountDiffers { field } => (*field).to_owned(),
        Failure::CardOfAnotherAccount => "card_number".to_owned(),
        Failure::TerminalKeyRequired
        | Failure::SessionRequired
        | Failure::SessionsUnknown
        | Failure::OperatorRequired
        | Failure::TerminalMismatch
        | Failure::TerminalNotBound
        | Failure::StaleBoot
        | Failure::WrongCardOrPin
        | Failure::CardLocked
        | Failure::CardBlocked
        | Failure::CardNotFound
        | Failure::MachineNotFound
        | Failure::OrderIdReused
        | Failure::AccountNotFound
        | Failure::TransactionNotFound
        | Failure::OpeningBalanceDeclined
        | Failure::NotCapturable { .. }
        | Failure::NotSuspendable { .. }
        | Failure::NotResolvable { .. }
        | Failure::Busy { .. }
        | Failure::NotProcessed { .. }
        | Failure::Unknown { .. }
        | Failure::DeadlineOver
        | Failure::Defect(_) => String::new(),
    };
    let status = status(ids, failure);
    let reason = rich::reason(&status).unwrap_or_else(|| "INVALID".to_owned());
    CommandError { code: status.code().into(), message: status.message().to_owned(), reason, field }
}

/// The same text for everybody, save an error id that tells two refusals apart in a complaint.
fn unauthenticated(ids: &dyn IdSource, message: &str, reason: &str) -> Status {
    let id = rich::error_id(ids);
    rich::with_reason(
        Code::Unauthenticated,
        format!("{message} (error {id})"),
        reason,
        &[("error_id", id.clone())],
    )
}

fn precondition(message: &str, reason: &str) -> Status {
    rich::with_reason(Code::FailedPrecondition, message, reason, &[])
}

fn not_found(message: &str, reason: &str) -> Status {
    rich::with_reason(Code::NotFound, message, reason, &[])
}

fn not_capturable(obstacle: CaptureObstacle, state: TransactionState) -> Status {
    let (message, reason) = match obstacle {
        CaptureObstacle::NothingToCapture => {
            ("the transaction holds nothing that could be captured", "NOTHING_TO_CAPTURE")
        }
        CaptureObstacle::CaptureExceedsHold => {
            ("the capture is larger than the hold", "CAPTURE_EXCEEDS_HOLD")
        }
        CaptureObstacle::Suspended => ("the transaction is suspended until a person decides", "SUSPENDED"),
        CaptureObstacle::Other => ("the transaction cannot be captured", "NOT_CAPTURABLE"),
    };
    in_state(message, reason, state)
}

fn in_state(message: &str, reason: &str, state: TransactionState) -> Status {
    let state = state.as_str_name().trim_start_matches("TRANSACTION_STATE_").to_owned();
    rich::with_reason(Code::FailedPrecondition, message, reason, &[("state", state)])
}

fn come_back(code: Code, message: &str, reason: &str, retry_after: Duration) -> Status {
    let retry_after = if retry_after.is_zero() { COME_BACK } else { retry_after };
    let mut details = ErrorDetails::with_retry_info(Some(retry_after));
    details.set_error_info(reason, rich::DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(code, message, details)
}

#[cfg(test)]
mod tests {
    use atm_types::SystemIds;

    use super::*;
    use crate::failure::Defect;

    #[test]
    fn refusals_of_strangers_differ_by_nothing_but_a_random_id() {
        let text = |failure| {
            let status = status(&SystemIds, failure);
            let id = status.get_details_error_info().unwrap().metadata["error_id"].clone();
            (status.message().replace(&id, "ID"), id)
        };
        let (first, one) = text(Failure::SessionRequired);
        let (second, other) = text(Failure::SessionRequired);
        assert_eq!(first, second);
        assert_ne!(one, other);
        assert_eq!(text(Failure::WrongCardOrPin).0, text(Failure::WrongCardOrPin).0);
    }

    #[test]
    fn row_26_what_an_upstream_said_stays_in_the_log() {
        let message = "no such table: cards in /var/lib/auth.db".to_owned();
        let defect = Defect { upstream: "auth", code: Code::Internal, message };
        let status = status(&SystemIds, Failure::Defect(defect));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("auth.db"), "{status:?}");
    }

    #[test]
    fn a_caller_is_told_whether_nothing_happened_or_nobody_knows() {
        let retry_after = Duration::from_millis(70);
        let not_processed = status(&SystemIds, Failure::NotProcessed { retry_after });
        let unknown = status(&SystemIds, Failure::Unknown { retry_after });
        assert_eq!(rich::reason(&not_processed).as_deref(), Some("NOT_PROCESSED"));
        assert_eq!(rich::reason(&unknown).as_deref(), Some("OUTCOME_UNKNOWN"));
        assert_eq!(rich::retry_delay(&unknown), Some(retry_after));
        assert!([not_processed, unknown].iter().all(|status| status.code() == Code::Unavailable));
    }

    #[test]
    fn what_cannot_be_suspended_or_resolved_says_why() {
        use TransactionState::{Held, Posted, Suspect, Unspecified};
        for (failure, reason, state) in [
            (Failure::NotSuspendable { state: Posted }, "NOTHING_TO_SUSPEND", "POSTED"),
            (Failure::NotSuspendable { state: Unspecified }, "NOT_SUSPENDABLE", "UNSPECIFIED"),
            (Failure::NotResolvable { state: Held }, "NOT_SUSPECT", "HELD"),
            (Failure::NotResolvable { state: Suspect }, "RESOLUTION_EXCEEDS_HOLD", "SUSPECT"),
            (Failure::NotResolvable { state: Unspecified }, "NOT_RESOLVABLE", "UNSPECIFIED"),
        ] {
            let status = status(&SystemIds, failure);
            assert_eq!(
                (status.code(), rich::reason(&status).as_deref()),
                (Code::FailedPrecondition, Some(reason))
            );
            assert_eq!(status.get_details_error_info().unwrap().metadata["state"], state);
        }
    }

    #[test]
    fn a_row_of_a_batch_names_code_reason_and_field() {
        let error = command_error(&SystemIds, Failure::AccountDiffers { field: "holder_name" });
        assert_eq!(
            (error.code, error.reason.as_str(), error.field.as_str()),
            (6, "ACCOUNT_DIFFERS", "holder_name")
        );
        let error = command_error(&SystemIds, Failure::invalid("card_number", "must be 8 to 19 digits"));
        assert_eq!((error.code, error.field.as_str()), (3, "card_number"));
    }
}
