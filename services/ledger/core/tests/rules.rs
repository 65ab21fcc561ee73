//! The rules of docs/EXACTLY_ONCE.md, one short story each.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::time::Duration;

use atm_ledger_core::{
    Action, Command, DeclineReason, Refusal, State, StepKind, Transaction, TransactionState, Transfer,
};
use atm_types::Timestamp;
use support::*;

fn reason(got: &Got) -> DeclineReason {
    match &got.step().action {
        Action::Decline { decline, .. } => decline.reason,
        other => panic!("not declined: {other:?}"),
    }
}

fn state_of(got: &Got) -> TransactionState {
    got.step().action.state().unwrap()
}

#[test]
fn a_posting_moves_money_once_however_often_it_is_asked_for() {
    let mut bank = Bank::open();
    let ask = post(1, transfer(ALICE, BOB, 300));
    let first = bank.run(&ask);
    assert_eq!(state_of(&first), TransactionState::Posted);
    for _ in 0..3 {
        assert_eq!(bank.run(&ask), Got::Replayed(first.step().clone()));
    }
    assert_eq!((bank.balance(ALICE), bank.balance(BOB)), ((700, 700), (300, 300)));
}

#[test]
fn a_decline_stays_a_decline_after_the_account_is_funded() {
    let mut bank = Bank::open();
    let ask = post(1, transfer(BOB, ALICE, 10));
    let declined = bank.run(&ask);
    assert_eq!(reason(&declined), DeclineReason::InsufficientFunds);
    bank.run(&post(2, transfer(ALICE, BOB, 500)));
    assert_eq!(bank.run(&ask), Got::Replayed(declined.step().clone()));
    assert_eq!(bank.balance(BOB), (500, 500));
}

#[test]
fn another_body_under_the_same_id_is_refused_and_names_the_first_field_that_differs() {
    let mut bank = Bank::open();
    bank.run(&post(1, transfer(ALICE, BOB, 300)));
    let elsewhere = Command::Post { id: id(1), terminal: ELSEWHERE, transfer: transfer(ALICE, BOB, 300) };
    let dollars = Transfer { currency: "USD".parse().unwrap(), ..transfer(ALICE, BOB, 300) };
    for (command, field) in [
        (elsewhere, "transaction_id"),
        (hold(1, transfer(BOB, CASH, 1)), "kind"),
        (post(1, transfer(BOB, CASH, 1)), "debit_account_id"),
        (post(1, transfer(ALICE, CASH, 1)), "credit_account_id"),
        (post(1, transfer(ALICE, BOB, 1)), "amount.minor_units"),
        (post(1, dollars), "amount.currency_code"),
    ] {
        assert_eq!(bank.run(&command), Got::Refused(Refusal::IdReused { field }), "{command:?}");
    }
    assert_eq!(bank.balance(ALICE), (700, 700));
}

#[test]
fn a_hold_counts_against_the_available_balance_until_it_ends() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(ALICE, CASH, 600)));
    assert_eq!(bank.balance(ALICE), (1000, 400));
    let second = bank.run(&hold(2, transfer(ALICE, CASH, 500)));
    assert_eq!(reason(&second), DeclineReason::InsufficientFunds);
    bank.run(&capture(1, 250));
    assert_eq!(bank.balance(ALICE), (750, 750));
    assert_eq!(bank.balance(CASH).0, -250);
}

#[test]
fn a_capture_above_the_hold_is_refused_and_a_capture_of_nothing_is_not() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(ALICE, CASH, 600)));
    let state = TransactionState::Held;
    assert_eq!(bank.run(&capture(1, 601)), Got::Refused(Refusal::CaptureExceedsHold { held: 600, state }));
    let nothing = bank.run(&capture(1, 0));
    assert_eq!(state_of(&nothing), TransactionState::Captured);
    assert_eq!(bank.balance(ALICE), (1000, 1000));
    assert_eq!(bank.run(&capture(1, 0)), Got::Replayed(nothing.step().clone()));
    let field = "amount.minor_units";
    assert_eq!(bank.run(&capture(1, 600)), Got::Refused(Refusal::IdReused { field }));
}

