//! Withdrawals of which nobody knows whether the cash left: every row of what a suspension and a resolution do,
//! one short story each.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::time::Duration;

use atm_ledger_core::{
    Action, Command, DeclineReason, EntryRef, Leg, Refusal, Side, State, Step, StepKind, Suspend,
    Transaction, TransactionState,
};
use support::*;

fn state_of(got: &Got) -> TransactionState {
    got.step().action.state().unwrap()
}

fn state_now(bank: &Bank, n: u8) -> Option<TransactionState> {
    bank.state.transaction(id(n)).and_then(Transaction::state)
}

/// Account, posted and pending change of each leg.
fn changes(got: &Got) -> Vec<(u8, i64, i64)> {
    got.step()
        .action
        .legs()
        .iter()
        .map(|leg| (leg.account_id.as_bytes()[0], leg.posted, leg.pending))
        .collect()
}

fn reused(field: &'static str) -> Got {
    Got::Refused(Refusal::IdReused { field })
}

/// A hold of ALICE's that ended in a way, and what that left available.
fn ended(bank: &mut Bank, how: &str) {
    bank.run(&hold_for(1, transfer(ALICE, CASH, 600), Duration::from_secs(10)));
    match how {
        "held" => {}
        "expired" => bank.wait(Duration::from_secs(10)),
        "cancelled" => _ = bank.run(&cancel(1)),
        other => panic!("{other}"),
    }
}

#[test]
fn suspending_a_hold_freezes_the_debit_and_moves_the_credit_to_suspense() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    assert_eq!((bank.pending(ALICE), bank.pending(CASH)), ((600, 0), (0, 600)));
    let frozen = bank.run(&suspend(1));
    assert_eq!(
        (frozen.step().action.kind(), state_of(&frozen)),
        (StepKind::Suspend, TransactionState::Suspect)
    );
    assert_eq!(changes(&frozen), [(ALICE, 0, 0), (CASH, 0, -600), (SUSPENSE, 0, 600)]);
    assert_eq!(frozen.step().action.transfer(), Some(&transfer(ALICE, CASH, 600)));
    assert_eq!(
        (bank.pending(ALICE), bank.pending(CASH), bank.pending(SUSPENSE)),
        ((600, 0), (0, 0), (0, 600))
    );
    assert_eq!(bank.balance(ALICE), (1000, 400));
    // It never expires.
    assert_eq!(bank.state.next_expiry(), None);
    assert_eq!(bank.state.open_holds().count(), 0);
    assert_eq!(bank.run(&Command::Expire { id: id(1) }), Got::Refused(Refusal::NotFound));
    bank.wait(Duration::from_secs(1_000_000));
    assert_eq!((bank.balance(ALICE), state_now(&bank, 1)), ((1000, 400), Some(TransactionState::Suspect)));
}

#[test]
fn suspending_a_hold_that_is_gone_sets_it_up_again_without_looking_at_the_balance() {
    for how in ["expired", "cancelled"] {
        let mut bank = Bank::open();
        ended(&mut bank, how);
        bank.run(&post(2, transfer(ALICE, BOB, 1000)));
        let frozen = bank.run(&suspend(1));
        assert_eq!(state_of(&frozen), TransactionState::Suspect, "{how}");
        assert_eq!(changes(&frozen), [(ALICE, 0, 600), (CASH, 0, 0), (SUSPENSE, 0, 600)]);
        assert_eq!(bank.balance(ALICE), (0, -600));
        assert_eq!((bank.pending(CASH), bank.pending(SUSPENSE)), ((0, 0), (0, 600)));
        let resolved = bank.run(&resolve(1, 0));
        assert_eq!(state_of(&resolved), TransactionState::Cancelled);
        assert_eq!((bank.balance(ALICE), bank.pending(SUSPENSE)), ((0, 0), (0, 0)));
    }
}

