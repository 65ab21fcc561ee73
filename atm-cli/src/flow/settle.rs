//! Settling what is open: captures and suspensions until the bank has said yes, cancels until it has said what is
//! final. Nothing is sent before the machine has signed on; that is the caller's duty.

use std::time::Duration;

use atm_faults::{Bug, planted};
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use tokio::time::sleep;

use super::cash::Happened;
use super::{Machine, judge};
use crate::journal::{Event, JournalError, Kind, Plan, Record, State};

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
            let id = record.id();
            let happened = match record.state.plan() {
                Plan::Nothing | Plan::Operator => return Ok(record),
                Plan::AskDispenser => {
                    if planted(Bug::PayOutAgainAfterARestart) {
                        self.pay_out_again(&record)?;
                    }
                    Some(self.ask_device(&record)?)
                }
                Plan::Collect => Some(self.collect(&record)?),
                Plan::Stack => self.stack(&record)?.map(alone),
                Plan::Return => self.give_back(&record)?.map(alone),
                Plan::Cancel => self.cancel(&record, deadline).await?.map(alone),
                Plan::Capture if planted(Bug::CapturesAreDropped) => return Ok(record),
                Plan::Capture => self.capture(&record, deadline).await?.map(alone),
                Plan::Suspend => self.suspend(&record, deadline).await?.map(alone),
            };
            match happened {
                Some((event, movements)) => record = self.journal.apply_with(id, &event, &movements)?,
                // Read again: a cancel journals that it begins.
                None => return Ok(self.journal.find(id)?.unwrap_or(record)),
            }
        }
    }

    /// Fences the transaction off; nothing if there was no answer in time.
    async fn cancel(&mut self, record: &Record, deadline: Deadline) -> Result<Option<Event>, JournalError> {
        let id = record.id();
        if record.state != State::VoidPending {
            let reason = record.reason.clone().unwrap_or_else(|| "interrupted".to_owned());
            self.journal.apply(id, &Event::GivenUp { reason })?;
        }
        if planted(Bug::EscrowIsReturnedTooSoon) {
            drop(self.give_back(record)?);
        }
        loop {
            match self.bank.cancel(id, deadline).await {
                Ok(answer) => {
                    self.went_back(id, &answer)?;
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
        if planted(Bug::CancelAfterDispense) {
            let _ = self.bank.cancel(id, deadline).await;
        }
        loop {
            match self.bank.capture(id, record.taken(), record.authorization.clone(), deadline).await {
                Ok(answer) => {
                    self.went_back(id, &answer)?;
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

    /// Freezes what nobody knows; nothing if there was no answer in time.
    async fn suspend(&mut self, record: &Record, deadline: Deadline) -> Result<Option<Event>, JournalError> {
        let id = record.id();
        loop {
            match self.bank.suspend(id, record.authorization.clone(), deadline).await {
                Ok(answer) => {
                    self.went_back(id, &answer)?;
                    if let Some(event) = judge::suspended(&record.intent, &answer) {
                        return Ok(Some(event));
                    }
                    tracing::warn!(transaction_id = %id, "the answer to a suspension makes no sense");
                }
                Err(error) => {
                    if let Some(event) = judge::suspend_refused(error.status.code()) {
                        return Ok(Some(event));
                    }
                    log(&error, "suspension");
                }
            }
            if !wait(deadline).await {
                return Ok(None);
            }
        }
    }

    /// Asks the bank whether a person has decided about a suspended withdrawal, or whether a posting that it had
    /// forgotten is there after all; if so, ends it here as well.
    pub(crate) async fn ask_resolution(
        &mut self,
        record: Record,
        deadline: Deadline,
    ) -> Result<Record, JournalError> {
        if record.state != State::Suspect {
            return Ok(record);
        }
        let Ok(found) = self.bank.transaction(None, record.id(), deadline).await else { return Ok(record) };
        if record.intent.kind != Kind::Withdrawal && found.current_state() == TransactionState::Posted {
            let record = self.journal.apply(record.id(), &Event::Posted { balance: record.balance })?;
            return self.settle(record, deadline).await;
        }
        let Some(amount) = judge::resolved(&record.intent, &found) else { return Ok(record) };
        let (event, movements) = self.resolved(&record, amount)?;
        self.journal.apply_with(record.id(), &event, &movements)
    }

    /// Settles the journal's open transactions, oldest first, and then its cash movements, before a new one begins.
    /// Says on the screen what came of each. What cannot be settled by the deadline stays open.
    pub(crate) async fn settle_all_before(&mut self, deadline: Deadline) -> Result<(), JournalError> {
        self.clear_escrow()?;
        for record in self.journal.open_transactions()? {
            if record.state.plan() == Plan::Operator {
                continue;
            }
            let was = record.state;
            let record = self.settle(record, deadline).await?;
            let (id, kind, state) = (record.id(), record.intent.kind, record.state);
            self.screen.note(&format!("An earlier {kind}, {id}, was {was} and is now {state}."));
        }
        self.settle_movements(deadline).await
    }
}

/// An event by which no cash moved inside the machine.
fn alone(event: Event) -> Happened {
    (event, Vec::new())
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
