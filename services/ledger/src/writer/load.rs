//! Reading the books into memory: the checkpoint, then everything after it, checked step by step.

use std::sync::Arc;

use atm_faults::fault_point;
use atm_ledger_core::{Action, State, Step};
use atm_types::{AccountId, Clock};
use tokio::runtime::Handle;

use super::checkpoint::HoldChanges;
use super::recent::RecentIds;
use super::{Limits, Memory, Room, Writer};
use crate::chain::Link;
use crate::codec::decode_stored;
use crate::read::{no_batch, no_step};
use crate::storage::{Batch, Checkpoint, EncodedSteps, Head, Store, StoreError, View};

/// How many rows are read at once.
const PAGE: usize = 1_000;

impl Writer {
    /// Reads the books of `store`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when what follows the checkpoint does not replay or does not hash to the head.
    pub(crate) fn load(
        mut store: Box<dyn Store>,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        // The room may have been given up to open the books at all.
        let room = if store.restore_reserve() { Room::Plenty } else { Room::Reserve };
        let mut writer = Self {
            store,
            limits,
            clock,
            runtime: Handle::try_current().ok(),
            memory: Memory {
                head: Head::EMPTY,
                state: State::new(),
                recent: RecentIds::after(Checkpoint::EMPTY.newest_id),
                checkpointed: 0,
                holds: HoldChanges::default(),
                room,
                encoded: EncodedSteps::default(),
            },
            room_checked: tokio::time::Instant::now(),
        };
        fault_point!("LEDGER_BEFORE_REPLAY");
        writer.reload()?;
        fault_point!("LEDGER_REPLAYED");
        Ok(writer)
    }

    /// Discards memory and reads the books again.
    pub(super) fn reload(&mut self) -> Result<(), StoreError> {
        let Self { store, memory, .. } = self;
        let store = &mut **store;
        // All of one moment: another writer may be at work.
        store.begin()?;
        let checkpoint = store.checkpoint()?;
        memory.head = checkpoint.head;
        memory.recent = RecentIds::after(checkpoint.newest_id);
        memory.checkpointed = checkpoint.head.sequence;
        memory.holds = HoldChanges::default();
        memory.state = State::at(checkpoint.head.sequence, checkpoint.head.commit_time);
        load_open_holds(store, &mut memory.state)?;
        let end = store.head()?;
        while memory.head.sequence < end.sequence {
            let batch = store.batch_of(memory.head.sequence + 1)?;
            let batch = batch.ok_or_else(|| no_batch(memory.head.sequence + 1))?;
            memory.head = replay(store, &memory.head, &batch, |store, step| {
                load_accounts_of(store, &mut memory.state, step)?;
                memory.state.apply(step).map_err(|error| StoreError::damaged(error.to_string()))?;
                memory.holds.note(step);
                memory.recent.record(step.id);
                Ok(())
            })?;
            memory.state.forget_settled();
        }
        store.end();
        if memory.head != end {
            return Err(StoreError::damaged(format!(
                "the head at step {} is not the end of the chain",
                end.sequence
            )));
        }
        Ok(())
    }
}

/// Reads the steps of `batch`, which must follow `previous`, gives each to `apply`, and checks the chain.
fn replay(
    store: &mut dyn Store,
    previous: &Head,
    batch: &Batch,
    mut apply: impl FnMut(&mut dyn Store, &Step) -> Result<(), StoreError>,
) -> Result<Head, StoreError> {
    let first = previous.sequence + 1;
    if batch.first_sequence != first {
        return Err(StoreError::damaged(format!("the batch of step {first} does not begin with it")));
    }
    let mut link = Link::new(previous, batch.commit_time, batch.keys.len());
    for key in &batch.keys {
        let data = store.step(*key)?.ok_or_else(|| no_step(*key))?;
        link.add(*key, &data);
        apply(store, &decode_stored(*key, &data)?)?;
    }
    if link.finish() != batch.hash {
        return Err(StoreError::damaged(format!(
            "the batch of step {first} does not have the hash it was given"
        )));
    }
    Ok(Head { sequence: batch.last_sequence(), commit_time: batch.commit_time, hash: batch.hash })
}

fn load_open_holds(store: &mut dyn Store, state: &mut State) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let ids = store.open_holds_after(after, PAGE)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(*last);
        for id in ids {
            // What happened to it since the checkpoint comes with the replay.
            let first = store.transaction(id)?.into_iter().next();
            let first = first.ok_or_else(|| StoreError::damaged(format!("open hold {id} has no step")))?;
            let step = decode_stored(first.key, &first.data)?;
            if !matches!(step.action, Action::Hold { .. }) || first.key.ordinal != 0 {
                return Err(StoreError::damaged(format!("open hold {id} is no hold")));
            }
            state.insert_transaction([step]);
        }
    }
}

fn load_accounts_of(
    store: &mut (impl View + ?Sized),
    state: &mut State,
    step: &Step,
) -> Result<(), StoreError> {
    for leg in step.action.legs() {
        load_account(store, state, leg.account_id)?;
    }
    Ok(())
}

/// Brings an account into memory, if there is one.
pub(super) fn load_account(
    store: &mut (impl View + ?Sized),
    state: &mut State,
    id: AccountId,
) -> Result<(), StoreError> {
    if state.account(id).is_none()
        && let Some(account) = store.account(id)?
    {
        state.insert_account(account);
    }
    Ok(())
}
