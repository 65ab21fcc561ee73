//! Settling what is open: captures until the bank has said yes, cancels until it has said what is final.

use std::time::Duration;

use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use tokio::time::sleep;

use super::{Machine, judge};
use crate::dispenser::Dispensed;
use crate::journal::{Event, JournalError, Plan, Record};

/// Between two rounds of attempts that ended with a status which no retry loop would repeat. Captures and
/// cancels are store-and-forward: nothing but an answer ends them.
const PAUSE: Duration = Duration::from_millis(250);

impl Machine {
    /// Does what can be done about an open transaction until the deadline, and gives it back as it is then:
    /// settled, or still open.
    pub(crate) async fn settle(
        &mut self,
        record: Record,
        deadline: Deadline,
    ) -> Result<Record, JournalError> {
        let mut record = record;
        loop {
            let event = match record.state.plan() {
                Plan::Nothing | Plan::Operator => return Ok(record),
                Plan::AskDispenser => Some(self.ask_dispenser(&record)),
                Plan::Cancel => self.cancel(&record, deadline).await?,
                Plan::Capture => self.capture(&record, deadline).await?,
            };
            match event {
                Some(event) => record = self.journal.apply(record.id(), &event)?,
                // Read again: cancel and capture journal that they begin.
                None => return Ok(self.journal.find(record.id())?.unwrap_or(record)),
            }
        }
    }

    /// A crash came between telling the device and hearing from it.
    fn ask_dispenser(&self, record: &Record) -> Event {
        let said = match record.dispense_id {
            Some(id) => self.dispenser.status(id, record.intent.amount),
            None => Dispensed::Unknown,
        };
        match said {
            Dispensed::Presented(amount) => Event::Presented { amount },
            Dispensed::NotPresented => Event::NotPresented,
            Dispensed::Unknown => Event::PresentationUnknown,
        }
    }

    /// Fences the transaction off; nothing if there was no answer in time.
    async fn cancel(&mut self, record: &Record, deadline: Deadline) -> Result<Option<Event>, JournalError> {
        let id = record.id();
        if record.state != crate::journal::State::VoidPending {
            let reason = record.reason.clone().unwrap_or_else(|| "interrupted".to_owned());
            self.journal.apply(id, &Event::GivenUp { reason })?;
        }
        loop {
            match self.bank.cancel(id, deadline).await {
                Ok(answer) => {
                    if let Some(event) = judge::fenced(&record.intent, &answer) {
                        return Ok(Some(event));
                    }
                    tracing::warn!(transaction_id = %id, "the answer to a cancel makes no sense");
                }
                Err(error) => {
                    if let Some(event) = judge::fence_refused(error.status.code()) {
                        return Ok(Some(event));
                    }
                    log(&error, "cancel");
                }
            }
            if !wait(deadline).await {
                return Ok(None);
            }
        }
    }

    /// Posts what is out; nothing if there was no answer in time.
    async fn capture(&mut self, record: &Record, deadline: Deadline) -> Result<Option<Event>, JournalError> {
        let id = record.id();
        if record.state == crate::journal::State::Presented {
            self.journal.apply(id, &Event::CaptureBegun)?;
        }
        // PRESENTED always carries the amount; what was asked for is the most that can be out.
        let amount = record.presented.unwrap_or(record.intent.amount);
        loop {
            match self.bank.capture(id, amount, record.authorization.clone(), deadline).await {
                Ok(answer) => {
                    if let Some(event) = judge::captured(&record.intent, &answer) {
                        return Ok(Some(event));
                    }
                    tracing::warn!(transaction_id = %id, "the answer to a capture makes no sense");
                }
                Err(error) => {
                    if let Some(event) = judge::capture_refused(error.status.code()) {
                        return Ok(Some(event));
                    }
                    log(&error, "capture");
                }
            }
            if !wait(deadline).await {
                return Ok(None);
            }
        }
    }

    /// Settles the journal's open transactions, oldest first, before a new one begins. Says on the screen
    /// what came of each. What cannot be settled by the deadline stays open.
    pub(crate) async fn settle_all_before(&mut self, deadline: Deadline) -> Result<(), JournalError> {
        for record in self.journal.open_transactions()? {
            if record.state.plan() == Plan::Operator {
                continue;
            }
            let was = record.state;
            let record = self.settle(record, deadline).await?;
            let (id, kind, state) = (record.id(), record.intent.kind, record.state);
            self.screen.note(&format!("An earlier {kind}, {id}, was {was} and is now {state}."));
        }
        Ok(())
    }
}

fn log(error: &RetryError, what: &str) {
    tracing::info!(code = ?error.status.code(), attempts = error.attempts, "no answer to a {what}");
}

/// Waits a little; false when the deadline leaves no room for another attempt.
async fn wait(deadline: Deadline) -> bool {
    if deadline.remaining() <= PAUSE {
        return false;
    }
    sleep(PAUSE).await;
    true
}
