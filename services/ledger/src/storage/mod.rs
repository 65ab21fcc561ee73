//! What the ledger needs from a store, and nothing about how a store does it.
//!
//! A store keeps three things: **steps**, each under its transaction's id and ordinal and never changed;
//! **batches**, which say in which order steps were committed and carry the hash chain; and one
//! **checkpoint**, the accounts and open holds as they were at one chain head. Everything after the
//! checkpoint is replayed from the batches.
//!
//! A commit is all or nothing, and begins with a compare-and-set on the head: memory is a cache that is
//! valid for exactly one head, so if another writer was faster nothing may be written
//! ([`CommitError::HeadMoved`]).

pub mod memory;
pub mod sqlite;

use std::collections::HashSet;
use std::sync::Arc;

use atm_ledger_core::Account;
use atm_types::{AccountId, Timestamp, TransactionId};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The end of the chain: all that is committed hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the last committed step; 0 before the first.
    pub sequence: u64,
    /// The commit time of the last batch.
    pub commit_time: Timestamp,
    /// The chain hash of the last batch; all zero before the first.
    pub hash: Hash,
}

impl Head {
    /// The head of an empty ledger.
    pub const EMPTY: Self = Self { sequence: 0, commit_time: Timestamp::from_nanos(0), hash: [0; 32] };
}

/// Where a step is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey {
    /// The transaction.
    pub id: TransactionId,
    /// The step's place among the steps of the transaction.
    pub ordinal: u8,
}

/// A step as it is stored; `codec` reads and writes `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStep {
    /// Where it is stored.
    pub key: StepKey,
    /// The encoded step.
    pub data: Vec<u8>,
}

/// A batch as it is stored: what was committed together, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit sequence of its first step.
    pub first_sequence: u64,
    /// The time of the commit.
    pub commit_time: Timestamp,
    /// Its steps in commit order; never empty.
    pub keys: Vec<StepKey>,
    /// The chain hash that this batch ends with.
    pub hash: Hash,
}

impl Batch {
    /// The commit sequence of its last step.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + (self.keys.len() as u64).saturating_sub(1)
    }
}

/// The moment that the stored accounts and open holds belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The head at that moment.
    pub head: Head,
    /// The greatest time-ordered id (UUIDv7) recorded by then; nil before the first.
    pub newest_id: TransactionId,
}

impl Checkpoint {
    /// The checkpoint of an empty ledger.
    pub const EMPTY: Self = Self { head: Head::EMPTY, newest_id: TransactionId::from_bytes([0; 16]) };
}

/// Steps of a batch about to be committed: their keys and, one after the other, their encoded bytes.
#[derive(Debug, Default)]
pub struct EncodedSteps {
    keys: Vec<StepKey>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl EncodedSteps {
    /// Forgets all steps but keeps the room for them.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    /// Adds a step whose bytes `encode` appends.
    ///
    /// # Errors
    /// That of `encode`; the steps are then to be cleared.
    pub fn push<E>(
        &mut self,
        key: StepKey,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        encode(&mut self.bytes)?;
        self.keys.push(key);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys in commit order.
    pub fn keys(&self) -> &[StepKey] {
        &self.keys
    }

    /// The bytes of the step at `index`.
    pub fn data(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// A copy of the steps from `start` on.
    #[must_use]
    pub fn since(&self, start: usize) -> Self {
        let first_byte = start.checked_sub(1).map_or(0, |before| self.ends[before]);
        Self {
            keys: self.keys[start..].to_vec(),
            ends: self.ends[start..].iter().map(|end| end - first_byte).collect(),
            bytes: self.bytes[first_byte..].to_vec(),
        }
    }

    /// Keys and bytes in commit order.
    pub fn iter(&self) -> impl Iterator<Item = (StepKey, &[u8])> {
        self.keys.iter().enumerate().map(|(index, key)| (*key, self.data(index)))
    }
}

/// What changed since the checkpoint before.
#[derive(Debug)]
pub struct CheckpointChanges<'a> {
    /// The greatest time-ordered id recorded so far.
    pub newest_id: TransactionId,
    /// Accounts whose row is missing or out of date, ordered by id.
    pub accounts: &'a [&'a Account],
    /// Holds that stand and have no row.
    pub holds_added: &'a HashSet<TransactionId>,
    /// Holds that have a row and no longer stand.
    pub holds_removed: &'a HashSet<TransactionId>,
}

/// One storage transaction: a batch, a checkpoint, or both.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The head that the writer's memory is valid for.
    pub expected: Head,
    /// The head after this commit; the same as `expected` when there are no steps.
    pub head: Head,
    /// The steps; none for a mere checkpoint.
    pub steps: &'a EncodedSteps,
    /// The checkpoint to make at `head`, if one is due.
    pub checkpoint: Option<CheckpointChanges<'a>>,
}

