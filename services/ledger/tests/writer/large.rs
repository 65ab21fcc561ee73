//! Large batches, which a second thread writes while they are being decided: nobody may notice any difference.

use atm_ledger::handle::{Answer, Options};
use atm_ledger::storage::memory::{Fault, MemoryDisk};
use atm_ledger::storage::sqlite::SqliteStore;
use atm_ledger_core::{Command, TransactionState};

use crate::books::*;

/// More than enough for a second thread and several chunks, with repeats, declines, holds and their ends.
fn large_batch() -> Vec<Command> {
    let mut commands = Vec::new();
    for number in 0..1_500 {
        commands.push(post(10_000 + number, CUSTOMER, CASH, 1));
        match number % 5 {
            // A repeat of what this very batch decided.
            0 => commands.push(post(10_000 + number, CUSTOMER, CASH, 1)),
            1 => commands.push(post(20_000 + number, CUSTOMER, CASH, 1_000_000)),
            2 => commands.push(hold(30_000 + number, 2)),
            3 => commands.push(capture(30_000 + number - 1, 1)),
            _ => commands.push(cancel(40_000 + number)),
        }
    }
    commands
}

#[tokio::test]
async fn a_large_batch_is_answered_like_many_small_ones() {
    let (one, other) = (MemoryDisk::new(), tempfile::tempdir().unwrap());
    let small = Books::start(one.open());
    let large = Books::start(SqliteStore::open(other.path(), 0).unwrap());
    small.fund(1_000_000).await;
    large.fund(1_000_000).await;
    let at_once = large.ledger.execute(large_batch(), None).await.unwrap();
    let mut one_by_one = Vec::new();
    for chunk in large_batch().chunks(100) {
        one_by_one.extend(small.ledger.execute(chunk.to_vec(), None).await.unwrap());
    }
    assert_eq!(at_once.len(), one_by_one.len());
    for (large, small) in at_once.iter().zip(&one_by_one) {
        let (Answer::Recorded { step: large, replayed, .. }, Answer::Recorded { step: small, .. }) =
            (large, small)
        else {
            panic!("{large:?} {small:?}")
        };
        assert_eq!((large.id, large.ordinal), (small.id, small.ordinal));
        assert_eq!(
            (large.commit_sequence, large.action.kind()),
            (small.commit_sequence, small.action.kind())
        );
        // Only the time of the commit differs, and with it when a hold expires.
        assert_eq!(large.action.legs(), small.action.legs());
        assert!(!replayed || large.ordinal == 0);
    }
    for books in [&small, &large] {
        assert_eq!(books.findings().await, [""; 0]);
    }
    // And all of it is there for a new start.
    let balance = large.balance(CUSTOMER).await;
    large.writer.stop().await;
    let again = Books::start(SqliteStore::open(other.path(), 0).unwrap());
    assert_eq!(again.balance(CUSTOMER).await, balance);
    assert!(again.ledger.execute(large_batch(), None).await.unwrap().iter().all(is_replay));
}

#[tokio::test]
async fn a_second_writer_makes_a_large_batch_be_decided_again() {
    let directory = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(directory.path(), 0).unwrap();
    let one = Books::start(open());
    one.fund(1_000).await;
    let two = Books::start(open());
    assert_eq!(one.balance(CUSTOMER).await.available, 1_000);
    assert_eq!(two.balance(CUSTOMER).await.available, 1_000);
    one.one(hold(2, 900)).await.unwrap();
    let commands: Vec<Command> = (0..2_000).map(|number| hold(100 + number, 50)).collect();
    let answers = two.ledger.execute(commands, None).await.unwrap();
    let held = answers.iter().filter(|answer| state(answer) == Some(TransactionState::Held)).count();
    assert_eq!(held, 2);
    assert_eq!(one.balance(CUSTOMER).await.available, 0);
    assert_eq!(one.findings().await, [""; 0]);
    assert_eq!(two.findings().await, [""; 0]);
}

#[tokio::test]
async fn a_large_batch_that_finds_the_disk_full_is_decided_again_with_what_room_there_is() {
    let disk = MemoryDisk::new();
    let books = Books::start(disk.open());
    books.fund(1_000_000).await;
    disk.fail_after(0, Fault::Full);
    let answers = books.ledger.execute(large_batch(), None).await.unwrap();
    let is_cancelled = |answer: &&Answer| {
        matches!(answer, Answer::Recorded { state: Some(TransactionState::Cancelled), replayed: false, .. })
    };
    assert_eq!(answers.iter().filter(is_cancelled).count(), 300);
    let no_room = answers.iter().filter(|answer| **answer == Answer::NoRoom).count();
    assert_eq!(no_room, 1_500 + 3 * 300);
    assert_eq!(books.balance(CUSTOMER).await.available, 1_000_000);
    assert_eq!(books.findings().await, [""; 0]);
}

#[tokio::test]
async fn a_large_batch_whose_commit_fails_is_not_answered_and_leaves_all_or_nothing() {
    for fault in [Fault::Lost, Fault::Unknown, Fault::Torn(700)] {
        let disk = MemoryDisk::new();
        let books = Books::start(disk.open());
        books.fund(1_000_000).await;
        disk.fail_after(0, fault);
        assert!(books.ledger.execute(large_batch(), None).await.is_err());
        books.writer.failed().await;
        drop(books);
        let again = Books::start(disk.open());
        let known = again.ledger.transaction(id(10_000)).await.unwrap().is_some();
        assert_eq!(known, fault == Fault::Unknown, "{fault:?}");
        assert_eq!(again.findings().await, [""; 0]);
        // The retry ends the same way, whatever was there.
        let answers = again.ledger.execute(large_batch(), None).await.unwrap();
        assert_eq!(answers.iter().all(is_replay), known);
    }
}

#[tokio::test]
async fn calls_that_share_a_large_batch_each_get_their_own_answers() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { batch_commands: 100_000, ..options(directory.path()) });
    books.fund(1_000_000).await;
    let calls = (0..8).map(|call| {
        let ledger = books.ledger.clone();
        tokio::spawn(async move {
            let commands: Vec<Command> =
                (0..700).map(|number| post(10_000 + call * 1_000 + number, CUSTOMER, CASH, 1)).collect();
            ledger.execute(commands, None).await.unwrap()
        })
    });
    for (call, answers) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        for (number, answer) in answers.await.unwrap().iter().enumerate() {
            let Answer::Recorded { step, replayed: false, .. } = answer else { panic!("{answer:?}") };
            assert_eq!(step.id, id(10_000 + call as u64 * 1_000 + number as u64));
        }
    }
    assert_eq!(books.balance(CUSTOMER).await.posted, 1_000_000 - 8 * 700);
    assert_eq!(books.findings().await, [""; 0]);
}
