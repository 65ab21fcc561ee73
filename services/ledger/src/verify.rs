//! Verification: the books are recomputed from their steps, from nothing, and everything that is stored or
//! remembered is held against the result.
//!
//! 1. In commit order, every batch is hashed and every step folded into empty books, up to the checkpoint;
//!    the stored accounts and open holds must then be the recomputed ones. Then on to the head.
//! 2. In key order, every step row must be one that a batch named: nothing may stand beside the chain.
//! 3. The writer's own totals and holds, asked for in small portions between its batches, must be the
//!    recomputed ones as well.
//!
//! Money does not wait for any of it, and the write-ahead log is not held up: each view lives shortly. The
//! recomputed accounts take memory of their own. After the first step that does not follow from the books
//! before it there are no totals to compare any more; hashes and rows are checked all the same.

mod findings;

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use atm_ledger_core::State;
use atm_types::{AccountId, TransactionId};
use tokio::sync::{mpsc, oneshot};

use crate::chain::Link;
use crate::codec::decode;
use crate::handle::ExecuteError;
use crate::read::Reading;
use crate::storage::{Batch, Hash, Head, StepKey, StoreError, View};
use crate::writer::queue::{Item, QueueSender};
use findings::{Findings, Gone};

/// How many steps are read in one view.
const STEPS_PER_VIEW: u64 = 50_000;
/// How many rows are read at once.
const PAGE: usize = 1_000;
/// How long to wait when the writer's queue is full.
const QUEUE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Where a verification stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// How many steps were checked so far.
    pub steps_checked: u64,
    /// How many there are.
    pub steps_total: u64,
    /// What does not agree, in plain words; new since the last message.
    pub findings: Vec<String>,
    /// Everything was read. The books are sound when no message had a finding.
    pub complete: bool,
    /// The chain's end, on the last message.
    pub chain_head: Option<Hash>,
}

/// Starts a verification in a thread of its own.
pub(crate) fn start(queue: QueueSender, reading: Reading) -> mpsc::Receiver<VerifyProgress> {
    let (sender, receiver) = mpsc::channel(16);
    let work = move || {
        let mut verification = Verification {
            queue,
            reading,
            findings: Findings::new(sender),
            head: Head::EMPTY,
            books: Some(State::new()),
            chained: Rows::new(&RandomState::new()),
        };
        match verification.run() {
            Ok(()) => verification.findings.complete(verification.head.hash),
            Err(Stop::Gone) => {}
            Err(Stop::Unreadable(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the verification cannot go on");
                verification.findings.give_up(&error);
            }
        }
    };
    // Without a thread the channel ends at once, without `complete`.
    if let Err(error) = std::thread::Builder::new().name("ledger-verify".to_owned()).spawn(work) {
        tracing::error!(error = &error as &dyn std::error::Error, "the verification cannot start");
    }
    receiver
}

/// Why a verification ends early.
enum Stop {
    /// Nobody listens any more, or the writer is gone.
    Gone,
    /// The store cannot be read.
    Unreadable(StoreError),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error)
    }
}

struct Verification {
    queue: QueueSender,
    reading: Reading,
    findings: Findings,
    /// How far the chain was followed.
    head: Head,
    /// The recomputed books at that point; `None` since a step did not follow.
    books: Option<State>,
    /// The steps that batches named.
    chained: Rows,
}

impl Verification {
    fn run(&mut self) -> Result<(), Stop> {
        let reading = self.reading.clone();
        loop {
            let mut view = reading.readers().view()?;
            let (checkpoint, end) = (view.checkpoint()?.head, view.head()?);
            self.findings.set_total(end.sequence);
            let portion = self.head.sequence.saturating_add(STEPS_PER_VIEW);
            if !self.follow(&mut *view, checkpoint.sequence.min(portion))? {
                break;
            }
            if self.head.sequence < checkpoint.sequence {
                continue;
            }
            self.compare_checkpoint(&mut *view, &checkpoint)?;
            if self.follow(&mut *view, end.sequence)? && self.head != end {
                self.findings.add("the head is not the end of the chain")?;
            }
            break;
        }
        self.scan_rows()?;
        self.compare_memory()
    }

