//! What answers and failures mean, case by case.

use atm_proto::types::{self, Decline};
use atm_types::{Currency, TransactionId};
use tonic::Status;
use uuid::Uuid;

use super::*;
use crate::journal::CardTag;

fn intent(kind: Kind) -> Intent {
    Intent {
        id: TransactionId::from_uuid(Uuid::from_u128(42)),
        kind,
        amount: Money::new(100_000, Currency::BDT),
        card: CardTag::new(&[7; 32], "123456789"),
        to_account: None,
        trace_id: String::new(),
    }
}

fn answer(state: TransactionState, current_state: TransactionState) -> Answer {
    let outcome = Outcome {
        transaction_id: intent(Kind::Deposit).id.to_string(),
        state: state.into(),
        amount: Some(types::Money { currency_code: "BDT".into(), minor_units: 100_000 }),
        authorization: vec![1, 2, 3],
        ..Outcome::default()
    };
    Answer { outcome, current_state }
}

fn error(code: Code, attempts: u32, maybe_sent: bool, deadline_over: bool) -> RetryError {
    RetryError { status: Status::new(code, "text"), attempts, maybe_sent, deadline_over }
}

#[test]
fn only_a_hold_that_stands_now_is_dispensed_on() {
    let withdrawal = intent(Kind::Withdrawal);
    let held = TransactionState::Held;
    assert!(
        matches!(answered(&withdrawal, &answer(held, held)), Event::Held { authorization, .. } if authorization == [1, 2, 3])
    );
    for gone in [TransactionState::Cancelled, TransactionState::Expired] {
        assert!(matches!(answered(&withdrawal, &answer(held, gone)), Event::Cancelled { .. }), "{gone:?}");
    }
    for odd in [TransactionState::Captured, TransactionState::CapturedLate, TransactionState::Unspecified] {
        assert!(matches!(answered(&withdrawal, &answer(held, odd)), Event::GivenUp { .. }), "{odd:?}");
    }
}

#[test]
fn an_answer_about_something_else_is_no_answer() {
    let withdrawal = intent(Kind::Withdrawal);
    let held = TransactionState::Held;
    let mut other_id = answer(held, held);
    other_id.outcome.transaction_id = "018f4e9a-5b2c-7def-8123-456789abcdef".into();
    let mut other_amount = answer(held, held);
    other_amount.outcome.amount = Some(types::Money { currency_code: "BDT".into(), minor_units: 99_999 });
    let mut other_currency = answer(held, held);
    other_currency.outcome.amount = Some(types::Money { currency_code: "JPY".into(), minor_units: 100_000 });
    let posted = answer(TransactionState::Posted, TransactionState::Posted);
    for (what, odd) in [
        ("id", other_id),
        ("amount", other_amount),
        ("currency", other_currency),
        ("a posting for a hold", posted),
        ("nothing", Answer { outcome: Outcome::default(), current_state: held }),
    ] {
        assert!(matches!(answered(&withdrawal, &odd), Event::GivenUp { .. }), "{what}");
    }
    assert!(matches!(answered(&intent(Kind::Deposit), &answer(held, held)), Event::GivenUp { .. }));
}

#[test]
fn a_decline_is_definite_and_keeps_its_reason() {
    let mut declined = answer(TransactionState::Declined, TransactionState::Declined);
    declined.outcome.decline =
        Some(Decline { reason: DeclineReason::InsufficientFunds.into(), available_minor_units: 5 });
    for kind in [Kind::Withdrawal, Kind::Deposit, Kind::Transfer] {
        assert!(
            matches!(answered(&intent(kind), &declined), Event::Declined { reason, .. } if reason == "insufficient_funds")
        );
    }
}

#[test]
fn once_an_attempt_may_have_left_every_status_is_indefinite_save_a_taken_id() {
    for code in [
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::Unavailable,
        Code::Internal,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::DeadlineExceeded,
    ] {
        assert!(matches!(failed(&error(code, 2, true, false)), Failed::Indefinite { .. }), "{code:?}");
        assert_eq!(failed(&error(code, 2, false, true)), Failed::NotSent, "{code:?}");
    }
    for attempts in [1, 5] {
        let failed = failed(&error(Code::AlreadyExists, attempts, true, false));
        assert!(matches!(failed, Failed::IdReused { .. }), "{failed:?}");
    }
    assert_eq!(
        failed(&error(Code::Internal, 1, true, false)),
        Failed::Indefinite { reason: "status_internal".into() }
    );
}

#[test]
fn a_single_attempt_can_be_refused_before_the_ledger() {
    let exit = |code| match failed(&error(code, 1, true, false)) {
        Failed::TurnedAway { exit, .. } => Some(exit),
        Failed::NotSent | Failed::IdReused { .. } | Failed::Indefinite { .. } => None,
    };
    assert_eq!(exit(Code::Unauthenticated), Some(Exit::NotAuthenticated));
    assert_eq!(exit(Code::PermissionDenied), Some(Exit::NotAuthenticated));
    assert_eq!(exit(Code::InvalidArgument), Some(Exit::WrongUse));
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::NotFound, Code::FailedPrecondition] {
        assert_eq!(exit(code), None, "{code:?}");
    }
}

