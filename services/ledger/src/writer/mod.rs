//! The one writer: it gathers what waits, decides it in order, commits it at once, and only then answers.
//!
//! The phases of a batch, and why they are in this order:
//!
//! 1. **Gather** whatever is waiting, up to some thousands of commands. Nothing waits for company: as soon
//!    as the writer is free it goes, so one client alone pays one commit, and many clients share one.
//! 2. **Decide** due expiries and then every command against the books in memory (`decide`), folding each
//!    recorded step in. Memory is now ahead of the store; nobody but the writer can see it. What a large batch
//!    has decided so far is written meanwhile by a second thread (`ahead`), into the storage transaction that
//!    phase 3 commits.
//! 3. **Commit** all steps in one storage transaction, behind a compare-and-set on the head.
//! 4. **Publish and answer.** A duplicate of something undecided is in this or a later batch, so that it, too,
//!    is answered after the commit.
//!
//! If the commit finds another head, memory was wrong: it is discarded and the batch decided again, and
//! nobody noticed. If the commit fails in any other way, nobody is answered and the writer ends.

mod ahead;
pub(crate) mod batch;
mod checkpoint;
mod decide;
mod load;
pub(crate) mod queue;
mod recent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use atm_ledger_core::{Account, State};
use atm_types::Clock;
use jiff::tz::TimeZone;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::storage::{CommitError, EncodedSteps, Head, Store, StoreError};
use checkpoint::HoldChanges;
use queue::{Item, QueueReceiver};
use recent::RecentIds;

/// How long the writer sleeps at most while holds wait for their expiry: the wall clock may jump.
const EXPIRY_POLL: Duration = Duration::from_millis(250);

/// What bounds the writer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) time_zone: TimeZone,
    pub(crate) batch_commands: usize,
    pub(crate) checkpoint_every: u64,
    pub(crate) accounts_in_memory: usize,
}

/// Why the writer ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that writes ahead cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("a decision contradicts the books: {0}")]
    Defect(String),
}

/// The room that is left on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Enough for everything.
    Plenty,
    /// Only what was kept for captures, cancels, suspensions and expiries.
    Reserve,
    /// None: only what was recorded before can be answered.
    None,
}

/// The books in memory, and the store that they are a cache of.
pub(crate) struct Writer {
    store: Box<dyn Store>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// Where the callers wait for their answers, if they wait in a runtime.
    runtime: Option<Handle>,
    memory: Memory,
    /// When room was last looked for.
    room_checked: tokio::time::Instant,
}

/// What the writer knows: a cache that is valid for exactly one head.
struct Memory {
    head: Head,
    state: State,
    /// What is known to be new without a look.
    recent: RecentIds,
    /// The last step that is part of the checkpoint.
    checkpointed: u64,
    holds: HoldChanges,
    room: Room,
    /// The batch in the making; kept for its room.
    encoded: EncodedSteps,
}

impl Writer {
    /// Where the chain ends.
    pub(crate) fn head(&self) -> Head {
        self.memory.head
    }

    /// All accounts, as they are after the last step; ordered by id.
    pub(crate) fn all_accounts(&mut self) -> Result<Vec<Account>, StoreError> {
        let mut accounts: BTreeMap<_, Account> = BTreeMap::new();
        loop {
            let after = accounts.last_key_value().map(|(id, _)| *id);
            let page = self.store.accounts_after(after, 1_000)?;
            if page.is_empty() {
                break;
            }
            accounts.extend(page.into_iter().map(|account| (account.terms.account_id, account)));
        }
        let newer = self.memory.state.account_ids().filter_map(|id| self.memory.state.account(id));
        accounts.extend(newer.map(|account| (account.terms.account_id, account.clone())));
        Ok(accounts.into_values().collect())
    }

    /// How long the writer may sleep when nothing is queued; `None`: until something is.
    fn idle_time(&self) -> Option<Duration> {
        let due = self.memory.state.next_expiry()?;
        if self.memory.room == Room::None {
            return Some(EXPIRY_POLL);
        }
        Some(due.saturating_since(self.clock.now()).clamp(Duration::from_millis(1), EXPIRY_POLL))
    }
}

/// Runs the writer until it is told to stop, all handles are gone, or a commit fails.
pub(crate) fn run(
    mut writer: Writer,
    queue: &QueueReceiver,
    committed: &watch::Sender<u64>,
    failed: &CancellationToken,
) {
    // Also when a defect makes the thread panic.
    let ending = failed.clone().drop_guard();
    match serve(&mut writer, queue, committed) {
        Ok(()) => {
            ending.disarm();
        }
        Err(error) => tell(&error),
    }
}

/// [`run`] as a task, for simulations, whose time stands still while a thread works. Each batch takes `pace` before it
/// is decided, in which more may come: the time that a disk takes.
pub(crate) async fn run_as_task(
    mut writer: Writer,
    mut queue: QueueReceiver,
    wake: Arc<Notify>,
    pace: Duration,
    committed: watch::Sender<u64>,
    failed: CancellationToken,
) {
    let ending = failed.drop_guard();
    match serve_as_task(&mut writer, &mut queue, &wake, pace, &committed).await {
        Ok(()) => {
            ending.disarm();
        }
        Err(error) => tell(&error),
    }
}

fn tell(error: &Fatal) {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the ledger's writer has ended; nothing more is answered"
    );
}

async fn serve_as_task(
    writer: &mut Writer,
    // Exclusive, since a receiver may be used by one thread at a time and the task may move.
    queue: &mut QueueReceiver,
    wake: &Notify,
    pace: Duration,
    committed: &watch::Sender<u64>,
) -> Result<(), Fatal> {
    let mut items = Vec::new();
    loop {
        let first = match queue.waiting() {
            Some(first) => Some(first),
            None => {
                match writer.idle_time() {
                    Some(most) => drop(tokio::time::timeout(most, wake.notified()).await),
                    None => wake.notified().await,
                }
                queue.waiting()
            }
        };
        if first.is_some() {
            tokio::time::sleep(pace).await;
        }
        let stop = first.is_some_and(|first| gather(first, queue, writer.limits.batch_commands, &mut items));
        writer.execute(&mut items, committed)?;
        if stop {
            return writer.checkpoint_now();
        }
    }
}

fn serve(writer: &mut Writer, queue: &QueueReceiver, committed: &watch::Sender<u64>) -> Result<(), Fatal> {
    let mut items = Vec::new();
    loop {
        let stop = match queue.next(writer.idle_time()) {
            Ok(first) => gather(first, queue, writer.limits.batch_commands, &mut items),
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        writer.execute(&mut items, committed)?;
        if stop {
            return writer.checkpoint_now();
        }
    }
}

/// Takes what is waiting, `first` included; whether to stop after it.
///
/// Whenever nothing waits any more, threads that wait for a processor go first, once: they may be about to bring
/// more, and a commit costs nearly the same for one command as for a hundred. On an idle machine this takes no
/// time.
fn gather(first: Item, queue: &QueueReceiver, most: usize, items: &mut Vec<Item>) -> bool {
    let mut weight = 0;
    let mut next = Some(first);
    while let Some(item) = next {
        if matches!(item, Item::Stop) {
            return true;
        }
        weight += item.weight();
        items.push(item);
        next = if weight < most { queue.waiting().or_else(|| after_others(queue)) } else { None };
    }
    false
}

fn after_others(queue: &QueueReceiver) -> Option<Item> {
    std::thread::yield_now();
    queue.waiting()
}
