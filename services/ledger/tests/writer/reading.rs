//! What readers see: committed steps in order, statements that walk back, sums that agree.

use atm_ledger::handle::{ExecuteError, Options};
use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger_core::{AccountKind, EntryRef, StepKind};

use crate::books::*;

#[tokio::test]
async fn pages_of_the_ledger_resume_in_the_middle_of_a_batch_on_both_stores() {
    let directory = tempfile::tempdir().unwrap();
    for books in [Books::start(MemoryDisk::new().open()), Books::open(options(directory.path()))] {
        books.fund(1_000).await;
        let commands = (10..20).map(|number| post(number, CUSTOMER, CASH, 1)).collect();
        books.ledger.execute(commands, None).await.unwrap();
        books.one(hold(30, 5)).await.unwrap();
        let mut sequence = 0;
        let mut kinds = Vec::new();
        loop {
            let page = books.ledger.steps_after(sequence, 3).await.unwrap();
            assert_eq!(page.last_sequence, 15);
            for step in page.steps {
                assert_eq!(step.commit_sequence, sequence + 1);
                sequence += 1;
                kinds.push(step.action.kind());
            }
            if sequence == page.last_sequence {
                break;
            }
        }
        assert_eq!(kinds[..3], [StepKind::OpenAccount; 3]);
        assert_eq!(kinds[3..14], [StepKind::Post; 11]);
        assert_eq!(kinds[14..], [StepKind::Hold]);
        assert_eq!(books.ledger.steps_after(15, 3).await.unwrap().steps, []);
        assert_eq!(books.ledger.steps_after(99, 3).await.unwrap().steps, []);
        assert_eq!(books.ledger.steps_after(0, 0).await.unwrap().steps, []);
    }
}

#[tokio::test]
async fn an_answered_write_is_seen_by_every_read_that_begins_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(options(directory.path()));
    books.fund(1_000).await;
    for number in 10..60 {
        let answer = books.one(post(number, CUSTOMER, CASH, 1)).await.unwrap();
        let transaction = books.ledger.transaction(id(number)).await.unwrap().unwrap();
        assert_eq!(transaction.first(), step(&answer));
        let page = books.ledger.steps_after(step(&answer).commit_sequence - 1, 1).await.unwrap();
        assert_eq!(page.steps, [step(&answer).clone()]);
        assert_eq!(*books.ledger.committed().borrow(), step(&answer).commit_sequence);
    }
}

#[tokio::test]
async fn a_statement_walks_back_from_the_newest_entry_page_by_page() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every: 4, ..options(directory.path()) });
    books.fund(1_000).await;
    books.one(hold(2, 100)).await.unwrap();
    books.one(post(3, CUSTOMER, CASH, 7)).await.unwrap();
    books.one(capture(2, 40)).await.unwrap();
    books.one(hold(4, 50)).await.unwrap();
    books.one(cancel(4)).await.unwrap();

    let first = books.ledger.account_entries(CUSTOMER, None, 4, false).await.unwrap().unwrap();
    let rest = books.ledger.account_entries(CUSTOMER, first.next, 4, false).await.unwrap().unwrap();
    let kinds: Vec<_> = first.steps.iter().chain(&rest.steps).map(|step| step.action.kind()).collect();
    let expected =
        [StepKind::Cancel, StepKind::Hold, StepKind::Capture, StepKind::Post, StepKind::Hold, StepKind::Post];
    assert_eq!(kinds, expected);
    assert_eq!(rest.next, None);

    let posted = books.ledger.account_entries(CUSTOMER, None, 10, true).await.unwrap().unwrap();
    let posted: Vec<_> = posted.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(posted, [StepKind::Capture, StepKind::Post, StepKind::Post]);
}

