//! One contract, held against every store: what the writer relies on, whatever is underneath.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;

use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger::storage::sqlite::SqliteStore;
use atm_ledger::storage::{
    Checkpoint, CheckpointChanges, Commit, CommitError, EncodedSteps, Head, StepKey, Store,
};
use atm_ledger_core::{Account, AccountKind, AccountTerms, EntryRef, Totals, Withdrawn};
use atm_types::{AccountId, Currency, Timestamp, TransactionId};

/// Somewhere that stores are opened on, again and again.
trait Place {
    fn open(&self) -> Box<dyn Store>;
}

impl Place for MemoryDisk {
    fn open(&self) -> Box<dyn Store> {
        Box::new(Self::open(self))
    }
}

impl Place for tempfile::TempDir {
    fn open(&self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(self.path(), 0).expect("the store opens"))
    }
}

/// Runs one test of the contract on all stores.
macro_rules! contract {
    ($($name:ident)*) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&super::MemoryDisk::new()); })*
        }
        mod sqlite {
            $(#[test] fn $name() { super::$name(&tempfile::tempdir().unwrap()); })*
        }
    };
}

contract! {
    a_new_store_is_empty
    a_commit_is_there_in_order_and_after_reopening
    a_moved_head_stops_a_commit_and_nothing_of_it_is_written
    a_head_with_the_same_sequence_and_another_hash_stops_a_commit
    a_commit_that_cannot_be_written_leaves_nothing
    what_is_written_ahead_is_there_after_its_commit_and_not_before
    what_is_written_ahead_of_a_commit_that_never_comes_is_gone
    a_moved_head_stops_writing_ahead_and_what_was_written_is_gone
    a_checkpoint_keeps_accounts_and_open_holds_of_one_head
    a_checkpoint_without_steps_leaves_the_head_where_it_is
    batches_are_found_by_any_of_their_steps
    pages_go_on_where_the_last_one_ended
    a_view_stays_at_its_moment
    the_second_of_two_writers_on_the_same_books_is_stopped
}

fn id(byte: u8) -> TransactionId {
    TransactionId::from_bytes([byte; 16])
}

fn key(byte: u8, ordinal: u8) -> StepKey {
    StepKey { id: id(byte), ordinal }
}

fn steps(keys: &[StepKey]) -> EncodedSteps {
    let mut steps = EncodedSteps::default();
    for key in keys {
        let bytes = [key.id.as_bytes()[0], key.ordinal, 0xaa];
        steps
            .push::<()>(*key, |all| {
                all.extend(bytes);
                Ok(())
            })
            .unwrap();
    }
    steps
}

/// The head after `count` more steps; its hash is made up.
fn after(head: Head, count: u64) -> Head {
    let sequence = head.sequence + count;
    let byte = u8::try_from(sequence).unwrap();
    Head { sequence, commit_time: Timestamp::from_seconds(i64::from(byte)), hash: [byte; 32] }
}

fn commit(store: &mut dyn Store, keys: &[StepKey]) -> Head {
    let expected = store.head().unwrap();
    let head = after(expected, keys.len() as u64);
    store.commit(&Commit { expected, head, steps: &steps(keys), checkpoint: None }).unwrap();
    head
}

fn account(byte: u8, debits_posted: i64) -> Account {
    Account {
        terms: AccountTerms {
            account_id: AccountId::from_bytes([byte; 16]),
            kind: AccountKind::Customer,
            currency: Currency::BDT,
            number: "BD-0042".into(),
            holder_name: "Farhan ﷺ".into(),
            overdraft_limit: 7,
            daily_withdrawal_limit: i64::MAX,
        },
        create_time: Timestamp::from_nanos(-5),
        totals: Totals { debits_posted, credits_posted: i64::MAX, debits_pending: 3, credits_pending: 4 },
        withdrawn: Withdrawn { day: -1, amount: 9 },
        newest_entry: (byte > 1).then(|| EntryRef { id: id(byte), ordinal: 2, leg: 2 }),
    }
}

