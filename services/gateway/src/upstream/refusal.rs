//! What the statuses of auth and ledger mean to a caller of the gateway. Codes and reasons are read; messages
//! never are, except into the log.

use atm_proto::types::TransactionState;
use atm_rpc::retry::RetryError;
use atm_rpc::status as rich;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::failure::{COME_BACK, CaptureObstacle, Defect, Failure};

/// The name of auth in defects.
pub const AUTH: &str = "auth";
/// The name of the ledger in defects.
pub const LEDGER: &str = "ledger";

/// What was asked of the ledger, which decides how its fields are called in the caller's own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Cash in or out: the accounts follow from the session.
    Cash,
    /// A transfer: the caller named the credited account.
    Transfer,
    /// Cash moved from one place to another: the caller named both.
    CashMovement,
    /// To freeze a withdrawal.
    Suspension,
    /// To decide a frozen withdrawal.
    Resolution,
    /// Something about one transaction.
    Transaction,
    /// Something about one account.
    Account,
    /// To open an account.
    Opening,
    /// Something about the books as a whole.
    Books,
}

/// A failed call to the ledger.
pub fn of_ledger(error: RetryError, asked: Asked) -> Failure {
    match transport(LEDGER, error) {
        Ok(failure) => failure,
        Err(status) => ledger_answer(&status, asked),
    }
}

/// A failed call to auth.
pub fn of_auth(error: RetryError) -> Failure {
    match transport(AUTH, error) {
        Ok(failure) => failure,
        Err(status) => auth_answer(&status),
    }
}

fn ledger_answer(status: &Status, asked: Asked) -> Failure {
    match status.code() {
        Code::InvalidArgument => invalid(LEDGER, status, asked),
        Code::AlreadyExists => already_exists(error_field(status).as_deref(), asked),
        Code::NotFound => match asked {
            Asked::Cash
            | Asked::Transfer
            | Asked::CashMovement
            | Asked::Suspension
            | Asked::Resolution
            | Asked::Transaction => Failure::TransactionNotFound,
            Asked::Account => Failure::AccountNotFound,
            Asked::Opening | Asked::Books => defect(LEDGER, status),
        },
        Code::FailedPrecondition => match asked {
            Asked::Suspension => Failure::NotSuspendable { state: state_of(status) },
            Asked::Resolution => Failure::NotResolvable { state: state_of(status) },
            Asked::Cash
            | Asked::Transfer
            | Asked::CashMovement
            | Asked::Transaction
            | Asked::Account
            | Asked::Opening
            | Asked::Books => not_capturable(status),
        },
        Code::Ok
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::OutOfRange
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::ResourceExhausted
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown => defect(LEDGER, status),
    }
}

fn auth_answer(status: &Status) -> Failure {
    let reason = rich::reason(status);
    match (status.code(), reason.as_deref()) {
        (Code::InvalidArgument, _) => invalid(AUTH, status, Asked::Books),
        (Code::Unauthenticated, Some("WRONG_CARD_OR_PIN")) => Failure::WrongCardOrPin,
        (Code::FailedPrecondition, Some("CARD_LOCKED")) => Failure::CardLocked,
        (Code::FailedPrecondition, Some("CARD_BLOCKED")) => Failure::CardBlocked,
        (Code::FailedPrecondition, Some("STALE_BOOT")) => Failure::StaleBoot,
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH")) => Failure::TerminalMismatch,
        (Code::NotFound, Some("MACHINE_NOT_FOUND")) => Failure::MachineNotFound,
        (Code::NotFound, _) => Failure::CardNotFound,
        (Code::AlreadyExists, Some("ORDER_ID_REUSED")) => Failure::OrderIdReused,
        (
            Code::Ok
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::AlreadyExists
            | Code::OutOfRange
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::ResourceExhausted
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown,
            _,
        ) => defect(AUTH, status),
    }
}

/// Sorts out what happened on the way; gives back the status when it is an answer with a meaning of its own.
fn transport(upstream: &'static str, error: RetryError) -> Result<Failure, Status> {
    let retry_after = rich::retry_delay(&error.status).unwrap_or(COME_BACK);
    let status = error.status;
    match status.code() {
        Code::ResourceExhausted if rich::retry_delay(&status).is_some() => Ok(Failure::Busy { retry_after }),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded if !error.maybe_sent => {
            log(upstream, &status);
            Ok(Failure::NotProcessed { retry_after })
        }
        Code::DeadlineExceeded => Ok(Failure::DeadlineOver),
        Code::Unavailable | Code::Cancelled | Code::Unknown => {
            log(upstream, &status);
            Ok(Failure::Unknown { retry_after })
        }
        Code::ResourceExhausted
        | Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Err(status),
    }
}

