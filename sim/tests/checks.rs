//! Does each checker see anything? A true run is damaged in one way after the other, and the invariant that is broken
//! by it must be named.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use atm_history::{Answer, State};
use atm_ledger::storage::Head;
use atm_ledger_core::{Action as Done, Leg, Step};
use atm_proto::gateway::{
    AuthorizeWithdrawalRequest, AuthorizeWithdrawalResponse, CancelTransactionRequest, GetBalanceResponse,
    ListTransactionsResponse,
};
use atm_sim::check::linear;
use atm_sim::check::running::Running;
use atm_sim::evidence::{AttemptRow, AttemptSummary, Call, CountChange, Evidence, LogLine};
use atm_sim::plan::{Action, Plan};
use atm_sim::{check, world};
use prost::Message;

/// A run without faults in which a bit of everything happens.
fn true_run() -> Evidence {
    let withdraw = |customer, amount, fault| Action::Withdraw { customer, amount, right_pin: true, fault };
    let actions = [
        withdraw(0, 500, None),
        withdraw(0, 300, Some("partly-taken")),
        Action::Balance { customer: 0, right_pin: true },
        Action::Balance { customer: 1, right_pin: false },
        Action::Deposit { customer: 0, amount: 250 },
        Action::Statement { customer: 0 },
        Action::ChangePin { customer: 0, to: 1 },
        Action::Count,
        withdraw(2, 700, Some("jam-stack")),
        Action::Transfer { customer: 0, amount: 100, to: 1 },
        withdraw(1, 480, None),
    ];
    let script = actions.into_iter().map(|action| (Duration::from_millis(10), action)).collect();
    let outcome = world::run(7, Plan::quiet(vec![script])).unwrap();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.evidence.at_end);
    outcome.evidence
}

