//! SQLite as this machine uses it for what must survive anything: the journal and the device's own memory.
//!
//! Opening is a promise: the file is its owner's alone and known to its directory, what a crash left in the
//! write-ahead log is in the database before anything is answered from it, and the database is whole. A write is
//! one transaction with `synchronous=FULL`: when it returns, it survives a power cut. When the disk is full it
//! lives on room that was kept for it.

#[cfg(test)]
mod contract;
mod log;
mod memory;
mod reserve;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

pub use memory::{DiskFault, SimulatedDisk};

use memory::Opening;
use reserve::Reserve;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DurableError {
    /// It cannot be read or written just now.
    #[error("{} cannot be used: {source}", .path.display())]
    Storage { path: PathBuf, source: rusqlite::Error },
    /// Its content makes no sense.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// It was written by another version of this program.
    #[error("{} has schema version {found}; this program knows version {known}", .path.display())]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    /// It cannot be made or flushed.
    #[error("{} cannot be made: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// What tells one kind of database from another.
pub(crate) struct Shape {
    /// `PRAGMA application_id`.
    pub(crate) application_id: i64,
    /// The newest schema, in `PRAGMA user_version`.
    pub(crate) version: i64,
    /// The oldest schema that can be brought up to it.
    pub(crate) oldest: i64,
    /// Bytes that are kept on the disk for writes that must not fail.
    pub(crate) reserve: u64,
}

/// A database of this process alone; its directory is locked.
pub(crate) struct Database {
    medium: Medium,
    path: PathBuf,
}

/// Where it is kept.
enum Medium {
    /// In a file, with room beside it.
    File { connection: Connection, reserve: Reserve },
    /// Nowhere: a simulation.
    Memory(Opening),
}

impl Database {
    /// Opens or makes it, and says which schema it has: 0 when it is new and empty.
    pub(crate) fn open(path: &Path, shape: &Shape) -> Result<(Self, i64), DurableError> {
        let io = |source| DurableError::Io { path: path.to_path_buf(), source };
        // Made here and not by SQLite, so that it and its log are nobody else's to read.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.sync_all())
            .map_err(io)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        if log::lost_its_middle(&log_of(path)).map_err(io)? {
            let what = "its write-ahead log lost transactions in its middle".to_owned();
            return Err(DurableError::Damaged { path: path.to_path_buf(), what });
        }
        let connection = Connection::open(path).map_err(|source| storage(path, source))?;
        let reserve = Reserve::of(path, shape.reserve);
        let mut database = Self { medium: Medium::File { connection, reserve }, path: path.to_path_buf() };
        match database.prepare(shape) {
            // Even to open it takes a little room, for SQLite's index of the log.
            Err(DurableError::Storage { source, .. })
                if may_be_full(&source) && database.medium.release_reserve() =>
            {
                let version = database.prepare(shape)?;
                Ok((database, version))
            }
            prepared => Ok((database, prepared?)),
        }
    }

    /// Opens a simulated disk as [`Database::open`] opens a file.
    pub(crate) fn open_on(disk: &SimulatedDisk, shape: &Shape) -> Result<(Self, i64), DurableError> {
        let mut database = Self { medium: Medium::Memory(disk.open()), path: disk.name().clone() };
        let version = database.prepare(shape)?;
        Ok((database, version))
    }

    /// Looks at a simulated disk, whoever has it open. Nothing can be written.
    pub(crate) fn look_at(disk: &SimulatedDisk) -> Self {
        Self { medium: Medium::Memory(disk.look()), path: disk.name().clone() }
    }

    fn prepare(&mut self, shape: &Shape) -> Result<i64, DurableError> {
        self.read(|connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")
        })?;
        self.checkpoint()?;
        let version = self.pragma("user_version")?;
        let application = self.pragma("application_id")?;
        if (application, version) == (0, 0) && self.is_empty()? {
            return Ok(0);
        }
        if application != shape.application_id {
            return Err(self.damaged("it is not a file of this program"));
        }
        if !(shape.oldest..=shape.version).contains(&version) {
            let path = self.path.clone();
            return Err(DurableError::OtherVersion { path, found: version, known: shape.version });
        }
        // Indexes are believed like tables, so they are compared with them.
        let verdict: String =
            self.read(|connection| connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        if verdict == "ok" { Ok(version) } else { Err(self.damaged(&verdict)) }
    }

    /// After a kill SQLite answers from frames of the log that were never flushed; what is answered from
    /// here on must be on disk. So everything moves into the database file first, or the machine stays out
    /// of service.
    fn checkpoint(&self) -> Result<(), DurableError> {
        let busy: i64 = self.read(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        })?;
        if busy == 0 {
            Ok(())
        } else {
            Err(self.damaged("its write-ahead log could not be checkpointed; is somebody reading it?"))
        }
    }

    /// Makes sure that the room for writes that must not fail is there, taking it again if it was used. False
    /// when the disk is full: then nothing new may begin.
    pub(crate) fn has_room(&mut self) -> bool {
        self.medium.take_reserve()
    }

    /// One durable write. On a full disk the kept room is given up for it.
    pub(crate) fn write<T>(
        &mut self,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, DurableError> {
        let first = self.medium.write(&mut work);
        let done = match first {
            Err(error) if is_full(&error) && self.medium.release_reserve() => {
                tracing::warn!(path = %self.path.display(), "the disk is full: the kept room is used");
                self.medium.write(&mut work)
            }
            other => other,
        };
        done.map_err(|source| storage(&self.path, source))
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, DurableError> {
        self.medium.read(work).map_err(|source| storage(&self.path, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn damaged(&self, what: &str) -> DurableError {
        DurableError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }

    fn is_empty(&self) -> Result<bool, DurableError> {
        self.read(|connection| {
            connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        })
    }

    fn pragma(&self, name: &str) -> Result<i64, DurableError> {
        self.read(|connection| connection.pragma_query_value(None, name, |row| row.get(0)))
    }
}

impl Medium {
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        match self {
            Self::File { connection, .. } => work(connection),
            Self::Memory(opening) => opening.read(work),
        }
    }

    fn write<T>(
        &mut self,
        work: &mut impl FnMut(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        match self {
            Self::File { connection, .. } => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            }
            Self::Memory(opening) => opening.write(work),
        }
    }

    fn take_reserve(&self) -> bool {
        match self {
            Self::File { reserve, .. } => reserve.take(),
            Self::Memory(opening) => opening.take_reserve(),
        }
    }

    fn release_reserve(&self) -> bool {
        match self {
            Self::File { reserve, .. } => reserve.release(),
            Self::Memory(opening) => opening.release_reserve(),
        }
    }
}

/// Where SQLite keeps the log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether room on the disk may help to open a database: SQLite reports some ways of finding none as failures of the
/// disk. Of a write such a failure is never retried, since nobody can say what is on the disk then.
fn may_be_full(error: &rusqlite::Error) -> bool {
    is_full(error) || error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// Tells a damaged file from one that cannot be used just now.
fn storage(path: &Path, source: rusqlite::Error) -> DurableError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            DurableError::Damaged { path: path.to_path_buf(), what: source.to_string() }
        }
        // No code of SQLite's: a row is missing, or holds what nobody wrote.
        None => DurableError::Damaged { path: path.to_path_buf(), what: source.to_string() },
        Some(_) => DurableError::Storage { path: path.to_path_buf(), source },
    }
}