#[test]
fn a_recorded_suspension_is_replayed_whatever_came_after_it() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    let frozen = bank.run(&suspend(1)).step().clone();
    for (next, state) in [
        (cancel(1), TransactionState::Suspect),
        (resolve(1, 0), TransactionState::Cancelled),
        (capture(1, 600), TransactionState::CapturedLate),
        (capture(1, 600), TransactionState::CapturedLate),
    ] {
        bank.run(&next);
        let recorded = bank.steps.len();
        assert_eq!(state_now(&bank, 1), Some(state));
        assert_eq!(bank.run(&suspend(1)), Got::Replayed(frozen.clone()), "after {next:?}");
        assert_eq!(bank.run(&suspend_into(1, SUSPENSE_ELSEWHERE)), reused("suspense_account_id"));
        assert_eq!(bank.steps.len(), recorded);
    }
    assert_eq!(bank.pending(ALICE), (0, 0));
}

#[test]
fn what_was_captured_before_stays_captured() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    let captured = bank.run(&capture(1, 500));
    assert_eq!(bank.run(&suspend(1)), Got::Replayed(captured.step().clone()));
    bank.run(&hold(2, transfer(ALICE, CASH, 100)));
    bank.run(&cancel(2));
    let late = bank.run(&capture(2, 100));
    assert_eq!(bank.run(&suspend(2)), Got::Replayed(late.step().clone()));
    // Nor is the account looked at.
    assert_eq!(bank.run(&suspend_into(2, NOBODY)), Got::Replayed(late.step().clone()));
    assert_eq!((bank.balance(ALICE), bank.pending(SUSPENSE)), ((400, 400), (0, 0)));
    let refused = Refusal::NotSuspended { state: TransactionState::CapturedLate };
    assert_eq!(bank.run(&resolve(2, 100)), Got::Refused(refused));
}

#[test]
fn what_never_held_money_is_not_suspended() {
    let mut bank = Bank::open();
    bank.run(&post(1, transfer(ALICE, BOB, 10)));
    bank.run(&cancel(2));
    bank.run(&hold(3, transfer(ALICE, CASH, 5000)));
    let recorded = bank.steps.len();
    for (n, state) in
        [(1, TransactionState::Posted), (2, TransactionState::Cancelled), (3, TransactionState::Declined)]
    {
        assert_eq!(bank.run(&suspend(n)), Got::Refused(Refusal::NothingToSuspend { state }));
        assert_eq!(bank.run(&resolve(n, 0)), Got::Refused(Refusal::NotSuspended { state }));
    }
    assert_eq!(bank.run(&suspend(4)), Got::Refused(Refusal::NotFound));
    assert_eq!(bank.run(&resolve(4, 0)), Got::Refused(Refusal::NotFound));
    // A posting is known: no signature makes it a hold.
    let state = TransactionState::Posted;
    let signed = suspend_authorized(1, transfer(ALICE, CASH, 10));
    assert_eq!(bank.run(&signed), Got::Refused(Refusal::NothingToSuspend { state }));
    let account_as_id = atm_types::TransactionId::from_uuid(account(ALICE).as_uuid());
    let mut of_account = Suspend {
        id: account_as_id,
        terminal: atm_types::TerminalId::SERVICE,
        suspense: account(SUSPENSE),
        authorization: None,
    };
    assert_eq!(bank.run(&Command::Suspend(of_account)), Got::Refused(Refusal::NotFound));
    of_account.terminal = HERE;
    assert_eq!(bank.run(&Command::Suspend(of_account)), Got::Refused(Refusal::NotFound));
    let Command::Resolve(mut of_account) = resolve(1, 0) else { unreachable!() };
    of_account.id = account_as_id;
    assert_eq!(bank.run(&Command::Resolve(of_account)), Got::Refused(Refusal::NotFound));
    assert_eq!(bank.steps.len(), recorded);
}

