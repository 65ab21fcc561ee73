//! The machine's durable memory: what it was asked to do and how far each transaction has come.
//!
//! A directory with three files: `lock` (one process at a time), `terminal.key` (who this machine is; see
//! [`crate::terminal`]) and `journal.sqlite3`. Opening it is a promise: the directory is locked, what a crash
//! left in the write-ahead log is on disk before anything is answered from it, and the file is whole, of this
//! schema and of this terminal. Every event is a transaction with `synchronous=FULL`: when a method returns,
//! the event survives a power cut.

mod machine;
mod record;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atm_rpc::process::{DirectoryLock, LockError};
use atm_types::{Clock, TerminalId, TransactionId};

pub(crate) use machine::{AccountBalance, Ending, Event, Kind, Plan, State};
pub(crate) use record::{CardTag, Intent, Record};
use sqlite::Store;

/// Why the journal cannot be used, in words for the person at the machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another process works with it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// It cannot be read or written.
    #[error("the journal {} cannot be used: {source}", .path.display())]
    Storage { path: PathBuf, source: rusqlite::Error },
    /// Its content makes no sense.
    #[error("the journal {} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// It was written by another version of this program.
    #[error("the journal {} has schema version {found}; this program knows version {known}", .path.display())]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    /// It belongs to another terminal key: captures and cancels would be refused by the bank.
    #[error("the journal {} was written with another terminal key; put its own terminal.key back", .path.display())]
    OtherTerminal { path: PathBuf },
    /// It cannot be made or flushed.
    #[error("the journal {} cannot be made: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A defect of this program: the event must not happen in this state. Nothing was written.
    #[error("{id} is {state}: {event} must not happen now")]
    Illegal { id: TransactionId, state: State, event: &'static str },
    /// The id is in the journal already, or it is not there at all.
    #[error("transaction {id} is {}in the journal", if *.exists { "already " } else { "not " })]
    Presence { id: TransactionId, exists: bool },
}

/// The journal, locked for this process.
pub(crate) struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
    _lock: DirectoryLock,
}

impl Journal {
    /// Locks the directory and opens the journal in it, or makes a new one for `terminal`.
    pub(crate) fn open(
        directory: &Path,
        terminal: TerminalId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let lock = DirectoryLock::acquire(directory)?;
        let store = Store::open(&directory.join(FILE_NAME), terminal)?;
        Ok(Self { store, clock, _lock: lock })
    }

    /// The transaction with this id, if it was begun here.
    pub(crate) fn find(&self, id: TransactionId) -> Result<Option<Record>, JournalError> {
        self.store.find(id)
    }

    /// All transactions that are not over, oldest first, those that need a person included.
    pub(crate) fn open_transactions(&self) -> Result<Vec<Record>, JournalError> {
        self.store.open_transactions()
    }

    /// Writes down that a transaction is about to be sent. The id must be new, or must never have left this
    /// machine.
    pub(crate) fn begin(&mut self, intent: &Intent) -> Result<Record, JournalError> {
        self.store.begin(intent, self.clock.now())
    }

    /// Writes down what happened to a transaction, and gives it back as it is now.
    pub(crate) fn apply(&mut self, id: TransactionId, event: &Event) -> Result<Record, JournalError> {
        let record = self.store.apply(id, event, self.clock.now())?;
        tracing::info!(transaction_id = %id, event = event.name(), state = %record.state, "journaled");
        Ok(record)
    }
}

/// The journal's file in the state directory.
const FILE_NAME: &str = "journal.sqlite3";

/// Whether there is a journal in this directory.
pub(crate) fn exists_in(directory: &Path) -> bool {
    sqlite::exists(&directory.join(FILE_NAME))
}

#[cfg(test)]
mod tests;
