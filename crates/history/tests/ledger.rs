//! A real ledger, real clients, and the judges over all that they said to each other.
//!
//! `ATM_HISTORY_OPERATIONS` says how many calls are made (5,000 by default), `ATM_SEED` with which dice. The long run is
//! `ATM_HISTORY_OPERATIONS=5000000 cargo test --release -p atm-history --test ledger -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use atm_history::linear::linearize;
use atm_history::{Answer, Audit, History, LedgerSpecification};
use atm_types::Clock;
use support::{Bank, UTC_OFFSET_SECONDS, number};

const CALLERS: u64 = 48;
/// How many calls are judged at once.
const PART: u64 = 20_000;

/// Lets `callers` make `calls` calls in all, at the same time.
async fn work(bank: &Bank, callers: u64, calls: u64, seed: u64) {
    let workers: Vec<_> = (0..callers)
        .map(|caller| {
            let share = calls / callers + u64::from(caller < calls % callers);
            let mut caller = bank.caller(1 + caller, seed);
            tokio::spawn(async move {
                for _ in 0..share {
                    caller.ask_anything().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

fn count(history: &History, counts: &mut BTreeMap<String, u64>) {
    for call in &history.calls {
        let what = match &call.answer {
            Answer::Recorded { outcome, replayed, .. } => {
                let state = outcome.state.map(|state| format!("{state:?}")).unwrap_or_default();
                format!("{state}{}", if *replayed { " again" } else { "" })
            }
            Answer::Opened { .. } => "opened".to_owned(),
            Answer::Account(_) | Answer::TrialBalance { .. } => "read".to_owned(),
            Answer::Refused(refused) => refused.reason.clone(),
            Answer::Unknown => "unknown".to_owned(),
        };
        *counts.entry(what).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_real_ledger_is_one_that_the_model_gives_at_its_time() {
    let (operations, seed) = (number("ATM_HISTORY_OPERATIONS", 5_000), number("ATM_SEED", 20_261_121));
    println!("ATM_HISTORY_OPERATIONS={operations} ATM_SEED={seed}");
    let mut bank = Bank::open(seed).await;
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    let (mut done, mut counts) = (0, BTreeMap::new());
    while done < operations {
        let calls = PART.min(operations - done);
        work(&bank, CALLERS, calls, seed ^ done).await;
        done += calls;
        let part = bank.part().await;
        count(&part, &mut counts);
        audit.judge(&part);
        assert_eq!(audit.findings(), []);
    }
    println!("{done} calls, {} steps, {counts:?}", audit.model().sequence());
    let many = |what: &str| counts.get(what).copied().unwrap_or(0);
    for what in
        ["Held", "Held again", "Captured", "Cancelled", "CapturedLate", "Suspect", "ID_REUSED", "read"]
    {
        assert!(many(what) > 0, "{what} was never reached: {counts:?}");
    }
    bank.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_histories_of_a_real_ledger_are_linearizable_without_a_look_at_its_log() {
    let (rounds, seed) = (number("ATM_HISTORY_ROUNDS", 60), number("ATM_SEED", 20_261_121));
    println!("ATM_HISTORY_ROUNDS={rounds} ATM_SEED={seed}");
    let mut bank = Bank::open(seed).await;
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    let mut calls = 0;
    for round in 0..rounds {
        audit.judge(&bank.part().await);
        let books = audit.model().clone();
        let workers: Vec<_> = (0..4)
            .map(|caller| {
                let mut caller = bank.caller(1 + caller, seed ^ (round << 8)).at_rest();
                tokio::spawn(async move {
                    for _ in 0..8 {
                        caller.ask_anything().await;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let part = bank.part().await;
        calls += part.calls.len();
        let specification = LedgerSpecification::new(books, bank.clock.now());
        let order = linearize(&specification, &LedgerSpecification::events(&part.calls));
        if let Err(error) = order {
            panic!("round {round}: {error}: {:#?}", part.calls);
        }
        audit.judge(&part);
        assert_eq!(audit.findings(), []);
    }
    println!("{rounds} histories, {calls} calls");
    bank.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_survives_being_written_and_read() {
    let mut bank = Bank::open(7).await;
    work(&bank, 3, 200, 7).await;
    let part = bank.part().await;
    let mut lines = Vec::new();
    part.write(&mut lines).unwrap();
    assert_eq!(History::read(&lines[..]).unwrap(), part);
    let damaged = [&lines[..], b"{\"nothing\":1}\n"].concat();
    let error = History::read(&damaged[..]).unwrap_err();
    let number = part.calls.len() + part.steps.len() + 1;
    assert_eq!(error.to_string(), format!("line {number} is neither a call nor a step"));
    bank.stop().await;
}
