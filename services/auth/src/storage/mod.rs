//! Where cards, attempts and revocations are kept.
//!
//! A backend knows rows and transactions and nothing about PINs: every rule is written once, over [`Rows`], in
//! the use cases. One writer at a time runs one transaction at a time, so that read, decide and write need no
//! further locking. The SQLite backend sits on a thread of its own, since it waits for the disk; the
//! in-memory one, for tests and simulations, runs where it is called.

mod checksums;
#[cfg(test)]
mod checksums_tests;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod full_disk_tests;
mod memory;
mod sqlite;
mod sqlite_rows;

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use atm_types::{AttemptId, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use memory::{CommitFault, MemoryStore};
pub use sqlite::{OpenError, SqliteBackend, SqliteOptions};

use crate::domain::{
    AtmId, Attempt, Card, CardId, DoneOrder, NumberKey, OrderId, Revocation, Session, SessionId, Terminal,
    WrongPins,
};

/// Why storage did not answer. Whatever it is, a stranger only learns that the service is not available.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It is closed, or an earlier commit failed.
    #[error("storage has stopped")]
    Stopped,
    /// Nobody knows whether the transaction is durable. Storage stops; the process has to be started again.
    #[error("a commit failed")]
    Commit(#[source] Box<dyn Error + Send + Sync>),
    /// The disk is full: the transaction was rolled back; nothing happened.
    #[error("the disk is full")]
    Full,
    /// The transaction was rolled back; nothing happened.
    #[error("a statement failed")]
    Statement(#[source] Box<dyn Error + Send + Sync>),
    /// A row of this table is not as it was written.
    #[error("a row of {0} is damaged")]
    Damaged(&'static str),
    /// Rows are missing, or older than others.
    #[error("rows are missing or old")]
    Incomplete,
}

/// The names in the table of things that belong to the database as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meta {
    /// What the right pepper makes of a fixed text.
    PepperCanary,
}

/// What is erased because its time is over.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Attempts recorded at or before this time…
    pub attempts_until: Timestamp,
    /// …or at or after this one, which a clock that was set back leaves behind.
    pub attempts_from: Timestamp,
    /// Sessions that ended before this time, and revocations that concern only such sessions.
    pub sessions_before: Timestamp,
}

/// The rows inside one transaction. Everything written is visible to what is read after it.
pub trait Rows {
    /// Whether there is room on the disk for more than what has to go on when it is full.
    fn has_room(&self) -> bool;

    /// A value that belongs to the database as a whole.
    fn meta(&mut self, name: Meta) -> Result<Option<Vec<u8>>, StorageError>;
    /// Sets such a value.
    fn put_meta(&mut self, name: Meta, value: &[u8]) -> Result<(), StorageError>;

    /// The card with this number.
    fn card(&mut self, key: &NumberKey) -> Result<Option<Card>, StorageError>;
    /// The card with this id.
    fn card_by_id(&mut self, id: CardId) -> Result<Option<Card>, StorageError>;
    /// Stores a card, new or changed. Its number key and id never change.
    fn put_card(&mut self, card: &Card) -> Result<(), StorageError>;
    /// Whether there is any card at all.
    fn has_cards(&mut self) -> Result<bool, StorageError>;

    /// The count of a number that is nobody's card; zero if it was never tried or made room for others.
    fn unknown_number(&mut self, key: &NumberKey) -> Result<WrongPins, StorageError>;
    /// Stores such a count as the newest, and forgets the oldest beyond `most`.
    fn put_unknown_number(
        &mut self,
        key: &NumberKey,
        wrong_pins: WrongPins,
        most: usize,
    ) -> Result<(), StorageError>;
    /// Forgets one such number, since it is a card now.
    fn forget_unknown_number(&mut self, key: &NumberKey) -> Result<(), StorageError>;
    /// Forgets all unknown numbers and attempts: another pepper is about to give every number another key.
    fn forget_numbers(&mut self) -> Result<(), StorageError>;

    /// All attempts under one attempt id, each with a tag of its own.
    fn attempts(
        &mut self,
        key: &NumberKey,
        atm_id: &AtmId,
        attempt_id: AttemptId,
    ) -> Result<Vec<Attempt>, StorageError>;
    /// Records an attempt; one with the same tag, forgotten but not yet erased, is replaced.
    fn put_attempt(&mut self, attempt: &Attempt) -> Result<(), StorageError>;
    /// Forgets the attempts at one card that opened a session.
    fn forget_opened_attempts(&mut self, key: &NumberKey) -> Result<(), StorageError>;

    /// The terminal that a machine's name belongs to.
    fn terminal(&mut self, atm_id: &AtmId) -> Result<Option<Terminal>, StorageError>;
    /// Binds a machine's name to a terminal, or notes another start of it.
    fn put_terminal(&mut self, atm_id: &AtmId, terminal: &Terminal) -> Result<(), StorageError>;
    /// Takes a machine's name from its terminal.
    fn remove_terminal(&mut self, atm_id: &AtmId) -> Result<(), StorageError>;
    /// All machines' names that are bound, in their order.
    fn terminals(&mut self) -> Result<Vec<(AtmId, Terminal)>, StorageError>;
    /// How many names are bound.
    fn terminal_count(&mut self) -> Result<usize, StorageError>;

    /// When a session ends by itself; `None` for one that this database did not open, or not lately.
    fn session_expiry(&mut self, id: SessionId) -> Result<Option<Timestamp>, StorageError>;
    /// The sessions that were opened at a machine and end after `now`, each with its end; the first to end first.
    fn sessions_at(
        &mut self,
        atm_id: &AtmId,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, Timestamp)>, StorageError>;
    /// Remembers where a session was opened and when it ends by itself.
    fn put_session(&mut self, session: &Session) -> Result<(), StorageError>;

    /// Stores a revocation in the place of any earlier one with the same target.
    fn put_revocation(&mut self, revocation: &Revocation) -> Result<(), StorageError>;
    /// All revocations that are relevant after `now`, oldest first.
    fn revocations(&mut self, now: Timestamp) -> Result<Vec<Revocation>, StorageError>;

    /// The order with this id.
    fn order(&mut self, id: OrderId) -> Result<Option<DoneOrder>, StorageError>;
    /// Records an order, for ever.
    fn put_order(&mut self, order: &DoneOrder) -> Result<(), StorageError>;

    /// Erases what is over, and tells how many rows that were.
    fn erase(&mut self, expiry: Expiry) -> Result<usize, StorageError>;
}

/// What a transaction does with the rows.
pub type Work<'a> = dyn FnMut(&mut dyn Rows) -> Result<(), StorageError> + 'a;

/// A database: one transaction after the other, each durable when it returns, or without any effect when
/// `work` fails.
pub trait Backend: Send {
    /// Runs `work` in one transaction; when the disk is full, once more in another one, in the room that was kept.
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), StorageError>;
    /// Makes sure that erased rows leave no copy behind, such as in a log of earlier writes.
    fn scrub(&mut self) -> Result<(), StorageError>;
    /// Keeps room on the disk again, if it was given up and there is some.
    fn look_for_room(&mut self);
}

