//! One batch: decide, commit, answer.

use atm_faults::{Bug, fault_point, planted};
use atm_ledger_core::{Action, Moment, Transaction, TransactionState};
use atm_types::{AccountId, Timestamp};
use jiff::tz::TimeZone;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::decide::Undecided;
use super::queue::{Audited, Executed, Item};
use super::{Fatal, Room, Writer, ahead};
use crate::chain::Link;
use crate::handle::{AccountView, Answer};
use crate::storage::{CommitError, EncodedSteps, Hash, Head};
use crate::trial_balance::ChangedAccounts;

/// How long a full disk is left alone before room is looked for again.
const ROOM_CHECK: std::time::Duration = std::time::Duration::from_secs(1);

impl Writer {
    /// Executes and answers `items`, which are gone afterwards.
    pub(super) fn execute(
        &mut self,
        items: &mut Vec<Item>,
        committed: &watch::Sender<u64>,
    ) -> Result<(), Fatal> {
        fault_point!("LEDGER_BATCH_BEGUN");
        self.look_for_room();
        let expired = overdue(items);
        let (answers, moment) = loop {
            let moment = self.moment();
            let batch = Undecided { items, expired: &expired, moment };
            match self.decide_and_commit(&batch) {
                Ok(answers) => break (answers, moment),
                Err(Fatal::Commit(CommitError::HeadMoved)) => {
                    tracing::warn!("another writer moved the head; reading the books again");
                }
                Err(Fatal::Commit(CommitError::Full)) => self.make_room(),
                Err(fatal) => return Err(fatal),
            }
            self.reload()?;
        };
        committed.send_if_modified(|last| {
            std::mem::replace(last, self.memory.head.sequence) != self.memory.head.sequence
        });
        self.answer(items, answers, moment);
        self.memory.state.forget_settled();
        self.forget_accounts();
        Ok(())
    }

    /// When this batch is committed.
    fn moment(&self) -> Moment {
        let next = Timestamp::from_nanos(self.memory.head.commit_time.as_nanos().saturating_add(1));
        let commit_time = self.clock.now().max(next);
        Moment { commit_time, day: day_of(commit_time, &self.limits.time_zone) }
    }

    fn decide_and_commit(&mut self, batch: &Undecided<'_>) -> Result<Vec<Vec<Answer>>, Fatal> {
        let answers = if weight(batch.items) < ahead::COMMANDS {
            self.store.begin()?;
            let Self { store, memory, .. } = self;
            memory.decide_all(&mut **store, batch, |_| {})?
        } else {
            self.decide_and_write_ahead(batch)?
        };
        self.commit_batch()?;
        Ok(answers)
    }

    /// Commits what was decided. A batch that recorded nothing writes nothing, but is only answered if
    /// memory was valid when it began.
    fn commit_batch(&mut self) -> Result<(), Fatal> {
        if self.memory.encoded.is_empty() {
            let unmoved = self.store.head()? == self.memory.head;
            self.store.end();
            return if unmoved { Ok(()) } else { Err(CommitError::HeadMoved.into()) };
        }
        let steps = std::mem::take(&mut self.memory.encoded);
        fault_point!("LEDGER_BEFORE_COMMIT");
        let result = self.commit(&steps);
        self.memory.encoded = steps;
        result?;
        fault_point!("LEDGER_COMMITTED");
        Ok(())
    }

    fn answer(&self, items: &mut Vec<Item>, answers: Vec<Vec<Answer>>, moment: Moment) {
        let mut deliveries = Vec::with_capacity(items.len());
        // A caller who does not wait any more is no error.
        for (item, mut outcomes) in items.drain(..).zip(answers) {
            match item {
                Item::Execute { answer, .. } => {
                    outcomes.iter_mut().for_each(|outcome| self.tell_state(outcome));
                    deliveries.push((answer, Ok(outcomes)));
                }
                Item::Account { id, answer } => {
                    let _ = answer.send(self.view_account(id, moment));
                }
                Item::ChangedAccounts { answer } => {
                    let changed = ChangedAccounts::of(&self.memory.state, self.memory.checkpointed);
                    let _ = answer.send(changed);
                }
                Item::Audit { ids, answer } => {
                    let accounts = ids.iter().map(|id| {
                        self.memory.state.account(*id).map(|account| (account.totals, account.newest_entry))
                    });
                    let audited =
                        Audited { sequence: self.memory.head.sequence, accounts: accounts.collect() };
                    let _ = answer.send(audited);
                }
                Item::AuditHolds { answer } => {
                    let holds = self.memory.state.open_holds().map(|hold| hold.id).collect();
                    let _ = answer.send((self.memory.head.sequence, holds));
                }
                Item::Stop => {}
            }
        }
        deliver(self.runtime.as_ref(), deliveries);
    }

