//! Checkpoints: accounts and open holds as of one head, written incrementally.

use std::collections::HashSet;

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
        self.state.commit_sequence() - self.checkpointed >= self.limits.checkpoint_every
    }

    /// Commits `steps`, which memory already has, and a checkpoint when one is due.
    pub(super) fn commit(&mut self, steps: &EncodedSteps) -> Result<(), CommitError> {
        let hash = super::batch::link(&self.head, self.state.commit_time(), steps);
        let head = crate::storage::Head {
            sequence: self.state.commit_sequence(),
            commit_time: self.state.commit_time(),
            hash,
        };
        if self.checkpoint_is_due() {
            self.commit_with_checkpoint(head, steps)?;
        } else {
            self.store.commit(&Commit { expected: self.head, head, steps, checkpoint: None })?;
        }
        self.head = head;
        Ok(())
    }

    fn commit_with_checkpoint(
        &mut self,
        head: crate::storage::Head,
        steps: &EncodedSteps,
    ) -> Result<(), CommitError> {
        let changed = self.state.take_changed_accounts();
        let mut accounts: Vec<&Account> = changed.iter().filter_map(|id| self.state.account(*id)).collect();
        accounts.sort_unstable_by_key(|account| account.terms.account_id);
        let checkpoint = CheckpointChanges {
            newest_id: self.recent.newest(),
            accounts: &accounts,
            holds_added: &self.holds.added,
            holds_removed: &self.holds.removed,
        };
        self.store.commit(&Commit { expected: self.head, head, steps, checkpoint: Some(checkpoint) })?;
        self.holds.clear();
        self.checkpointed = head.sequence;
        Ok(())
    }

    /// Lets go of accounts when there are too many, provided that all are on storage as they are. Call it when
    /// the batch is answered.
    pub(super) fn forget_accounts(&mut self) {
        let stored = self.checkpointed == self.head.sequence;
        if stored && self.state.accounts_at_hand() > self.limits.accounts_in_memory {
            self.state.forget_accounts();
        }
    }

    /// Makes a checkpoint of what is committed, unless there is one.
    pub(super) fn checkpoint_now(&mut self) -> Result<(), Fatal> {
        if self.checkpointed == self.head.sequence {
            return Ok(());
        }
        match self.commit_with_checkpoint(self.head, &EncodedSteps::default()) {
            // The next start replays a little more instead.
            Err(CommitError::HeadMoved | CommitError::Full) | Ok(()) => Ok(()),
            Err(error @ CommitError::Failed(_)) => Err(error.into()),
        }
    }
}