#[test]
fn cancel_is_a_fence_for_what_never_arrived() {
    let mut bank = Bank::open();
    let tombstone = bank.run(&cancel(1));
    assert_eq!(state_of(&tombstone), TransactionState::Cancelled);
    for late in [hold(1, transfer(ALICE, CASH, 100)), post(1, transfer(ALICE, BOB, 7)), cancel(1)] {
        assert_eq!(bank.run(&late), Got::Replayed(tombstone.step().clone()));
    }
    let refused = Got::Refused(Refusal::NothingToCapture { state: TransactionState::Cancelled });
    assert_eq!(bank.run(&capture(1, 100)), refused);
    assert_eq!(bank.balance(ALICE), (1000, 1000));
}

#[test]
fn cancel_answers_what_already_happened_and_undoes_nothing() {
    let mut bank = Bank::open();
    let posted = bank.run(&post(1, transfer(ALICE, BOB, 100)));
    bank.run(&hold(2, transfer(ALICE, CASH, 100)));
    let captured = bank.run(&capture(2, 100));
    let declined = bank.run(&hold(3, transfer(BOB, CASH, 101)));
    for (n, ended) in [(1, posted), (2, captured), (3, declined)] {
        assert_eq!(bank.run(&cancel(n)), Got::Replayed(ended.step().clone()));
    }
    assert_eq!(bank.balance(ALICE), (800, 800));
}

#[test]
fn cancelling_a_hold_releases_it_and_the_hold_is_still_answered_as_it_was() {
    let mut bank = Bank::open();
    let ask = hold(1, transfer(ALICE, CASH, 100));
    let held = bank.run(&ask);
    let cancelled = bank.run(&cancel(1));
    assert_eq!(cancelled.step().ordinal, 1);
    assert_eq!(bank.balance(ALICE), (1000, 1000));
    assert_eq!(bank.run(&ask), Got::Replayed(held.step().clone()));
    let now = bank.state.transaction(id(1)).and_then(Transaction::state);
    assert_eq!(now, Some(TransactionState::Cancelled));
}

#[test]
fn a_hold_lives_until_its_expiry_is_recorded() {
    let mut bank = Bank::open();
    bank.run(&hold_for(1, transfer(ALICE, CASH, 100), Duration::from_secs(60)));
    bank.run(&hold_for(2, transfer(ALICE, CASH, 100), Duration::from_secs(10)));
    assert_eq!(
        bank.state.next_expiry(),
        Some(bank.steps.last().unwrap().commit_time.saturating_add(Duration::from_secs(10)))
    );
    bank.wait(Duration::from_secs(30));
    assert_eq!(bank.steps.last().map(|step| (step.id, step.action.kind())), Some((id(2), StepKind::Expire)));
    assert_eq!(bank.balance(ALICE), (1000, 900));
    assert_eq!(bank.run(&Command::Expire { id: id(1) }), Got::Refused(Refusal::NotFound));
    bank.wait(Duration::from_secs(60));
    assert_eq!(bank.balance(ALICE), (1000, 1000));
}

#[test]
fn cash_that_left_is_posted_after_expiry_and_after_cancel_even_into_the_red() {
    let mut bank = Bank::open();
    bank.run(&hold_for(1, transfer(ALICE, CASH, 900), Duration::from_secs(10)));
    bank.wait(Duration::from_secs(10));
    bank.run(&post(2, transfer(ALICE, BOB, 1000)));
    let late = bank.run(&capture(1, 900));
    assert_eq!(state_of(&late), TransactionState::CapturedLate);
    assert_eq!(bank.balance(ALICE), (-900, -900));
    assert_eq!(bank.run(&capture(1, 900)), Got::Replayed(late.step().clone()));

    bank.run(&hold(3, transfer(BOB, CASH, 400)));
    bank.run(&cancel(3));
    let state = TransactionState::Cancelled;
    assert_eq!(bank.run(&capture(3, 401)), Got::Refused(Refusal::CaptureExceedsHold { held: 400, state }));
    assert_eq!(state_of(&bank.run(&capture(3, 399))), TransactionState::CapturedLate);
    assert_eq!(bank.balance(BOB), (601, 601));
}

