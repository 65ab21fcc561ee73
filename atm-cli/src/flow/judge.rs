//! What an answer, or the lack of one, means. Pure: from what came off the wire to an [`Event`].
//!
//! An answer is believed only when it speaks of this transaction and makes sense for it. Everything else is
//! "not known", and what is not known is fenced off.

use std::time::Duration;

use atm_proto::gateway::{GetTransactionResponse, Outcome};
use atm_proto::types::{DeclineReason, TransactionState};
use atm_rpc::retry::RetryError;
use atm_types::Money;
use tonic::{Code, Status};

use crate::client::Answer;
use crate::exit::Exit;
use crate::journal::{AccountBalance, Event, Intent, Kind};

/// How the first call of a transaction failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// No attempt left this machine.
    NotSent,
    /// The id is taken by something else, so this request never was and never will be applied.
    IdReused { how: String },
    /// The only attempt was refused before it reached the ledger. That speaks for the copy that was answered: the
    /// network may have made another one, which was let in. Only the fence makes it definite.
    TurnedAway { exit: Exit, reason: &'static str, message: String },
    /// Nobody knows.
    Indefinite { reason: String },
}

/// Once any attempt may have left the machine, every status but ALREADY_EXISTS is indefinite: an earlier attempt, or
/// another copy of the only one, may have worked before the session died.
pub(super) fn failed(error: &RetryError) -> Failed {
    let message = error.status.message().to_owned();
    let single = error.attempts == 1 && !error.deadline_over;
    match error.status.code() {
        _ if !error.maybe_sent => Failed::NotSent,
        Code::AlreadyExists => Failed::IdReused { how: used_how(&error.status) },
        Code::Unauthenticated if single => {
            Failed::TurnedAway { exit: Exit::NotAuthenticated, reason: "not_authenticated", message }
        }
        Code::PermissionDenied if single => {
            Failed::TurnedAway { exit: Exit::NotAuthenticated, reason: "permission_denied", message }
        }
        Code::InvalidArgument if single => {
            Failed::TurnedAway { exit: Exit::WrongUse, reason: "invalid_input", message }
        }
        _ if error.deadline_over => Failed::Indefinite { reason: "no_answer".to_owned() },
        code => Failed::Indefinite { reason: format!("status_{}", code_name(code)) },
    }
}

/// How an id was used before, by the answer that says that it was.
pub(super) fn used_how(status: &Status) -> String {
    match atm_rpc::status::metadata(status, "field").as_deref() {
        // That is all that anybody is told of another machine's transaction.
        Some("transaction_id") => "by another machine".to_owned(),
        Some(field) => format!("its {field} differs"),
        None => status.message().to_owned(),
    }
}

/// What the answer to a hold or posting means.
pub(super) fn answered(intent: &Intent, answer: &Answer) -> Event {
    let outcome = &answer.outcome;
    if outcome.transaction_id != intent.id.to_string() {
        return unexpected();
    }
    match (outcome.state(), intent.kind) {
        (TransactionState::Held, Kind::Withdrawal) if amount_is(outcome, intent.amount) => {
            match answer.current_state {
                TransactionState::Held => {
                    Event::Held { authorization: outcome.authorization.clone(), balance: balance(outcome) }
                }
                TransactionState::Cancelled => Event::Cancelled { reason: Some("cancelled".to_owned()) },
                TransactionState::Expired => Event::Cancelled { reason: Some("expired".to_owned()) },
                _ => unexpected(),
            }
        }
        (TransactionState::Posted, Kind::Deposit | Kind::Transfer) if amount_is(outcome, intent.amount) => {
            Event::Posted { balance: balance(outcome) }
        }
        (TransactionState::Declined, _) => declined(outcome),
        (TransactionState::Cancelled, _) => Event::Cancelled { reason: Some("cancelled".to_owned()) },
        _ => unexpected(),
    }
}

/// What the answer to a cancel means, if it means anything.
pub(super) fn fenced(intent: &Intent, answer: &Answer) -> Option<Event> {
    let outcome = &answer.outcome;
    if outcome.transaction_id != intent.id.to_string() {
        return None;
    }
    match (answer.current_state, intent.kind) {
        (TransactionState::Cancelled, _) => Some(Event::Cancelled { reason: None }),
        (TransactionState::Expired, _) => Some(Event::Cancelled { reason: Some("expired".to_owned()) }),
        (TransactionState::Declined, _) => Some(declined(outcome)),
        (TransactionState::Posted, Kind::Deposit | Kind::Transfer) => {
            Some(Event::Posted { balance: balance(outcome) })
        }
        // This machine gave it up and paid nothing out, and yet money moved.
        (
            state @ (TransactionState::Posted
            | TransactionState::Captured
            | TransactionState::CapturedLate
            | TransactionState::Suspect),
            _,
        ) => Some(Event::Contradicted { reason: format!("bank_says_{}", crate::output::state_name(state)) }),
        (TransactionState::Held | TransactionState::Unspecified, _) => None,
    }
}

/// What a failed cancel means, where another attempt would change nothing.
pub(super) fn fence_refused(code: Code) -> Option<Event> {
    match code {
        // The id belongs to somebody else's transaction: ours never was, and the ledger never runs an id twice.
        Code::AlreadyExists | Code::NotFound => Some(Event::Refused { reason: "id_reused".to_owned() }),
        Code::FailedPrecondition => {
            Some(Event::Contradicted { reason: "cancel_refused_failed_precondition".to_owned() })
        }
        _ => None,
    }
}

