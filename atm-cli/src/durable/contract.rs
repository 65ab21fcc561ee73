//! What both media promise, told as stories that run on each: a file and a simulated disk.

use rusqlite::params;

use super::{Database, DurableError, Shape, SimulatedDisk};

const SHAPE: Shape = Shape { application_id: 0x5445_5354, version: 2, oldest: 1, reserve: 4096 };

/// Opens the same database again and again, for another shape each time if need be.
type Open<'a> = dyn FnMut(&Shape) -> Result<(Database, i64), DurableError> + 'a;

fn on_both(story: impl Fn(&mut Open<'_>)) {
    let home = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = home.path().join("contract.sqlite3");
    story(&mut |shape| Database::open(&path, shape));
    let disk = SimulatedDisk::new("contract").unwrap_or_else(|error| panic!("{error}"));
    story(&mut |shape| Database::open_on(&disk, shape));
}

fn make(database: &mut Database) -> Result<(), DurableError> {
    database.write(|transaction| {
        transaction.execute_batch("CREATE TABLE t (v INTEGER CHECK (v > 0)) STRICT")?;
        transaction.pragma_update(None, "user_version", SHAPE.version)?;
        transaction.pragma_update(None, "application_id", SHAPE.application_id)
    })
}

fn insert(database: &mut Database, value: i64) -> Result<(), DurableError> {
    database.write(|transaction| transaction.execute("INSERT INTO t VALUES (?1)", params![value]).map(drop))
}

fn sum(database: &Database) -> i64 {
    let read = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT coalesce(sum(v), 0) FROM t", [], |row| row.get(0))
    };
    database.read(read).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again_with_its_version() {
    on_both(|open| {
        let (mut database, version) = open(&SHAPE).unwrap();
        assert_eq!(version, 0, "new and empty");
        make(&mut database).unwrap();
        insert(&mut database, 3).unwrap();
        insert(&mut database, 4).unwrap();
        drop(database);
        let (database, version) = open(&SHAPE).unwrap();
        assert_eq!((version, sum(&database)), (SHAPE.version, 7));
    });
}

#[test]
fn a_write_that_fails_leaves_nothing_and_the_next_one_works() {
    on_both(|open| {
        let (mut database, _) = open(&SHAPE).unwrap();
        make(&mut database).unwrap();
        let failed = database.write(|transaction| {
            transaction.execute("INSERT INTO t VALUES (5)", [])?;
            transaction.execute("INSERT INTO t VALUES (-1)", [])
        });
        assert!(failed.is_err());
        insert(&mut database, 2).unwrap();
        assert_eq!(sum(&database), 2);
    });
}

#[test]
fn a_panic_in_the_middle_of_a_write_leaves_nothing() {
    on_both(|open| {
        let (mut database, _) = open(&SHAPE).unwrap();
        make(&mut database).unwrap();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            database.write(|transaction| -> Result<(), rusqlite::Error> {
                transaction.execute("INSERT INTO t VALUES (5)", [])?;
                std::panic::resume_unwind(Box::new("the power goes"))
            })
        }));
        assert!(unwound.is_err());
        drop(database);
        assert_eq!(sum(&open(&SHAPE).unwrap().0), 0);
    });
}

#[test]
fn another_application_and_another_version_are_refused() {
    on_both(|open| {
        let (mut database, _) = open(&SHAPE).unwrap();
        make(&mut database).unwrap();
        drop(database);
        let other = Shape { application_id: 1, ..SHAPE };
        assert!(matches!(open(&other), Err(DurableError::Damaged { .. })));
        let newer = Shape { version: 9, oldest: 8, ..SHAPE };
        assert!(matches!(open(&newer), Err(DurableError::OtherVersion { found: 2, known: 9, .. })));
    });
}

#[test]
fn room_is_kept_as_long_as_the_disk_has_some() {
    on_both(|open| {
        let (mut database, _) = open(&SHAPE).unwrap();
        assert!(database.has_room() && database.has_room());
    });
}
