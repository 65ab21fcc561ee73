//! Planted damage: the verification, or already the start, finds every piece of it.

use std::collections::HashSet;
use std::path::Path;

use atm_ledger::handle::{Ledger, Options};
use atm_ledger::storage::sqlite::SqliteStore;
use atm_ledger::storage::{CheckpointChanges, Commit, EncodedSteps, Store as _, View as _};
use atm_types::{AccountId, ManualClock};
use rusqlite::{Connection, params};

use crate::books::*;

/// Sound books: checkpoints, holds that stand and holds that ended, and the last steps after a checkpoint.
async fn sound() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every: 6, ..options(directory.path()) });
    books.fund(1_000).await;
    for number in 10..20 {
        books.ledger.execute(vec![hold(number, 10), capture(number, 5)], None).await.unwrap();
    }
    books.ledger.execute(vec![hold(30, 10), hold(31, 10), cancel(31), cancel(32)], None).await.unwrap();
    books.one(post(33, CUSTOMER, CASH, 3)).await.unwrap();
    assert_eq!(books.findings().await, [""; 0]);
    books.writer.stop().await;
    directory
}

/// What a start on `directory` and a verification find; empty when all is well.
async fn findings(directory: &Path) -> Vec<String> {
    let clock = ManualClock::new(atm_types::Timestamp::from_seconds(1_790_000_000));
    match Ledger::open(options(directory), std::sync::Arc::new(clock.clone())) {
        Ok((ledger, writer)) => Books { ledger, writer, clock }.findings().await,
        Err(error) => vec![error.to_string()],
    }
}

/// Damages sound books through SQL, and says what is found.
async fn after(damage: impl FnOnce(&Connection)) -> Vec<String> {
    let directory = sound().await;
    let database = Connection::open(directory.path().join("ledger.db")).unwrap();
    damage(&database);
    drop(database);
    findings(directory.path()).await
}

#[track_caller]
fn assert_found(found: &[String], words: &str) {
    assert!(found.iter().any(|finding| finding.contains(words)), "{words:?} is not in {found:#?}");
}

#[tokio::test]
async fn sound_books_have_no_findings_and_progress_reaches_the_end() {
    let directory = sound().await;
    let books = Books::open(options(directory.path()));
    let mut verification = books.ledger.verify();
    let mut last = None;
    while let Some(progress) = verification.recv().await {
        assert_eq!(progress.findings, [""; 0]);
        last = Some(progress);
    }
    let last = last.unwrap();
    assert!(last.complete);
    assert_eq!((last.steps_checked, last.steps_total), (29, 29));
    let store = SqliteStore::open(directory.path(), 0).unwrap().head().unwrap();
    assert_eq!(last.chain_head, Some(store.hash));
}

#[tokio::test]
async fn every_flipped_byte_of_a_step_is_found() {
    let length: i64 = {
        let directory = sound().await;
        let database = Connection::open(directory.path().join("ledger.db")).unwrap();
        let sql = "SELECT length(data) FROM step WHERE transaction_id = ?1 AND ordinal = 1";
        database.query_row(sql, [id(12).as_bytes()], |row| row.get(0)).unwrap()
    };
    assert!(length > 50);
    for at in (0..usize::try_from(length).unwrap()).step_by(7) {
        let found = after(|database| {
            let sql = "SELECT data FROM step WHERE transaction_id = ?1 AND ordinal = 1";
            let mut data: Vec<u8> = database.query_row(sql, [id(12).as_bytes()], |row| row.get(0)).unwrap();
            data[at] ^= 1;
            let sql = "UPDATE step SET data = ?2 WHERE transaction_id = ?1 AND ordinal = 1";
            database.execute(sql, params![id(12).as_bytes(), data]).unwrap();
        });
        assert_found(&found.await, "hash");
    }
}

#[tokio::test]
async fn a_removed_step_is_found() {
    let found = after(|database| {
        database.execute("DELETE FROM step WHERE transaction_id = ?1", [id(12).as_bytes()]).unwrap();
    });
    let found = found.await;
    assert_found(&found, "is missing");
    assert_found(&found, "hash");
}

#[tokio::test]
async fn a_step_beside_the_chain_is_found() {
    let found = after(|database| {
        let sql = "INSERT INTO step SELECT ?1, 0, data FROM step WHERE transaction_id = ?2 AND ordinal = 0";
        database.execute(sql, params![id(99).as_bytes(), id(12).as_bytes()]).unwrap();
    });
    assert_found(&found.await, "30 steps are stored, 29 are in the chain");
}