fn seen(evidence: &Evidence) -> Vec<u8> {
    let mut seen: Vec<u8> = check::all(evidence).iter().map(|violation| violation.invariant).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn legs(action: &mut Done) -> &mut [Leg] {
    match action {
        Done::Post { legs, .. } | Done::Hold { legs, .. } | Done::Capture { legs, .. } => legs,
        other => panic!("{other:?} has none that are damaged here"),
    }
}

fn step(evidence: &Evidence, wanted: fn(&Done) -> bool) -> usize {
    evidence.ledger.steps.iter().position(|step| wanted(&step.action)).unwrap()
}

fn call(evidence: &Evidence, method: &str) -> usize {
    let answered = |call: &Call| call.method == method && matches!(call.answer, Some((_, Ok(_))));
    evidence.calls.iter().position(answered).unwrap()
}

fn capture(action: &Done) -> bool {
    matches!(action, Done::Capture { transfer, .. } if transfer.amount > 0)
}

fn is_hold(action: &Done) -> bool {
    matches!(action, Done::Hold { .. })
}

#[test]
fn a_true_run_breaks_nothing_and_each_damage_breaks_its_invariant() {
    let truth = true_run();
    assert_eq!(check::all(&truth), []);
    let wrong_attempt =
        truth.auth.attempts.iter().find(|row| row.attempt.outcome == "wrong").cloned().unwrap();
    let mut checked = Vec::new();
    let mut damaged = |invariant: u8, damage: &dyn Fn(&mut Evidence)| {
        let mut evidence = truth.clone();
        damage(&mut evidence);
        let seen = seen(&evidence);
        assert!(seen.contains(&invariant), "invariant {invariant} was broken, and seen were {seen:?}");
        checked.push(invariant);
    };

    damaged(1, &|run| {
        let at = step(run, capture);
        legs(&mut run.ledger.steps[at].action)[1].posted += 1;
    });
    damaged(2, &|run| run.ledger.accounts[0].totals.debits_posted += 1);
    damaged(2, &|run| {
        let at = call(run, "ListTransactions");
        let Some((_, Ok(answer))) = &mut run.calls[at].answer else { panic!("it was answered") };
        let mut message = ListTransactionsResponse::decode(&answer[..]).unwrap();
        message.lines[1].balance.as_mut().unwrap().balance_minor_units += 1;
        *answer = message.encode_to_vec();
    });
    damaged(3, &|run| {
        let at = step(run, is_hold);
        legs(&mut run.ledger.steps[at].action).iter_mut().for_each(|leg| leg.pending += 1_000_000_000);
    });
    damaged(4, &|run| {
        let at = step(run, capture);
        let mut again = run.ledger.steps[at].clone();
        again.ordinal += 1;
        again.commit_sequence = run.ledger.steps.len() as u64 + 1;
        run.ledger.steps.push(again);
    });
    damaged(5, &|run| {
        let at = step(run, capture);
        legs(&mut run.ledger.steps[at].action).iter_mut().for_each(|leg| leg.posted += 1);
    });
    damaged(6, &|run| {
        let at = call(run, "AuthorizeWithdrawal");
        let mut again = run.calls[at].clone();
        let Some((_, Ok(answer))) = &mut again.answer else { panic!("it was answered") };
        let mut message = AuthorizeWithdrawalResponse::decode(&answer[..]).unwrap();
        message.outcome.as_mut().unwrap().commit_sequence -= 1;
        *answer = message.encode_to_vec();
        run.calls.push(again);
    });
    damaged(7, &|run| {
        let at = call(run, "AuthorizeWithdrawal");
        let mut message = AuthorizeWithdrawalRequest::decode(&run.calls[at].request[..]).unwrap();
        message.amount.as_mut().unwrap().minor_units += 100;
        run.calls[at].request = message.encode_to_vec();
    });
    damaged(8, &|run| {
        let place =
            run.machines[0].device.places.iter_mut().find(|(name, _, _)| name == "cassettes").unwrap();
        place.2 -= 1;
    });
    damaged(9, &|run| run.machines[0].device.dispenses[0].presented += 100);
    damaged(9, &|run| {
        let done = run.told.iter_mut().find(|told| told.status == "captured").unwrap();
        (done.status, done.exit) = ("declined".to_owned(), 1);
    });
    damaged(9, &|run| {
        let done = run.told.iter_mut().find(|told| told.status == "posted").unwrap();
        done.amount = done.amount.map(|amount| amount + 1);
    });
    for exit in [2, 4, 5] {
        damaged(9, &|run| {
            let done = run.told.iter_mut().find(|told| told.status == "captured").unwrap();
            (done.status, done.exit) = ("cancelled".to_owned(), exit);
        });
    }
    damaged(10, &|run| run.machines[0].journal.records[0].authorization.clear());
    damaged(11, &|run| {
        let mut another = run.machines[0].device.dispenses[0].clone();
        another.id = uuid::Uuid::from_u128(1);
        run.machines[0].device.dispenses.push(another);
    });
    damaged(12, &|run| {
        let id = run.machines[0].journal.records[0].id;
        let at = call(run, "CaptureWithdrawal");
        let mut cancel = run.calls[at].clone();
        cancel.method = "CancelTransaction";
        cancel.request = CancelTransactionRequest { transaction_id: id.to_string() }.encode_to_vec();
        cancel.answer = None;
        run.calls.push(cancel);
    });
    damaged(13, &|run| {
        let at = step(run, is_hold);
        run.ledger.steps[at].action = Done::Tombstone;
    });
    damaged(14, &|run| {
        // The last steps are the auditor's own, of which no machine was told.
        let last = run.ledger.steps.len() / 2;
        run.ledger.steps.truncate(last);
    });
    damaged(14, &|run| drop(run.machines[0].journal.steps.remove(3)));
    damaged(14, &|run| run.ledger.damage = Some("a bit was flipped".to_owned()));
    damaged(14, &|run| {
        let rejected = run.told.iter_mut().find(|told| told.status == "cancelled").unwrap();
        (rejected.status, rejected.exit) = ("captured".to_owned(), 0);
    });
    damaged(14, &|run| {
        let middle = run.ledger.heads.len() / 2;
        run.ledger.heads[middle].1.hash[0] ^= 1;
    });
    damaged(15, &|run| run.ledger.stray_steps = 1);
    damaged(16, &|run| run.ledger.steps[3].commit_sequence += 1);
    damaged(17, &|run| {
        let at = call(run, "GetBalance");
        let Some((_, Ok(answer))) = &mut run.calls[at].answer else { panic!("it was answered") };
        let mut message = GetBalanceResponse::decode(&answer[..]).unwrap();
        message.balance.as_mut().unwrap().available_minor_units += 1;
        *answer = message.encode_to_vec();
    });
    damaged(17, &|run| {
        let at = call(run, "CaptureWithdrawal");
        let end = run.now + Duration::from_secs(1);
        for call in run.calls.iter_mut().skip(at).filter(|call| call.method == "CaptureWithdrawal") {
            let id = atm_proto::gateway::CaptureWithdrawalRequest::decode(&call.request[..])
                .unwrap()
                .transaction_id;
            if id == truth.machines[0].journal.records[0].id.to_string() {
                call.began = end;
            }
        }
        let id = truth.machines[0].journal.records[0].id.to_string();
        run.calls.retain(|call| {
            call.method != "AuthorizeWithdrawal"
                || AuthorizeWithdrawalRequest::decode(&call.request[..]).unwrap().transaction_id != id
        });
    });
    damaged(17, &|run| {
        let mut held = run.door.iter_mut().filter_map(|call| match &mut call.answer {
            Answer::Recorded { outcome, .. } if outcome.state == Some(State::Held) => Some(outcome),
            _ => None,
        });
        held.next().unwrap().balances[0].as_mut().unwrap().available += 1;
    });
    damaged(17, &|run| {
        let at = call(run, "ListTransactions");
        let Some((_, Ok(answer))) = &mut run.calls[at].answer else { panic!("it was answered") };
        let mut message = ListTransactionsResponse::decode(&answer[..]).unwrap();
        message.lines.remove(0);
        *answer = message.encode_to_vec();
    });
    damaged(18, &|run| run.ledger.stored[0][0] ^= 1);
    damaged(19, &|run| {
        for number in 0..4 {
            let mut row: AttemptRow = wrong_attempt.clone();
            row.attempt = AttemptSummary { attempt_id: format!("attempt {number}"), ..row.attempt };
            run.auth.attempts.push(row);
        }
    });
    damaged(20, &|run| {
        let last_four = wrong_attempt.attempt.last_four.clone().unwrap();
        run.auth.counts.push(CountChange { at: run.now, last_four, wrong_pins: 1, blocked: false });
    });
    damaged(20, &|run| run.auth.attempts.retain(|row| row.attempt.outcome != "wrong"));
    damaged(20, &|run| run.auth.attempts.retain(|row| row.attempt.outcome != "changed"));
    damaged(20, &|run| {
        // The first log-in, with the old PIN, again after the change.
        let mut late = run.auth.attempts.iter().find(|row| row.attempt.outcome == "opened").unwrap().clone();
        late.seen = run.now;
        run.auth.attempts.push(late);
    });
    damaged(21, &|run| {
        let out =
            run.calls.iter().find(|call| call.method == "LogOut" && call.answer.is_some()).unwrap().clone();
        let mut after = run.calls[call(run, "GetBalance")].clone();
        after.session = out.session;
        after.began = run.now + Duration::from_secs(1);
        run.calls.push(after);
    });
    damaged(21, &|run| {
        let at = call(run, "GetBalance");
        run.calls[at].caller = "atm-9".to_owned();
    });
    damaged(21, &|run| {
        let at = step(run, is_hold);
        let another = run.ledger.roles.keys().copied().find(|id| *id != truth_debit(run, at)).unwrap();
        let Done::Hold { transfer, .. } = &mut run.ledger.steps[at].action else { panic!("it is a hold") };
        transfer.debit = another;
    });
    damaged(22, &|run| {
        let session = run.calls.iter().find_map(|call| call.session.clone()).unwrap();
        let text = session.trim_start_matches("Bearer ").to_owned();
        run.log.push(LogLine { at: run.now, level: "INFO", target: "atm_gateway".to_owned(), text });
    });
    damaged(22, &|run| {
        let pin = run.secrets.iter().find(|secret| secret.what.starts_with("the PIN")).unwrap().text.clone();
        let text = format!("verified pin={pin}");
        run.log.push(LogLine { at: run.now, level: "INFO", target: "atm_auth".to_owned(), text });
    });
    damaged(22, &|run| run.machines[0].journal.records[0].last_four = run.secrets[0].text.clone());
    damaged(23, &|run| {
        let at = step(run, is_hold);
        let Done::Hold { expire_time, .. } = &mut run.ledger.steps[at].action else { panic!("it is a hold") };
        *expire_time = expire_time.saturating_add(Duration::from_secs(1));
    });
    damaged(23, &|run| run.machines[0].journal.records[0].state = "CAPTURE_PENDING");
    damaged(24, &|run| run.machines[0].journal.records[0].state = "SUSPECT");

    checked.dedup();
    assert_eq!(checked, (1..=24).collect::<Vec<u8>>(), "every invariant was broken once");
}

fn truth_debit(run: &Evidence, at: usize) -> atm_types::AccountId {
    run.ledger.steps[at].action.transfer().unwrap().debit
}

/// A commit as the observer saw it: the head, and the steps that it added.
type Commit = (Head, Vec<Step>);

fn commits(run: &Evidence) -> Vec<Commit> {
    let mut before = 0;
    let mut commits = Vec::new();
    for (_, head) in &run.ledger.heads {
        let end = usize::try_from(head.sequence).unwrap();
        commits.push((*head, run.ledger.steps[before..end].to_vec()));
        before = end;
    }
    commits
}

#[test]
fn what_is_wrong_is_seen_with_the_commit_that_brings_it() {
    let truth = true_run();
    let replay = |commits: &[Commit]| -> Vec<u8> {
        let mut running = Running::default();
        let found = commits.iter().flat_map(|(head, steps)| running.ledger(*head, steps));
        found.map(|violation| violation.invariant).collect()
    };
    let true_commits = commits(&truth);
    assert_eq!(replay(&true_commits), Vec::<u8>::new());
    let captures = |steps: &[Step]| steps.iter().any(|step| capture(&step.action));
    let at = true_commits.iter().position(|(_, steps)| captures(steps)).unwrap();
    let found = |invariant: u8, damage: &dyn Fn(&mut Vec<Commit>)| {
        let mut commits = true_commits.clone();
        damage(&mut commits);
        let seen = replay(&commits);
        assert!(seen.contains(&invariant), "invariant {invariant} was broken, and seen were {seen:?}");
    };
    let first = |steps: &mut [Step]| steps.iter().position(|step| capture(&step.action)).unwrap();
    found(1, &|commits| {
        let index = first(&mut commits[at].1);
        legs(&mut commits[at].1[index].action)[1].posted += 1;
    });
    found(2, &|commits| {
        let index = first(&mut commits[at].1);
        legs(&mut commits[at].1[index].action)[0].balance.posted += 1;
    });
    found(4, &|commits| {
        let again = commits[at].clone();
        commits.insert(at, again);
    });
    found(5, &|commits| {
        let index = first(&mut commits[at].1);
        legs(&mut commits[at].1[index].action).iter_mut().for_each(|leg| leg.posted += 1_000_000);
    });
    found(14, &|commits| commits[at].0.sequence = 1);
    found(16, &|commits| drop(commits[at].1.pop()));

    let (machine, dispense) = (&truth.machines[0], &truth.machines[0].device.dispenses[0]);
    let early = Running::default().dispense(&machine.journal, &machine.name, dispense);
    assert_eq!(early.unwrap().invariant, 10, "nothing was held yet");
    let mut running = Running::default();
    let mut step = machine.journal.steps.iter().find(|step| step.event == "PRESENTED").unwrap().clone();
    assert_eq!(running.journal(&machine.name, &step), None);
    step.state = "VOID_PENDING".to_owned();
    step.event = "GIVEN_UP".to_owned();
    assert_eq!(running.journal("atm-9", &step), None, "another machine's");
    assert_eq!(running.journal(&machine.name, &step).unwrap().invariant, 12);
}

#[test]
fn the_search_explains_what_was_answered_at_the_ledgers_door_and_no_answer_that_is_changed() {
    let withdraw = |customer, amount| Action::Withdraw { customer, amount, right_pin: true, fault: None };
    let script = |customer| {
        let actions =
            [withdraw(customer, 300), Action::Deposit { customer, amount: 50 }, withdraw(customer, 20)];
        actions.into_iter().map(|action| (Duration::ZERO, action)).collect()
    };
    let outcome = world::run(7, Plan::quiet(vec![script(0), script(2)])).unwrap();
    let windows = linear::windows(&outcome.evidence);
    assert!(windows.iter().any(linear::Window::has_concurrency), "the machines never met");
    let mut changed = 0;
    for mut window in windows {
        assert!(window.is_explained(), "{window:?}");
        for index in 0..window.calls.len() {
            let truth = window.calls[index].clone();
            if let Answer::Recorded { outcome, .. } = &mut window.calls[index].answer
                && let Some(balance) = &mut outcome.balances[0]
            {
                balance.posted += 1;
                changed += 1;
                assert!(!window.is_explained(), "{window:?}");
            }
            window.calls[index] = truth;
        }
    }
    assert!(changed > 10, "only {changed} answers were changed");
}