#[test]
fn books_restored_from_an_older_backup_post_cash_on_their_own_signature() {
    let held = transfer(ALICE, CASH, 500);
    for before in [None, Some(cancel(1)), Some(hold(1, transfer(ALICE, CASH, 5000)))] {
        let mut bank = Bank::open();
        before.iter().for_each(|command| _ = bank.run(command));
        let late = bank.run(&capture_authorized(1, 500, held));
        assert_eq!(state_of(&late), TransactionState::CapturedLate, "{before:?}");
        assert_eq!(bank.balance(ALICE), (500, 500));
        assert_eq!(bank.run(&capture_authorized(1, 500, held)), Got::Replayed(late.step().clone()));
        assert!(matches!(
            bank.run(&hold(1, held)),
            Got::Replayed(_) | Got::Refused(Refusal::IdReused { .. })
        ));
        assert_eq!(bank.balance(ALICE), (500, 500));
    }
    let mut bank = Bank::open();
    let state = TransactionState::Held;
    let refused = Got::Refused(Refusal::CaptureExceedsHold { held: 500, state });
    assert_eq!(bank.run(&capture_authorized(1, 501, held)), refused);
    assert_eq!(bank.run(&capture(1, 500)), Got::Refused(Refusal::NotFound));
    let lost_account = transfer(NOBODY, CASH, 500);
    assert_eq!(bank.run(&capture_authorized(1, 500, lost_account)), Got::Refused(Refusal::CannotPost));
}

#[test]
fn what_belongs_to_another_terminal_does_not_exist() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(ALICE, CASH, 100)));
    let Command::Capture(mut theirs) = capture(1, 100) else { unreachable!() };
    theirs.terminal = ELSEWHERE;
    assert_eq!(bank.run(&Command::Capture(theirs)), Got::Refused(Refusal::NotFound));
    let cancel = Command::Cancel { id: id(1), terminal: ELSEWHERE };
    assert_eq!(bank.run(&cancel), Got::Refused(Refusal::NotFound));
}

#[test]
fn overdraft_and_daily_limit_are_kept_to_the_last_unit() {
    let mut bank = Bank::open();
    assert_eq!(reason(&bank.run(&post(1, transfer(OVERDRAWN, BOB, 1051)))), DeclineReason::InsufficientFunds);
    assert_eq!(state_of(&bank.run(&post(2, transfer(OVERDRAWN, BOB, 1050)))), TransactionState::Posted);
    assert_eq!(bank.balance(OVERDRAWN), (-50, 0));

    bank.run(&hold(3, transfer(LIMITED, CASH, 60)));
    let over = bank.run(&post(4, transfer(LIMITED, CASH, 41)));
    assert_eq!(reason(&over), DeclineReason::DailyLimitExceeded);
    assert_eq!(state_of(&bank.run(&post(5, transfer(LIMITED, BOB, 500)))), TransactionState::Posted);
    bank.run(&capture(3, 20));
    assert_eq!(state_of(&bank.run(&post(6, transfer(LIMITED, CASH, 80)))), TransactionState::Posted);
    assert_eq!(reason(&bank.run(&post(7, transfer(LIMITED, CASH, 1)))), DeclineReason::DailyLimitExceeded);
    bank.day = 1;
    assert_eq!(state_of(&bank.run(&post(8, transfer(LIMITED, CASH, 100)))), TransactionState::Posted);
}

#[test]
fn a_hold_of_yesterday_gives_nothing_back_to_todays_limit() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(LIMITED, CASH, 100)));
    bank.day = 1;
    bank.run(&post(2, transfer(LIMITED, CASH, 100)));
    bank.run(&cancel(1));
    assert_eq!(reason(&bank.run(&post(3, transfer(LIMITED, CASH, 1)))), DeclineReason::DailyLimitExceeded);
}

#[test]
fn missing_accounts_are_declines_and_another_currency_is_not_recorded() {
    let mut bank = Bank::open();
    let recorded = bank.steps.len();
    let nobody = bank.run(&post(1, transfer(NOBODY, BOB, 1)));
    assert_eq!(reason(&nobody), DeclineReason::DebitAccountNotFound);
    let nowhere = bank.run(&post(2, transfer(ALICE, NOBODY, 1)));
    assert_eq!(reason(&nowhere), DeclineReason::CreditAccountNotFound);
    let expected = "USD".parse().unwrap();
    let mixed = bank.run(&post(3, transfer(ALICE, DOLLARS, 1)));
    assert_eq!(mixed, Got::Refused(Refusal::CurrencyMismatch { expected }));
    assert_eq!(bank.steps.len(), recorded + 2);
}

#[test]
fn totals_that_would_not_fit_are_declined() {
    let mut bank = Bank::open();
    let all = post(1, transfer(OPENING, BOB, i64::MAX));
    assert_eq!(reason(&bank.run(&all)), DeclineReason::BalanceOverflow);
    let rest = post(2, transfer(OPENING, BOB, i64::MAX - 3000));
    assert_eq!(state_of(&bank.run(&rest)), TransactionState::Posted);
    assert_eq!(reason(&bank.run(&hold(3, transfer(OPENING, ALICE, 1)))), DeclineReason::BalanceOverflow);
}