fn a_new_store_is_empty(place: &dyn Place) {
    let mut store = place.open();
    assert_eq!(store.head().unwrap(), Head::EMPTY);
    assert_eq!(store.checkpoint().unwrap(), Checkpoint::EMPTY);
    assert_eq!(store.batch_of(1).unwrap(), None);
    assert_eq!(store.step(key(1, 0)).unwrap(), None);
    assert_eq!(store.transaction(id(1)).unwrap(), []);
    assert_eq!(store.account(AccountId::from_bytes([1; 16])).unwrap(), None);
    assert_eq!(store.accounts_after(None, 10).unwrap(), []);
    assert_eq!(store.open_holds_after(None, 10).unwrap(), []);
    assert_eq!(store.steps_after_key(None, 10).unwrap(), []);
}

fn a_commit_is_there_in_order_and_after_reopening(place: &dyn Place) {
    let keys = [key(9, 0), key(3, 0), key(9, 1)];
    let head = commit(&mut *place.open(), &keys);
    let mut store = place.open();
    assert_eq!(store.head().unwrap(), head);
    let batch = store.batch_of(2).unwrap().unwrap();
    assert_eq!((batch.first_sequence, batch.last_sequence()), (1, 3));
    assert_eq!((batch.commit_time, batch.hash), (head.commit_time, head.hash));
    assert_eq!(batch.keys, keys);
    assert_eq!(store.step(key(9, 1)).unwrap(), Some(vec![9, 1, 0xaa]));
    let ordinals: Vec<u8> =
        store.transaction(id(9)).unwrap().iter().map(|stored| stored.key.ordinal).collect();
    assert_eq!(ordinals, [0, 1]);
}

fn a_moved_head_stops_a_commit_and_nothing_of_it_is_written(place: &dyn Place) {
    let mut store = place.open();
    let head = commit(&mut *store, &[key(1, 0)]);
    let stale = Commit {
        expected: Head::EMPTY,
        head: after(Head::EMPTY, 1),
        steps: &steps(&[key(2, 0)]),
        checkpoint: Some(CheckpointChanges {
            newest_id: id(2),
            accounts: &[&account(1, 1)],
            holds_added: &HashSet::from([id(2)]),
            holds_removed: &HashSet::new(),
        }),
    };
    assert!(matches!(store.commit(&stale), Err(CommitError::HeadMoved)));
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.step(key(2, 0)).unwrap(), None);
    assert_eq!(store.accounts_after(None, 10).unwrap(), []);
    assert_eq!(store.open_holds_after(None, 10).unwrap(), []);
    assert_eq!(store.checkpoint().unwrap(), Checkpoint::EMPTY);
    commit(&mut *store, &[key(2, 0)]);
}

fn a_head_with_the_same_sequence_and_another_hash_stops_a_commit(place: &dyn Place) {
    let mut store = place.open();
    let head = commit(&mut *store, &[key(1, 0)]);
    let other = Head { hash: [0xee; 32], ..head };
    let stale =
        Commit { expected: other, head: after(other, 1), steps: &steps(&[key(2, 0)]), checkpoint: None };
    assert!(matches!(store.commit(&stale), Err(CommitError::HeadMoved)));
    assert_eq!(store.head().unwrap(), head);
}

fn a_commit_that_cannot_be_written_leaves_nothing(place: &dyn Place) {
    let mut store = place.open();
    let head = commit(&mut *store, &[key(1, 0)]);
    // The second of its steps is there already.
    let steps = steps(&[key(2, 0), key(1, 0)]);
    let broken = Commit { expected: head, head: after(head, 2), steps: &steps, checkpoint: None };
    assert!(matches!(store.commit(&broken), Err(CommitError::Failed(_))));
    drop(store);
    let mut store = place.open();
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.step(key(2, 0)).unwrap(), None);
    assert_eq!(store.step(key(1, 0)).unwrap(), Some(vec![1, 0, 0xaa]));
}

