//! Cards in a SQLite database: opening it safely, and one durable transaction at a time.
//!
//! A commit that fails ends the service, since nobody can say what is on the disk; but for one that finds the disk
//! full. What makes a transaction count is the last thing that SQLite writes to its log, and only then it syncs: when
//! a write finds no room, that was not written, or not whole. So nobody reads what lies in the log of it, not the start
//! after a kill either; and SQLite has rolled it back. Then the room that was kept is given up and the log is moved
//! into the database and emptied, so that not even the torn frames are left.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atm_rpc::high_water::HighWater;
use atm_rpc::process::{DirectoryLock, LockError};
use atm_rpc::reserve::Reserve;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::checksums::CheckedRows;
use super::sqlite_rows::{count_one, transactions};
use super::{Backend, StorageError, Work};

/// The database's name inside the data directory.
const FILE: &str = "auth.db";

/// Beside it: how many of its transactions were acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";

/// `ATMa`: the first thing that tells this database from anybody else's.
const APPLICATION_ID: i32 = 0x4154_4d61;

/// How long a reader from outside, such as a backup, may hold up a checkpoint.
const BUSY: Duration = Duration::from_millis(250);

/// The steps from an empty database to the present one; the `user_version` is how many have been made.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/sqlite/0001_cards_and_attempts.sql"),
    include_str!("../../migrations/sqlite/0002_boots.sql"),
    include_str!("../../migrations/sqlite/0003_checksums.sql"),
];

/// From this version on rows have checksums.
const CHECKSUMS: u32 = 3;

/// Why the database cannot be used. The texts are for the operator at the start, never for a caller.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the data directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file cannot be made or opened.
    #[error("cannot open the database {}", .path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is some other program's database, or another service's.
    #[error("{} is not the database of an auth service", .path.display())]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// A newer or a foreign program has written it.
    #[error("{} has schema version {found}; this program knows versions up to {known}", .path.display())]
    Schema {
        /// The database.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version that this program knows.
        known: usize,
    },
    /// SQLite found it damaged.
    #[error("the database {} is damaged: restore it from a backup", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
    },
    /// A row is not as it was written.
    #[error(
        "the database {} is damaged: a row of the table {table} does not match its checksum. Restore it from a backup",
        .path.display()
    )]
    DamagedRow {
        /// The database.
        path: PathBuf,
        /// Which table.
        table: &'static str,
    },
    /// Every row is as it was written, and together they are not all that was written.
    #[error(
        "the database {} is damaged: some of its rows are missing or older than others. Restore it from a backup",
        .path.display()
    )]
    Incomplete {
        /// The database.
        path: PathBuf,
    },
    /// Transactions that were acknowledged are gone from it, or the note of how many there were is unreadable.
    #[error(
        "the database {} has lost what was acknowledged: it has {found} transactions, and there were {}. Restore it; to \
         accept what it has, and that PINs may be tried again, remove {}",
        .path.display(), .acknowledged.map_or("more".to_owned(), |count| count.to_string()), .note.display()
    )]
    AcknowledgedLost {
        /// The database.
        path: PathBuf,
        /// The note beside it.
        note: PathBuf,
        /// What the note says, if it can be read.
        acknowledged: Option<u64>,
        /// What the database says.
        found: u64,
    },
    /// It cannot be written to.
    #[error("the database {} is read-only", .path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// What the last process wrote could not be brought to the disk.
    #[error("the write-ahead log of {} could not be checkpointed: {reason}", .path.display())]
    Checkpoint {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The operating system gave no thread for it.
    #[error("cannot start the storage thread")]
    Thread(#[source] io::Error),
}

/// What only tests change.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// The database refuses to grow beyond so many pages of 4 KiB, as if the disk were full.
    pub max_pages: Option<u32>,
    /// Room on the disk that is kept for what has to go on when it is full. What the log holds fits into it: a thousand
    /// pages, after which SQLite moves them into the database.
    pub reserve_bytes: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { max_pages: None, reserve_bytes: 4 << 20 }
    }
}

/// One database in one directory that nobody else uses.
pub struct SqliteBackend {
    connection: Connection,
    acknowledged: HighWater,
    reserve: Reserve,
    /// Released after the connection is closed: fields are dropped in their order.
    _lock: DirectoryLock,
}

impl SqliteBackend {
    /// Locks `directory`, opens or makes the database in it, and brings to the disk what an earlier process
    /// wrote, so that nothing is answered that a power cut could take back.
    ///
    /// # Errors
    /// [`OpenError`] says what the operator has to do.
    pub fn open(directory: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let lock = DirectoryLock::acquire(directory)?;
        let mut reserve = Reserve::open(directory, options.reserve_bytes);
        let opened = match open_database(directory, options) {
            // To open it takes a little room: for SQLite's index of the log, and for what the log holds.
            Err(error) if found_no_room(&error) && reserve.release() => {
                tracing::warn!("the disk is full; the kept room is used to open the database");
                open_database(directory, options)
            }
            opened => opened,
        };
        let (connection, acknowledged) = opened?;
        Ok(Self { connection, acknowledged, reserve, _lock: lock })
    }

