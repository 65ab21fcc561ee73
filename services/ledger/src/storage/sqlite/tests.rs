//! What only the SQLite store can be asked: a full disk, and another process that writes.

use super::super::EncodedSteps;
use super::*;

fn steps(first: u8, count: u8, length: usize) -> EncodedSteps {
    let mut steps = EncodedSteps::default();
    for byte in first..first + count {
        let key = StepKey { id: TransactionId::from_bytes([byte; 16]), ordinal: 0 };
        steps
            .push::<()>(key, |bytes| {
                bytes.extend(std::iter::repeat_n(byte, length));
                Ok(())
            })
            .unwrap();
    }
    steps
}

fn after(head: Head, count: u8) -> Head {
    Head { sequence: head.sequence + u64::from(count), hash: [count; 32], ..head }
}

#[test]
fn a_commit_that_finds_no_room_writes_nothing_and_the_next_one_that_does_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 0).unwrap();
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let head = after(Head::EMPTY, 9);
    let steps = steps(1, 9, 30_000);
    let commit = Commit { expected: Head::EMPTY, head, steps: &steps, checkpoint: None };
    for begun in [true, false] {
        if begun {
            store.begin().unwrap();
        }
        assert!(matches!(store.commit(&commit), Err(CommitError::Full)));
        assert_eq!(store.head().unwrap(), Head::EMPTY);
        assert_eq!(store.steps_after_key(None, 10).unwrap(), []);
    }
    store.connection.pragma_update(None, "max_page_count", pages + 100).unwrap();
    store.commit(&commit).unwrap();
    drop(store);
    let mut store = SqliteStore::open(directory.path(), 0).unwrap();
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.steps_after_key(None, 10).unwrap().len(), 9);
}

#[test]
fn a_batch_that_another_process_overtook_waits_its_turn_and_compares() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 0).unwrap();
    let other = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    // It writes, but not to the head: the batch's own reads are old, and its memory is not.
    store.begin().unwrap();
    assert_eq!(store.head().unwrap(), Head::EMPTY);
    other.execute_batch("CREATE TABLE other (something INTEGER)").unwrap();
    let head = after(Head::EMPTY, 1);
    let one = steps(1, 1, 10);
    store.commit(&Commit { expected: Head::EMPTY, head, steps: &one, checkpoint: None }).unwrap();
    // It moves the head.
    store.begin().unwrap();
    assert_eq!(store.head().unwrap(), head);
    other.execute_batch("UPDATE head SET hash = zeroblob(32)").unwrap();
    let two = steps(2, 1, 10);
    let late = Commit { expected: head, head: after(head, 1), steps: &two, checkpoint: None };
    assert!(matches!(store.commit(&late), Err(CommitError::HeadMoved)));
    assert!(store.connection.is_autocommit());
}

#[test]
fn the_reserve_takes_its_room_gives_it_up_once_and_takes_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 100_000).unwrap();
    let length = || std::fs::metadata(directory.path().join("reserve")).map(|file| file.len()).ok();
    assert_eq!(length(), Some(100_000));
    assert!(store.release_reserve());
    assert_eq!(length(), None);
    assert!(!store.release_reserve());
    assert!(store.restore_reserve());
    assert_eq!(length(), Some(100_000));
    assert!(store.release_reserve());
}

#[test]
fn nobody_else_can_read_any_file_of_the_books() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 100_000).unwrap();
    let head = after(Head::EMPTY, 1);
    let one = steps(1, 1, 10);
    store.commit(&Commit { expected: Head::EMPTY, head, steps: &one, checkpoint: None }).unwrap();
    assert!(store.release_reserve() && store.restore_reserve());
    let mut names: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?} has mode {mode:o}", entry.file_name());
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["acknowledged", "ledger.db", "ledger.db-shm", "ledger.db-wal", "reserve"]);
}