#[test]
fn the_fence_says_what_is_final_for_each_kind() {
    let fence = |kind, state| fenced(&intent(kind), &answer(state, state));
    for kind in [Kind::Withdrawal, Kind::Deposit, Kind::Transfer] {
        for state in [TransactionState::Cancelled, TransactionState::Expired] {
            assert!(matches!(fence(kind, state), Some(Event::Cancelled { .. })), "{kind} {state:?}");
        }
        assert!(matches!(fence(kind, TransactionState::Declined), Some(Event::Declined { .. })));
        assert!(matches!(fence(kind, TransactionState::Captured), Some(Event::Contradicted { .. })));
        assert!(matches!(fence(kind, TransactionState::CapturedLate), Some(Event::Contradicted { .. })));
        assert_eq!(fence(kind, TransactionState::Held), None);
        assert_eq!(fence(kind, TransactionState::Unspecified), None);
    }
    assert!(matches!(fence(Kind::Deposit, TransactionState::Posted), Some(Event::Posted { .. })));
    assert!(matches!(fence(Kind::Transfer, TransactionState::Posted), Some(Event::Posted { .. })));
    assert!(matches!(fence(Kind::Withdrawal, TransactionState::Posted), Some(Event::Contradicted { .. })));
}

#[test]
fn a_refused_capture_is_suspect_and_anything_else_is_sent_again() {
    for code in [Code::FailedPrecondition, Code::AlreadyExists, Code::NotFound] {
        assert!(matches!(capture_refused(code), Some(Event::CaptureRefused { .. })), "{code:?}");
    }
    for code in [
        Code::Unavailable,
        Code::Internal,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::InvalidArgument,
    ] {
        assert_eq!(capture_refused(code), None, "{code:?}");
        assert_eq!(fence_refused(code), None, "{code:?}");
    }
}

#[test]
fn a_late_capture_is_a_capture() {
    let withdrawal = intent(Kind::Withdrawal);
    for state in [TransactionState::Captured, TransactionState::CapturedLate] {
        assert!(matches!(captured(&withdrawal, &answer(state, state)), Some(Event::Captured { .. })));
    }
    assert_eq!(captured(&withdrawal, &answer(TransactionState::Held, TransactionState::Held)), None);
}

#[test]
fn a_holds_lifetime_is_measured_on_the_ledgers_clock_alone_and_never_rounded_up() {
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let hold = |commit_time, expire_time| Outcome { commit_time, expire_time, ..Outcome::default() };
    assert_eq!(hold_lifetime(&hold(time(10, 0), time(70, 5))), Some(Duration::from_secs(60)));
    assert_eq!(hold_lifetime(&hold(time(10, 5), time(70, 0))), Some(Duration::from_secs(59)));
    assert_eq!(hold_lifetime(&hold(time(70, 0), time(10, 0))), None);
    assert_eq!(hold_lifetime(&hold(None, time(10, 0))), None);
}

#[test]
fn a_suspension_stands_or_finds_what_was_captured_before() {
    let withdrawal = intent(Kind::Withdrawal);
    let said = |state| suspended(&withdrawal, &answer(state, TransactionState::Suspect));
    assert_eq!(said(TransactionState::Suspect), Some(Event::Suspended));
    for captured in [TransactionState::Captured, TransactionState::CapturedLate] {
        assert!(matches!(said(captured), Some(Event::Captured { .. })));
    }
    for senseless in [TransactionState::Held, TransactionState::Cancelled, TransactionState::Unspecified] {
        assert_eq!(said(senseless), None, "{senseless:?}: ask again");
    }
    for code in [Code::FailedPrecondition, Code::AlreadyExists, Code::NotFound] {
        assert!(matches!(suspend_refused(code), Some(Event::SuspendRefused { .. })));
    }
    for code in [Code::Unavailable, Code::PermissionDenied, Code::Internal] {
        assert_eq!(suspend_refused(code), None, "{code:?}: ask again");
    }
}

#[test]
fn only_what_was_suspended_and_then_ended_is_a_persons_decision() {
    let withdrawal = intent(Kind::Withdrawal);
    let history = |states: &[TransactionState]| GetTransactionResponse {
        outcomes: states.iter().map(|state| answer(*state, *state).outcome).collect(),
        current_state: (*states.last().unwrap()).into(),
    };
    let (held, suspect) = (TransactionState::Held, TransactionState::Suspect);
    let (captured, cancelled) = (TransactionState::Captured, TransactionState::Cancelled);
    assert_eq!(resolved(&withdrawal, &history(&[held, suspect, captured])), Some(withdrawal.amount));
    let nothing = Some(Money::zero(Currency::BDT));
    assert_eq!(resolved(&withdrawal, &history(&[held, suspect, cancelled])), nothing);
    for undecided in [&[held, suspect][..], &[held, captured], &[held, cancelled], &[held]] {
        assert_eq!(resolved(&withdrawal, &history(undecided)), None, "{undecided:?}");
    }
}