#[test]
fn an_account_is_opened_once_and_its_terms_never_change() {
    let mut bank = Bank::open();
    let again = bank.run(&Command::OpenAccount(terms(ALICE)));
    assert!(matches!(again, Got::Replayed(_)));
    let mut other = terms(ALICE);
    other.overdraft_limit = 1;
    let field = "account.overdraft_limit_minor_units";
    assert_eq!(bank.run(&Command::OpenAccount(other)), Got::Refused(Refusal::IdReused { field }));
    assert_eq!(bank.balance(ALICE), (1000, 1000));

    let account_as_id = atm_types::TransactionId::from_uuid(account(ALICE).as_uuid());
    let clash = Command::Post { id: account_as_id, terminal: HERE, transfer: transfer(ALICE, BOB, 1) };
    let field = "transaction_id";
    assert_eq!(bank.run(&clash), Got::Refused(Refusal::IdReused { field }));
    let fence = Command::Cancel { id: account_as_id, terminal: atm_types::TerminalId::SERVICE };
    assert_eq!(bank.run(&fence), Got::Refused(Refusal::NotFound));
}

#[test]
fn what_is_not_well_formed_is_refused_by_field() {
    let mut bank = Bank::open();
    let mut limits_on_cash = terms(NOBODY);
    limits_on_cash.kind = atm_ledger_core::AccountKind::Cash;
    limits_on_cash.overdraft_limit = 1;
    let mut forged_name = terms(NOBODY);
    forged_name.holder_name = "a\nb".into();
    let mut forged_number = terms(NOBODY);
    forged_number.number = "a b".into();
    for (command, at_fault) in [
        (post(1, transfer(ALICE, BOB, 0)), "amount.minor_units"),
        (post(1, transfer(ALICE, BOB, i64::MIN)), "amount.minor_units"),
        (post(1, transfer(ALICE, ALICE, 1)), "credit_account_id"),
        (hold_for(1, transfer(ALICE, CASH, 1), Duration::ZERO), "lifetime"),
        (hold_for(1, transfer(ALICE, CASH, 1), Duration::from_secs(30 * 86_400 + 1)), "lifetime"),
        (capture(1, -1), "amount.minor_units"),
        (Command::OpenAccount(limits_on_cash), "account.overdraft_limit_minor_units"),
        (Command::OpenAccount(forged_name), "account.holder_name"),
        (Command::OpenAccount(forged_number), "account.account_number"),
    ] {
        match bank.run(&command) {
            Got::Refused(Refusal::Invalid { field, .. }) => assert_eq!(field, at_fault),
            other => panic!("{command:?} got {other:?}"),
        }
    }
}

#[test]
fn a_step_that_does_not_follow_from_the_books_is_found() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(ALICE, CASH, 100)));
    bank.run(&capture(1, 60));
    let replay = |steps: &[atm_ledger_core::Step]| {
        let mut state = State::new();
        steps.iter().try_for_each(|step| state.apply(step))
    };
    assert_eq!(replay(&bank.steps), Ok(()));

    let last = bank.steps.len() - 1;
    type Damage = fn(&mut atm_ledger_core::Step);
    let damages: [(&str, Damage); 8] = [
        ("sequence", |step| step.commit_sequence += 1),
        ("time", |step| step.commit_time = Timestamp::from_seconds(0)),
        ("ordinal", |step| step.ordinal = 2),
        ("first ordinal", |step| step.ordinal = 0),
        ("one-sided", |step| legs(step)[0].posted += 1),
        ("other amount", |step| legs(step).iter_mut().for_each(|leg| leg.posted += 1)),
        ("balance", |step| legs(step)[1].balance.available += 1),
        ("link", |step| legs(step)[0].previous = None),
    ];
    for (what, damage) in damages {
        let mut steps = bank.steps.clone();
        damage(&mut steps[last]);
        assert!(replay(&steps).is_err(), "{what}");
    }
    let mut missing = bank.steps.clone();
    missing.remove(last - 1);
    assert!(replay(&missing).is_err());
}

fn legs(step: &mut atm_ledger_core::Step) -> &mut [atm_ledger_core::Leg; 2] {
    match &mut step.action {
        Action::Capture { legs, .. } => legs,
        other => panic!("not a capture: {other:?}"),
    }
}