    /// Runs `work` in one transaction.
    fn run(&self, work: &mut Work<'_>) -> Result<(), StorageError> {
        let connection = &self.connection;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(statement_failed)?;
        let before = connection.total_changes();
        let mut rows = CheckedRows::new(connection);
        rows.has_room = self.reserve.is_held();
        let worked = work(&mut rows).and_then(|()| {
            if connection.total_changes() == before {
                return Ok(None);
            }
            let count = count_one(&rows)?;
            rows.note_sum()?;
            Ok(Some(count))
        });
        let count = match worked {
            Ok(count) => count,
            Err(error) => return Err(self.roll_back(error)),
        };
        match connection.execute_batch("COMMIT") {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Err(self.roll_back(StorageError::Full)),
            Err(error) => return Err(commit_failed(error)),
        }
        // Only now, when it is durable; and before anybody is answered. The note is written over, so that it needs no
        // room. If it cannot be written all the same, nobody is answered what it does not know of.
        let noted = count.map_or(Ok(()), |count| self.acknowledged.reach(count));
        noted.map_err(|error| StorageError::Commit(Box::new(error)))
    }

    /// Undoes the transaction that met `error`, and says what that means.
    fn roll_back(&self, error: StorageError) -> StorageError {
        // Some errors roll back by themselves; then there is nothing left to undo.
        if self.connection.is_autocommit() {
            return error;
        }
        self.connection.execute_batch("ROLLBACK").map_or_else(commit_failed, |()| error)
    }

    /// The same; if the disk is full, gives up the room that was kept, and empties the log.
    fn run_or_make_room(&mut self, work: &mut Work<'_>) -> Result<(), StorageError> {
        let done = self.run(work);
        if matches!(done, Err(StorageError::Full)) {
            if self.reserve.release() {
                tracing::error!(
                    "the disk is full; no PIN is verified and no card issued until there is room"
                );
            }
            // Where that fails, the log stays as it is, and is written on behind the last commit.
            let _ = checkpoint(&self.connection);
        }
        done
    }
}

impl Backend for SqliteBackend {
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), StorageError> {
        match self.run_or_make_room(work) {
            Err(StorageError::Full) => self.run_or_make_room(work),
            done => done,
        }
    }

    fn scrub(&mut self) -> Result<(), StorageError> {
        // `secure_delete` has overwritten the rows; their older pages still lie in the log.
        checkpoint(&self.connection).map(|_busy_readers_may_wait| ()).map_err(statement_failed)
    }

    fn look_for_room(&mut self) {
        if !self.reserve.is_held() && self.reserve.restore() {
            tracing::info!("the disk has room again");
        }
    }
}

pub(super) fn statement_failed(error: rusqlite::Error) -> StorageError {
    if is_full(&error) { StorageError::Full } else { StorageError::Statement(Box::new(error)) }
}

fn commit_failed(error: rusqlite::Error) -> StorageError {
    StorageError::Commit(Box::new(error))
}

/// On Unix this is how SQLite reports a write that met ENOSPC, and no other. A sync that meets it is an input/output
/// error: then all was written, and nobody knows what of it is on the disk.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether more room on the disk may help to open the database.
fn found_no_room(error: &OpenError) -> bool {
    let OpenError::Open { source, .. } = error else { return false };
    if let Some(error) = source.downcast_ref::<rusqlite::Error>() {
        let no_index = error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE);
        return is_full(error) || no_index;
    }
    let no_note =
        source.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull);
    no_note || matches!(source.downcast_ref(), Some(StorageError::Full))
}

/// Opens or makes the database in a directory that is locked, with the note of what was acknowledged.
fn open_database(directory: &Path, options: SqliteOptions) -> Result<(Connection, HighWater), OpenError> {
    let path = directory.join(FILE);
    let connection = connect(&path, options).map_err(|error| explain(&path, error))?;
    check_identity(&connection, &path)?;
    check_pages(&connection, &path)?;
    // After a kill SQLite serves what it finds in the log, synced or not.
    checkpoint(&connection)
        .map_err(|error| explain(&path, error))?
        .map_err(|reason| OpenError::Checkpoint { path: path.clone(), reason })?;
    migrate(&connection).map_err(|error| explain_storage(&path, error))?;
    CheckedRows::new(&connection).verify().map_err(|error| explain_storage(&path, error))?;
    let acknowledged = check_acknowledged(&connection, &path, &directory.join(ACKNOWLEDGED))?;
    Ok((connection, acknowledged))
}

