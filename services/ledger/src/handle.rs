//! The handle to the ledger: what the rest of the service, and every test, calls.
//!
//! All changes go through one queue to the one writer thread ([`Ledger::execute`]); what must be ordered with
//! them goes the same way ([`Ledger::account`]). Everything else reads committed data on other connections. An
//! answer, once here, is durable; a caller who stops waiting stops nothing.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atm_faults::{Bug, planted};
use atm_ledger_core::{Account, Command, EntryRef, Refusal, Step, Transaction, TransactionState};
use atm_rpc::deadline::Deadline;
use atm_rpc::process::{DirectoryLock, LockError};
use atm_types::{AccountId, Clock, TransactionId};
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::read::Reading;
use crate::storage::sqlite::SqliteStore;
use crate::storage::{Store, StoreError};
use crate::trial_balance::{self, TrialBalance};
use crate::verify::{self, VerifyProgress};
use crate::writer::queue::{Item, QueueSender, queue, queue_for_a_task};
use crate::writer::{self, Limits};

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the database.
    pub data: PathBuf,
    /// The time zone whose days daily limits count.
    pub time_zone: TimeZone,
    /// How many commands may wait for the writer; one eighth of it is kept for captures, cancels and
    /// suspensions.
    pub queue_commands: usize,
    /// How many commands the writer gathers for one commit. A call with more is not split.
    pub batch_commands: usize,
    /// How many steps may follow a checkpoint: what a start after a kill replays.
    pub checkpoint_every: u64,
    /// How many accounts memory keeps at a checkpoint; beyond it all are let go and read again on demand.
    pub accounts_in_memory: usize,
    /// Bytes on the disk kept for captures, cancels and suspensions when everything else finds it full.
    pub reserve_bytes: u64,
}

impl Options {
    /// The defaults, with the books in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            time_zone: TimeZone::UTC,
            queue_commands: 65_536,
            batch_commands: 8_192,
            checkpoint_every: 262_144,
            accounts_in_memory: 500_000,
            reserve_bytes: 16 << 20,
        }
    }
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database cannot be used, is damaged, has lost what was acknowledged, or has another schema.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer's thread could not be started.
    #[error("the writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What became of a command.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is a record, and a box would cost each of them"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded and durable.
    Recorded {
        /// The step recorded for it; on a repeat, the first one.
        step: Step,
        /// Where the transaction stands now; `None` for an account's opening.
        state: Option<TransactionState>,
        /// Whether it was recorded before this call.
        replayed: bool,
    },
    /// It contradicts what is recorded, and had no effect.
    Refused(Refusal),
    /// Its deadline passed in the queue; it was never decided and had no effect.
    Expired,
    /// The disk is full; it was never decided and had no effect. Captures, cancels and suspensions find room
    /// for longer than everything else.
    NoRoom,
}

/// Why a call got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Too much is waiting; the call had no effect.
    #[error("the ledger's queue is full")]
    QueueFull,
    /// The writer has ended. Whether the call had an effect is not known.
    #[error("the ledger has stopped")]
    Stopped,
    /// The entry to read from is not an entry of the account.
    #[error("the entry is not one of this account")]
    ForeignEntry,
    /// Committed data could not be read.
    #[error("the books cannot be read")]
    Unreadable(#[source] Arc<StoreError>),
}

/// An account at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// The account.
    pub account: Account,
    /// The last committed step, which this view includes.
    pub commit_sequence: u64,
    /// Today in the bank's time zone, counted from 1970-01-01: what the daily limit is held against.
    pub day: i32,
}

/// Steps in commit order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepsPage {
    /// The steps, without gaps.
    pub steps: Vec<Step>,
    /// The last committed step at the moment of reading.
    pub last_sequence: u64,
}

/// Entries of one account, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesPage {
    /// The steps that the entries belong to.
    pub steps: Vec<Step>,
    /// Where the next, older page begins; `None` on the last one.
    pub next: Option<EntryRef>,
}