#[test]
fn books_restored_from_an_older_backup_suspend_on_their_own_signature() {
    let held = transfer(ALICE, CASH, 500);
    let larger = transfer(BOB, CASH, 5000);
    for before in [None, Some(cancel(1)), Some(hold(1, larger))] {
        let mut bank = Bank::open();
        before.iter().for_each(|command| _ = bank.run(command));
        let frozen = bank.run(&suspend_authorized(1, held));
        assert_eq!(state_of(&frozen), TransactionState::Suspect, "{before:?}");
        assert_eq!(changes(&frozen), [(ALICE, 0, 500), (CASH, 0, 0), (SUSPENSE, 0, 500)]);
        // Once it is recorded it needs no signature any more.
        assert_eq!(bank.run(&suspend(1)), Got::Replayed(frozen.step().clone()));
        let late_hold = bank.run(&hold(1, held));
        assert!(matches!(late_hold, Got::Replayed(_) | Got::Refused(Refusal::IdReused { .. })));
        assert_eq!(bank.run(&cancel(1)), Got::Replayed(frozen.step().clone()));
        assert_eq!(bank.balance(ALICE), (1000, 500));
        let resolved = bank.run(&resolve(1, 300));
        assert_eq!(changes(&resolved), [(ALICE, 300, -500), (CASH, 300, 0), (SUSPENSE, 0, -500)]);
        assert_eq!(bank.balance(ALICE), (700, 700));
    }
    let mut bank = Bank::open();
    let lost_account = suspend_authorized(1, transfer(NOBODY, CASH, 500));
    assert_eq!(bank.run(&lost_account), Got::Refused(Refusal::CannotPost));
}

#[test]
fn a_resolution_to_nothing_of_a_forgotten_hold_is_still_followed_by_a_late_capture() {
    let mut bank = Bank::open();
    bank.run(&suspend_authorized(1, transfer(ALICE, CASH, 500)));
    bank.run(&resolve(1, 0));
    let state = TransactionState::Cancelled;
    assert_eq!(bank.run(&capture(1, 501)), Got::Refused(Refusal::CaptureExceedsHold { held: 500, state }));
    assert_eq!(state_of(&bank.run(&capture(1, 500))), TransactionState::CapturedLate);
    assert_eq!((bank.balance(ALICE), bank.balance(CASH).0), ((500, 500), -500));
}