#[tokio::test]
async fn reordered_steps_are_found() {
    let found = after(|database| {
        let sql = "SELECT first_sequence, steps FROM batch WHERE first_sequence = 5";
        let (first, steps): (i64, Vec<u8>) =
            database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let swapped = [&steps[17..], &steps[..17]].concat();
        let sql = "UPDATE batch SET steps = ?2 WHERE first_sequence = ?1";
        database.execute(sql, params![first, swapped]).unwrap();
    });
    let found = found.await;
    assert_found(&found, "hash");
    assert_found(&found, "sequence");
}

#[tokio::test]
async fn a_removed_batch_is_found() {
    let found = after(|database| {
        database.execute("DELETE FROM batch WHERE first_sequence = 7", []).unwrap();
    });
    assert_found(&found.await, "no batch begins with step 7");
}

#[tokio::test]
async fn a_batch_with_another_time_or_another_hash_is_found() {
    for change in ["commit_time = commit_time + 1", "hash = zeroblob(32)"] {
        let found = after(|database| {
            let sql = format!("UPDATE batch SET {change} WHERE first_sequence = 7");
            database.execute(&sql, []).unwrap();
        });
        assert_found(&found.await, "hash");
    }
}

#[tokio::test]
async fn a_changed_total_is_found_by_the_checksum_of_its_row() {
    let found = after(|database| {
        let sql = "UPDATE account SET credits_posted = credits_posted + 1 WHERE account_id = ?1";
        database.execute(sql, [CUSTOMER.as_bytes()]).unwrap();
    });
    assert_found(&found.await, "checksum");
}

/// Writes a checkpoint as a store does, checksums and all, but not of what the entries sum up to.
async fn after_a_false_checkpoint(
    make: impl FnOnce(&mut SqliteStore, &mut HashSet<atm_types::TransactionId>) -> Vec<atm_ledger_core::Account>,
) -> Vec<String> {
    let directory = sound().await;
    let mut store = SqliteStore::open(directory.path(), 0).unwrap();
    let head = store.head().unwrap();
    let mut removed = HashSet::new();
    let accounts = make(&mut store, &mut removed);
    let checkpoint = CheckpointChanges {
        newest_id: id(40),
        accounts: &accounts.iter().collect::<Vec<_>>(),
        holds_added: &HashSet::new(),
        holds_removed: &removed,
    };
    let steps = EncodedSteps::default();
    store.commit(&Commit { expected: head, head, steps: &steps, checkpoint: Some(checkpoint) }).unwrap();
    drop(store);
    findings(directory.path()).await
}

#[tokio::test]
async fn a_changed_total_with_a_proper_checksum_is_found_by_its_entries() {
    let found = after_a_false_checkpoint(|store, _| {
        let mut account = store.account(CUSTOMER).unwrap().unwrap();
        account.totals.credits_posted += 1;
        vec![account]
    });
    assert_found(&found.await, "is not stored as its entries sum up");
}

#[tokio::test]
async fn changed_terms_limits_and_entries_of_an_account_are_found() {
    type Change = fn(&mut atm_ledger_core::Account);
    let changes: [Change; 4] = [
        |account| account.terms.overdraft_limit += 1,
        |account| account.terms.holder_name = "somebody else".into(),
        |account| account.withdrawn.amount -= 1,
        |account| account.newest_entry = None,
    ];
    for change in changes {
        let found = after_a_false_checkpoint(|store, _| {
            let mut account = store.account(CUSTOMER).unwrap().unwrap();
            change(&mut account);
            vec![account]
        });
        assert_found(&found.await, "is not stored as its entries sum up");
    }
}

#[tokio::test]
async fn an_account_that_nobody_opened_and_one_that_is_gone_are_found() {
    let found = after_a_false_checkpoint(|store, _| {
        let mut account = store.account(CUSTOMER).unwrap().unwrap();
        account.terms.account_id = AccountId::from_bytes([1; 16]);
        vec![account]
    });
    assert_found(&found.await, "4 accounts are stored, 3 were opened");
    let found = after(|database| {
        database.execute("DELETE FROM account WHERE account_id = ?1", [CASH.as_bytes()]).unwrap();
    });
    assert_found(&found.await, "2 accounts are stored, 3 were opened");
}

#[tokio::test]
async fn a_forgotten_hold_is_found() {
    let found = after_a_false_checkpoint(|_, removed| {
        removed.insert(id(30));
        Vec::new()
    });
    assert_found(&found.await, &format!("hold {} is not stored as it stands", id(30)));
}

#[tokio::test]
async fn a_false_head_is_found() {
    for change in ["sequence = sequence - 1", "hash = zeroblob(32)", "commit_time = commit_time + 1"] {
        let found = after(|database| {
            database.execute(&format!("UPDATE head SET {change}"), []).unwrap();
        });
        assert_ne!(found.await, [""; 0], "{change}");
    }
}

