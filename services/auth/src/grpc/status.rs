//! The one place where a failure becomes a status. What a stranger reads never depends on anything but the
//! kind of failure, save for a random id under which the logs may know more.

use std::time::Duration;

use atm_rpc::status::{error_id, internal, resource_exhausted, unavailable, with_reason};
use atm_types::IdSource;
use tonic::{Code, Status};

use crate::failure::Failure;

/// When to come back to a service that has lost its storage and is being started again.
const RESTART: Duration = Duration::from_secs(1);

/// When to come back where an operator has to do something first.
const OPERATOR: Duration = Duration::from_secs(60);

/// The status of a failure.
pub(super) fn of(ids: &dyn IdSource, failure: Failure) -> Status {
    let reason =
        |code, message: &str, reason| with_reason(code, message, reason, &[("error_id", error_id(ids))]);
    match failure {
        Failure::WrongCardOrPin => {
            reason(Code::Unauthenticated, "the card or the PIN is wrong", "WRONG_CARD_OR_PIN")
        }
        Failure::CardLocked => {
            reason(Code::FailedPrecondition, "the card is locked after three wrong PINs", "CARD_LOCKED")
        }
        Failure::CardBlocked => {
            reason(Code::FailedPrecondition, "the card is blocked by the bank", "CARD_BLOCKED")
        }
        Failure::TerminalMismatch => {
            reason(Code::PermissionDenied, "the atm_id belongs to another terminal", "TERMINAL_MISMATCH")
        }
        Failure::StaleBoot => reason(
            Code::FailedPrecondition,
            "another start of this machine took this one's place",
            "STALE_BOOT",
        ),
        Failure::NoSuchCard => reason(Code::NotFound, "there is no such card", "CARD_NOT_FOUND"),
        Failure::NoSuchMachine => {
            reason(Code::NotFound, "there is no machine with this name", "MACHINE_NOT_FOUND")
        }
        Failure::OrderIdReused => {
            reason(Code::AlreadyExists, "the order id was used before for another order", "ORDER_ID_REUSED")
        }
        Failure::Busy { retry_after } => {
            resource_exhausted("too many PINs are being verified; nothing was counted", retry_after)
        }
        Failure::TooManyMachines => {
            tracing::warn!("the table of machines is full: a new machine was refused");
            resource_exhausted("no more machines can be added", OPERATOR)
        }
        Failure::Storage(error) => {
            let id = error_id(ids);
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(error_id = %id, %error, %source, "storage failed");
            unavailable(format!("the service is not available, error {id}"), RESTART)
        }
        Failure::Hashing(_) | Failure::Sign(_) | Failure::Panicked => internal(ids, &failure),
    }
}

/// What a caller without the service token reads.
pub(super) fn no_service_token() -> Status {
    with_reason(Code::Unauthenticated, "a service token is required", "SERVICE_TOKEN_REQUIRED", &[])
}

#[cfg(test)]
mod tests {
    use atm_rpc::status::{reason, retry_delay};
    use atm_types::SeededIds;

    use super::*;
    use crate::hashing::HashingError;
    use crate::session::SignError;
    use crate::storage::StorageError;

    #[test]
    fn every_failure_has_the_code_and_reason_of_the_contract() {
        let ids = SeededIds::new(1);
        for (failure, code, text) in [
            (Failure::WrongCardOrPin, Code::Unauthenticated, Some("WRONG_CARD_OR_PIN")),
            (Failure::CardLocked, Code::FailedPrecondition, Some("CARD_LOCKED")),
            (Failure::CardBlocked, Code::FailedPrecondition, Some("CARD_BLOCKED")),
            (Failure::TerminalMismatch, Code::PermissionDenied, Some("TERMINAL_MISMATCH")),
            (Failure::StaleBoot, Code::FailedPrecondition, Some("STALE_BOOT")),
            (Failure::NoSuchCard, Code::NotFound, Some("CARD_NOT_FOUND")),
            (Failure::NoSuchMachine, Code::NotFound, Some("MACHINE_NOT_FOUND")),
            (Failure::OrderIdReused, Code::AlreadyExists, Some("ORDER_ID_REUSED")),
            (Failure::Hashing(HashingError::Panicked), Code::Internal, Some("INTERNAL")),
            (Failure::Sign(SignError), Code::Internal, Some("INTERNAL")),
            (Failure::Panicked, Code::Internal, Some("INTERNAL")),
        ] {
            let status = of(&ids, failure);
            assert_eq!((status.code(), reason(&status).as_deref()), (code, text));
        }
        for failure in [Failure::Busy { retry_after: RESTART }, Failure::TooManyMachines] {
            let status = of(&ids, failure);
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(retry_delay(&status).is_some());
        }
        let status = of(&ids, Failure::Storage(StorageError::Stopped));
        assert_eq!((status.code(), retry_delay(&status)), (Code::Unavailable, Some(RESTART)));
    }

    #[test]
    fn row_26_a_stranger_reads_neither_sql_nor_path() {
        let storage = || StorageError::Commit("disk I/O error in /var/lib/auth.db near SELECT".into());
        let status = of(&SeededIds::new(1), Failure::Storage(storage()));
        let text = format!("{status:?}");
        assert!(!text.contains("SELECT") && !text.contains("/var"), "{text}");
    }

    #[test]
    fn two_refusals_differ_by_their_random_id_only() {
        let ids = SeededIds::new(1);
        let first = of(&SeededIds::new(7), Failure::WrongCardOrPin);
        let same = of(&SeededIds::new(7), Failure::WrongCardOrPin);
        let other = of(&ids, Failure::WrongCardOrPin);
        assert_eq!(first.details(), same.details());
        assert_ne!(first.details(), other.details());
        assert_eq!((first.code(), first.message()), (other.code(), other.message()));
        assert_eq!(first.details().len(), other.details().len());
    }
}
