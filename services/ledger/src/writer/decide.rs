//! Deciding a batch against the books in memory. Nothing is written here; what is missing in memory is read.

use atm_faults::{Bug, fault_point, planted};
use atm_ledger_core::{Action, Command, Decision, Moment, decide};

use super::load::load_account;
use super::queue::Item;
use super::{Fatal, Memory, Room};
use crate::codec;
use crate::handle::Answer;
use crate::storage::{EncodedSteps, StepKey, View};

/// How many due expiries one batch takes.
const EXPIRIES_PER_BATCH: usize = 4_096;

/// What is to be decided.
#[derive(Clone, Copy)]
pub(super) struct Undecided<'a> {
    pub(super) items: &'a [Item],
    /// Which of the items nobody waits for any more.
    pub(super) expired: &'a [bool],
    /// When the batch is committed.
    pub(super) moment: Moment,
}

impl Memory {
    /// Decides due expiries and then all commands, in order; memory has everything that was recorded then,
    /// and `encoded` has its bytes. Items without commands get no answers here. After each command `progress`
    /// sees what was recorded so far.
    pub(super) fn decide_all(
        &mut self,
        view: &mut dyn View,
        batch: &Undecided<'_>,
        mut progress: impl FnMut(&EncodedSteps),
    ) -> Result<Vec<Vec<Answer>>, Fatal> {
        let Undecided { items, expired, moment } = *batch;
        self.encoded.clear();
        if self.room != Room::None && !planted(Bug::HoldsNeverExpire) {
            for id in self.state.due_expiries(moment.commit_time, EXPIRIES_PER_BATCH) {
                let answer = self.decide_one(view, &Command::Expire { id }, moment)?;
                if !matches!(answer, Answer::Recorded { replayed: false, .. }) {
                    return Err(Fatal::Defect(format!("the hold {id} cannot expire: {answer:?}")));
                }
            }
        }
        let mut answers = Vec::with_capacity(items.len());
        for (item, expired) in items.iter().zip(expired) {
            if let Item::Account { id, .. } = item {
                // Now, so that the head is compared after the read.
                load_account(view, &mut self.state, *id)?;
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
                outcomes.push(self.decide_one(view, command, moment)?);
                progress(&self.encoded);
            }
            answers.push(outcomes);
        }
        Ok(answers)
    }

    fn decide_one(
        &mut self,
        view: &mut dyn View,
        command: &Command,
        moment: Moment,
    ) -> Result<Answer, Fatal> {
        self.bring_in(view, command)?;
        match decide(&self.state, command, moment) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(refusal)),
            Decision::Replay(step) => {
                if step.commit_sequence > self.head.sequence {
                    fault_point!("LEDGER_REPEATED_WITHIN_ONE_BATCH");
                }
                // Of an earlier command of this batch it is no replay in storage, but to this caller it is.
                Ok(Answer::Recorded { step: step.clone(), state: None, replayed: true })
            }
            Decision::Record(_) if !self.admits(command) => Ok(Answer::NoRoom),
            Decision::Record(step) if is_forgotten(&step.action) => {
                Ok(Answer::Recorded { step, state: None, replayed: false })
            }
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
    fn bring_in(&mut self, view: &mut dyn View, command: &Command) -> Result<(), Fatal> {
        let id = command.id();
        let is_new = self.recent.is_new(id) || planted(Bug::StoredIdsAreNotLookedUp);
        if self.state.transaction(id).is_none() && !is_new {
            let mut steps = Vec::new();
            for stored in view.transaction(id)? {
                steps.push(codec::decode_stored(stored.key, &stored.data)?);
            }
            self.state.insert_transaction(steps);
        }
        for account in self.state.accounts_of(command).into_iter().flatten() {
            load_account(view, &mut self.state, account)?;
        }
        Ok(())
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
}

/// Whether a bug is planted that answers such a step and does not record it.
fn is_forgotten(action: &Action) -> bool {
    match action {
        Action::Decline { .. } => planted(Bug::DeclinesAreNotRecorded),
        Action::Tombstone => planted(Bug::TombstonesAreNotRecorded),
        _ => false,
    }
}
