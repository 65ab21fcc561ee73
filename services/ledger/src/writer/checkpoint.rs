//! Checkpoints: accounts and open holds as of one head, written incrementally.

use std::collections::HashSet;

use atm_faults::{Bug, fault_point, planted};
use atm_ledger_core::{Account, Action, Step};
use atm_types::TransactionId;

use super::{Fatal, Writer};
use crate::storage::{CheckpointChanges, Commit, CommitError, EncodedSteps};

/// Holds that came or went since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct HoldChanges {
    pub(super) added: HashSet<TransactionId>,
    pub(super) removed: HashSet<TransactionId>,
}

impl HoldChanges {
    /// Takes note of a recorded step.
    pub(super) fn note(&mut self, step: &Step) {
        if matches!(step.action, Action::Hold { .. }) {
            self.added.insert(step.id);
        } else if step.action.ends_hold() && !self.added.remove(&step.id) {
            self.removed.insert(step.id);
        }
    }

    fn clear(&mut self) {
        self.added.clear();
        self.removed.clear();
    }
}

impl Writer {
    /// Whether enough steps follow the checkpoint to make another.
    fn checkpoint_is_due(&self) -> bool {
        self.memory.state.commit_sequence() - self.memory.checkpointed >= self.limits.checkpoint_every
    }

    /// Commits `steps`, which memory already has, and a checkpoint when one is due.
    pub(super) fn commit(&mut self, steps: &EncodedSteps) -> Result<(), CommitError> {
        let hash = super::batch::link(&self.memory.head, self.memory.state.commit_time(), steps);
        let head = crate::storage::Head {
            sequence: self.memory.state.commit_sequence(),
            commit_time: self.memory.state.commit_time(),
            hash,
        };
        if self.checkpoint_is_due() {
            self.commit_with_checkpoint(head, steps)?;
        } else {
            match self.store.commit(&Commit { expected: self.memory.head, head, steps, checkpoint: None }) {
                Err(CommitError::Failed(_)) if planted(Bug::FailedCommitIsAnswered) => {}
                result => result?,
            }
        }
        self.memory.head = head;
        Ok(())
    }

    fn commit_with_checkpoint(
        &mut self,
        head: crate::storage::Head,
        steps: &EncodedSteps,
    ) -> Result<(), CommitError> {
        let changed = self.memory.state.take_changed_accounts();
        let mut accounts: Vec<&Account> =
            changed.iter().filter_map(|id| self.memory.state.account(*id)).collect();
        accounts.sort_unstable_by_key(|account| account.terms.account_id);
        if planted(Bug::CheckpointMissesAnAccount) {
            accounts.pop();
        }
        let checkpoint = CheckpointChanges {
            newest_id: self.memory.recent.newest(),
            accounts: &accounts,
            holds_added: &self.memory.holds.added,
            holds_removed: &self.memory.holds.removed,
        };
        fault_point!("LEDGER_BEFORE_CHECKPOINT");
        self.store.commit(&Commit {
            expected: self.memory.head,
            head,
            steps,
            checkpoint: Some(checkpoint),
        })?;
        fault_point!("LEDGER_CHECKPOINTED");
        self.memory.holds.clear();
        self.memory.checkpointed = head.sequence;
        Ok(())
    }

    /// Lets go of accounts when there are too many, provided that all are on storage as they are. Call it when
    /// the batch is answered.
    pub(super) fn forget_accounts(&mut self) {
        let stored = self.memory.checkpointed == self.memory.head.sequence;
        if stored && self.memory.state.accounts_at_hand() > self.limits.accounts_in_memory {
            self.memory.state.forget_accounts();
        }
    }

    /// Makes a checkpoint of what is committed, unless there is one.
    pub(super) fn checkpoint_now(&mut self) -> Result<(), Fatal> {
        if self.memory.checkpointed == self.memory.head.sequence {
            return Ok(());
        }
        match self.commit_with_checkpoint(self.memory.head, &EncodedSteps::default()) {
            // The next start replays a little more instead.
            Err(CommitError::HeadMoved | CommitError::Full) | Ok(()) => Ok(()),
            Err(error @ CommitError::Failed(_)) => Err(error.into()),
        }
    }
}
