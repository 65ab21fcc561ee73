//! What a disk has, decoded for whoever checks the books of a simulation from outside.

use std::sync::Arc;

use atm_ledger_core::{Account, Step};
use atm_proto::ledger as wire;
use atm_types::{Clock, Timestamp};
use jiff::tz::TimeZone;

use crate::authorization::Authorizer;
use crate::codec::decode_stored;
use crate::grpc::outcome;
use crate::read::{no_batch, no_step};
use crate::storage::{Batch, Head, Readers, StepKey, Store, StoreError, View};
use crate::writer::{Limits, Writer};

/// Everything on a disk.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Where the chain ends.
    pub head: Head,
    /// All batches in commit order.
    pub batches: Vec<Batch>,
    /// The steps of all batches, in commit order.
    pub steps: Vec<Step>,
    /// Their bytes, in the same order.
    pub stored: Vec<Vec<u8>>,
    /// Steps that are in no batch.
    pub stray_steps: usize,
    /// The accounts of the last checkpoint.
    pub checkpoint_accounts: Vec<Account>,
}

/// How many rows are read at once.
const PAGE: usize = 1_000;

/// Reads everything.
///
/// # Errors
/// [`StoreError`] when the disk contradicts itself.
pub fn recorded(readers: &dyn Readers) -> Result<Recorded, StoreError> {
    let mut view = readers.view()?;
    let view = &mut *view;
    let head = view.head()?;
    let batches = batches_after(view, 0)?;
    let (mut steps, mut stored) = (Vec::new(), Vec::new());
    for key in batches.iter().flat_map(|batch| &batch.keys) {
        let data = view.step(*key)?.ok_or_else(|| no_step(*key))?;
        steps.push(decode_stored(*key, &data)?);
        stored.push(data);
    }
    let mut rows = 0;
    let mut after: Option<StepKey> = None;
    loop {
        let page = view.steps_after_key(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        rows += page.len();
    }
    let mut checkpoint_accounts: Vec<Account> = Vec::new();
    loop {
        let after = checkpoint_accounts.last().map(|account| account.terms.account_id);
        let page = view.accounts_after(after, PAGE)?;
        if page.is_empty() {
            break;
        }
        checkpoint_accounts.extend(page);
    }
    let stray_steps = rows.saturating_sub(steps.len());
    Ok(Recorded { head, batches, steps, stored, stray_steps, checkpoint_accounts })
}

/// The steps after this one, in commit order, and where the chain ends.
///
/// # Errors
/// [`StoreError`] when the disk contradicts itself.
pub fn steps_after(readers: &dyn Readers, sequence: u64) -> Result<(Head, Vec<Step>), StoreError> {
    let mut view = readers.view()?;
    let view = &mut *view;
    let head = view.head()?;
    let mut steps = Vec::new();
    for batch in batches_after(view, sequence)? {
        for key in &batch.keys {
            let data = view.step(*key)?.ok_or_else(|| no_step(*key))?;
            steps.push(decode_stored(*key, &data)?);
        }
    }
    steps.retain(|step| step.commit_sequence > sequence);
    Ok((head, steps))
}

/// A recorded step as the ledger tells it.
pub fn as_told(step: &Step, authorizer: &Authorizer) -> wire::Step {
    outcome::step(step, authorizer)
}

/// The accounts as a ledger has them that starts on this store now, ordered by id.
///
/// # Errors
/// [`StoreError`] why it would not start.
pub fn accounts_at_start(store: Box<dyn Store>) -> Result<Vec<Account>, StoreError> {
    struct Still;
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(0)
        }
    }
    let limits = Limits {
        time_zone: TimeZone::UTC,
        batch_commands: 1,
        checkpoint_every: u64::MAX,
        accounts_in_memory: usize::MAX,
    };
    Writer::load(store, limits, Arc::new(Still))?.all_accounts()
}

fn batches_after(view: &mut dyn View, sequence: u64) -> Result<Vec<Batch>, StoreError> {
    let end = view.head()?.sequence;
    let mut batches = Vec::new();
    let mut next = sequence + 1;
    while next <= end {
        let batch = view.batch_of(next)?.ok_or_else(|| no_batch(next))?;
        next = batch.last_sequence() + 1;
        batches.push(batch);
    }
    Ok(batches)
}