/// The handle to the one writer thread and to the readers beside it.
#[derive(Clone, Debug)]
pub struct Ledger {
    queue: QueueSender,
    reading: Reading,
    committed: watch::Receiver<u64>,
}

impl Ledger {
    /// Opens the books in `options.data`, made if they are missing: takes the directory's lock, checks the
    /// schema, moves the write-ahead log into the database (nothing is answered from a log that was never
    /// synced), and replays what follows the last checkpoint.
    ///
    /// # Errors
    /// [`OpenError`]. Nothing is repaired silently.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<(Self, WriterGuard), OpenError> {
        let lock = DirectoryLock::acquire(&options.data)?;
        let store = SqliteStore::open(&options.data, options.reserve_bytes)?;
        Self::start_locked(Box::new(store), options, clock, Some(lock))
    }

    /// Starts a ledger on any store; the store must not be in use elsewhere in ways it does not expect.
    ///
    /// # Errors
    /// [`OpenError::Store`] when its books do not replay.
    pub fn start(
        store: Box<dyn Store>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, WriterGuard), OpenError> {
        Self::start_locked(store, options, clock, None)
    }

    /// [`Ledger::start`] with the writer as a task on the caller's runtime, for simulations: no thread is started, and
    /// each batch takes `pace` of the runtime's time.
    ///
    /// # Errors
    /// As [`Ledger::start`].
    pub fn start_as_task(
        store: Box<dyn Store>,
        options: Options,
        clock: Arc<dyn Clock>,
        pace: Duration,
    ) -> Result<(Self, WriterGuard), OpenError> {
        let readers = store.readers();
        let (queue, receiver, wake) = queue_for_a_task(options.queue_commands);
        let writer = writer::Writer::load(store, limits_of(options), clock)?;
        let (publish, committed) = watch::channel(writer.head().sequence);
        let failed = CancellationToken::new();
        let (ended, end) = oneshot::channel();
        let work = writer::run_as_task(writer, receiver, wake, pace, publish, failed.clone());
        tokio::spawn(async move {
            work.await;
            let _ = ended.send(());
        });
        let guard = WriterGuard { queue: queue.clone(), failed, end: Some(end), thread: None };
        Ok((Self { queue, reading: Reading::new(readers), committed }, guard))
    }

    fn start_locked(
        store: Box<dyn Store>,
        options: Options,
        clock: Arc<dyn Clock>,
        lock: Option<DirectoryLock>,
    ) -> Result<(Self, WriterGuard), OpenError> {
        let readers = store.readers();
        let (queue, receiver) = queue(options.queue_commands);
        let writer = writer::Writer::load(store, limits_of(options), clock)?;
        let (publish, committed) = watch::channel(writer.head().sequence);
        let failed = CancellationToken::new();
        let (ended, end) = oneshot::channel();
        let on_failure = failed.clone();
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || {
                // The lock goes when the writer has ended, not before.
                let _lock = lock;
                writer::run(writer, &receiver, &publish, &on_failure);
                let _ = ended.send(());
            })
            .map_err(OpenError::Thread)?;
        let guard = WriterGuard { queue: queue.clone(), failed, end: Some(end), thread: Some(thread) };
        Ok((Self { queue, reading: Reading::new(readers), committed }, guard))
    }

    /// Executes commands in order, each with its own outcome, and answers when all of them are durable.
    ///
    /// They share a commit, and perhaps a batch with others. Commands whose `deadline` passes in the queue are
    /// not decided ([`Answer::Expired`]). Dropping the future does not take back what is queued.
    ///
    /// # Errors
    /// [`ExecuteError::QueueFull`] (no effect), [`ExecuteError::Stopped`] (effect unknown).
    pub async fn execute(
        &self,
        commands: Vec<Command>,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Answer>, ExecuteError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Item::Execute { commands, deadline, answer })?;
        answered.await.map_err(|_| ExecuteError::Stopped)?
    }

    /// Reads an account; everything that was queued before is part of what is read.
    ///
    /// # Errors
    /// [`ExecuteError::QueueFull`], [`ExecuteError::Stopped`].
    pub async fn account(&self, id: AccountId) -> Result<Option<AccountView>, ExecuteError> {
        if planted(Bug::BalancesComeFromTheCheckpoint)
            && let Some(stale) = self.reading.account(id).await?
        {
            return Ok(Some(stale));
        }
        let (answer, answered) = oneshot::channel();
        self.queue.send(Item::Account { id, answer })?;
        answered.await.map_err(|_| ExecuteError::Stopped)
    }

    /// Reads all that is committed under an id; an account's id reads its opening.
    ///
    /// # Errors
    /// [`ExecuteError::Unreadable`].
    pub async fn transaction(&self, id: TransactionId) -> Result<Option<Transaction>, ExecuteError> {
        self.reading.transaction(id).await
    }

    /// Reads up to `limit` committed steps in commit order, from the one after `after_sequence` on.
    ///
    /// # Errors
    /// [`ExecuteError::Unreadable`].
    pub async fn steps_after(&self, after_sequence: u64, limit: usize) -> Result<StepsPage, ExecuteError> {
        self.reading.steps_after(after_sequence, limit).await
    }

    /// Reads up to `limit` of an account's entries, newest first, from `from` on or from the newest; `None`
    /// when there is no such account. With `posted_only`, entries that only hold or release are left out; a
    /// page may then be short although more follow.
    ///
    /// # Errors
    /// [`ExecuteError::ForeignEntry`], [`ExecuteError::Unreadable`], and those of [`Ledger::account`].
    pub async fn account_entries(
        &self,
        account: AccountId,
        from: Option<EntryRef>,
        limit: usize,
        posted_only: bool,
    ) -> Result<Option<EntriesPage>, ExecuteError> {
        let from = match from {
            Some(entry) => Some(entry),
            None => match self.account(account).await? {
                Some(view) => view.account.newest_entry,
                None => return Ok(None),
            },
        };
        let Some(from) = from else { return Ok(Some(EntriesPage { steps: Vec::new(), next: None })) };
        self.reading.account_entries(account, from, limit, posted_only).await.map(Some)
    }

    /// The last committed sequence, as it moves.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Sums all accounts by kind and currency at one commit sequence.
    ///
    /// # Errors
    /// [`ExecuteError`], save `ForeignEntry`.
    pub async fn trial_balance(&self) -> Result<TrialBalance, ExecuteError> {
        trial_balance::take(&self.queue, &self.reading).await
    }

    /// Recomputes the books from their steps in a thread of its own, and compares: the chain, every step,
    /// stored and live totals. The last message is `complete`; if the channel ends without one, the
    /// verification could not be finished. Dropping the receiver ends it.
    pub fn verify(&self) -> mpsc::Receiver<VerifyProgress> {
        verify::start(self.queue.clone(), self.reading.clone())
    }
}

fn limits_of(options: Options) -> Limits {
    Limits {
        time_zone: options.time_zone,
        batch_commands: options.batch_commands,
        checkpoint_every: options.checkpoint_every,
        accounts_in_memory: options.accounts_in_memory,
    }
}

/// Keeps the writer: dropping it ends the writer after what is queued, and waits for that.
#[derive(Debug)]
pub struct WriterGuard {
    queue: QueueSender,
    failed: CancellationToken,
    end: Option<oneshot::Receiver<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl WriterGuard {
    /// Writes what is queued, makes a checkpoint, closes the store and gives back the directory.
    pub async fn stop(mut self) {
        let _ = self.queue.send(Item::Stop);
        if let Some(end) = self.end.take() {
            let _ = end.await;
        }
    }

    /// Completes when the writer died: a commit failed, and nothing more is answered.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.failed.clone().cancelled_owned()
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        let _ = self.queue.send(Item::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
