//! A transaction: the steps recorded under one id, and where it stands.

use atm_types::Timestamp;

use crate::command::Transfer;
use crate::step::{Action, Step};

/// Where a transaction stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// Money moved in one step. Final.
    Posted,
    /// Refused for a business reason. Final.
    Declined,
    /// Set aside.
    Held,
    /// The hold was posted. Final.
    Captured,
    /// Released, or never to be.
    Cancelled,
    /// Released by the ledger at the end of its lifetime.
    Expired,
    /// Posted after the hold was gone. Final.
    CapturedLate,
    /// Frozen until a person decides, since nobody knows whether the cash left.
    Suspect,
}

/// Everything recorded under one id, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    first: Step,
    /// At most four: a hold's release, its suspension, the resolution, and a late capture after that.
    later: Vec<Step>,
}

/// A hold that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenHold {
    pub(crate) transfer: Transfer,
    pub(crate) expire_time: Timestamp,
    /// The day whose withdrawal limit the hold counts against.
    pub(crate) day: i32,
}

impl Transaction {
    /// A transaction of which only the first step was recorded.
    pub const fn new(first: Step) -> Self {
        Self { first, later: Vec::new() }
    }

    /// A transaction as storage had it, oldest step first; `None` when there is no step.
    pub fn from_steps(steps: impl IntoIterator<Item = Step>) -> Option<Self> {
        let mut steps = steps.into_iter();
        let first = steps.next()?;
        Some(Self { first, later: steps.collect() })
    }

    /// The step that was recorded first.
    pub const fn first(&self) -> &Step {
        &self.first
    }

    /// The step that was recorded last.
    pub fn last(&self) -> &Step {
        self.later.last().unwrap_or(&self.first)
    }

    /// All steps, oldest first.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// Where it stands; `None` when the id is an account's.
    pub fn state(&self) -> Option<TransactionState> {
        self.last().action.state()
    }

    /// Adds the step recorded next.
    pub(crate) fn push(&mut self, step: Step) {
        self.later.push(step);
    }

    /// The ordinal of the step to be recorded next.
    pub(crate) fn next_ordinal(&self) -> u8 {
        u8::try_from(self.later.len() + 1).unwrap_or(u8::MAX)
    }

    /// The suspension, whatever came after it.
    pub(crate) fn suspension(&self) -> Option<&Step> {
        self.steps().find(|step| matches!(step.action, Action::Suspend { .. }))
    }

    /// The resolution, whatever came after it.
    pub(crate) fn resolution(&self) -> Option<&Step> {
        self.steps().find(|step| matches!(step.action, Action::Resolve { .. }))
    }

    /// What was held or frozen, whether or not it still is. Books restored from an older backup may know a
    /// suspension without its hold.
    pub(crate) fn held(&self) -> Option<Transfer> {
        let held = |step: &Step| match &step.action {
            Action::Hold { transfer, .. } | Action::Suspend { transfer, .. } => Some(*transfer),
            _ => None,
        };
        self.steps().find_map(held)
    }

    /// What was held first, whether or not it still is, and the day it counts against.
    pub(crate) const fn hold(&self) -> Option<OpenHold> {
        match &self.first.action {
            Action::Hold { transfer, expire_time, .. } => {
                Some(OpenHold { transfer: *transfer, expire_time: *expire_time, day: self.first.day })
            }
            _ => None,
        }
    }

    /// The hold, if it still stands.
    pub(crate) fn open_hold(&self) -> Option<OpenHold> {
        if self.later.is_empty() { self.hold() } else { None }
    }
}
