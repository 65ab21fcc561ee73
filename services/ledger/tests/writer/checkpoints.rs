//! Checkpoints: what is replayed, what is remembered across them, and what memory may forget.

use std::path::Path;

use atm_ledger::handle::Options;
use atm_ledger::storage::View as _;
use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger_core::TransactionState;

use crate::books::*;

fn every(checkpoint_every: u64) -> Options {
    Options { checkpoint_every, accounts_in_memory: 0, ..options(Path::new("unused")) }
}

#[tokio::test]
async fn a_checkpoint_is_made_when_enough_steps_follow_the_last_one_and_on_a_clean_stop() {
    let disk = MemoryDisk::new();
    let books = Books::start_with(Box::new(disk.open()), every(6));
    let checkpoint = || disk.open().checkpoint().unwrap().head;
    books.fund(1_000).await;
    assert_eq!(checkpoint().sequence, 0);
    books.ledger.execute(vec![hold(2, 1), hold(3, 1), hold(4, 1)], None).await.unwrap();
    assert_eq!(checkpoint().sequence, 7);
    books.one(capture(2, 1)).await.unwrap();
    assert_eq!(checkpoint().sequence, 7);
    books.writer.stop().await;
    assert_eq!(checkpoint(), disk.open().head().unwrap());
    assert_eq!(disk.open().open_holds_after(None, 9).unwrap(), [id(3), id(4)]);
}

#[tokio::test]
async fn ids_are_remembered_however_old_and_whatever_their_kind() {
    let disk = MemoryDisk::new();
    let scattered = |byte| atm_ledger_core::Command::Post {
        id: atm_types::TransactionId::from_bytes([byte; 16]),
        terminal: TERMINAL,
        transfer: transfer(CUSTOMER, CASH, 1),
    };
    let commands = || {
        let ordered = (10..30).map(|number| post(number, CUSTOMER, CASH, 1));
        // Not time-ordered: smaller and greater than all the others.
        ordered.chain([scattered(0), scattered(0x44), scattered(0xff)])
    };
    let first: Vec<_> = {
        let books = Books::start_with(Box::new(disk.open()), every(5));
        books.fund(1_000).await;
        let mut answers = Vec::new();
        // The newest id first, so that all others are older than what is stored.
        answers.push(books.one(post(99, CUSTOMER, CASH, 1)).await.unwrap());
        for command in commands() {
            answers.push(books.one(command).await.unwrap());
        }
        answers
    };
    for reopened in 0..2 {
        let books = Books::start_with(Box::new(disk.open()), every(if reopened == 0 { 5 } else { 500 }));
        let again = std::iter::once(post(99, CUSTOMER, CASH, 1)).chain(commands());
        for (command, first) in again.zip(&first) {
            let answer = books.one(command).await.unwrap();
            assert!(is_replay(&answer));
            assert_eq!(step(&answer), step(first));
        }
        assert_eq!(books.balance(CUSTOMER).await.posted, 1_000 - 24);
    }
}

#[tokio::test]
async fn holds_live_on_and_expire_after_any_number_of_restarts() {
    let disk = MemoryDisk::new();
    let books = Books::start_with(Box::new(disk.open()), every(4));
    books.fund(1_000).await;
    books.ledger.execute(vec![hold(2, 100), hold(3, 200), hold(4, 300)], None).await.unwrap();
    books.one(cancel(3)).await.unwrap();
    let clock = books.clock.clone();
    drop(books);
    let books = Books::start_with(Box::new(disk.open()), every(4));
    assert_eq!(books.balance(CUSTOMER).await.available, 600);
    books.one(capture(2, 50)).await.unwrap();
    drop(books);
    let books = Books::start_with(Box::new(disk.open()), every(4));
    books.clock.set(clock.now_after(2 * DAY));
    assert_eq!(books.balance(CUSTOMER).await.available, 950);
    let state_of = async |number| books.ledger.transaction(id(number)).await.unwrap().unwrap().state();
    assert_eq!(state_of(2).await, Some(TransactionState::Captured));
    assert_eq!(state_of(3).await, Some(TransactionState::Cancelled));
    assert_eq!(state_of(4).await, Some(TransactionState::Expired));
    assert_eq!(state(&books.one(capture(4, 300)).await.unwrap()), Some(TransactionState::CapturedLate));
    assert_eq!(books.findings().await, [""; 0]);
}