/// Whether everything that was acknowledged is there.
fn check_acknowledged(connection: &Connection, path: &Path, note: &Path) -> Result<HighWater, OpenError> {
    let found = transactions(&CheckedRows::new(connection)).map_err(|error| explain_storage(path, error))?;
    let lost = |acknowledged| OpenError::AcknowledgedLost {
        path: path.to_path_buf(),
        note: note.to_path_buf(),
        acknowledged,
        found,
    };
    let unusable = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => lost(None),
        _ => OpenError::Open { path: note.to_path_buf(), source: Box::new(source) },
    };
    let (acknowledged, mark) = HighWater::open(note).map_err(unusable)?;
    if mark.is_some_and(|mark| mark > found) {
        return Err(lost(mark));
    }
    acknowledged.reach(found).map_err(unusable)?;
    Ok(acknowledged)
}

fn connect(path: &Path, options: SqliteOptions) -> rusqlite::Result<Connection> {
    // Made by us first, since SQLite would make it readable by everybody; the log inherits the mode.
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(connection)
}

fn check_identity(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        Ok((
            number("application_id")?,
            number("user_version")?,
            connection.query_row(tables, [], |row| row.get(0))?,
        ))
    };
    let known = MIGRATIONS.len();
    match read().map_err(|error| explain(path, error))? {
        (0, 0, 0) => Ok(()),
        (id, found, _) if id == i64::from(APPLICATION_ID) => match usize::try_from(found) {
            Ok(version) if (1..=known).contains(&version) => Ok(()),
            Ok(_) | Err(_) => Err(OpenError::Schema { path: path.to_path_buf(), found, known }),
        },
        _ => Err(OpenError::NotOurs { path: path.to_path_buf() }),
    }
}

/// Whether trees and indexes are whole; what their rows say is checked by [`CheckedRows::verify`].
fn check_pages(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.to_path_buf() }) }
}

/// Copies the whole log into the database, syncs both and empties the log.
fn checkpoint(connection: &Connection) -> rusqlite::Result<Result<(), &'static str>> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        let (busy, log, done): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(match (busy, log == done) {
            (0, true) => Ok(()),
            (0, false) => Err("not all of it was copied"),
            _ => Err("somebody else is reading the database"),
        })
    })
}

fn migrate(connection: &Connection) -> Result<(), StorageError> {
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(statement_failed)?;
    let run = |sql: &str| connection.execute_batch(sql).map_err(statement_failed);
    let missing: Vec<_> = (1_u32..).zip(MIGRATIONS).filter(|(next, _)| *next > version).collect();
    let Some((newest, _)) = missing.last() else { return Ok(()) };
    run("BEGIN IMMEDIATE")?;
    missing.iter().try_for_each(|(_, migration)| run(migration))?;
    if version < CHECKSUMS {
        CheckedRows::new(connection).introduce()?;
    }
    run(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}; COMMIT"))
}

/// Tells the operator what kind of trouble it is, by SQLite's code and never by its words.
fn explain(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode;
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path },
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs { path },
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
        Some(_) | None => OpenError::Open { path, source: Box::new(error) },
    }
}

