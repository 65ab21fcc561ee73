//! Two ledgers on one database: the head's compare-and-set makes the slower one decide again.

use atm_ledger::handle::OpenError;
use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger::storage::sqlite::SqliteStore;
use atm_ledger_core::DeclineReason;

use crate::books::*;

#[tokio::test]
async fn of_two_ledgers_that_both_hold_900_of_1000_only_one_does_in_memory() {
    let disk = MemoryDisk::new();
    let one = Books::start(disk.open());
    one.fund(1_000).await;
    only_one_holds(one, Books::start(disk.open())).await;
}

#[tokio::test]
async fn of_two_ledgers_that_both_hold_900_of_1000_only_one_does_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    // Not by `Ledger::open`, whose lock would keep the second one out.
    let open = || SqliteStore::open(directory.path(), 0).unwrap();
    let one = Books::start(open());
    one.fund(1_000).await;
    only_one_holds(one, Books::start(open())).await;
}

/// Both have the same books in memory when this begins.
async fn only_one_holds(one: Books, two: Books) {
    assert_eq!(one.balance(CUSTOMER).await.available, 1_000);
    assert_eq!(two.balance(CUSTOMER).await.available, 1_000);
    assert_eq!(declined(&one.one(hold(2, 900)).await.unwrap()), None);
    let second = two.one(hold(3, 900)).await.unwrap();
    assert_eq!(declined(&second), Some(DeclineReason::InsufficientFunds));
    // And back again: a repeat, a read and a capture by the one whose memory is old by now.
    assert!(is_replay(&one.one(hold(3, 900)).await.unwrap()));
    two.one(capture(2, 900)).await.unwrap();
    assert_eq!(one.balance(CUSTOMER).await.posted, 100);
    assert_eq!(one.findings().await, [""; 0]);
    assert_eq!(two.findings().await, [""; 0]);
    assert!(one.ledger.trial_balance().await.unwrap().balanced);
}

#[tokio::test]
async fn two_ledgers_that_take_turns_and_make_checkpoints_agree() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let store = Box::new(SqliteStore::open(directory.path(), 0).unwrap());
        let every = atm_ledger::handle::Options { checkpoint_every: 3, ..options(directory.path()) };
        Books::start_with(store, every)
    };
    let (one, two) = (start(), start());
    one.fund(1_000).await;
    for number in (10..40).step_by(2) {
        one.one(hold(number, 10)).await.unwrap();
        two.one(capture(number, 10)).await.unwrap();
        two.one(post(number + 1, CUSTOMER, CASH, 1)).await.unwrap();
    }
    for books in [&one, &two] {
        assert_eq!(books.balance(CUSTOMER).await.available, 1_000 - 15 * 11);
        assert_eq!(books.findings().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_told_who_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(options(directory.path()));
    let again =
        atm_ledger::handle::Ledger::open(options(directory.path()), std::sync::Arc::new(books.clock.clone()));
    let Err(OpenError::Lock(error)) = again else { panic!("it opened twice") };
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}