/// Jobs that wait for the writer; beyond it callers wait, and admission keeps their number down.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut dyn Backend) -> Next + Send>;

/// Whether the backend may be used again.
enum Next {
    Go,
    Stop,
}

/// The handle to storage. Clones share it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

struct Engine {
    runner: Runner,
    /// Cancelled by whatever stopped storage other than [`Store::close`].
    failed: CancellationToken,
    /// Cancelled when the backend is gone.
    closed: CancellationToken,
}

enum Runner {
    Thread(mpsc::Sender<Job>),
    Inline(Mutex<Option<Box<dyn Backend>>>),
}

impl Store {
    /// Runs the backend on a thread of its own.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn on_a_thread(backend: impl Backend + 'static) -> std::io::Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let (failed, closed) = (CancellationToken::new(), CancellationToken::new());
        let (panicked, gone) = (failed.clone().drop_guard(), closed.clone().drop_guard());
        std::thread::Builder::new().name("auth-storage".to_owned()).spawn(move || {
            // The backend is dropped first, with the lock on its directory, also when a job panics.
            let (_gone, panicked, mut backend) = (gone, panicked, backend);
            while let Some(job) = jobs.blocking_recv() {
                if let Next::Stop = job(&mut backend) {
                    break;
                }
            }
            drop(backend);
            panicked.disarm();
        })?;
        Ok(Self { engine: Arc::new(Engine { runner: Runner::Thread(sender), failed, closed }) })
    }

    /// Runs the backend wherever a transaction is asked for.
    pub fn inline(backend: impl Backend + 'static) -> Self {
        Self {
            engine: Arc::new(Engine {
                runner: Runner::Inline(Mutex::new(Some(Box::new(backend)))),
                failed: CancellationToken::new(),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Runs `work` in one transaction. When this returns `Ok` it is durable. Once begun it is not stopped by
    /// dropping the future.
    ///
    /// # Errors
    /// [`StorageError`]; after [`StorageError::Commit`] nobody knows whether `work` happened.
    pub async fn transaction<T, W>(&self, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce(&mut dyn Rows) -> Result<T, StorageError> + Send + 'static,
    {
        let mut work = Some(work);
        // It is only asked again if the first time found no room; and it cannot be run again.
        self.vital_transaction(move |rows| work.take().ok_or(StorageError::Full)?(rows)).await
    }

    /// The same for what has to go on when the disk is full: it takes the room that is kept, and for that `work` may
    /// run a second time.
    ///
    /// # Errors
    /// As [`Store::transaction`].
    pub async fn vital_transaction<T, W>(&self, mut work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnMut(&mut dyn Rows) -> Result<T, StorageError> + Send + 'static,
    {
        self.run(move |backend| {
            let mut value = None;
            backend.transaction(&mut |rows| {
                value = Some(work(rows)?);
                Ok(())
            })?;
            value.ok_or(StorageError::Stopped)
        })
        .await
    }

    /// Makes sure that erased rows leave no copy behind.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn scrub(&self) -> Result<(), StorageError> {
        self.run(|backend| backend.scrub()).await
    }

    /// Keeps room on the disk again, if it was given up and there is some.
    ///
    /// # Errors
    /// [`StorageError::Stopped`].
    pub async fn look_for_room(&self) -> Result<(), StorageError> {
        self.run(|backend| {
            backend.look_for_room();
            Ok(())
        })
        .await
    }

    /// Completes when storage has failed for good and the process should end.
    pub async fn failed(&self) {
        self.engine.failed.cancelled().await;
    }

    /// Whether storage has failed for good.
    pub fn has_failed(&self) -> bool {
        self.engine.failed.is_cancelled()
    }

    /// Lets go of the database: what is running ends, what comes later fails. Returns when it is free for
    /// another process.
    pub async fn close(&self) {
        match &self.engine.runner {
            Runner::Thread(jobs) => {
                // It fails if the thread has ended already, which is just as good.
                let _ = jobs.send(Box::new(|_| Next::Stop)).await;
                self.engine.closed.cancelled().await;
            }
            Runner::Inline(backend) => {
                backend.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.engine.closed.cancel();
            }
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Backend) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let failed = self.engine.failed.clone();
        let checked = move |backend: &mut dyn Backend| {
            let result = work(backend);
            if matches!(result, Err(StorageError::Commit(_))) {
                failed.cancel();
                return (result, Next::Stop);
            }
            (result, Next::Go)
        };
        match &self.engine.runner {
            Runner::Thread(jobs) => {
                let (answer, answered) = oneshot::channel();
                let job: Job = Box::new(move |backend| {
                    let (result, next) = checked(backend);
                    // The caller may be gone; what it wanted is done all the same.
                    let _ = answer.send(result);
                    next
                });
                jobs.send(job).await.map_err(|_| StorageError::Stopped)?;
                answered.await.map_err(|_| StorageError::Stopped)?
            }
            Runner::Inline(backend) => {
                let mut backend = backend.lock().unwrap_or_else(PoisonError::into_inner);
                let (result, next) = checked(backend.as_deref_mut().ok_or(StorageError::Stopped)?);
                if let Next::Stop = next {
                    backend.take();
                }
                result
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("failed", &self.has_failed()).finish_non_exhaustive()
    }
}
