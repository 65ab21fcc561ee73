//! The store on SQLite: one file, one writer's connection, a few read-only ones beside it.
//!
//! One commit is one fsync: write-ahead log, `synchronous=FULL`. After a kill, SQLite would serve frames of
//! the log that were never synced, and an answer given from them could vanish in the next power cut; so
//! [`SqliteStore::open`] moves the whole log into the database before anything is read. A log that was cut or
//! damaged ends early without a word from SQLite; the `acknowledged` file beside it knows better
//! (`sqlite/acknowledged.rs`).

mod account_row;
mod acknowledged;
mod commit;
mod rows;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atm_ledger_core::Account;
use atm_rpc::reserve::Reserve;
use atm_types::{AccountId, TransactionId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::{
    Batch, Checkpoint, Commit, CommitError, EncodedSteps, Head, Readers, StepKey, Store, StoreError,
    StoredStep, View,
};
use acknowledged::Acknowledged;

/// The database's file in the data directory.
pub const DATABASE_FILE: &str = "ledger.db";

/// `user_version` of a database that this program made and reads.
const SCHEMA_VERSION: i64 = 1;
/// `application_id`: "ATML".
const APPLICATION_ID: i64 = 0x4154_4d4c;
const SCHEMA: &str = include_str!("../../migrations/sqlite/0001_ledger.sql");

/// How many idle connections readers keep.
const IDLE_READERS: usize = 4;
/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The writer's side of a database.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// Steps that were written ahead of the commit that is to come.
    ahead: usize,
    acknowledged: Acknowledged,
    reserve: Reserve,
    readers: Arc<SqliteReaders>,
}

impl SqliteStore {
    /// Opens the database in `directory`, or makes one; `reserve_bytes` are kept on the disk for captures and
    /// cancels. The caller sees to it that no other process uses the directory.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be used, is damaged, has lost what was acknowledged, or is of another
    /// version.
    pub fn open(directory: &Path, reserve_bytes: u64) -> Result<Self, StoreError> {
        let mut reserve = Reserve::open(directory, reserve_bytes);
        let opened = match open_database(directory) {
            // To open it takes a little room: for SQLite's index of the log, and for what the log holds.
            Err(error) if found_no_room(&error) && reserve.release() => {
                tracing::warn!("the disk is full; the kept room is used to open the database");
                open_database(directory)
            }
            opened => opened,
        };
        let (connection, acknowledged) = opened?;
        let readers = SqliteReaders { path: directory.join(DATABASE_FILE), idle: Mutex::new(Vec::new()) };
        Ok(Self { connection, ahead: 0, acknowledged, reserve, readers: Arc::new(readers) })
    }
}

/// Opens or makes the database in `directory`, with the note of what was acknowledged.
fn open_database(directory: &Path) -> Result<(Connection, Acknowledged), StoreError> {
    let path = directory.join(DATABASE_FILE);
    private_file(&path).map_err(unusable("the database cannot be made"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(&path, flags).map_err(unusable("the database cannot be opened"))?;
    prepare(&mut connection).map_err(unusable("the database cannot be prepared"))?;
    create_or_check_schema(&mut connection)?;
    empty_the_log(&connection)?;
    let head = rows::head(&connection)?;
    let acknowledged = Acknowledged::open(directory)?;
    if let Some(last) = acknowledged.last() {
        check_acknowledged(&connection, &acknowledged, last, &head)?;
    }
    acknowledged.initialise(&head)?;
    Ok((connection, acknowledged))
}

/// Whether more room on the disk may help to open the database.
fn found_no_room(error: &StoreError) -> bool {
    let StoreError::Unusable { source, .. } = error else { return false };
    if let Some(error) = source.downcast_ref::<io::Error>() {
        return error.kind() == io::ErrorKind::StorageFull;
    }
    source.downcast_ref::<rusqlite::Error>().is_some_and(|error| {
        let no_index = error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE);
        no_index || error.sqlite_error_code() == Some(ErrorCode::DiskFull)
    })
}

/// Opens a file, or makes one that nobody else can read from its first byte on. SQLite would make its database
/// with the mode of the umask; its log and the log's index take the mode of the database.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Settings of the writer's connection.
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    configure(connection)?;
    // Only a new file takes the page size.
    connection.pragma_update(None, "page_size", 8_192)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The steps of one batch fit; what is left holds the inner pages of the trees.
    connection.pragma_update(None, "cache_size", -12_288)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_096)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Settings of every connection.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Otherwise each new value of a parameter makes SQLite plan its query again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(BUSY_TIMEOUT)
}

fn create_or_check_schema(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = || unusable("the database cannot be read");
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed())?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed())?;
    if version != 0 || tables != 0 {
        return Err(StoreError::SchemaVersion { found: version, expected: SCHEMA_VERSION });
    }
    let create = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    create(connection).map_err(unusable("the database cannot be made"))
}