/// Why a store cannot be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database was made by another version of this program.
    #[error("the database has schema version {found}; this program reads version {expected}")]
    SchemaVersion {
        /// What the database says.
        found: i64,
        /// What this program needs.
        expected: i64,
    },
    /// What is stored contradicts itself.
    #[error("the database is damaged: {what}")]
    Damaged {
        /// What does not fit, in plain words.
        what: String,
    },
    /// Steps that were acknowledged are not in the database any more.
    #[error(
        "step {acknowledged} was acknowledged but the database ends at step {found}: its write-ahead log was \
         cut or damaged. Restore it, or remove the file `{marker}` to accept the loss"
    )]
    AcknowledgedLost {
        /// The last step that was acknowledged.
        acknowledged: u64,
        /// The last step that the database has.
        found: u64,
        /// The file that remembers what was acknowledged.
        marker: String,
    },
    /// The database, its directory or its disk cannot be used.
    #[error("{what}")]
    Unusable {
        /// What was tried.
        what: &'static str,
        /// What the library or the operating system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Damage, in plain words.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

/// Why a commit did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer was faster: nothing was written, and the writer's memory is worth nothing.
    #[error("another writer moved the head of the ledger")]
    HeadMoved,
    /// There is no room left: nothing was written.
    #[error("there is no room left for the ledger")]
    Full,
    /// It is not known what was written. Nobody may be answered any more.
    #[error("the commit failed")]
    Failed(#[source] StoreError),
}

/// Reads committed data, all of it as of one moment.
pub trait View {
    /// The head.
    ///
    /// # Errors
    /// As all methods here: [`StoreError`] when the store cannot be read or contradicts itself.
    fn head(&mut self) -> Result<Head, StoreError>;

    /// The moment that accounts and open holds belong to.
    fn checkpoint(&mut self) -> Result<Checkpoint, StoreError>;

    /// The batch that contains the step with this commit sequence.
    fn batch_of(&mut self, sequence: u64) -> Result<Option<Batch>, StoreError>;

    /// One step.
    fn step(&mut self, key: StepKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// All steps of a transaction, oldest first.
    fn transaction(&mut self, id: TransactionId) -> Result<Vec<StoredStep>, StoreError>;

    /// An account as of the checkpoint.
    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError>;

    /// Accounts as of the checkpoint, ordered by id, beginning after `after`.
    fn accounts_after(&mut self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreError>;

    /// Holds that stood at the checkpoint, ordered by id, beginning after `after`.
    fn open_holds_after(
        &mut self,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<TransactionId>, StoreError>;

    /// All steps there are, in or out of a batch, ordered by key, beginning after `after`.
    fn steps_after_key(
        &mut self,
        after: Option<StepKey>,
        limit: usize,
    ) -> Result<Vec<StoredStep>, StoreError>;
}

/// Opens views; shared by all readers.
pub trait Readers: Send + Sync {
    /// A view of what is committed at this moment.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError>;

    /// Whether reading may block, so that it belongs on a thread of its own.
    fn blocks(&self) -> bool;
}

/// The writer's side of a store. Between [`Store::begin`] and the next commit or [`Store::end`] its view
/// stays at one moment; otherwise it sees what is committed at the moment of each call.
pub trait Store: View + Send {
    /// Begins a batch.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Ends a batch that commits nothing.
    fn end(&mut self);

    /// Writes the next steps of a batch ahead of its commit, if `expected` is the head. They are the first ones of
    /// the steps that the next commit brings, and nobody sees them before it.
    ///
    /// # Errors
    /// [`CommitError`], and what was written ahead is gone.
    fn write_ahead(&mut self, expected: &Head, steps: &EncodedSteps) -> Result<(), CommitError>;

    /// Commits all of `commit` or nothing, durably, and ends the batch.
    ///
    /// # Errors
    /// [`CommitError`]; after [`CommitError::Failed`] the store must not be used any more.
    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError>;

    /// Gives up the room that was kept for captures, cancels and suspensions; whether there was any.
    fn release_reserve(&mut self) -> bool;

    /// Sets room aside for captures, cancels and suspensions again; whether there is enough for that.
    fn restore_reserve(&mut self) -> bool;

    /// What readers use.
    fn readers(&self) -> Arc<dyn Readers>;
}
