//! One batch: decide, commit, answer.

use atm_ledger_core::{Action, Command, Decision, Moment, Transaction, TransactionState, decide};
use atm_types::{AccountId, Timestamp};
use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::load::load_account;
use super::queue::{Audited, Item};
use super::{Fatal, Room, Writer};
use crate::chain::Link;
use crate::codec;
use crate::handle::{AccountView, Answer};
use crate::storage::{CommitError, EncodedSteps, Hash, Head, StepKey};
use crate::trial_balance::ChangedAccounts;

/// How many due expiries one batch takes.
const EXPIRIES_PER_BATCH: usize = 4_096;
/// How long a full disk is left alone before room is looked for again.
const ROOM_CHECK: std::time::Duration = std::time::Duration::from_secs(1);

impl Writer {
    /// Executes and answers `items`, which are gone afterwards.
    pub(super) fn execute(
        &mut self,
        items: &mut Vec<Item>,
        committed: &watch::Sender<u64>,
    ) -> Result<(), Fatal> {
        self.look_for_room();
        let expired = overdue(items);
        let (answers, moment) = loop {
            let moment = self.moment();
            self.store.begin()?;
            let answers = self.decide_all(items, &expired, moment)?;
            match self.commit_batch() {
                Ok(()) => break (answers, moment),
                Err(Fatal::Commit(CommitError::HeadMoved)) => {
                    tracing::warn!("another writer moved the head; reading the books again");
                }
                Err(Fatal::Commit(CommitError::Full)) => self.make_room(),
                Err(fatal) => return Err(fatal),
            }
            self.reload()?;
        };
        committed.send_if_modified(|last| std::mem::replace(last, self.head.sequence) != self.head.sequence);
        self.answer(items, answers, moment);
        self.state.forget_settled();
        self.forget_accounts();
        Ok(())
    }

    /// When this batch is committed.
    fn moment(&self) -> Moment {
        let next = Timestamp::from_nanos(self.head.commit_time.as_nanos().saturating_add(1));
        let commit_time = self.clock.now().max(next);
        Moment { commit_time, day: day_of(commit_time, &self.limits.time_zone) }
    }

    /// Decides due expiries and then all commands, in order; memory has everything that was recorded then,
    /// and `encoded` has its bytes. Items without commands get no answers here.
    fn decide_all(
        &mut self,
        items: &[Item],
        expired: &[bool],
        moment: Moment,
    ) -> Result<Vec<Vec<Answer>>, Fatal> {
        self.encoded.clear();
        if self.room != Room::None {
            for id in self.state.due_expiries(moment.commit_time, EXPIRIES_PER_BATCH) {
                let answer = self.decide_one(&Command::Expire { id }, moment)?;
                if !matches!(answer, Answer::Recorded { replayed: false, .. }) {
                    return Err(Fatal::Defect(format!("the hold {id} cannot expire: {answer:?}")));
                }
            }
        }
        let mut answers = Vec::with_capacity(items.len());
        for (item, expired) in items.iter().zip(expired) {
            if let Item::Account { id, .. } = item {
                // Now, so that the head is compared after the read.
                load_account(&mut *self.store, &mut self.state, *id)?;
            }
            let Item::Execute { commands, .. } = item else {
                answers.push(Vec::new());
                continue;
            };
            if *expired {
                answers.push(vec![Answer::Expired; commands.len()]);
                continue;
            }
            let mut outcomes = Vec::with_capacity(commands.len());
            for command in commands {
                outcomes.push(self.decide_one(command, moment)?);
            }
            answers.push(outcomes);
        }
        Ok(answers)
    }

