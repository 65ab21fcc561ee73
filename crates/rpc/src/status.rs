//! Statuses with the details of `google.rpc` (AIP-193): which field, which reason, when to come back.
//!
//! A stranger reads a general sentence; what is wrong inside goes to the log, once, under an id that the
//! stranger can quote.

use std::collections::HashMap;
use std::time::Duration;

use atm_types::IdSource;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `ErrorInfo.domain` of every reason that this system gives.
pub const DOMAIN: &str = "atm.bank";

/// INVALID_ARGUMENT that names the field at fault. `description` completes the sentence "`field` …".
pub fn invalid_argument(field: &str, description: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, format!("{field} {description}"), details)
}

/// A failure with a machine-readable `reason` (SCREAMING_SNAKE_CASE) in the domain [`DOMAIN`].
pub fn with_reason(
    code: Code,
    message: impl Into<String>,
    reason: &str,
    metadata: &[(&str, String)],
) -> Status {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// UNAVAILABLE; the caller may come back after `retry_after`.
pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Status {
    come_back(Code::Unavailable, message, retry_after)
}

/// RESOURCE_EXHAUSTED; the caller may come back after `retry_after`.
pub fn resource_exhausted(message: impl Into<String>, retry_after: Duration) -> Status {
    come_back(Code::ResourceExhausted, message, retry_after)
}

fn come_back(code: Code, message: impl Into<String>, retry_after: Duration) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(retry_after)))
}

/// INTERNAL with a random error id. The error and its sources are logged here and nowhere else; the caller
/// learns the id and nothing more.
pub fn internal(ids: &dyn IdSource, error: &dyn std::error::Error) -> Status {
    let id = error_id(ids);
    let mut sources = String::new();
    let mut source = error.source();
    while let Some(next) = source {
        sources.push_str(": ");
        sources.push_str(&next.to_string());
        source = next.source();
    }
    tracing::error!(error_id = %id, error = %error, sources = %sources.trim_start_matches(": "), "internal error");
    internal_with_id(&id)
}

/// What a stranger learns about an internal error.
pub(crate) fn internal_with_id(id: &str) -> Status {
    let metadata = [("error_id", id.to_owned())];
    with_reason(Code::Internal, format!("internal error {id}"), "INTERNAL", &metadata)
}

/// Sixteen random hexadecimal digits to find one error in the logs.
pub fn error_id(ids: &dyn IdSource) -> String {
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    hex::encode(bytes)
}

/// How long the server asked the caller to stay away (`RetryInfo`), if it did.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// The machine-readable reason (`ErrorInfo.reason`) in our own domain.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

/// A value beside that reason (`ErrorInfo.metadata`).
pub fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN)?.metadata.remove(key)
}

/// The first field that the server found at fault (`BadRequest`).
pub fn violated_field(status: &Status) -> Option<String> {
    status.get_details_bad_request()?.field_violations.into_iter().next().map(|violation| violation.field)
}

#[cfg(test)]
mod tests {
    use atm_types::SeededIds;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("disk I/O error at /var/lib/secret.db")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("SELECT failed")]
    struct Outer(#[source] Inner);

    #[test]
    fn an_invalid_argument_names_its_field() {
        let status = invalid_argument("amount.units", "must be positive");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "amount.units must be positive");
        assert_eq!(violated_field(&status).as_deref(), Some("amount.units"));
        assert_eq!(reason(&status), None);
    }

    #[test]
    fn a_reason_is_read_back_only_from_our_own_domain() {
        let ours = with_reason(Code::FailedPrecondition, "locked", "CARD_LOCKED", &[("card", "1".into())]);
        assert_eq!(reason(&ours).as_deref(), Some("CARD_LOCKED"));
        let foreign = ErrorDetails::with_error_info("CARD_LOCKED", "elsewhere", HashMap::new());
        let foreign = Status::with_error_details(Code::FailedPrecondition, "locked", foreign);
        assert_eq!(reason(&foreign), None);
    }

    #[test]
    fn busy_answers_say_when_to_come_back() {
        let delay = Duration::from_millis(250);
        for (status, code) in [
            (unavailable("restarting", delay), Code::Unavailable),
            (resource_exhausted("busy", delay), Code::ResourceExhausted),
        ] {
            assert_eq!(status.code(), code);
            assert_eq!(retry_delay(&status), Some(delay));
        }
        assert_eq!(retry_delay(&Status::unavailable("no word about it")), None);
    }

    #[test]
    fn an_internal_error_tells_a_stranger_an_id_and_nothing_else() {
        let ids = SeededIds::new(1);
        let status = internal(&ids, &Outer(Inner));
        let text = format!("{status:?}");
        assert!(!text.contains("secret.db") && !text.contains("SELECT"), "{text}");
        assert_eq!(status.message(), format!("internal error {}", error_id(&SeededIds::new(1))));
        assert_ne!(internal(&ids, &Inner).message(), status.message(), "each error has its own id");
    }

    #[test]
    fn details_that_are_not_ours_to_read_are_ignored() {
        let garbled = Status::with_details(Code::Unavailable, "x", vec![0xff, 0xff].into());
        assert_eq!((retry_delay(&garbled), reason(&garbled), violated_field(&garbled)), (None, None, None));
    }
}