#[test]
fn the_suspense_account_is_open_of_its_kind_of_the_currency_and_not_of_the_hold() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    bank.run(&hold(2, transfer(SUSPENSE, BOB, 5)));
    bank.run(&hold(3, transfer(ALICE, SUSPENSE, 5)));
    let recorded = bank.steps.len();
    for (n, suspense, says) in [
        (1, NOBODY, "open"),
        (1, CASH, "SUSPENSE account"),
        (1, BOB, "SUSPENSE account"),
        (1, OPENING, "SUSPENSE account"),
        (1, SUSPENSE_DOLLARS, "currency"),
        (2, SUSPENSE, "not be an account of the hold"),
        (3, SUSPENSE, "not be an account of the hold"),
    ] {
        match bank.run(&suspend_into(n, suspense)) {
            Got::Refused(Refusal::Invalid { field, rule }) => {
                assert_eq!(field, "suspense_account_id");
                assert!(rule.contains(says), "{rule}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bank.steps.len(), recorded);
    assert_eq!(state_of(&bank.run(&suspend_into(1, SUSPENSE_ELSEWHERE))), TransactionState::Suspect);
    // A hold that debits a suspense account can be frozen on another.
    assert_eq!(state_of(&bank.run(&suspend_into(2, SUSPENSE_ELSEWHERE))), TransactionState::Suspect);
}

#[test]
fn what_is_suspended_is_neither_captured_nor_cancelled_nor_held_again_by_its_terminal() {
    let mut bank = Bank::open();
    let ask = hold(1, transfer(ALICE, CASH, 600));
    let held = bank.run(&ask);
    let frozen = bank.run(&suspend(1));
    for capturing in [capture(1, 600), capture(1, 0), capture_authorized(1, 600, transfer(ALICE, CASH, 600))]
    {
        assert_eq!(bank.run(&capturing), Got::Refused(Refusal::Suspended));
    }
    assert_eq!(bank.run(&cancel(1)), Got::Replayed(frozen.step().clone()));
    assert_eq!(bank.run(&ask), Got::Replayed(held.step().clone()));
    assert_eq!(bank.run(&hold(1, transfer(ALICE, CASH, 601))), reused("amount.minor_units"));
    assert_eq!((bank.balance(ALICE), bank.pending(SUSPENSE)), ((1000, 400), (0, 600)));
}

#[test]
fn a_resolution_posts_what_the_customer_got_and_frees_the_rest() {
    for amount in [1, 250, 600] {
        let mut bank = Bank::open();
        ended(&mut bank, "held");
        bank.run(&suspend(1));
        let resolved = bank.run(&resolve_by(1, amount, "Nadia", "counted: 3 notes"));
        assert_eq!(changes(&resolved), [(ALICE, amount, -600), (CASH, amount, 0), (SUSPENSE, 0, -600)]);
        assert_eq!(state_of(&resolved), TransactionState::Captured);
        let step = resolved.step();
        assert_eq!((step.action.kind(), step.terminal, step.ordinal), (StepKind::Resolve, HERE, 2));
        assert_eq!(step.action.transfer(), Some(&transfer(ALICE, CASH, amount)));
        let Action::Resolve { resolution, .. } = &step.action else { unreachable!() };
        assert_eq!((&*resolution.operator, &*resolution.reason), ("Nadia", "counted: 3 notes"));
        assert_eq!(bank.balance(ALICE), (1000 - amount, 1000 - amount));
        assert_eq!((bank.balance(CASH).0, bank.balance(SUSPENSE)), (-amount, (0, 0)));
        for n in [ALICE, CASH, SUSPENSE] {
            assert_eq!(bank.pending(n), (0, 0));
        }
        // Whoever asks again, and why: the first resolution.
        assert_eq!(bank.run(&resolve_by(1, amount, "Rafi", "so they say")), Got::Replayed(step.clone()));
        assert_eq!(bank.run(&resolve(1, amount - 1)), reused("amount.minor_units"));
        assert_eq!(bank.run(&resolve(1, 10_000)), reused("amount.minor_units"));
        // The terminal comes late, and asks for the same or for something else.
        assert_eq!(bank.run(&capture(1, amount)), Got::Replayed(step.clone()));
        assert_eq!(bank.run(&capture(1, amount - 1)), reused("amount.minor_units"));
        assert_eq!(bank.run(&cancel(1)), Got::Replayed(step.clone()));
        assert_eq!(bank.balance(ALICE), (1000 - amount, 1000 - amount));
    }
}

#[test]
fn a_resolution_to_nothing_frees_everything_and_cash_that_left_all_the_same_is_captured_late() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    bank.run(&suspend(1));
    let resolved = bank.run(&resolve(1, 0));
    assert_eq!(state_of(&resolved), TransactionState::Cancelled);
    assert_eq!(changes(&resolved), [(ALICE, 0, -600), (CASH, 0, 0), (SUSPENSE, 0, -600)]);
    assert_eq!(bank.balance(ALICE), (1000, 1000));
    bank.run(&post(2, transfer(ALICE, BOB, 1000)));
    let late = bank.run(&capture(1, 600));
    assert_eq!(state_of(&late), TransactionState::CapturedLate);
    assert_eq!(bank.balance(ALICE), (-600, -600));
    assert_eq!(bank.run(&capture(1, 600)), Got::Replayed(late.step().clone()));
    assert_eq!(bank.run(&resolve(1, 0)), Got::Replayed(resolved.step().clone()));
    assert_eq!(bank.run(&resolve(1, 600)), reused("amount.minor_units"));
    assert_eq!(late.step().ordinal, 3);
}

#[test]
fn a_resolution_that_cannot_be_is_refused_and_changes_nothing() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    let state = TransactionState::Held;
    assert_eq!(bank.run(&resolve(1, 600)), Got::Refused(Refusal::NotSuspended { state }));
    bank.run(&suspend(1));
    let recorded = bank.steps.len();
    assert_eq!(bank.run(&resolve(1, 601)), Got::Refused(Refusal::ResolutionExceedsHold { held: 600 }));
    let Command::Resolve(mut dollars) = resolve(1, 600) else { unreachable!() };
    dollars.currency = "USD".parse().unwrap();
    let expected = atm_types::Currency::BDT;
    let refused = Got::Refused(Refusal::CurrencyMismatch { expected });
    assert_eq!(bank.run(&Command::Resolve(dollars)), refused);
    // Before the id is even looked up.
    for n in [1, 9] {
        for (command, at_fault) in [
            (resolve(n, -1), "amount.minor_units"),
            (resolve_by(n, 1, "", "why"), "operator"),
            (resolve_by(n, 1, &"x".repeat(101), "why"), "operator"),
            (resolve_by(n, 1, "Nadia\n2026-11-21 INFO forged", "why"), "operator"),
            (resolve_by(n, 1, "Nadia", ""), "reason"),
            (resolve_by(n, 1, "Nadia", &"x".repeat(501)), "reason"),
            (resolve_by(n, 1, "Nadia", "a\0b"), "reason"),
            (resolve_by(n, 1, "Nadia", "a\u{85}b"), "reason"),
        ] {
            match bank.run(&command) {
                Got::Refused(Refusal::Invalid { field, .. }) => assert_eq!(field, at_fault),
                other => panic!("{command:?} got {other:?}"),
            }
        }
    }
    assert_eq!(bank.steps.len(), recorded);
    // The longest texts that fit, counted in characters.
    let longest = resolve_by(1, 600, &"\u{9a8}".repeat(100), &"\u{9a8}".repeat(500));
    assert_eq!(state_of(&bank.run(&longest)), TransactionState::Captured);
}

#[test]
fn another_terminals_hold_is_not_suspended() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    let Command::Suspend(mut theirs) = suspend(1) else { unreachable!() };
    theirs.terminal = ELSEWHERE;
    assert_eq!(bank.run(&Command::Suspend(theirs)), Got::Refused(Refusal::NotFound));
    bank.run(&suspend(1));
    assert_eq!(bank.run(&Command::Suspend(theirs)), Got::Refused(Refusal::NotFound));
    let elsewhere = Command::Cancel { id: id(1), terminal: ELSEWHERE };
    assert_eq!(bank.run(&elsewhere), Got::Refused(Refusal::NotFound));
    assert_eq!(bank.pending(ALICE), (600, 0));
}