#[tokio::test]
async fn a_statement_walks_along_the_third_leg_too() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every: 2, ..options(directory.path()) });
    books.fund(1_000).await;
    books.one(open_suspense()).await.unwrap();
    for number in [2, 3] {
        books.ledger.execute(vec![hold(number, 100), suspend(number)], None).await.unwrap();
        books.one(resolve(number, 40)).await.unwrap();
    }
    let mut from = None;
    let mut seen = Vec::new();
    loop {
        let page = books.ledger.account_entries(SUSPENSE, from, 1, false).await.unwrap().unwrap();
        seen.extend(page.steps.iter().map(|step| (step.id, step.action.kind())));
        from = page.next;
        if from.is_none() {
            break;
        }
        assert_eq!(from.map(|entry| entry.leg), Some(2));
    }
    let expected = [
        (id(3), StepKind::Resolve),
        (id(3), StepKind::Suspend),
        (id(2), StepKind::Resolve),
        (id(2), StepKind::Suspend),
    ];
    assert_eq!(seen, expected);
    let posted = books.ledger.account_entries(SUSPENSE, None, 10, true).await.unwrap().unwrap();
    assert_eq!((posted.steps.len(), posted.next), (0, None));
}

#[tokio::test]
async fn a_statement_begins_only_at_an_entry_of_its_own_account() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let entry = |number, leg| Some(EntryRef { id: id(number), ordinal: 0, leg });
    for foreign in [entry(1, 0), entry(1, 2), entry(1, 255), entry(99, 1)] {
        let answer = books.ledger.account_entries(CUSTOMER, foreign, 10, false).await;
        assert!(matches!(answer, Err(ExecuteError::ForeignEntry)), "{answer:?}");
    }
    let own = books.ledger.account_entries(CUSTOMER, entry(1, 1), 10, false).await.unwrap();
    assert_eq!(own.unwrap().steps.len(), 1);
    let nobody = atm_types::AccountId::from_bytes([1; 16]);
    assert_eq!(books.ledger.account_entries(nobody, None, 10, false).await.unwrap(), None);
    let empty = books.ledger.account_entries(CASH, None, 10, false).await.unwrap().unwrap();
    assert_eq!((empty.steps.len(), empty.next), (0, None));
}

#[tokio::test]
async fn the_trial_balance_sums_stored_and_changed_accounts_once_each() {
    let directory = tempfile::tempdir().unwrap();
    for checkpoint_every in [1, 3, 1_000] {
        let path = directory.path().join(checkpoint_every.to_string());
        let books = Books::open(Options { checkpoint_every, ..options(&path) });
        assert_eq!(books.ledger.trial_balance().await.unwrap().lines, []);
        books.fund(1_000).await;
        books.one(hold(2, 100)).await.unwrap();
        books.one(post(3, CUSTOMER, CASH, 7)).await.unwrap();
        let balance = books.ledger.trial_balance().await.unwrap();
        assert!(balance.balanced);
        assert_eq!(balance.commit_sequence, 6);
        let lines: Vec<_> = balance
            .lines
            .iter()
            .map(|line| {
                let posted = (line.debits_posted, line.credits_posted);
                (line.kind, line.account_count, posted, (line.debits_pending, line.credits_pending))
            })
            .collect();
        let expected = [
            (AccountKind::Customer, 1, (7, 1_000), (100, 0)),
            (AccountKind::Cash, 1, (0, 7), (0, 100)),
            (AccountKind::OpeningBalance, 1, (1_000, 0), (0, 0)),
        ];
        assert_eq!(lines, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trial_balances_and_verifications_agree_while_money_moves() {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every: 50, ..options(directory.path()) });
    books.fund(1_000_000).await;
    let mover = tokio::spawn({
        let ledger = books.ledger.clone();
        async move {
            for number in 0..400 {
                let commands = vec![hold(1_000 + number, 10), post(9_000 + number, CUSTOMER, CASH, 1)];
                ledger.execute(commands, None).await.unwrap();
                ledger.execute(vec![capture(1_000 + number, 4)], None).await.unwrap();
            }
        }
    });
    let mut last = 0;
    while !mover.is_finished() {
        let balance = books.ledger.trial_balance().await.unwrap();
        assert!(balance.balanced && balance.commit_sequence >= last);
        last = balance.commit_sequence;
        assert_eq!(books.findings().await, [""; 0]);
    }
    mover.await.unwrap();
    assert_eq!(books.balance(CUSTOMER).await.posted, 1_000_000 - 400 * 5);
}
