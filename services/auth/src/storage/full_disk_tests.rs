//! A disk without room: what finds none has no effect, what must goes on in the room that was kept, and the database
//! goes on with both.

use std::path::Path;

use tempfile::tempdir;

use super::*;

fn open(home: &Path, max_pages: Option<u32>) -> SqliteBackend {
    SqliteBackend::open(home, SqliteOptions { max_pages, reserve_bytes: 100_000 }).unwrap()
}

/// What is noted, and whether there is room.
fn look(backend: &mut SqliteBackend) -> (Option<Vec<u8>>, bool) {
    let mut found = None;
    backend
        .transaction(&mut |rows| {
            found = Some((rows.meta(Meta::PepperCanary)?, rows.has_room()));
            Ok(())
        })
        .unwrap();
    found.unwrap()
}

#[test]
fn row_28_a_full_disk_fails_the_transaction_and_keeps_what_was_committed() {
    let home = tempdir().unwrap();
    drop(open(home.path(), None));
    let mut backend = open(home.path(), Some(20));
    backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, b"kept")).unwrap();
    let full = backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, &[1; 500_000]));
    assert!(matches!(full, Err(StorageError::Full)), "{full:?}");
    assert_eq!(look(&mut backend), (Some(b"kept".to_vec()), false));
    assert!(!home.path().join("reserve").exists());

    backend.look_for_room();
    assert_eq!(look(&mut backend), (Some(b"kept".to_vec()), true));
    assert!(home.path().join("reserve").exists());
    drop(backend);
    let mut backend = open(home.path(), None);
    backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, &[1; 500_000])).unwrap();
    assert_eq!(look(&mut backend), (Some(vec![1; 500_000]), true));
}

#[test]
fn what_finds_no_room_runs_once_more_in_the_room_that_was_kept() {
    let home = tempdir().unwrap();
    let mut backend = open(home.path(), None);
    let mut runs = 0;
    backend
        .transaction(&mut |rows| {
            runs += 1;
            assert_eq!(rows.meta(Meta::PepperCanary)?, None, "nothing is left of the run before");
            rows.put_meta(Meta::PepperCanary, b"vital")?;
            if rows.has_room() { Err(StorageError::Full) } else { Ok(()) }
        })
        .unwrap();
    assert_eq!((runs, look(&mut backend)), (2, (Some(b"vital".to_vec()), false)));
}

#[test]
fn what_was_rolled_back_for_want_of_room_is_not_left_in_the_log() {
    let home = tempdir().unwrap();
    let mut backend = open(home.path(), None);
    backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, b"kept")).unwrap();
    let log = || std::fs::metadata(home.path().join("auth.db-wal")).unwrap().len();
    assert!(log() > 0);
    let full = backend.transaction(&mut |rows| {
        // More than SQLite's cache holds, so that much of it is in the log already.
        rows.put_meta(Meta::PepperCanary, &[1; 4_000_000])?;
        Err(StorageError::Full)
    });
    assert!(matches!(full, Err(StorageError::Full)), "{full:?}");
    assert_eq!(log(), 0);
    assert_eq!(look(&mut backend).0, Some(b"kept".to_vec()));
}

#[tokio::test]
async fn what_cannot_run_twice_is_refused_without_effect_and_storage_goes_on() {
    let home = tempdir().unwrap();
    let store = Store::on_a_thread(open(home.path(), None)).unwrap();
    let full = store.transaction(|rows| {
        rows.put_meta(Meta::PepperCanary, b"new")?;
        Err::<(), _>(StorageError::Full)
    });
    assert!(matches!(full.await, Err(StorageError::Full)));
    assert!(!store.has_failed());
    let found = store.transaction(|rows| Ok((rows.meta(Meta::PepperCanary)?, rows.has_room()))).await;
    assert_eq!(found.unwrap(), (None, false));
    store.look_for_room().await.unwrap();
    assert!(store.transaction(|rows| Ok(rows.has_room())).await.unwrap());
    store.close().await;
}

#[test]
fn a_database_without_a_reserve_is_opened_and_nothing_new_begins_in_it() {
    let home = tempdir().unwrap();
    // In the place of the file, which cannot be made then.
    std::fs::create_dir(home.path().join("reserve")).unwrap();
    let mut backend = open(home.path(), None);
    backend.look_for_room();
    assert_eq!(look(&mut backend), (None, false));
    std::fs::remove_dir(home.path().join("reserve")).unwrap();
    backend.look_for_room();
    assert_eq!(look(&mut backend), (None, true));
}