/// What is left of LIMITED's 100 today.
fn left(bank: &Bank) -> i64 {
    bank.state.account(account(LIMITED)).unwrap().daily_withdrawal_remaining(bank.day).unwrap()
}

#[test]
fn suspending_a_hold_that_stands_changes_nothing_of_the_days_limit_and_its_resolution_gives_back() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(LIMITED, CASH, 100)));
    bank.run(&suspend(1));
    assert_eq!(left(&bank), 0);
    let declined = bank.run(&post(2, transfer(LIMITED, CASH, 1)));
    let Action::Decline { decline, .. } = &declined.step().action else { panic!("{declined:?}") };
    assert_eq!(decline.reason, DeclineReason::DailyLimitExceeded);
    bank.run(&resolve(1, 30));
    assert_eq!(left(&bank), 70);
    assert_eq!(state_of(&bank.run(&post(3, transfer(LIMITED, CASH, 70)))), TransactionState::Posted);
}

#[test]
fn a_resolution_gives_back_to_the_day_that_the_hold_counted_against_and_to_no_other() {
    let mut bank = Bank::open();
    // Frozen a day later: it still counts on the day of the hold.
    bank.run(&hold(1, transfer(LIMITED, CASH, 100)));
    bank.day = 1;
    bank.run(&suspend(1));
    assert_eq!(left(&bank), 100);
    bank.run(&post(2, transfer(LIMITED, CASH, 100)));
    bank.run(&resolve(1, 0));
    assert_eq!(left(&bank), 0, "what yesterday gives back is not today's");
    bank.day = 0;
    let Action::Resolve { counted_day, .. } = bank.steps.last().unwrap().action else { unreachable!() };
    assert_eq!(counted_day, 0);
}

#[test]
fn suspending_a_hold_that_is_gone_counts_again_on_the_day_of_the_suspension() {
    let mut bank = Bank::open();
    bank.run(&hold(1, transfer(LIMITED, CASH, 60)));
    bank.run(&cancel(1));
    assert_eq!(left(&bank), 100);
    bank.day = 1;
    bank.run(&post(2, transfer(LIMITED, CASH, 70)));
    bank.run(&suspend(1));
    assert_eq!(left(&bank), 0, "130 of 100");
    assert_eq!(bank.state.account(account(LIMITED)).unwrap().withdrawn.amount, 130);
    bank.run(&resolve(1, 10));
    assert_eq!(left(&bank), 20);
    // And on the day after, nothing comes back.
    bank.run(&hold(3, transfer(LIMITED, CASH, 20)));
    bank.run(&cancel(3));
    bank.run(&suspend(3));
    assert_eq!(left(&bank), 0);
    bank.day = 2;
    bank.run(&post(4, transfer(LIMITED, CASH, 100)));
    bank.run(&resolve(3, 0));
    assert_eq!(left(&bank), 0);
}