    fn decide_one(&mut self, command: &Command, moment: Moment) -> Result<Answer, Fatal> {
        self.bring_in(command)?;
        match decide(&self.state, command, moment) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(refusal)),
            Decision::Replay(step) => {
                // Of an earlier command of this batch it is no replay in storage, but to this caller it is.
                Ok(Answer::Recorded { step: step.clone(), state: None, replayed: true })
            }
            Decision::Record(_) if !self.admits(command) => Ok(Answer::NoRoom),
            Decision::Record(step) => {
                self.state.apply(&step).map_err(|error| Fatal::Defect(error.to_string()))?;
                self.holds.note(&step);
                self.recent.record(step.id);
                let key = StepKey { id: step.id, ordinal: step.ordinal };
                let encoded = self.encoded.push(key, |bytes| codec::encode(&step, bytes));
                encoded.map_err(|error| Fatal::Defect(error.to_string()))?;
                Ok(Answer::Recorded { step, state: None, replayed: false })
            }
        }
    }

    /// Brings what deciding `command` looks at into memory.
    fn bring_in(&mut self, command: &Command) -> Result<(), Fatal> {
        let id = command.id();
        if self.state.transaction(id).is_none() && !self.recent.is_new(id) {
            let mut steps = Vec::new();
            for stored in self.store.transaction(id)? {
                steps.push(codec::decode_stored(stored.key, &stored.data)?);
            }
            self.state.insert_transaction(steps);
        }
        for account in self.state.accounts_of(command).into_iter().flatten() {
            load_account(&mut *self.store, &mut self.state, account)?;
        }
        Ok(())
    }

    /// Commits what was decided. A batch that recorded nothing writes nothing, but is only answered if
    /// memory was valid when it began.
    fn commit_batch(&mut self) -> Result<(), Fatal> {
        if self.encoded.is_empty() {
            let unmoved = self.store.head()? == self.head;
            self.store.end();
            return if unmoved { Ok(()) } else { Err(CommitError::HeadMoved.into()) };
        }
        let steps = std::mem::take(&mut self.encoded);
        let result = self.commit(&steps);
        self.encoded = steps;
        Ok(result?)
    }

    fn answer(&self, items: &mut Vec<Item>, answers: Vec<Vec<Answer>>, moment: Moment) {
        // A caller who does not wait any more is no error.
        for (item, mut outcomes) in items.drain(..).zip(answers) {
            match item {
                Item::Execute { answer, .. } => {
                    outcomes.iter_mut().for_each(|outcome| self.tell_state(outcome));
                    let _ = answer.send(Ok(outcomes));
                }
                Item::Account { id, answer } => {
                    let _ = answer.send(self.view_account(id, moment));
                }
                Item::ChangedAccounts { answer } => {
                    let changed = ChangedAccounts::of(&self.state, self.checkpointed);
                    let _ = answer.send(changed);
                }
                Item::Audit { ids, answer } => {
                    let accounts = ids.iter().map(|id| {
                        self.state.account(*id).map(|account| (account.totals, account.newest_entry))
                    });
                    let audited = Audited { sequence: self.head.sequence, accounts: accounts.collect() };
                    let _ = answer.send(audited);
                }
                Item::AuditHolds { answer } => {
                    let holds = self.state.open_holds().map(|hold| hold.id).collect();
                    let _ = answer.send((self.head.sequence, holds));
                }
                Item::Stop => {}
            }
        }
    }

    /// Fills in where the transaction stands now, at the end of the batch.
    fn tell_state(&self, answer: &mut Answer) {
        let Answer::Recorded { step, state, .. } = answer else { return };
        *state = match &step.action {
            Action::OpenAccount(_) => None,
            // Nothing follows a posting.
            Action::Post { .. } => Some(TransactionState::Posted),
            _ => self.state.transaction(step.id).and_then(Transaction::state),
        };
    }

    fn view_account(&self, id: AccountId, moment: Moment) -> Option<AccountView> {
        self.state.account(id).map(|account| AccountView {
            account: account.clone(),
            commit_sequence: self.head.sequence,
            day: moment.day,
        })
    }

    /// Whether there is room for what `command` would record.
    fn admits(&self, command: &Command) -> bool {
        match self.room {
            Room::Plenty => true,
            Room::Reserve => match command {
                Command::Capture(_)
                | Command::Cancel { .. }
                | Command::Suspend(_)
                | Command::Expire { .. } => true,
                Command::OpenAccount(_) | Command::Post { .. } | Command::Hold(_) | Command::Resolve(_) => {
                    false
                }
            },
            Room::None => false,
        }
    }

    /// The disk is full: gives up what was kept for captures, cancels and suspensions, or everything.
    fn make_room(&mut self) {
        self.room_checked = tokio::time::Instant::now();
        self.room = if self.room == Room::Plenty && self.store.release_reserve() {
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
        if self.room == Room::Plenty || self.room_checked.elapsed() < ROOM_CHECK {
            return;
        }
        self.room_checked = tokio::time::Instant::now();
        if self.store.restore_reserve() {
            tracing::info!("the disk has room again");
            self.room = Room::Plenty;
        }
    }
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