#[tokio::test]
async fn what_the_writer_remembers_wrongly_is_found() {
    // The false row is read into memory before it is put right on storage.
    let directory = sound().await;
    let falsify = |by: i64| {
        let mut store = SqliteStore::open(directory.path(), 0).unwrap();
        let head = store.head().unwrap();
        let mut account = store.account(CUSTOMER).unwrap().unwrap();
        account.totals.credits_posted += by;
        let (steps, none) = (EncodedSteps::default(), HashSet::new());
        let checkpoint = CheckpointChanges {
            newest_id: id(40),
            accounts: &[&account],
            holds_added: &none,
            holds_removed: &none,
        };
        store.commit(&Commit { expected: head, head, steps: &steps, checkpoint: Some(checkpoint) }).unwrap();
    };
    falsify(1);
    let books = Books::start(SqliteStore::open(directory.path(), 0).unwrap());
    assert_eq!(books.balance(CUSTOMER).await.posted, 1_000 - 50 - 3 + 1);
    falsify(-1);
    assert_found(&books.findings().await, "is not remembered as its entries sum up");
}

/// Sound books of which one hold stands, and two were frozen: one that stood and one that was gone.
async fn with_suspects() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every: 6, ..options(directory.path()) });
    books.fund(1_000).await;
    books.ledger.execute(vec![open_suspense(), hold(2, 100), hold(3, 200), hold(4, 50)], None).await.unwrap();
    books.ledger.execute(vec![suspend(2), cancel(3)], None).await.unwrap();
    books.one(suspend(3)).await.unwrap();
    assert_eq!(books.findings().await, [""; 0]);
    books.writer.stop().await;
    directory
}

#[tokio::test]
async fn what_a_suspect_keeps_pending_is_recomputed() {
    type Change = fn(&mut atm_ledger_core::Totals);
    let changes: [(AccountId, Change); 4] = [
        (SUSPENSE, |totals| totals.credits_pending -= 100),
        (SUSPENSE, |totals| totals.credits_pending = 0),
        (CUSTOMER, |totals| totals.debits_pending -= 200),
        // As if the freeze had left the credit where it was.
        (CASH, |totals| totals.credits_pending += 100),
    ];
    for (account, change) in changes {
        let directory = with_suspects().await;
        assert_eq!(findings(directory.path()).await, [""; 0]);
        let mut store = SqliteStore::open(directory.path(), 0).unwrap();
        let head = store.head().unwrap();
        let mut false_one = store.account(account).unwrap().unwrap();
        change(&mut false_one.totals);
        let (steps, none) = (EncodedSteps::default(), HashSet::new());
        let checkpoint = CheckpointChanges {
            newest_id: id(40),
            accounts: &[&false_one],
            holds_added: &none,
            holds_removed: &none,
        };
        store.commit(&Commit { expected: head, head, steps: &steps, checkpoint: Some(checkpoint) }).unwrap();
        drop(store);
        assert_found(&findings(directory.path()).await, "is not stored as its entries sum up");
    }
}

#[tokio::test]
async fn a_suspect_among_the_open_holds_is_found() {
    for (number, stands) in [(4, true), (2, false), (3, false)] {
        let directory = with_suspects().await;
        let database = Connection::open(directory.path().join("ledger.db")).unwrap();
        let sql = "SELECT count(*) FROM open_hold WHERE transaction_id = ?1";
        let stored: i64 = database.query_row(sql, [id(number).as_bytes()], |row| row.get(0)).unwrap();
        assert_eq!(stored == 1, stands);
        let sql = if stands {
            "DELETE FROM open_hold WHERE transaction_id = ?1"
        } else {
            "INSERT INTO open_hold (transaction_id) VALUES (?1)"
        };
        database.execute(sql, [id(number).as_bytes()]).unwrap();
        drop(database);
        let found = findings(directory.path()).await;
        assert_found(&found, &format!("hold {} is not stored as it stands", id(number)));
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_suspension_is_found() {
    let directory = with_suspects().await;
    let path = directory.path().join("ledger.db");
    let read = "SELECT data FROM step WHERE transaction_id = ?1 AND ordinal = 1";
    let write = "UPDATE step SET data = ?2 WHERE transaction_id = ?1 AND ordinal = 1";
    let sound: Vec<u8> =
        Connection::open(&path).unwrap().query_row(read, [id(2).as_bytes()], |row| row.get(0)).unwrap();
    for at in (0..sound.len()).step_by(11) {
        let mut data = sound.clone();
        data[at] ^= 1;
        Connection::open(&path).unwrap().execute(write, params![id(2).as_bytes(), data]).unwrap();
        assert_found(&findings(directory.path()).await, "hash");
    }
}
