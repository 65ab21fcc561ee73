//! The store in memory, for tests and simulations: it passes the same contract suite as the real one, and it
//! can lose, fail or tear any commit that was not acknowledged.
//!
//! [`MemoryDisk`] is what survives a crash; a [`MemoryStore`] is one opening of it. A torn commit leaves some of
//! its steps on the disk, as a log that was cut does; the next opening finds and removes them, as a log's
//! recovery does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atm_faults::{Bug, planted};
use atm_ledger_core::Account;
use atm_types::{AccountId, TransactionId};

use super::{
    Batch, Checkpoint, Commit, CommitError, EncodedSteps, Head, Readers, StepKey, Store, StoreError,
    StoredStep, View,
};

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the disk, and fails.
    Lost,
    /// It reaches the disk, and fails all the same: nobody can know.
    Unknown,
    /// This many of its steps reach the disk, and it fails. The disk is unusable until it is opened again.
    Torn(usize),
    /// It finds no room.
    Full,
}

#[derive(Clone, Debug)]
struct Content {
    head: Head,
    checkpoint: Checkpoint,
    steps: BTreeMap<StepKey, Vec<u8>>,
    /// By first sequence.
    batches: BTreeMap<u64, Batch>,
    accounts: BTreeMap<AccountId, Account>,
    open_holds: BTreeSet<TransactionId>,
    /// What a commit was about to write; empty but for a torn one.
    intent: Vec<StepKey>,
    /// The fault that waits for a commit, and how many commits pass before it.
    fault: Option<(u64, Fault)>,
    commits: u64,
    reserve: bool,
    /// What there was before the last commit; kept only while the bug is planted that loses it.
    before_last: Option<Arc<Content>>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            head: Head::EMPTY,
            checkpoint: Checkpoint::EMPTY,
            steps: BTreeMap::new(),
            batches: BTreeMap::new(),
            accounts: BTreeMap::new(),
            open_holds: BTreeSet::new(),
            intent: Vec::new(),
            fault: None,
            commits: 0,
            reserve: true,
            before_last: None,
        }
    }
}

/// What survives. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    /// Shared with the views of earlier moments, and copied when it changes under one.
    content: Arc<Mutex<Arc<Content>>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Arc<Content>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> Moment {
        Moment(Arc::clone(&self.content()))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(Arc::make_mut(&mut self.content()))
    }

    /// Opens the disk, removing what a torn commit left.
    pub fn open(&self) -> MemoryStore {
        self.lose_what_was_not_synced();
        self.change(|content| {
            for key in std::mem::take(&mut content.intent) {
                if !planted(Bug::TornCommitStays) {
                    content.steps.remove(&key);
                }
            }
        });
        MemoryStore { disk: self.clone(), batch: None }
    }

    /// As `synchronous=OFF` does in a power cut.
    fn lose_what_was_not_synced(&self) {
        if planted(Bug::CommitsAreNotSynced)
            && let Some(before) = self.change(|content| content.before_last.take())
        {
            *self.content() = before;
        }
    }

    /// Another disk with the same content, as after copying it while nothing was being written.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { content: Arc::new(Mutex::new(Arc::clone(&self.content()))) }
    }

    /// Lets `fault` happen to the commit after the next `commits` ones.
    pub fn fail_after(&self, commits: u64, fault: Fault) {
        self.change(|content| content.fault = Some((commits, fault)));
    }

    /// A fault that waits does not happen any more.
    pub fn clear_faults(&self) {
        self.change(|content| content.fault = None);
    }

    /// Says whether there is anything in the reserve for captures, cancels and suspensions, and whether there
    /// can be.
    pub fn set_reserve(&self, reserve: bool) {
        self.change(|content| content.reserve = reserve);
    }

    /// How many commits succeeded.
    pub fn commits(&self) -> u64 {
        self.content().commits
    }
}

/// One opening of a [`MemoryDisk`].
#[derive(Clone, Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    /// The moment of the batch that was begun.
    batch: Option<Moment>,
}

impl MemoryStore {
    fn moment(&self) -> Moment {
        self.batch.clone().unwrap_or_else(|| self.disk.moment())
    }
}

fn failed() -> CommitError {
    CommitError::Failed(StoreError::Unusable {
        what: "the simulated disk failed",
        source: "an injected fault".into(),
    })
}

impl Store for MemoryStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.batch = Some(self.disk.moment());
        Ok(())
    }

    fn end(&mut self) {
        self.batch = None;
    }

    fn write_ahead(&mut self, expected: &Head, _: &EncodedSteps) -> Result<(), CommitError> {
        // The commit brings them again; what a disk can do to a commit, it does there.
        if self.disk.moment().0.head == *expected { Ok(()) } else { Err(CommitError::HeadMoved) }
    }

    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        self.batch = None;
        if planted(Bug::CommitsAreNotSynced) {
            let before = Arc::clone(&self.disk.content());
            self.disk.change(|content| content.before_last = Some(before));
        }
        self.disk.change(|content| content.commit(commit))
    }

    fn release_reserve(&mut self) -> bool {
        self.disk.change(|content| std::mem::replace(&mut content.reserve, false))
    }

    fn restore_reserve(&mut self) -> bool {
        self.disk.content().reserve
    }

    fn readers(&self) -> Arc<dyn Readers> {
        Arc::new(self.disk.clone())
    }
}