#[test]
fn three_legs_are_three_entries_that_their_accounts_walk_back_along() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    let frozen = bank.run(&suspend(1)).step().clone();
    let resolved = bank.run(&resolve(1, 600)).step().clone();
    let place = |ordinal, leg| Some(EntryRef { id: id(1), ordinal, leg });
    let newest = |n| bank.state.account(account(n)).unwrap().newest_entry;
    assert_eq!([newest(ALICE), newest(CASH), newest(SUSPENSE)], [place(2, 0), place(2, 1), place(2, 2)]);
    let before = |step: &Step| step.action.legs().iter().map(|leg| leg.previous).collect::<Vec<_>>();
    assert_eq!(before(&resolved), [place(1, 0), place(1, 1), place(1, 2)]);
    assert_eq!(before(&frozen), [place(0, 0), place(0, 1), None]);
    let sides: Vec<_> = resolved.entries().map(|(index, _)| Leg::side(index)).collect();
    assert_eq!(sides, [Side::Debit, Side::Credit, Side::Credit]);
}

#[test]
fn what_frees_or_freezes_a_hold_follows_whether_or_not_it_is_at_hand_but_only_as_it_must() {
    let mut bank = Bank::open();
    ended(&mut bank, "held");
    bank.run(&suspend(1));
    bank.run(&resolve(1, 0));
    bank.run(&capture(1, 600));
    bank.run(&hold(2, transfer(ALICE, CASH, 10)));
    bank.run(&cancel(2));
    bank.run(&suspend(2));
    let replay = |steps: &[Step], forget: bool| {
        let mut state = State::new();
        steps.iter().try_for_each(|step| {
            state.apply(step)?;
            if forget {
                state.forget_settled();
            }
            Ok::<_, atm_ledger_core::Inconsistency>(())
        })
    };
    for forget in [false, true] {
        assert_eq!(replay(&bank.steps, forget), Ok(()));
    }
    // A step is where it may be: what begins a transaction first, and what follows something after it.
    bank.run(&post(3, transfer(ALICE, BOB, 1)));
    for (n, ordinal, elsewhere) in [(3, 0, 1), (1, 2, 0), (2, 1, 0), (1, 1, 0)] {
        let mut steps = bank.steps.clone();
        let at = steps.iter().position(|step| (step.id, step.ordinal) == (id(n), ordinal)).unwrap();
        steps.truncate(at + 1);
        // Under an id that nothing is known of, so that only its kind speaks against it.
        (steps[at].id, steps[at].ordinal) = (id(9), elsewhere);
        for forget in [false, true] {
            assert!(replay(&steps, forget).is_err(), "{n}/{ordinal} as {elsewhere}");
        }
    }
    bank.steps.pop();
    let index =
        |ordinal, n| bank.steps.iter().position(|step| (step.id, step.ordinal) == (id(n), ordinal)).unwrap();
    type Damage = fn(&mut [Leg; 3]);
    let damages: [(&str, Damage); 6] = [
        ("one-sided", |legs| legs[2].pending += 1),
        ("both credits", |legs| legs[1].pending -= 1),
        ("posted", |legs| legs[1].posted += 1),
        ("link", |legs| legs[2].previous = None),
        ("balance", |legs| legs[2].balance.available += 1),
        ("swapped", |legs| legs.swap(1, 2)),
    ];
    for (what, damage) in damages {
        // The resolution, whose accounts all have entries before it.
        let mut steps = bank.steps.clone();
        let (Action::Suspend { legs, .. } | Action::Resolve { legs, .. }) = &mut steps[index(2, 1)].action
        else {
            unreachable!()
        };
        damage(legs);
        assert!(replay(&steps, false).is_err(), "{what}");
        assert!(replay(&steps, true).is_err(), "{what}");
    }
}