/// The same for what was noticed in rows.
fn explain_storage(path: &Path, error: StorageError) -> OpenError {
    let path = path.to_path_buf();
    match error {
        StorageError::Damaged(table) => OpenError::DamagedRow { path, table },
        StorageError::Incomplete => OpenError::Incomplete { path },
        StorageError::Statement(source) => match source.downcast() {
            Ok(error) => explain(&path, *error),
            Err(source) => OpenError::Open { path, source },
        },
        StorageError::Stopped | StorageError::Full | StorageError::Commit(_) => {
            OpenError::Open { path, source: Box::new(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use atm_types::{TerminalId, Timestamp};
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::domain::{SessionId, Terminal};
    use crate::storage::Meta;

    fn open(home: &TempDir) -> Result<SqliteBackend, OpenError> {
        SqliteBackend::open(home.path(), SqliteOptions::default())
    }

    fn text(result: Result<SqliteBackend, OpenError>) -> String {
        result.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_database_is_durable_on_every_commit_and_wiped_on_every_delete() {
        let home = tempdir().unwrap();
        let backend = open(&home).unwrap();
        let pragma = |name: &str| -> String {
            backend
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .map(|value| format!("{value:?}"))
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("synchronous"), "Integer(2)");
        assert_eq!(pragma("secure_delete"), "Integer(1)");
    }

    #[test]
    fn nobody_else_may_read_the_database_or_its_log() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempdir().unwrap();
        let mut backend = open(&home).unwrap();
        backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, b"x")).unwrap();
        for entry in std::fs::read_dir(home.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        }
        assert!(home.path().join("auth.db-wal").exists());
    }

    #[test]
    fn row_27_a_second_opener_is_told_who_holds_the_directory() {
        let home = tempdir().unwrap();
        let first = open(&home).unwrap();
        let second = text(open(&home));
        assert!(second.contains(&std::process::id().to_string()), "{second}");
        drop(first);
        open(&home).unwrap();
    }

    #[test]
    fn row_28_another_schema_version_or_another_programs_database_is_refused_by_name() {
        let home = tempdir().unwrap();
        open(&home).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = text(open(&home));
        assert!(refused.contains("schema version 99") && refused.contains("up to 3"), "{refused}");

        let other = tempdir().unwrap();
        let foreign = Connection::open(other.path().join(FILE)).unwrap();
        foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(foreign);
        assert!(matches!(open(&other), Err(OpenError::NotOurs { .. })));

        let text_file = tempdir().unwrap();
        std::fs::write(text_file.path().join(FILE), "not a database at all, ".repeat(100)).unwrap();
        assert!(matches!(open(&text_file), Err(OpenError::NotOurs { .. })));
    }

    #[test]
    fn a_database_of_the_first_version_is_brought_up_and_keeps_its_machines_and_sessions() {
        let home = tempdir().unwrap();
        let old = Connection::open(home.path().join(FILE)).unwrap();
        old.execute_batch(&format!(
            "{}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; \
             INSERT INTO terminals VALUES ('ATM-1', zeroblob(32)); \
             INSERT INTO sessions VALUES (zeroblob(16), 77); \
             INSERT INTO unknown_numbers VALUES (zeroblob(32), 3, 1)",
            MIGRATIONS[0]
        ))
        .unwrap();
        drop(old);
        let mut backend = open(&home).unwrap();
        let (mut terminal, mut expiry) = (None, None);
        backend
            .transaction(&mut |rows| {
                terminal = rows.terminal(&"ATM-1".parse().unwrap())?;
                expiry = rows.session_expiry(SessionId::from_bytes([0; 16]))?;
                Ok(())
            })
            .unwrap();
        assert_eq!(terminal, Some(Terminal { terminal_id: TerminalId::from_bytes([0; 32]), boot: None }));
        assert_eq!(expiry, Some(Timestamp::from_nanos(77)));
        drop(backend);
        drop(open(&home).unwrap());
        Connection::open(home.path().join(FILE))
            .unwrap()
            .execute_batch("UPDATE unknown_numbers SET wrong_pins = 0")
            .unwrap();
        let refused = text(open(&home));
        assert!(refused.contains("unknown_numbers does not match its checksum"), "{refused}");
    }

    #[test]
    fn row_28_a_damaged_database_is_refused_before_anything_is_answered_from_it() {
        let home = tempdir().unwrap();
        let mut backend = open(&home).unwrap();
        backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, &[7; 9000])).unwrap();
        drop(backend);
        let path = home.path().join(FILE);
        let length = std::fs::metadata(&path).unwrap().len();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        // Everything behind the first page, which holds the header and the schema.
        file.seek(SeekFrom::Start(4096)).unwrap();
        file.write_all(&vec![0xa5; usize::try_from(length - 4096).unwrap()]).unwrap();
        drop(file);
        assert!(matches!(open(&home), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn what_a_killed_process_left_in_the_log_is_in_the_database_before_anybody_reads() {
        let home = tempdir().unwrap();
        let mut backend = open(&home).unwrap();
        backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, b"logged")).unwrap();
        // The files as a kill leaves them: the log not yet copied.
        let killed = tempdir().unwrap();
        for name in [FILE, "auth.db-wal"] {
            std::fs::copy(home.path().join(name), killed.path().join(name)).unwrap();
        }
        let wal = killed.path().join("auth.db-wal");
        assert!(std::fs::metadata(&wal).unwrap().len() > 0);
        let mut reopened = open(&killed).unwrap();
        assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
        let mut found = None;
        reopened
            .transaction(&mut |rows| {
                found = rows.meta(Meta::PepperCanary)?;
                Ok(())
            })
            .unwrap();
        assert_eq!(found.as_deref(), Some(&b"logged"[..]));
    }

    #[test]
    fn a_reader_that_hinders_the_first_checkpoint_hinders_the_start() {
        let home = tempdir().unwrap();
        let mut backend = open(&home).unwrap();
        backend.transaction(&mut |rows| rows.put_meta(Meta::PepperCanary, b"x")).unwrap();
        let reader = Connection::open(home.path().join(FILE)).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM meta").unwrap();
        backend.connection.busy_timeout(Duration::ZERO).unwrap();
        assert!(matches!(checkpoint(&backend.connection), Ok(Err(_)) | Err(_)));
        drop(reader);
        assert_eq!(checkpoint(&backend.connection), Ok(Ok(())));
    }
}