impl Content {
    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        if !self.intent.is_empty() {
            return Err(failed());
        }
        if self.head != commit.expected && !planted(Bug::HeadIsNotCompared) {
            return Err(CommitError::HeadMoved);
        }
        match self.next_fault() {
            None => self.write(commit),
            Some(Fault::Lost) => Err(failed()),
            Some(Fault::Full) => Err(CommitError::Full),
            Some(Fault::Unknown) => {
                self.write(commit)?;
                Err(failed())
            }
            Some(Fault::Torn(count)) => {
                self.intent = commit.steps.keys().to_vec();
                let steps = commit.steps.iter().take(count);
                self.steps.extend(steps.map(|(key, data)| (key, data.to_vec())));
                Err(failed())
            }
        }
    }

    fn next_fault(&mut self) -> Option<Fault> {
        match &mut self.fault {
            Some((0, _)) => self.fault.take().map(|(_, fault)| fault),
            Some((commits, _)) => {
                *commits -= 1;
                None
            }
            None => None,
        }
    }

    fn write(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        let keys = commit.steps.keys();
        if let Some(twice) = keys.iter().find(|key| self.steps.contains_key(key)) {
            let what = format!("step {}/{} is there already", twice.id, twice.ordinal);
            return Err(CommitError::Failed(StoreError::damaged(what)));
        }
        self.steps.extend(commit.steps.iter().map(|(key, data)| (key, data.to_vec())));
        if !keys.is_empty() {
            let first_sequence = commit.expected.sequence + 1;
            let Head { commit_time, hash, .. } = commit.head;
            let mut keys = keys.to_vec();
            if planted(Bug::BatchForgetsItsLastStep) && keys.len() > 1 {
                keys.pop();
            }
            let batch = Batch { first_sequence, commit_time, keys, hash };
            self.batches.insert(first_sequence, batch);
        }
        if let Some(changes) = &commit.checkpoint {
            for account in changes.accounts {
                self.accounts.insert(account.terms.account_id, (*account).clone());
            }
            self.open_holds.extend(changes.holds_added);
            self.open_holds.retain(|id| !changes.holds_removed.contains(id));
            self.checkpoint = Checkpoint { head: commit.head, newest_id: changes.newest_id };
        }
        self.head = commit.head;
        self.commits += 1;
        Ok(())
    }
}

impl Readers for MemoryDisk {
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError> {
        Ok(Box::new(self.moment()))
    }

    fn blocks(&self) -> bool {
        false
    }
}

/// The content at one moment.
#[derive(Clone, Debug)]
struct Moment(Arc<Content>);

impl View for Moment {
    fn head(&mut self) -> Result<Head, StoreError> {
        Ok(self.0.head)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, StoreError> {
        Ok(self.0.checkpoint)
    }

    fn batch_of(&mut self, sequence: u64) -> Result<Option<Batch>, StoreError> {
        let batch = self.0.batches.range(..=sequence).next_back().map(|(_, batch)| batch);
        Ok(batch.filter(|batch| batch.last_sequence() >= sequence).cloned())
    }

    fn step(&mut self, key: StepKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.steps.get(&key).cloned())
    }

    fn transaction(&mut self, id: TransactionId) -> Result<Vec<StoredStep>, StoreError> {
        let range = StepKey { id, ordinal: 0 }..=StepKey { id, ordinal: u8::MAX };
        Ok(self.0.steps.range(range).map(stored).collect())
    }

    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.0.accounts.get(&id).cloned())
    }

    fn accounts_after(&mut self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        let accounts = self.0.accounts.range((beginning_after(after), Bound::Unbounded));
        Ok(accounts.take(limit).map(|(_, account)| account.clone()).collect())
    }

    fn open_holds_after(
        &mut self,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<TransactionId>, StoreError> {
        let holds = self.0.open_holds.range((beginning_after(after), Bound::Unbounded));
        Ok(holds.take(limit).copied().collect())
    }

    fn steps_after_key(
        &mut self,
        after: Option<StepKey>,
        limit: usize,
    ) -> Result<Vec<StoredStep>, StoreError> {
        let steps = self.0.steps.range((beginning_after(after), Bound::Unbounded));
        Ok(steps.take(limit).map(stored).collect())
    }
}

fn beginning_after<K>(after: Option<K>) -> Bound<K> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

fn stored((key, data): (&StepKey, &Vec<u8>)) -> StoredStep {
    StoredStep { key: *key, data: data.clone() }
}

impl View for MemoryStore {
    fn head(&mut self) -> Result<Head, StoreError> {
        self.moment().head()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, StoreError> {
        self.moment().checkpoint()
    }

    fn batch_of(&mut self, sequence: u64) -> Result<Option<Batch>, StoreError> {
        self.moment().batch_of(sequence)
    }

    fn step(&mut self, key: StepKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.moment().step(key)
    }

    fn transaction(&mut self, id: TransactionId) -> Result<Vec<StoredStep>, StoreError> {
        self.moment().transaction(id)
    }

    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.moment().account(id)
    }

    fn accounts_after(&mut self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        self.moment().accounts_after(after, limit)
    }

    fn open_holds_after(
        &mut self,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<TransactionId>, StoreError> {
        self.moment().open_holds_after(after, limit)
    }

    fn steps_after_key(
        &mut self,
        after: Option<StepKey>,
        limit: usize,
    ) -> Result<Vec<StoredStep>, StoreError> {
        self.moment().steps_after_key(after, limit)
    }
}