    /// Follows the chain to the end of the batch with step `until`; whether it leads there.
    fn follow(&mut self, view: &mut dyn View, until: u64) -> Result<bool, Stop> {
        while self.head.sequence < until {
            let first = self.head.sequence + 1;
            let batch = match view.batch_of(first) {
                Ok(Some(batch)) if batch.first_sequence == first => batch,
                Ok(_) | Err(StoreError::Damaged { .. }) => {
                    self.findings.add(format!("no batch begins with step {first}; the chain ends here"))?;
                    self.books = None;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            };
            self.check_batch(view, &batch)?;
        }
        Ok(true)
    }

    fn check_batch(&mut self, view: &mut dyn View, batch: &Batch) -> Result<(), Stop> {
        let mut link = Link::new(&self.head, batch.commit_time, batch.keys.len());
        for (sequence, key) in (batch.first_sequence..).zip(&batch.keys) {
            match view.step(*key) {
                Ok(Some(data)) => {
                    link.add(*key, &data);
                    self.chained.add(*key, &data);
                    self.check_step(batch, sequence, *key, &data)?;
                }
                Ok(None) | Err(StoreError::Damaged { .. }) => {
                    self.books = None;
                    self.findings.add(format!("step {sequence} ({}) is missing", name(*key)))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if link.finish() != batch.hash {
            let first = batch.first_sequence;
            self.findings
                .add(format!("the batch of steps {first} to {} has another hash", batch.last_sequence()))?;
        }
        // With the stored hash, so that every spoilt batch is named and not all after the first.
        self.head =
            Head { sequence: batch.last_sequence(), commit_time: batch.commit_time, hash: batch.hash };
        if let Some(books) = &mut self.books {
            books.forget_settled();
        }
        Ok(self.findings.checked(self.head.sequence)?)
    }

    fn check_step(&mut self, batch: &Batch, sequence: u64, key: StepKey, data: &[u8]) -> Result<(), Stop> {
        let step = match decode(key, data) {
            Ok(step) => step,
            Err(error) => {
                self.books = None;
                return Ok(self.findings.add(format!("step {sequence} ({}): {error}", name(key)))?);
            }
        };
        if step.commit_sequence != sequence || step.commit_time != batch.commit_time {
            let place = "has not the sequence and time of its batch";
            self.findings.add(format!("step {sequence} ({}) {place}", name(key)))?;
        }
        let Some(Err(error)) = self.books.as_mut().map(|books| books.apply(&step)) else { return Ok(()) };
        self.books = None;
        Ok(self.findings.add(error.to_string())?)
    }

    /// Holds the stored accounts and open holds against the recomputed books, which are at the checkpoint.
    fn compare_checkpoint(&mut self, view: &mut dyn View, checkpoint: &Head) -> Result<(), Stop> {
        if self.head != *checkpoint {
            self.findings.add("the checkpoint is not on the chain")?;
        }
        let Some(books) = &self.books else {
            return Ok(self.findings.add("the totals cannot be compared: the steps do not add up")?);
        };
        let mut rows = 0;
        let mut after = None;
        loop {
            let accounts = match view.accounts_after(after, PAGE) {
                Ok(accounts) => accounts,
                Err(error @ StoreError::Damaged { .. }) => {
                    return Ok(self.findings.add(error.to_string())?);
                }
                Err(error) => return Err(error.into()),
            };
            let Some(last) = accounts.last() else { break };
            after = Some(last.terms.account_id);
            rows += accounts.len();
            for stored in &accounts {
                let id = stored.terms.account_id;
                if books.account(id) != Some(stored) {
                    self.findings.add(format!("account {id} is not stored as its entries sum up"))?;
                }
            }
        }
        if rows != books.accounts_at_hand() {
            let opened = books.accounts_at_hand();
            self.findings.add(format!("{rows} accounts are stored, {opened} were opened"))?;
        }
        let recomputed: HashSet<TransactionId> = books.open_holds().map(|hold| hold.id).collect();
        let mut stored = HashSet::new();
        let mut after = None;
        loop {
            let page = view.open_holds_after(after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            stored.extend(page);
        }
        for id in recomputed.symmetric_difference(&stored) {
            self.findings.add(format!("hold {id} is not stored as it stands"))?;
        }
        Ok(())
    }

    /// Looks for step rows that no batch named.
    fn scan_rows(&mut self) -> Result<(), Stop> {
        let reading = self.reading.clone();
        let mut found = self.chained.empty();
        let mut after = None;
        loop {
            let rows = reading.readers().view()?.steps_after_key(after, PAGE)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key);
            for row in &rows {
                match decode(row.key, &row.data) {
                    // Recorded since the chain was followed.
                    Ok(step) if step.commit_sequence > self.head.sequence => {}
                    Ok(_) | Err(_) => found.add(row.key, &row.data),
                }
            }
        }
        if found.count == self.chained.count && found.sum != self.chained.sum {
            self.findings.add("the stored steps are not those of the chain")?;
        }
        if found.count != self.chained.count {
            let (rows, named) = (found.count, self.chained.count);
            self.findings.add(format!("{rows} steps are stored, {named} are in the chain"))?;
        }
        Ok(())
    }

    /// Holds what the writer remembers against the recomputed books.
    fn compare_memory(&mut self) -> Result<(), Stop> {
        let Some(books) = &self.books else { return Ok(()) };
        let ids: Vec<AccountId> = books.account_ids().collect();
        for ids in ids.chunks(PAGE) {
            let (answer, answered) = oneshot::channel();
            let audited = self.ask(Item::Audit { ids: ids.to_vec(), answer }, answered)?;
            let Some(books) = self.books_at(audited.sequence)? else { return Ok(()) };
            let differing: Vec<AccountId> = ids
                .iter()
                .zip(audited.accounts)
                .filter(|(id, remembered)| {
                    let recomputed =
                        books.account(**id).map(|account| (account.totals, account.newest_entry));
                    remembered.is_some() && *remembered != recomputed
                })
                .map(|(id, _)| *id)
                .collect();
            for id in differing {
                self.findings.add(format!("account {id} is not remembered as its entries sum up"))?;
            }
        }
        let (answer, answered) = oneshot::channel();
        let (sequence, remembered) = self.ask(Item::AuditHolds { answer }, answered)?;
        let Some(books) = self.books_at(sequence)? else { return Ok(()) };
        let recomputed: HashSet<TransactionId> = books.open_holds().map(|hold| hold.id).collect();
        let remembered: HashSet<TransactionId> = remembered.into_iter().collect();
        for id in recomputed.symmetric_difference(&remembered) {
            self.findings.add(format!("hold {id} is not remembered as it stands"))?;
        }
        Ok(())
    }

    /// The recomputed books at `sequence`, which is not before where they are.
    fn books_at(&mut self, sequence: u64) -> Result<Option<&State>, Stop> {
        let reading = self.reading.clone();
        self.findings.set_total(sequence);
        self.follow(&mut *reading.readers().view()?, sequence)?;
        Ok(self.books.as_ref())
    }

    /// Asks the writer.
    fn ask<T>(&self, item: Item, answered: oneshot::Receiver<T>) -> Result<T, Stop> {
        let mut item = Some(item);
        while let Some(asking) = item.take() {
            match self.queue.try_send(asking) {
                Ok(()) => {}
                Err((ExecuteError::QueueFull, back)) => {
                    item = Some(back);
                    std::thread::sleep(QUEUE_PAUSE);
                }
                Err(_) => return Err(Stop::Gone),
            }
        }
        answered.blocking_recv().map_err(|_| Stop::Gone)
    }
}

fn name(key: StepKey) -> String {
    format!("{}/{}", key.id, key.ordinal)
}

/// A set of step rows, as far as two of them need to be told apart: their number and the sum of their
/// hashes, under a key that nobody knows.
struct Rows {
    hashing: RandomState,
    count: u64,
    sum: u64,
}

impl Rows {
    fn new(hashing: &RandomState) -> Self {
        Self { hashing: hashing.clone(), count: 0, sum: 0 }
    }

    /// Nothing, to be compared with this.
    fn empty(&self) -> Self {
        Self::new(&self.hashing)
    }

    fn add(&mut self, key: StepKey, data: &[u8]) {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(key.id.as_bytes());
        hasher.write_u8(key.ordinal);
        hasher.write(data);
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}