    /// Fills in where the transaction stands now, at the end of the batch.
    fn tell_state(&self, answer: &mut Answer) {
        let Answer::Recorded { step, state, .. } = answer else { return };
        *state = match &step.action {
            Action::OpenAccount(_) => None,
            // Nothing follows a posting.
            Action::Post { .. } => Some(TransactionState::Posted),
            Action::Tombstone if planted(Bug::TombstonesAreNotRecorded) => step.action.state(),
            _ => self.memory.state.transaction(step.id).and_then(Transaction::state),
        };
    }

    fn view_account(&self, id: AccountId, moment: Moment) -> Option<AccountView> {
        self.memory.state.account(id).map(|account| AccountView {
            account: account.clone(),
            commit_sequence: self.memory.head.sequence,
            day: moment.day,
        })
    }

    /// The disk is full: gives up what was kept for captures, cancels and suspensions, or everything.
    fn make_room(&mut self) {
        self.room_checked = tokio::time::Instant::now();
        self.memory.room = if self.memory.room == Room::Plenty && self.store.release_reserve() {
            tracing::error!(
                "the disk is full; only captures, cancels, suspensions and expiries are recorded"
            );
            Room::Reserve
        } else {
            tracing::error!("the disk is full and the reserve is used up; nothing is recorded");
            Room::None
        };
    }

    fn look_for_room(&mut self) {
        if self.memory.room == Room::Plenty || self.room_checked.elapsed() < ROOM_CHECK {
            return;
        }
        self.room_checked = tokio::time::Instant::now();
        if self.store.restore_reserve() {
            tracing::info!("the disk has room again");
            self.memory.room = Room::Plenty;
        }
    }
}

/// Hands out the answers of a batch. To wake one task after the other from another thread is dear; so one task is
/// woken that wakes the others from within their runtime.
fn deliver(runtime: Option<&Handle>, deliveries: Vec<(oneshot::Sender<Executed>, Executed)>) {
    let hand_out = move || {
        for (caller, answers) in deliveries {
            // A caller who does not wait any more is no error.
            let _ = caller.send(answers);
        }
    };
    match runtime {
        Some(runtime) => drop(runtime.spawn(async move { hand_out() })),
        None => hand_out(),
    }
}

fn weight(items: &[Item]) -> usize {
    items.iter().map(Item::weight).sum()
}

/// Which items nobody waits for any more. It is asked once, before anything is decided.
fn overdue(items: &[Item]) -> Vec<bool> {
    let now = tokio::time::Instant::now();
    let is_over = |item: &Item| match item {
        Item::Execute { deadline, .. } => deadline.is_some_and(|deadline| deadline.instant() <= now),
        Item::Account { .. }
        | Item::ChangedAccounts { .. }
        | Item::Audit { .. }
        | Item::AuditHolds { .. }
        | Item::Stop => false,
    };
    items.iter().map(is_over).collect()
}

/// The chain hash of `steps` after `previous`.
pub(super) fn link(previous: &Head, commit_time: Timestamp, steps: &EncodedSteps) -> Hash {
    let mut link = Link::new(previous, commit_time, steps.len());
    steps.iter().for_each(|(key, data)| link.add(key, data));
    link.finish()
}

/// The day of an instant, counted from 1970-01-01, in a time zone.
fn day_of(time: Timestamp, zone: &TimeZone) -> i32 {
    let offset = jiff::Timestamp::from_second(time.as_seconds())
        .map_or(0, |instant| i64::from(zone.to_offset(instant).seconds()));
    i32::try_from((time.as_seconds() + offset).div_euclid(24 * 60 * 60)).unwrap_or(0)
}
