//! Does the judge see anything? A true history is damaged in each way that a wrong ledger could damage it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use atm_history::linear::linearize;
use atm_history::{Answer, Ask, Audit, Call, History, Kind, LedgerSpecification, Rule, State};
use support::{Bank, UTC_OFFSET_SECONDS};

/// A true history of some hundred calls.
async fn true_history() -> History {
    let mut bank = Bank::open(11).await;
    let workers: Vec<_> = (1..=6)
        .map(|caller| {
            let mut caller = bank.caller(caller, 11);
            tokio::spawn(async move {
                for _ in 0..400 {
                    caller.ask_anything().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let history = bank.part().await;
    bank.stop().await;
    history
}

fn judge(history: &History) -> Vec<Rule> {
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    audit.judge(history);
    audit.findings().iter().map(|finding| finding.rule).collect()
}

fn find(history: &History, wanted: impl Fn(&Call) -> bool) -> usize {
    history.calls.iter().position(wanted).expect("the history has such a call")
}

fn own(call: &Call, wanted: State) -> bool {
    matches!(&call.answer, Answer::Recorded { outcome, replayed: false, .. } if outcome.state == Some(wanted))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_damage_is_seen_and_named() {
    let truth = true_history().await;
    assert_eq!(judge(&truth), []);
    let damaged = |damage: &dyn Fn(&mut History)| {
        let mut history = truth.clone();
        damage(&mut history);
        assert_ne!(history, truth, "nothing was damaged");
        judge(&history)
    };

    // An acknowledged step is gone: an update was lost.
    let lost = damaged(&|history| {
        let at = history.steps.iter().position(|s| s.outcome.state == Some(State::Posted)).unwrap();
        history.steps.remove(at);
    });
    assert_eq!(lost[0], Rule::Sequence);
    // The same at the end of the log, as after a power cut. (Nobody need know of the last one or two.)
    let hidden = damaged(&|history| history.steps.truncate(history.steps.len() - 30));
    assert!(!hidden.is_empty());

    // A posting is there twice.
    let doubled = damaged(&|history| {
        let step = history.steps.iter().find(|s| s.outcome.state == Some(State::Posted)).unwrap();
        let mut again = step.clone();
        again.outcome.sequence = history.steps.len() as u64 + 1;
        again.outcome.time = history.steps.last().unwrap().outcome.time;
        history.steps.push(again);
    });
    assert_eq!(doubled, [Rule::Decision]);

    // A hold lives longer than was asked for.
    let longer = damaged(&|history| {
        let held = |call: &Call| matches!(call.ask, Ask::Hold { .. }) && own(call, State::Held);
        let id = history.calls[find(history, held)].ask.id().unwrap();
        let step = history.steps.iter_mut().find(|s| s.outcome.id == id).unwrap();
        *step.outcome.expire_nanos.as_mut().unwrap() += 1_000_000_000;
    });
    assert!(longer.contains(&Rule::Lifetime), "{longer:?}");

    // More money moved than was asked for.
    let more = damaged(&|history| {
        let step = history.steps.iter_mut().find(|s| s.outcome.state == Some(State::Captured)).unwrap();
        step.entries[0].posted += 1;
    });
    assert_eq!(more[0], Rule::Sums);

    // Declined although there was enough.
    let declined = damaged(&|history| {
        let step = history.steps.iter_mut().find(|s| s.outcome.state == Some(State::Held)).unwrap();
        step.outcome.state = Some(State::Declined);
    });
    assert_eq!(declined[0], Rule::Decision);

    // Two steps changed places.
    let swapped = damaged(&|history| {
        let at = history.steps.windows(2).rposition_of_different_ids();
        history.steps.swap(at, at + 1);
        let first = history.steps[at].outcome.sequence;
        history.steps[at].outcome.sequence = history.steps[at + 1].outcome.sequence;
        history.steps[at + 1].outcome.sequence = first;
    });
    assert!(!swapped.is_empty());

    // Somebody got another answer than what is recorded.
    let changed = damaged(&|history| {
        let at = find(history, |call| own(call, State::Held));
        let Answer::Recorded { outcome, .. } = &mut history.calls[at].answer else { panic!("just found") };
        outcome.bytes.push_str("00");
    });
    assert_eq!(changed, [Rule::Bytes]);

    // A reader saw an account as it was long before he asked.
    let stale = damaged(&|history| {
        let reads = |call: &Call| matches!(&call.answer, Answer::Account(view) if view.sequence > 60);
        let at = history.calls.iter().rposition(reads).unwrap();
        let early = find(history, |call| {
            matches!(&call.answer, Answer::Account(_)) && call.ask != Ask::GetTrialBalance
        });
        assert!(early < at);
        history.calls[at].ask = history.calls[early].ask.clone();
        history.calls[at].answer = history.calls[early].answer.clone();
    });
    assert_eq!(stale, [Rule::Reading]);

    // A reader saw half of a transfer.
    let half = damaged(&|history| {
        let at = find(history, |call| matches!(&call.answer, Answer::Account(view) if view.sequence > 60));
        let Answer::Account(view) = &mut history.calls[at].answer else { panic!("just found") };
        view.totals.debits_posted += 1;
    });
    assert_eq!(half, [Rule::Reading]);
    let unbalanced = damaged(&|history| {
        let at = find(history, |call| matches!(&call.answer, Answer::TrialBalance { .. }));
        let Answer::TrialBalance { lines, .. } = &mut history.calls[at].answer else { panic!("just found") };
        lines[0].sums[0] += 1;
    });
    assert_eq!(unbalanced, [Rule::Reading]);

    // Recorded for a call that began after others had seen a later step.
    let back = damaged(&|history| {
        let end = history.calls.iter().filter_map(|call| call.ended.max(Some(call.begun))).max().unwrap();
        let at = find(history, |call| own(call, State::Held));
        history.calls[at].begun = end + 1;
        history.calls[at].ended = Some(end + 2);
    });
    assert!(back.contains(&Rule::RealTime), "{back:?}");

    // Nobody ever asked for a step.
    let unasked = damaged(&|history| {
        let at = find(history, |call| own(call, State::Posted) && matches!(call.ask, Ask::Post { .. }));
        let id = history.calls[at].ask.id();
        history.calls.retain(|call| call.ask.id() != id);
    });
    assert_eq!(unasked, [Rule::NobodyAsked]);

    // Refused although it was new; answered although it was another body.
    let refused = damaged(&|history| {
        let at = find(history, |call| matches!(&call.answer, Answer::Refused(r) if r.reason == "ID_REUSED"));
        let Answer::Refused(refused) = &mut history.calls[at].answer else { panic!("just found") };
        refused.field = "another_field".to_owned();
    });
    assert_eq!(refused, [Rule::Answer]);
    let swallowed = damaged(&|history| {
        let at = find(history, |call| {
            matches!(&call.answer, Answer::Refused(r) if r.reason == "ID_REUSED" && r.field == "amount.minor_units")
                && matches!(call.ask, Ask::Hold { .. })
        });
        let id = history.calls[at].ask.id();
        let answer = history.calls.iter().find(|call| {
            call.ask.id() == id
                && matches!(&call.answer, Answer::Recorded { outcome, .. } if outcome.kind == Kind::Hold)
        });
        history.calls[at].answer = answer.expect("it was held or declined before").answer.clone();
    });
    // If it was recorded before this call began, that is what is noticed first.
    assert!(swallowed.contains(&Rule::Answer) || swallowed.contains(&Rule::RealTime), "{swallowed:?}");

    // Said to stand where it never stood.
    let elsewhere = damaged(&|history| {
        let at = find(history, |call| own(call, State::Captured));
        let Answer::Recorded { now, .. } = &mut history.calls[at].answer else { panic!("just found") };
        *now = State::Held;
    });
    assert_eq!(elsewhere, [Rule::CurrentState]);
}

trait Places {
    fn rposition_of_different_ids(self) -> usize;
}

impl<'a, I: Iterator<Item = &'a [atm_history::Step]>> Places for I {
    /// Two neighbours which both touch money and are of two transactions.
    fn rposition_of_different_ids(self) -> usize {
        let fits = |pair: &&[atm_history::Step]| {
            pair[0].outcome.id != pair[1].outcome.id
                && pair.iter().all(|step| !step.entries.is_empty())
                && pair[0].entries[1].account == pair[1].entries[1].account
        };
        self.enumerate()
            .filter(|(_, pair)| fits(pair))
            .map(|(at, _)| at)
            .last()
            .expect("there are such neighbours")
    }
}

/// The general search, on what the judge of the log does not need: it must not accept anything either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_general_search_refuses_answers_that_no_order_explains() {
    let mut bank = Bank::open(5).await;
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    audit.judge(&bank.part().await);
    let (books, time) = (audit.model().clone(), atm_types::Clock::now(&bank.clock));
    let mut caller = bank.caller(1, 5).at_rest();
    for _ in 0..30 {
        caller.ask_anything().await;
    }
    let truth = bank.part().await;
    let specification = LedgerSpecification::new(books, time);
    let explain = |calls: &[Call]| linearize(&specification, &LedgerSpecification::events(calls));
    assert_eq!(explain(&truth.calls).unwrap().len(), truth.calls.len());

    let mut caught = 0;
    for at in 0..truth.calls.len() {
        let mut calls = truth.calls.clone();
        match &mut calls[at].answer {
            Answer::Recorded { outcome, .. } => match &mut outcome.balances[0] {
                Some(balance) => balance.available += 1,
                None => continue,
            },
            Answer::Account(view) => view.totals.credits_posted += 1,
            Answer::Refused(refused) => refused.reason.push('?'),
            Answer::Opened { .. } | Answer::TrialBalance { .. } | Answer::Unknown => continue,
        }
        assert!(explain(&calls).is_err(), "{:?}", calls[at]);
        caught += 1;
    }
    println!("{caught} of {} answers were damaged, one at a time", truth.calls.len());
    assert!(caught > 15);
    bank.stop().await;
}
