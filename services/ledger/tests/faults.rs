//! A bad network between the tellers and the ledger: every transaction ends, and exactly once.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use support::proxy::{Proxy, Rates};
use support::story::{self, Diary, Teller, Unobserved};
use support::*;

const EACH: i64 = 1_000_000;

/// The seed of this run: `ATM_SEED`, or a fixed one. It is printed, so that a failure can be repeated.
fn seed() -> u64 {
    let seed = std::env::var("ATM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("ATM_SEED={seed}");
    seed
}

async fn work_through(rates: Rates, tellers: u64, transactions: usize) -> (Arc<proxy::Counts>, Diary) {
    let seed = seed();
    let bank = Bank::open().await;
    let mut client = bank.client();
    story::endow(&mut client, EACH).await;
    let proxy = Proxy::start(&bank.url(), rates, seed).await;
    let workers: Vec<_> = (1..=tellers)
        .map(|teller| {
            let token = &bank.config.service_token_file;
            let mut teller = Teller::new(&proxy.url(), token, seed ^ teller, Arc::new(Unobserved));
            tokio::spawn(async move {
                for _ in 0..transactions {
                    teller.transact().await;
                }
                teller.diary
            })
        })
        .collect();
    let mut diary = Diary::default();
    for worker in workers {
        diary.merge(worker.await.unwrap());
    }
    proxy.quiet().await;
    story::compare(&mut client, &diary, EACH).await;
    // What the books say survives a restart.
    let bank = bank.restart().await;
    story::compare(&mut bank.client(), &diary, EACH).await;
    (proxy.counts, diary)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transaction_ends_exactly_once_though_requests_and_answers_are_lost_repeated_and_delayed() {
    let rates = Rates { lose_request: 20, lose_answer: 20, repeat: 30, delay: 30 };
    let (counts, diary) = work_through(rates, 12, 15).await;
    println!("{counts:?}");
    assert_eq!(diary.ended.len(), 12 * 15);
    let happened = |count: &AtomicU64| count.load(Ordering::Relaxed) > 20;
    assert!(happened(&counts.lost_requests) && happened(&counts.lost_answers), "{counts:?}");
    assert!(happened(&counts.repeated) && happened(&counts.delayed), "{counts:?}");
    assert_eq!(counts.contradictions.load(Ordering::Relaxed), 0);
    let mut lives: std::collections::BTreeMap<&str, usize> = Default::default();
    for (state, ..) in diary.ended.values() {
        *lives.entry(state.as_str_name()).or_default() += 1;
    }
    println!("{lives:?}");
    // Posted, declined, captured, cancelled, captured late and suspect.
    assert_eq!(lives.len(), 6, "all ends were reached: {lives:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_answer_ever_arrives_at_the_first_try_nothing_happens_twice() {
    let rates = Rates { lose_request: 0, lose_answer: 70, repeat: 50, delay: 0 };
    let (counts, _) = work_through(rates, 8, 6).await;
    println!("{counts:?}");
    assert_eq!(counts.contradictions.load(Ordering::Relaxed), 0);
}