fn log(upstream: &'static str, status: &Status) {
    tracing::warn!(upstream, code = ?status.code(), message = status.message(), "no answer from upstream");
}

fn defect(upstream: &'static str, status: &Status) -> Failure {
    Failure::Defect(Defect { upstream, code: status.code(), message: status.message().to_owned() })
}

/// What callers of the gateway may have got wrong that only an upstream sees; anything else is the gateway's
/// own mistake.
fn invalid(upstream: &'static str, status: &Status, asked: Asked) -> Failure {
    let field = rich::violated_field(status);
    match (field.as_deref(), asked) {
        (Some("amount.minor_units" | "amount"), _) => {
            Failure::invalid("amount.minor_units", "is out of range")
        }
        (Some("amount.currency_code"), _) => {
            Failure::invalid("amount.currency_code", "must be the currency of the accounts")
        }
        (Some("lifetime"), _) => Failure::invalid("lifetime", "must be between 1 second and 30 days"),
        (Some("page_token"), _) => Failure::invalid("page_token", "must come from the page before"),
        (Some("page_size"), _) => Failure::invalid("page_size", "must be 0 to 1000"),
        (Some("authorization"), _) => Failure::invalid("authorization", "must be that of the HELD outcome"),
        (Some("credit_account_id"), Asked::Transfer) => {
            Failure::invalid("to_account", "must be another account than the one debited")
        }
        (Some("card_number"), _) => Failure::invalid("card_number", "must be 8 to 19 digits"),
        (Some("pin"), _) => Failure::invalid("pin", "must be 4 to 12 digits"),
        (Some("old_pin"), _) => Failure::invalid("old_pin", "must be 4 to 12 digits"),
        (Some("new_pin"), _) => Failure::invalid("new_pin", "must be 4 to 12 digits"),
        (Some(_) | None, _) => defect(upstream, status),
    }
}

fn error_field(status: &Status) -> Option<String> {
    status.get_details_error_info().and_then(|info| info.metadata.get("field").cloned())
}

/// What differs from what the ledger recorded first, in the words of the caller's own request.
pub fn already_exists(field: Option<&str>, asked: Asked) -> Failure {
    if asked == Asked::Opening {
        return Failure::AccountDiffers {
            field: match field {
                Some("account.currency_code") => "opening_balance.currency_code",
                Some("account.holder_name") => "holder_name",
                Some("account.overdraft_limit_minor_units") => "overdraft_limit_minor_units",
                Some("account.daily_withdrawal_limit_minor_units") => "daily_withdrawal_limit_minor_units",
                Some(_) | None => "account_number",
            },
        };
    }
    let field = match (field, asked) {
        (Some("amount.minor_units" | "amount"), _) => "amount.minor_units",
        (Some("amount.currency_code"), _) => "amount.currency_code",
        (Some("kind"), _) => "kind",
        (Some("credit_account_id"), Asked::Transfer) => "to_account",
        // A posting debits the place where the cash is now.
        (Some("debit_account_id"), Asked::CashMovement) => "to",
        (Some("credit_account_id"), Asked::CashMovement) => "from",
        // The suspense account follows from the machine's name.
        (Some("suspense_account_id"), Asked::Suspension) => crate::terminal::ATM_ID,
        // Another customer's, another machine's, or another terminal's: somebody else's id.
        (Some(_) | None, _) => "transaction_id",
    };
    Failure::IdReused { field }
}

fn not_capturable(status: &Status) -> Failure {
    let reason = match rich::reason(status).as_deref() {
        Some("NOTHING_TO_CAPTURE") => CaptureObstacle::NothingToCapture,
        Some("CAPTURE_EXCEEDS_HOLD") => CaptureObstacle::CaptureExceedsHold,
        Some("SUSPENDED") => CaptureObstacle::Suspended,
        Some(_) | None => CaptureObstacle::Other,
    };
    Failure::NotCapturable { reason, state: state_of(status) }
}

