//! Reading what is committed: statements, pages of the ledger, single transactions.
//!
//! Readers have their own connections and never wait for the writer. A statement needs no index on accounts:
//! each entry points to its account's entry before.

use std::fmt;
use std::sync::Arc;

use atm_ledger_core::{EntryRef, Step, Transaction};
use atm_types::{AccountId, TransactionId};

use crate::codec::decode_stored;
use crate::handle::{AccountView, EntriesPage, ExecuteError, StepsPage};
use crate::storage::{Readers, StepKey, StoreError, View};

/// How many entries one page of a statement walks over at most, wanted or not.
const LONGEST_WALK: usize = 10_000;

/// The readers of one store.
#[derive(Clone)]
pub(crate) struct Reading {
    readers: Arc<dyn Readers>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Reading {
    pub(crate) fn new(readers: Arc<dyn Readers>) -> Self {
        Self { readers }
    }

    /// Runs `read` on a view of this moment, on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ExecuteError> {
        let result = if self.readers.blocks() {
            let readers = Arc::clone(&self.readers);
            let task = tokio::task::spawn_blocking(move || read(&mut *readers.view()?));
            task.await.map_err(|_| ExecuteError::Stopped)?
        } else {
            self.readers.view().and_then(|mut view| read(&mut *view))
        };
        result.map_err(|error| ExecuteError::Unreadable(Arc::new(error)))
    }

    /// A view for a thread that reads much.
    pub(crate) fn readers(&self) -> &dyn Readers {
        &*self.readers
    }

    pub(crate) async fn transaction(&self, id: TransactionId) -> Result<Option<Transaction>, ExecuteError> {
        self.read(move |view| {
            let steps = view.transaction(id)?;
            let steps: Result<Vec<Step>, _> =
                steps.iter().map(|stored| decode_stored(stored.key, &stored.data)).collect();
            Ok(Transaction::from_steps(steps?))
        })
        .await
    }

    /// An account as of the last checkpoint. Nobody asks for it but a planted bug.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Option<AccountView>, ExecuteError> {
        self.read(move |view| {
            let commit_sequence = view.checkpoint()?.head.sequence;
            Ok(view.account(id)?.map(|account| AccountView { account, commit_sequence, day: 0 }))
        })
        .await
    }

    pub(crate) async fn steps_after(&self, after: u64, limit: usize) -> Result<StepsPage, ExecuteError> {
        self.read(move |view| steps_after(view, after, limit)).await
    }

    pub(crate) async fn account_entries(
        &self,
        account: AccountId,
        from: EntryRef,
        limit: usize,
        posted_only: bool,
    ) -> Result<EntriesPage, ExecuteError> {
        self.read(move |view| entries(view, account, from, limit, posted_only))
            .await?
            .ok_or(ExecuteError::ForeignEntry)
    }
}

fn steps_after(view: &mut dyn View, after: u64, limit: usize) -> Result<StepsPage, StoreError> {
    let last_sequence = view.head()?.sequence;
    let mut steps = Vec::new();
    let mut sequence = after;
    while steps.len() < limit && sequence < last_sequence {
        let batch = view.batch_of(sequence + 1)?;
        let batch = batch.ok_or_else(|| no_batch(sequence + 1))?;
        let skip = usize::try_from(sequence + 1 - batch.first_sequence).unwrap_or(usize::MAX);
        for key in batch.keys.iter().skip(skip).take(limit - steps.len()) {
            steps.push(step(view, *key)?);
            sequence += 1;
        }
    }
    Ok(StepsPage { steps, last_sequence })
}

fn entries(
    view: &mut dyn View,
    account: AccountId,
    from: EntryRef,
    limit: usize,
    posted_only: bool,
) -> Result<Option<EntriesPage>, StoreError> {
    let mut page = EntriesPage { steps: Vec::new(), next: Some(from) };
    for walked in 0..LONGEST_WALK {
        let Some(entry) = page.next.filter(|_| page.steps.len() < limit) else { break };
        let key = StepKey { id: entry.id, ordinal: entry.ordinal };
        let Some(data) = view.step(key)? else {
            return if walked == 0 { Ok(None) } else { Err(no_step(key)) };
        };
        let step = decode_stored(key, &data)?;
        let leg = step.action.legs().get(usize::from(entry.leg)).copied();
        let Some(leg) = leg.filter(|leg| leg.account_id == account) else {
            return if walked == 0 { Ok(None) } else { Err(no_step(key)) };
        };
        page.next = leg.previous;
        if !posted_only || leg.posted != 0 {
            page.steps.push(step);
        }
    }
    Ok(Some(page))
}

fn step(view: &mut dyn View, key: StepKey) -> Result<Step, StoreError> {
    let data = view.step(key)?.ok_or_else(|| no_step(key))?;
    decode_stored(key, &data)
}

pub(crate) fn no_step(key: StepKey) -> StoreError {
    StoreError::damaged(format!("step {}/{} is missing", key.id, key.ordinal))
}

pub(crate) fn no_batch(sequence: u64) -> StoreError {
    StoreError::damaged(format!("no batch has step {sequence}"))
}
