//! The bounded queue in front of the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use atm_ledger_core::{Command, EntryRef, Totals};
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, TransactionId};
use tokio::sync::{Notify, oneshot};

use crate::handle::{AccountView, Answer, ExecuteError};
use crate::trial_balance::ChangedAccounts;

/// What the caller of [`Item::Execute`] gets.
pub(crate) type Executed = Result<Vec<Answer>, ExecuteError>;

/// One thing for the writer to do.
#[derive(Debug)]
pub(crate) enum Item {
    /// Decide commands.
    Execute { commands: Vec<Command>, deadline: Option<Deadline>, answer: oneshot::Sender<Executed> },
    /// Read an account after everything that was queued before.
    Account { id: AccountId, answer: oneshot::Sender<Option<AccountView>> },
    /// Copy the accounts that are newer in memory than in the checkpoint.
    ChangedAccounts { answer: oneshot::Sender<ChangedAccounts> },
    /// Copy what memory says of these accounts.
    Audit { ids: Vec<AccountId>, answer: oneshot::Sender<Audited> },
    /// Copy the ids of all holds that stand, and the last step that is part of that.
    AuditHolds { answer: oneshot::Sender<(u64, Vec<TransactionId>)> },
    /// Finish what was queued before, write a checkpoint and end.
    Stop,
}

/// What the writer's memory says of some accounts.
#[derive(Debug)]
pub(crate) struct Audited {
    /// The last step that is part of it.
    pub(crate) sequence: u64,
    /// Totals and newest entry of each account; `None` when it is not in memory.
    pub(crate) accounts: Vec<Option<(Totals, Option<EntryRef>)>>,
}

impl Item {
    /// How much of the queue the item takes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Execute { commands, .. } => commands.len().max(1),
            Self::Account { .. }
            | Self::ChangedAccounts { .. }
            | Self::Audit { .. }
            | Self::AuditHolds { .. }
            | Self::Stop => 1,
        }
    }

    /// Whether it ends holds that stand and nothing else: such items find room when others do not.
    fn is_critical(&self) -> bool {
        match self {
            Self::Execute { commands, .. } => commands.iter().all(|command| {
                matches!(command, Command::Capture(_) | Command::Cancel { .. } | Command::Suspend(_))
            }),
            Self::Stop => true,
            Self::Account { .. }
            | Self::ChangedAccounts { .. }
            | Self::Audit { .. }
            | Self::AuditHolds { .. } => false,
        }
    }
}

/// The callers' end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueSender {
    sender: mpsc::Sender<Item>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    /// Woken by each item when the writer waits as a task; a thread waits for the channel itself.
    wake: Option<Arc<Notify>>,
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(crate) struct QueueReceiver {
    receiver: mpsc::Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

/// A queue for `limit` commands, one eighth of it kept for captures, cancels and suspensions.
pub(crate) fn queue(limit: usize) -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (
        QueueSender { sender, waiting: Arc::clone(&waiting), limit, wake: None },
        QueueReceiver { receiver, waiting },
    )
}

/// The same for a writer that is a task, and what wakes it.
pub(crate) fn queue_for_a_task(limit: usize) -> (QueueSender, QueueReceiver, Arc<Notify>) {
    let (sender, receiver) = queue(limit);
    let wake = Arc::new(Notify::new());
    (QueueSender { wake: Some(Arc::clone(&wake)), ..sender }, receiver, wake)
}

impl QueueSender {
    /// Puts an item at the end.
    pub(crate) fn send(&self, item: Item) -> Result<(), ExecuteError> {
        self.try_send(item).map_err(|(error, _)| error)
    }

    /// Puts an item at the end, or gives it back.
    pub(crate) fn try_send(&self, item: Item) -> Result<(), (ExecuteError, Item)> {
        let weight = item.weight();
        let limit = if item.is_critical() { self.limit } else { self.limit - self.limit / 8 };
        let before = self.waiting.fetch_add(weight, Ordering::AcqRel);
        // An empty queue takes anything, so that no batch is too large for ever.
        if before > 0 && before.saturating_add(weight) > limit && !matches!(item, Item::Stop) {
            self.waiting.fetch_sub(weight, Ordering::AcqRel);
            return Err((ExecuteError::QueueFull, item));
        }
        self.sender.send(item).map_err(|mpsc::SendError(item)| (ExecuteError::Stopped, item))?;
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        Ok(())
    }
}

impl QueueReceiver {
    /// The next item; `Err` when none came in time or none can come any more.
    pub(crate) fn next(&self, wait: Option<std::time::Duration>) -> Result<Item, mpsc::RecvTimeoutError> {
        let item = match wait {
            Some(wait) => self.receiver.recv_timeout(wait)?,
            None => self.receiver.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)?,
        };
        self.waiting.fetch_sub(item.weight(), Ordering::AcqRel);
        Ok(item)
    }

    /// The next item if one is waiting.
    pub(crate) fn waiting(&self) -> Option<Item> {
        let item = self.receiver.try_recv().ok()?;
        self.waiting.fetch_sub(item.weight(), Ordering::AcqRel);
        Some(item)
    }
}
