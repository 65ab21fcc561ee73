//! What the machine does with a transaction: begin it, carry it out, and settle what a crash or a silence left
//! open. Each step is in the journal before the act that it announces.
//!
//! A command goes through it in this order: `sign_on` (is this start the one that may serve?), `settle` (captures,
//! cancels and suspensions, then cash movements: before any new business), then, for a customer who was let in,
//! `enrol` (the first load of a new machine) and `perform`. `cash` is all that the flows say to the device, `judge`
//! all that they think of the bank's answers, `redrive` what a bank that forgot is told again.

mod cancel;
mod cash;
mod enrol;
mod judge;
mod movements;
mod operators;
mod perform;
mod redrive;
mod replay;
mod settle;
mod sign_on;

use std::sync::Arc;
use std::time::Duration;

use atm_rpc::deadline::Deadline;
use atm_types::{Currency, IdSource, TransactionId};

use crate::client::Gateway;
use crate::device::CashDevice;
use crate::exit::{Exit, Failure, with_causes};
use crate::journal::{Boot, Journal, JournalError};
use crate::output::Screen;

pub(crate) use judge::decline_reason;
pub(crate) use perform::Order;
pub(crate) use redrive::Redriven;

/// The parts of a cash machine, and the time one key press may take.
pub(crate) struct Machine {
    pub(crate) journal: Journal,
    pub(crate) bank: Gateway,
    pub(crate) device: Box<dyn CashDevice>,
    /// Whether the journal belongs to this device. Of dispenses of another one nothing is known.
    pub(crate) device_is_ours: bool,
    /// Of the notes in the device.
    pub(crate) currency: Currency,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) screen: Screen,
    pub(crate) patience: Duration,
    /// The start that the bank has acknowledged in this run; nothing is sent before that.
    boot: Option<Boot>,
}

/// What a machine is put together from.
pub(crate) struct Parts {
    pub(crate) journal: Journal,
    pub(crate) bank: Gateway,
    pub(crate) device: Box<dyn CashDevice>,
    pub(crate) currency: Currency,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) screen: Screen,
    pub(crate) patience: Duration,
}

impl Machine {
    /// Puts the parts together; the journal and the device must have met before, or must both be new to each other.
    pub(crate) fn new(parts: Parts) -> Result<Self, JournalError> {
        let Parts { mut journal, bank, device, currency, ids, screen, patience } = parts;
        let device_is_ours = journal.pair(device.serial())?;
        Ok(Self { journal, bank, device, device_is_ours, currency, ids, screen, patience, boot: None })
    }

    /// The start that the bank acknowledged.
    pub(crate) fn boot(&self) -> Option<Boot> {
        self.boot
    }

    /// A little time beyond the deadline, for what must at least be tried: a cancel after a silence, a capture
    /// after a dispense.
    fn grace(&self) -> Duration {
        self.patience.mul_f64(0.15).clamp(Duration::from_millis(250), Duration::from_millis(1500))
    }

    /// `deadline`, but not before the grace time is over.
    fn at_least_grace(&self, deadline: Deadline) -> Deadline {
        deadline.max(Deadline::after(self.grace()))
    }
}

/// The journal failed before anything was sent.
pub(crate) fn journal_before(error: &JournalError) -> Failure {
    let reason = match error {
        JournalError::Locked(_) => "journal_locked",
        JournalError::NoRoom => "disk_full",
        JournalError::Damaged(_) => "journal_damaged",
        JournalError::Device(_) => "device",
        JournalError::Unusable(_)
        | JournalError::OtherTerminal { .. }
        | JournalError::Illegal { .. }
        | JournalError::Presence { .. } => "journal",
    };
    Failure::new(Exit::Unavailable, reason, with_causes(error)).assuring("nothing was sent")
}

/// The journal failed when something may have been sent.
pub(crate) fn journal_after(error: &JournalError, id: TransactionId) -> Failure {
    let message = format!(
        "{}. The outcome of transaction {id} is not known; once the journal can be written again, run \
         `atm-cli recover`",
        with_causes(error)
    );
    Failure::new(Exit::Unknown, "journal", message).about(id)
}

#[cfg(test)]
mod tests;