fn what_is_written_ahead_is_there_after_its_commit_and_not_before(place: &dyn Place) {
    let mut store = place.open();
    let expected = commit(&mut *store, &[key(1, 0)]);
    let keys = [key(9, 0), key(3, 0), key(5, 0), key(4, 0)];
    store.write_ahead(&expected, &steps(&keys[..2])).unwrap();
    store.write_ahead(&expected, &steps(&keys[2..3])).unwrap();
    let mut view_before = Vec::new();
    let readers = store.readers();
    view_before.extend(readers.view().unwrap().steps_after_key(None, 10).unwrap());
    assert_eq!(view_before.len(), 1);
    let head = after(expected, 4);
    store.commit(&Commit { expected, head, steps: &steps(&keys), checkpoint: None }).unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.batch_of(3).unwrap().unwrap().keys, keys);
    let stored: Vec<StepKey> =
        store.steps_after_key(None, 10).unwrap().iter().map(|stored| stored.key).collect();
    assert_eq!(stored, [key(1, 0), key(3, 0), key(4, 0), key(5, 0), key(9, 0)]);
    assert_eq!(store.step(key(4, 0)).unwrap(), Some(vec![4, 0, 0xaa]));
    // The next batch has nothing to do with it.
    commit(&mut *store, &[key(7, 0)]);
}

fn what_is_written_ahead_of_a_commit_that_never_comes_is_gone(place: &dyn Place) {
    let mut store = place.open();
    let expected = commit(&mut *store, &[key(1, 0)]);
    store.write_ahead(&expected, &steps(&[key(2, 0)])).unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!(store.head().unwrap(), expected);
    assert_eq!(store.step(key(2, 0)).unwrap(), None);
    commit(&mut *store, &[key(2, 0)]);
}

fn a_moved_head_stops_writing_ahead_and_what_was_written_is_gone(place: &dyn Place) {
    let mut store = place.open();
    let head = commit(&mut *store, &[key(1, 0)]);
    let stale = Head { hash: [0xee; 32], ..head };
    assert!(matches!(store.write_ahead(&stale, &steps(&[key(2, 0)])), Err(CommitError::HeadMoved)));
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.step(key(2, 0)).unwrap(), None);
    commit(&mut *store, &[key(2, 0)]);
}

fn a_checkpoint_keeps_accounts_and_open_holds_of_one_head(place: &dyn Place) {
    let mut store = place.open();
    let first = Head::EMPTY;
    let second = after(first, 1);
    store
        .commit(&Commit {
            expected: first,
            head: second,
            steps: &steps(&[key(1, 0)]),
            checkpoint: Some(CheckpointChanges {
                newest_id: id(1),
                accounts: &[&account(1, 1), &account(2, 2)],
                holds_added: &HashSet::from([id(1), id(2)]),
                holds_removed: &HashSet::new(),
            }),
        })
        .unwrap();
    let third = after(second, 1);
    store
        .commit(&Commit {
            expected: second,
            head: third,
            steps: &steps(&[key(2, 0)]),
            checkpoint: Some(CheckpointChanges {
                newest_id: id(2),
                accounts: &[&account(2, 22), &account(3, 3)],
                holds_added: &HashSet::from([id(3)]),
                holds_removed: &HashSet::from([id(1)]),
            }),
        })
        .unwrap();
    drop(store);
    let mut store = place.open();
    assert_eq!(store.checkpoint().unwrap(), Checkpoint { head: third, newest_id: id(2) });
    assert_eq!(store.accounts_after(None, 10).unwrap(), [account(1, 1), account(2, 22), account(3, 3)]);
    assert_eq!(store.account(AccountId::from_bytes([2; 16])).unwrap(), Some(account(2, 22)));
    assert_eq!(store.open_holds_after(None, 10).unwrap(), [id(2), id(3)]);
}