/// What the answer to a capture means, if it means anything.
pub(super) fn captured(intent: &Intent, answer: &Answer) -> Option<Event> {
    let state = answer.outcome.state();
    let posted = matches!(state, TransactionState::Captured | TransactionState::CapturedLate);
    (posted && answer.outcome.transaction_id == intent.id.to_string())
        .then(|| Event::Captured { balance: balance(&answer.outcome) })
}

/// What a failed capture means, where another attempt would change nothing: the cash is out and the bank
/// will not post it, so a person must look.
pub(super) fn capture_refused(code: Code) -> Option<Event> {
    matches!(code, Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound)
        .then(|| Event::CaptureRefused { reason: format!("capture_refused_{}", code_name(code)) })
}

/// What the answer to a suspension means, if it means anything. What was captured before stays captured.
pub(super) fn suspended(intent: &Intent, answer: &Answer) -> Option<Event> {
    if answer.outcome.transaction_id != intent.id.to_string() {
        return None;
    }
    match answer.outcome.state() {
        TransactionState::Suspect => Some(Event::Suspended),
        TransactionState::Captured | TransactionState::CapturedLate => {
            Some(Event::Captured { balance: balance(&answer.outcome) })
        }
        TransactionState::Unspecified
        | TransactionState::Posted
        | TransactionState::Declined
        | TransactionState::Held
        | TransactionState::Cancelled
        | TransactionState::Expired => None,
    }
}

/// What a failed suspension means, where another attempt would change nothing.
pub(super) fn suspend_refused(code: Code) -> Option<Event> {
    matches!(code, Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound)
        .then(|| Event::SuspendRefused { reason: format!("suspend_refused_{}", code_name(code)) })
}

/// What a person decided about a suspended withdrawal, if anybody did: how much the customer got. What moved without
/// ever having been suspended is nobody's decision.
pub(super) fn resolved(intent: &Intent, found: &GetTransactionResponse) -> Option<Money> {
    let currency = intent.amount.currency();
    if !found.outcomes.iter().any(|outcome| outcome.state() == TransactionState::Suspect) {
        return None;
    }
    match found.current_state() {
        TransactionState::Captured | TransactionState::CapturedLate => {
            let amount = found.outcomes.last()?.amount.as_ref()?;
            (amount.currency_code == currency.code()).then(|| Money::new(amount.minor_units, currency))
        }
        TransactionState::Cancelled => Some(Money::zero(currency)),
        TransactionState::Unspecified
        | TransactionState::Posted
        | TransactionState::Declined
        | TransactionState::Held
        | TransactionState::Expired
        | TransactionState::Suspect => None,
    }
}

/// Whether a transaction stands where a ledger that acknowledged this event must have it, or further on.
pub(super) fn remembers(event: &str, state: TransactionState) -> bool {
    match state {
        TransactionState::Unspecified | TransactionState::Held => false,
        TransactionState::Captured | TransactionState::CapturedLate => {
            ["CAPTURED", "SUSPENDED", "RESOLVED", "CANCELLED"].contains(&event)
        }
        TransactionState::Posted => event == "POSTED",
        TransactionState::Declined => event == "DECLINED",
        // A decline that a restored ledger forgot was told it again as a cancel.
        TransactionState::Cancelled => ["CANCELLED", "SUSPENDED", "RESOLVED", "DECLINED"].contains(&event),
        TransactionState::Expired => event == "CANCELLED",
        TransactionState::Suspect => event == "SUSPENDED",
    }
}

/// How long the ledger will keep the hold, by its own clock at both ends.
pub(super) fn hold_lifetime(outcome: &Outcome) -> Option<Duration> {
    let (from, to) = (outcome.commit_time?, outcome.expire_time?);
    let seconds = u64::try_from(to.seconds.checked_sub(from.seconds)?).ok()?;
    // Nanoseconds only ever round the lifetime down.
    Some(Duration::from_secs(if to.nanos < from.nanos { seconds.saturating_sub(1) } else { seconds }))
}

/// The balance in an outcome.
pub(super) fn balance(outcome: &Outcome) -> Option<AccountBalance> {
    outcome.balance.as_ref().map(|balance| AccountBalance {
        balance: balance.balance_minor_units,
        available: balance.available_minor_units,
    })
}

/// The reason of a decline, in lower snake case.
pub(crate) fn decline_reason(outcome: &Outcome) -> String {
    let reason =
        outcome.decline.as_ref().map_or(DeclineReason::Unspecified, atm_proto::types::Decline::reason);
    let name = reason.as_str_name();
    name.strip_prefix("DECLINE_REASON_").unwrap_or(name).to_ascii_lowercase()
}

fn declined(outcome: &Outcome) -> Event {
    Event::Declined { reason: decline_reason(outcome), balance: balance(outcome) }
}

fn unexpected() -> Event {
    Event::GivenUp { reason: "unexpected_answer".to_owned() }
}

fn amount_is(outcome: &Outcome, amount: Money) -> bool {
    outcome.amount.as_ref().is_some_and(|found| {
        found.minor_units == amount.minor_units() && found.currency_code == amount.currency().code()
    })
}

pub(super) fn code_name(code: Code) -> String {
    // `Debug` writes `FailedPrecondition`; the reason is `failed_precondition`.
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
