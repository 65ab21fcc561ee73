//! A full disk: what ends a hold finds room for longer than what begins one, and nothing is lost.

use std::time::Duration;

use atm_ledger::handle::Answer;
use atm_ledger::storage::memory::{Fault, MemoryDisk};
use atm_ledger_core::TransactionState;

use crate::books::*;

async fn books_with_a_hold() -> (MemoryDisk, Books) {
    let disk = MemoryDisk::new();
    let books = Books::start(disk.open());
    books.fund(1_000).await;
    books.one(hold(2, 600)).await.unwrap();
    (disk, books)
}

#[tokio::test]
async fn when_the_disk_is_full_captures_and_cancels_are_recorded_and_holds_and_postings_are_not() {
    let (disk, books) = books_with_a_hold().await;
    disk.fail_after(0, Fault::Full);
    let commands = vec![hold(3, 100), capture(2, 600), post(4, CUSTOMER, CASH, 1), cancel(5)];
    let answers = books.ledger.execute(commands, None).await.unwrap();
    assert_eq!([&answers[0], &answers[2]], [&Answer::NoRoom; 2]);
    assert_eq!(state(&answers[1]), Some(TransactionState::Captured));
    assert_eq!(state(&answers[3]), Some(TransactionState::Cancelled));
    // What was recorded is still answered.
    assert!(is_replay(&books.one(hold(2, 600)).await.unwrap()));
    assert_eq!(books.ledger.transaction(id(3)).await.unwrap(), None);
    assert_eq!(books.balance(CUSTOMER).await.posted, 400);
    assert_eq!(books.findings().await, [""; 0]);
}

#[tokio::test]
async fn when_the_disk_is_full_suspensions_are_recorded_and_resolutions_are_not() {
    let (disk, books) = books_with_a_hold().await;
    books.ledger.execute(vec![open_suspense(), hold(3, 100), suspend(3)], None).await.unwrap();
    disk.fail_after(0, Fault::Full);
    let answers = books.ledger.execute(vec![suspend(2), resolve(3, 100)], None).await.unwrap();
    assert_eq!(state(&answers[0]), Some(TransactionState::Suspect));
    assert_eq!(answers[1], Answer::NoRoom);
    assert_eq!(books.pending(SUSPENSE).await, (0, 700));
    assert_eq!(books.findings().await, [""; 0]);
}

#[tokio::test]
async fn when_the_reserve_is_used_up_too_only_what_was_recorded_is_answered() {
    let (disk, books) = books_with_a_hold().await;
    disk.set_reserve(false);
    disk.fail_after(0, Fault::Full);
    assert_eq!(books.one(capture(2, 600)).await.unwrap(), Answer::NoRoom);
    assert!(is_replay(&books.one(hold(2, 600)).await.unwrap()));
    assert_eq!(books.balance(CUSTOMER).await.available, 400);
    // Nor does an expiry write anything.
    books.clock.advance(2 * DAY);
    assert_eq!(books.balance(CUSTOMER).await.available, 400);
}

#[tokio::test]
async fn a_start_that_had_to_give_up_the_reserve_leaves_the_room_to_captures_and_cancels() {
    let (disk, books) = books_with_a_hold().await;
    drop(books);
    disk.set_reserve(false);
    let books = Books::start(disk.open());
    let answers = books.ledger.execute(vec![hold(3, 100), capture(2, 600), cancel(5)], None).await.unwrap();
    assert_eq!(answers[0], Answer::NoRoom);
    assert_eq!(state(&answers[1]), Some(TransactionState::Captured));
    assert_eq!(state(&answers[2]), Some(TransactionState::Cancelled));
    assert_eq!(books.findings().await, [""; 0]);
}

#[tokio::test]
async fn when_there_is_room_again_everything_is_recorded_again() {
    let (disk, books) = books_with_a_hold().await;
    disk.set_reserve(false);
    disk.fail_after(0, Fault::Full);
    assert_eq!(books.one(capture(2, 600)).await.unwrap(), Answer::NoRoom);
    disk.set_reserve(true);
    // Room is looked for once a second; ask until it was found.
    let mut answer = Answer::NoRoom;
    while answer == Answer::NoRoom {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = books.one(capture(2, 600)).await.unwrap();
    }
    assert_eq!(state(&answer), Some(TransactionState::Captured));
    assert_eq!(declined(&books.one(hold(3, 100)).await.unwrap()), None);
    assert_eq!(books.findings().await, [""; 0]);
}
