//! What the machine does with a transaction: begin it, carry it out, and settle what a crash or a silence left
//! open. Each step is in the journal before the act that it announces.

mod cancel;
mod judge;
mod perform;
mod replay;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use atm_rpc::deadline::Deadline;
use atm_types::{IdSource, TransactionId};

use crate::client::Gateway;
use crate::dispenser::Dispenser;
use crate::exit::{Exit, Failure};
use crate::journal::{Journal, JournalError};
use crate::output::Screen;

pub(crate) use judge::decline_reason;
pub(crate) use perform::Order;

/// The parts of a cash machine, and the time one key press may take.
pub(crate) struct Machine {
    pub(crate) journal: Journal,
    pub(crate) bank: Gateway,
    pub(crate) dispenser: Box<dyn Dispenser>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) screen: Screen,
    pub(crate) patience: Duration,
}

impl Machine {
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
        _ => "journal",
    };
    Failure::new(Exit::Unavailable, reason, format!("{error}; nothing was sent"))
}

/// The journal failed when something may have been sent.
pub(crate) fn journal_after(error: &JournalError, id: TransactionId) -> Failure {
    let message = format!(
        "{error}. The outcome of transaction {id} is not known; once the journal can be written again, run \
         `atm-cli recover`"
    );
    Failure::new(Exit::Unknown, "journal", message).about(id)
}

#[cfg(test)]
mod tests;