/// Where the transaction stands that the ledger refused to touch.
fn state_of(status: &Status) -> TransactionState {
    status
        .get_details_error_info()
        .and_then(|info| info.metadata.get("state").cloned())
        .and_then(|state| {
            TransactionState::from_str_name(&state)
                .or_else(|| TransactionState::from_str_name(&format!("TRANSACTION_STATE_{state}")))
        })
        .unwrap_or(TransactionState::Unspecified)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed(status: Status, maybe_sent: bool) -> RetryError {
        RetryError { status, attempts: 1, maybe_sent, deadline_over: false }
    }

    fn with(code: Code, reason: &str, metadata: &[(&str, String)]) -> RetryError {
        failed(rich::with_reason(code, "secret words of an upstream", reason, metadata), true)
    }

    #[test]
    fn a_reused_id_names_the_field_as_the_caller_knows_it() {
        let reused = |field: &str, asked| {
            of_ledger(with(Code::AlreadyExists, "ID_REUSED", &[("field", field.to_owned())]), asked)
        };
        for (field, asked, told) in [
            ("amount.minor_units", Asked::Cash, "amount.minor_units"),
            ("kind", Asked::Cash, "kind"),
            ("credit_account_id", Asked::Transfer, "to_account"),
            ("credit_account_id", Asked::Cash, "transaction_id"),
            ("debit_account_id", Asked::Transfer, "transaction_id"),
            ("terminal_id", Asked::Cash, "transaction_id"),
            ("debit_account_id", Asked::CashMovement, "to"),
            ("credit_account_id", Asked::CashMovement, "from"),
            ("amount.minor_units", Asked::CashMovement, "amount.minor_units"),
            ("amount.minor_units", Asked::Resolution, "amount.minor_units"),
            ("suspense_account_id", Asked::Suspension, "atm-id"),
            ("transaction_id", Asked::Transaction, "transaction_id"),
            ("<script>", Asked::Transaction, "transaction_id"),
        ] {
            assert_eq!(reused(field, asked), Failure::IdReused { field: told }, "{field}");
        }
    }

    #[test]
    fn a_capture_refused_for_good_says_why_and_where_the_transaction_stands() {
        for state in ["POSTED", "TRANSACTION_STATE_POSTED"] {
            let error = with(Code::FailedPrecondition, "NOTHING_TO_CAPTURE", &[("state", state.to_owned())]);
            let expected = Failure::NotCapturable {
                reason: CaptureObstacle::NothingToCapture,
                state: TransactionState::Posted,
            };
            assert_eq!(of_ledger(error, Asked::Transaction), expected);
        }
    }

    #[test]
    fn a_capture_of_what_is_suspended_says_so() {
        let state = [("state", "TRANSACTION_STATE_SUSPECT".to_owned())];
        let failure = of_ledger(with(Code::FailedPrecondition, "SUSPENDED", &state), Asked::Cash);
        let (reason, state) = (CaptureObstacle::Suspended, TransactionState::Suspect);
        assert_eq!(failure, Failure::NotCapturable { reason, state });
    }

    #[test]
    fn a_suspension_or_a_resolution_refused_for_good_says_where_the_transaction_stands() {
        for state in [TransactionState::Posted, TransactionState::Suspect] {
            let refused = || {
                let name = state.as_str_name().to_owned();
                with(Code::FailedPrecondition, "WHATEVER", &[("state", name)])
            };
            assert_eq!(of_ledger(refused(), Asked::Suspension), Failure::NotSuspendable { state });
            assert_eq!(of_ledger(refused(), Asked::Resolution), Failure::NotResolvable { state });
        }
        let unknown = with(Code::NotFound, "TRANSACTION_NOT_FOUND", &[]);
        assert_eq!(of_ledger(unknown, Asked::Resolution), Failure::TransactionNotFound);
    }

    #[test]
    fn auths_refusals_pass_by_their_reason_and_nothing_else_does() {
        for (code, reason, failure) in [
            (Code::Unauthenticated, "WRONG_CARD_OR_PIN", Failure::WrongCardOrPin),
            (Code::FailedPrecondition, "CARD_LOCKED", Failure::CardLocked),
            (Code::FailedPrecondition, "CARD_BLOCKED", Failure::CardBlocked),
            (Code::FailedPrecondition, "STALE_BOOT", Failure::StaleBoot),
            (Code::PermissionDenied, "TERMINAL_MISMATCH", Failure::TerminalMismatch),
        ] {
            assert_eq!(of_auth(with(code, reason, &[])), failure);
        }
        for (code, reason) in [
            (Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED"),
            (Code::PermissionDenied, "OTHER"),
            (Code::FailedPrecondition, "OTHER"),
            (Code::Internal, "WRONG_CARD_OR_PIN"),
        ] {
            let failure = of_auth(with(code, reason, &[]));
            assert!(matches!(failure, Failure::Defect(_)), "{code:?} {reason}: {failure:?}");
        }
    }

    #[test]
    fn what_was_never_sent_is_told_apart_from_what_may_have_happened() {
        let retry_after = Duration::from_millis(40);
        let unavailable = || rich::unavailable("gone", retry_after);
        assert_eq!(
            of_ledger(failed(unavailable(), false), Asked::Cash),
            Failure::NotProcessed { retry_after }
        );
        assert_eq!(of_ledger(failed(unavailable(), true), Asked::Cash), Failure::Unknown { retry_after });
        let late = failed(Status::deadline_exceeded("late"), true);
        assert_eq!(of_ledger(late, Asked::Cash), Failure::DeadlineOver);
        let busy = failed(rich::resource_exhausted("full", retry_after), true);
        assert_eq!(of_auth(busy), Failure::Busy { retry_after });
    }
}