fn a_checkpoint_without_steps_leaves_the_head_where_it_is(place: &dyn Place) {
    let mut store = place.open();
    let head = commit(&mut *store, &[key(1, 0)]);
    let (no_steps, no_holds) = (EncodedSteps::default(), HashSet::new());
    let at = |head| Commit {
        expected: head,
        head,
        steps: &no_steps,
        checkpoint: Some(CheckpointChanges {
            newest_id: id(1),
            accounts: &[],
            holds_added: &no_holds,
            holds_removed: &no_holds,
        }),
    };
    assert!(matches!(store.commit(&at(Head::EMPTY)), Err(CommitError::HeadMoved)));
    store.commit(&at(head)).unwrap();
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.checkpoint().unwrap().head, head);
    assert_eq!(store.batch_of(2).unwrap(), None);
}

fn batches_are_found_by_any_of_their_steps(place: &dyn Place) {
    let mut store = place.open();
    commit(&mut *store, &[key(1, 0), key(2, 0)]);
    commit(&mut *store, &[key(3, 0)]);
    commit(&mut *store, &[key(4, 0), key(5, 0), key(6, 0)]);
    let first_of = |store: &mut dyn Store, sequence| {
        store.batch_of(sequence).unwrap().map(|batch| (batch.first_sequence, batch.keys.len()))
    };
    let found: Vec<_> = (0..=7).map(|sequence| first_of(&mut *store, sequence)).collect();
    let (one, two, three) = (Some((1, 2)), Some((3, 1)), Some((4, 3)));
    assert_eq!(found, [None, one, one, two, three, three, three, None]);
}

fn pages_go_on_where_the_last_one_ended(place: &dyn Place) {
    let mut store = place.open();
    let keys: Vec<StepKey> = (1..=5).flat_map(|byte| [key(byte, 0), key(byte, 1)]).collect();
    let head = after(Head::EMPTY, 10);
    let accounts: Vec<Account> = (1..=5).map(|byte| account(byte, 0)).collect();
    store
        .commit(&Commit {
            expected: Head::EMPTY,
            head,
            steps: &steps(&keys),
            checkpoint: Some(CheckpointChanges {
                newest_id: id(5),
                accounts: &accounts.iter().collect::<Vec<_>>(),
                holds_added: &(1..=5).map(id).collect(),
                holds_removed: &HashSet::new(),
            }),
        })
        .unwrap();
    let page: Vec<StepKey> =
        store.steps_after_key(Some(key(2, 0)), 3).unwrap().into_iter().map(|stored| stored.key).collect();
    assert_eq!(page, [key(2, 1), key(3, 0), key(3, 1)]);
    assert_eq!(store.accounts_after(Some(accounts[1].terms.account_id), 2).unwrap(), accounts[2..4]);
    assert_eq!(store.open_holds_after(Some(id(4)), 2).unwrap(), [id(5)]);
    assert_eq!(store.open_holds_after(Some(id(5)), 2).unwrap(), []);
}

fn a_view_stays_at_its_moment(place: &dyn Place) {
    let mut store = place.open();
    let before = commit(&mut *store, &[key(1, 0)]);
    let readers = store.readers();
    let mut view = readers.view().unwrap();
    let now = commit(&mut *store, &[key(2, 0)]);
    assert_eq!(view.head().unwrap(), before);
    assert_eq!(view.step(key(2, 0)).unwrap(), None);
    assert_eq!(view.batch_of(2).unwrap(), None);
    drop(view);
    // A view that begins after a commit sees it.
    let mut view = readers.view().unwrap();
    assert_eq!(view.head().unwrap(), now);
    assert!(view.step(key(2, 0)).unwrap().is_some());
}

fn the_second_of_two_writers_on_the_same_books_is_stopped(place: &dyn Place) {
    let (mut one, mut two) = (place.open(), place.open());
    let start = one.head().unwrap();
    commit(&mut *one, &[key(1, 0)]);
    let steps = steps(&[key(2, 0)]);
    let late = Commit { expected: start, head: after(start, 1), steps: &steps, checkpoint: None };
    assert!(matches!(two.commit(&late), Err(CommitError::HeadMoved)));
    assert_eq!(two.head().unwrap(), one.head().unwrap());
    commit(&mut *two, &[key(2, 0)]);
    assert_eq!(one.batch_of(2).unwrap().unwrap().keys, [key(2, 0)]);
}
