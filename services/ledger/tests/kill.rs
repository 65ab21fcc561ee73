//! `kill -9` while money moves: nothing acknowledged is lost, nothing happens twice.
//!
//! `ATM_KILL_ROUNDS` says how often (5 by default; the check script does 50), `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::process::{self, Process};
use support::story::{self, Diary, Observer, Teller};
use support::*;
use tokio::sync::watch;

const TELLERS: u64 = 12;
const EACH: i64 = 100_000_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Counts what is under way, and what a kill interrupted.
struct Scene {
    /// Which life of the process it is; the kill ends it.
    life: AtomicU64,
    in_flight: watch::Sender<u64>,
    acknowledged: watch::Sender<u64>,
    /// Attempts that were begun in the life that has just ended, and that failed.
    interrupted: AtomicU64,
}

impl Observer for Scene {
    fn begun(&self) -> u64 {
        self.in_flight.send_modify(|count| *count += 1);
        self.life.load(Ordering::SeqCst)
    }

    fn ended(&self, begun: u64, failed: bool) {
        self.in_flight.send_modify(|count| *count -= 1);
        if !failed {
            self.acknowledged.send_modify(|count| *count += 1);
        } else if begun.is_multiple_of(2) && begun < self.life.load(Ordering::SeqCst) {
            self.interrupted.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_doubled_by_kill_9_under_load() {
    let (rounds, seed) = (number("ATM_KILL_ROUNDS", 5), number("ATM_SEED", 20_261_121));
    println!("ATM_KILL_ROUNDS={rounds} ATM_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let mut ledger = Process::start(directory.path()).await;
    let (url, address) = (ledger.url(), ledger.address.to_string());
    story::endow(&mut connect(&url, &process::token(directory.path())), EACH).await;

    let scene = Arc::new(Scene {
        // Even while the process lives, odd from the kill until it serves again.
        life: AtomicU64::new(0),
        in_flight: watch::Sender::new(0),
        acknowledged: watch::Sender::new(0),
        interrupted: AtomicU64::new(0),
    });
    let over = Arc::new(AtomicBool::new(false));
    let tellers: Vec<_> = (1..=TELLERS)
        .map(|teller| {
            let token = process::token(directory.path());
            let mut teller =
                Teller::new(&url, &token, seed ^ teller, Arc::clone(&scene) as Arc<dyn Observer>);
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    teller.transact().await;
                }
                teller.diary
            })
        })
        .collect();

    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut hits, mut interrupted) = (0, 0);
    for round in 1..=rounds {
        // A drawn number of answers after the start, and at a drawn number of commands under way.
        let enough = *scene.acknowledged.borrow() + dice.u64(1..150);
        scene.acknowledged.subscribe().wait_for(|count| *count >= enough).await.unwrap();
        let crowd = dice.u64(1..=TELLERS * 3 / 4);
        scene.in_flight.subscribe().wait_for(|count| *count >= crowd).await.unwrap();
        scene.interrupted.store(0, Ordering::SeqCst);
        scene.life.fetch_add(1, Ordering::SeqCst);
        ledger.kill().await;
        ledger = Process::start_with(directory.path(), &[("ATM_LEDGER_LISTEN", &address)]).await;
        scene.life.fetch_add(1, Ordering::SeqCst);
        // Every attempt of the life before has ended by the time that new ones are answered.
        let answered = *scene.acknowledged.borrow() + TELLERS;
        scene.acknowledged.subscribe().wait_for(|count| *count >= answered).await.unwrap();
        let hit = scene.interrupted.load(Ordering::SeqCst);
        println!("round {round}: killed with {hit} commands in flight");
        hits += u64::from(hit > 0);
        interrupted += hit;
    }
    over.store(true, Ordering::SeqCst);
    let mut diary = Diary::default();
    for teller in tellers {
        diary.merge(teller.await.unwrap());
    }
    println!(
        "{hits} of {rounds} kills hit commands in flight, {interrupted} commands in all; {} commands were \
         acknowledged for {} transactions",
        diary.told.len(),
        diary.ended.len()
    );
    assert!(hits * 5 >= rounds * 4, "too few kills hit anything: {hits} of {rounds}");
    let mut client = connect(&url, &process::token(directory.path()));
    story::compare(&mut client, &diary, EACH).await;
    // And once more after an end in good order.
    ledger.terminate().await;
    assert!(ledger.ended().await.status.success());
    let ledger = Process::start(directory.path()).await;
    story::compare(&mut connect(&ledger.url(), &process::token(directory.path())), &diary, EACH).await;
}