/// Moves the whole log into the database and empties it, all of it synced.
fn empty_the_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(unusable("the write-ahead log cannot be moved into the database"))?;
    if busy == 0 {
        return Ok(());
    }
    Err(StoreError::Unusable {
        what: "the write-ahead log cannot be moved into the database",
        source: "another process is using it".into(),
    })
}

/// Whether everything that was acknowledged is there.
fn check_acknowledged(
    connection: &Connection,
    acknowledged: &Acknowledged,
    last: acknowledged::Last,
    head: &Head,
) -> Result<(), StoreError> {
    if last.sequence > head.sequence {
        return Err(StoreError::AcknowledgedLost {
            acknowledged: last.sequence,
            found: head.sequence,
            marker: acknowledged.path().display().to_string(),
        });
    }
    let hash = match rows::batch_of(connection, last.sequence)? {
        None if last.sequence == 0 => Head::EMPTY.hash,
        Some(batch) if batch.last_sequence() == last.sequence => batch.hash,
        None | Some(_) => {
            return Err(StoreError::damaged(format!("no batch ends with step {}", last.sequence)));
        }
    };
    if hash == last.hash {
        return Ok(());
    }
    Err(StoreError::damaged(format!(
        "what was acknowledged up to step {} is not what is stored",
        last.sequence
    )))
}

/// Turns an error of the library into ours.
fn unusable<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Unusable { what, source: Box::new(source) }
}

fn unreadable(source: rusqlite::Error) -> StoreError {
    unusable("the database cannot be read")(source)
}

impl Store for SqliteStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        // The first read fixes the moment. Within a transaction a read takes no lock of its own.
        self.connection
            .prepare_cached("BEGIN")
            .and_then(|mut begin| begin.execute([]))
            .map_err(unreadable)?;
        Ok(())
    }

    fn end(&mut self) {
        let _ = self.connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    }

    fn write_ahead(&mut self, expected: &Head, steps: &EncodedSteps) -> Result<(), CommitError> {
        let ahead = std::mem::take(&mut self.ahead) + steps.len();
        commit::write_ahead(&self.connection, expected, steps)?;
        self.ahead = ahead;
        Ok(())
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        commit::commit(&self.connection, commit, std::mem::take(&mut self.ahead))?;
        // Only now, when it is durable; and before anybody is answered.
        self.acknowledged.advance(&commit.head).map_err(CommitError::Failed)
    }

    fn release_reserve(&mut self) -> bool {
        self.reserve.release()
    }

    fn restore_reserve(&mut self) -> bool {
        self.reserve.restore()
    }

    fn readers(&self) -> Arc<dyn Readers> {
        Arc::clone(&self.readers) as Arc<dyn Readers>
    }
}

/// Read-only connections, opened on demand.
#[derive(Debug)]
struct SqliteReaders {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReaders {
    fn connection(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure(&connection)?;
        connection.pragma_update(None, "cache_size", -1_024)?;
        Ok(connection)
    }
}

impl Readers for SqliteReaders {
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError> {
        let connection = self.connection().map_err(unreadable)?;
        // The read that follows in every view fixes the moment.
        connection.execute_batch("BEGIN").map_err(unreadable)?;
        rows::head(&connection)?;
        Ok(Box::new(SqliteView { connection: Some(connection), readers: self }))
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// A read transaction.
struct SqliteView<'a> {
    /// Taken on drop.
    connection: Option<Connection>,
    readers: &'a SqliteReaders,
}

impl Drop for SqliteView<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if connection.execute_batch("COMMIT").is_err() {
            return;
        }
        let mut idle = self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }
}

/// What reads through a connection.
trait Connected {
    fn connection(&self) -> &Connection;
}

impl Connected for SqliteStore {
    fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Connected for SqliteView<'_> {
    #[expect(clippy::expect_used, reason = "it is only taken on drop")]
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a view has its connection")
    }
}

impl<T: Connected> View for T {
    fn head(&mut self) -> Result<Head, StoreError> {
        rows::head(self.connection())
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, StoreError> {
        rows::checkpoint(self.connection())
    }

    fn batch_of(&mut self, sequence: u64) -> Result<Option<Batch>, StoreError> {
        rows::batch_of(self.connection(), sequence)
    }

    fn step(&mut self, key: StepKey) -> Result<Option<Vec<u8>>, StoreError> {
        rows::step(self.connection(), key)
    }

    fn transaction(&mut self, id: TransactionId) -> Result<Vec<StoredStep>, StoreError> {
        rows::transaction(self.connection(), id)
    }

    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        account_row::read(self.connection(), id)
    }

    fn accounts_after(&mut self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        account_row::read_after(self.connection(), after, limit)
    }

    fn open_holds_after(
        &mut self,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<TransactionId>, StoreError> {
        rows::open_holds_after(self.connection(), after, limit)
    }

    fn steps_after_key(
        &mut self,
        after: Option<StepKey>,
        limit: usize,
    ) -> Result<Vec<StoredStep>, StoreError> {
        rows::steps_after_key(self.connection(), after, limit)
    }
}

#[cfg(test)]
mod tests;