#[tokio::test]
async fn suspects_live_on_without_an_expiry_and_are_resolved_after_any_number_of_restarts() {
    for checkpoint_every in [1, 3, 7, 1_000] {
        let disk = MemoryDisk::new();
        let start = || Books::start_with(Box::new(disk.open()), every(checkpoint_every));
        let books = start();
        books.fund(1_000).await;
        books.one(open_suspense()).await.unwrap();
        books.ledger.execute(vec![hold(2, 100), hold(3, 200), hold(4, 300)], None).await.unwrap();
        books.one(suspend(2)).await.unwrap();
        books.one(cancel(3)).await.unwrap();
        // In the batch of its release, and on its own.
        books.ledger.execute(vec![cancel(4), suspend(4)], None).await.unwrap();
        books.one(suspend(3)).await.unwrap();
        let frozen = books.one(suspend(2)).await.unwrap();
        assert!(is_replay(&frozen));
        let clock = books.clock.clone();
        drop(books);
        assert_eq!(disk.open().open_holds_after(None, 9).unwrap(), []);

        let books = start();
        books.clock.set(clock.now_after(90 * DAY));
        assert_eq!(books.balance(CUSTOMER).await.available, 400);
        assert_eq!((books.pending(CASH).await, books.pending(SUSPENSE).await), ((0, 0), (0, 600)));
        assert_eq!(step(&books.one(suspend(2)).await.unwrap()), step(&frozen));
        assert_eq!(state(&books.one(cancel(3)).await.unwrap()), Some(TransactionState::Suspect));
        let resolved = books.ledger.execute(vec![resolve(2, 100), resolve(3, 0)], None).await.unwrap();
        assert_eq!(state(&resolved[0]), Some(TransactionState::Captured));
        assert_eq!(state(&resolved[1]), Some(TransactionState::Cancelled));
        assert_eq!(books.findings().await, [""; 0]);
        drop(books);

        // Without the checkpoint of a clean stop as well: all of it is replayed.
        let books = start();
        assert_eq!(state(&books.one(capture(3, 200)).await.unwrap()), Some(TransactionState::CapturedLate));
        let again = books.one(resolve(2, 100)).await.unwrap();
        assert!(is_replay(&again));
        assert_eq!(step(&again), step(&resolved[0]));
        assert_eq!(state(&books.one(resolve(4, 50)).await.unwrap()), Some(TransactionState::Captured));
        assert_eq!(books.balance(CUSTOMER).await.available, 1_000 - 100 - 200 - 50);
        assert_eq!((books.pending(CUSTOMER).await, books.pending(SUSPENSE).await), ((0, 0), (0, 0)));
        assert_eq!(books.findings().await, [""; 0]);
    }
}

#[tokio::test]
async fn books_that_end_in_a_kill_replay_their_suspects() {
    // No checkpoint at all, so that everything is replayed from the first step.
    let disk = MemoryDisk::new();
    let books = Books::start_with(Box::new(disk.open()), every(1_000));
    books.fund(1_000).await;
    books.one(open_suspense()).await.unwrap();
    books.ledger.execute(vec![hold(2, 100), hold(3, 200)], None).await.unwrap();
    books.ledger.execute(vec![suspend(2), cancel(3)], None).await.unwrap();
    books.ledger.execute(vec![suspend(3), resolve(2, 40)], None).await.unwrap();
    let killed = disk.copy();
    drop(books);
    assert_eq!(killed.open().checkpoint().unwrap().head.sequence, 0);
    let books = Books::start_with(Box::new(killed.open()), every(1_000));
    assert_eq!(books.balance(CUSTOMER).await.posted, 960);
    assert_eq!(books.balance(CUSTOMER).await.available, 760);
    assert_eq!(books.pending(SUSPENSE).await, (0, 200));
    books.one(resolve(3, 200)).await.unwrap();
    assert_eq!(books.balance(CUSTOMER).await.available, 760);
    assert_eq!(books.findings().await, [""; 0]);
}

trait Later {
    fn now_after(&self, time: std::time::Duration) -> atm_types::Timestamp;
}

impl Later for atm_types::ManualClock {
    fn now_after(&self, time: std::time::Duration) -> atm_types::Timestamp {
        atm_types::Clock::now(self).saturating_add(time)
    }
}
