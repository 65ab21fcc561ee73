//! Cash movements inside the machine, told to the bank until it has said yes.

use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use tonic::Code;

use super::{Machine, judge};
use crate::client::Answer;
use crate::journal::{JournalError, Movement};

/// What the bank's answer to a movement means.
pub(super) enum Told {
    Posted,
    /// Another attempt would change nothing.
    Refused(String),
    /// Not known: tell it again.
    Silence,
}

impl Machine {
    /// Tells the bank of every movement that it does not know, oldest first, until the deadline.
    pub(crate) async fn settle_movements(&mut self, deadline: Deadline) -> Result<(), JournalError> {
        self.finish_loads()?;
        for movement in self.journal.pending_movements()? {
            match self.tell(&movement, deadline).await {
                Told::Posted => self.journal.end_movement(&movement, None)?,
                Told::Refused(reason) => {
                    self.journal.end_movement(&movement, Some(&reason))?;
                    self.screen.alarm(&format!(
                        "cash movement {} of {} from {} to {} was refused by the bank ({reason}); a person must look",
                        movement.id, movement.amount, movement.from, movement.to
                    ));
                }
                // The next one would not be answered either.
                Told::Silence => return Ok(()),
            }
        }
        Ok(())
    }

    /// The same after a customer's transaction, whose outcome does not depend on it: what goes wrong here is for the
    /// next start.
    pub(crate) async fn tell_of_movements(&mut self, deadline: Deadline) {
        if let Err(error) = self.settle_movements(self.at_least_grace(deadline)).await {
            tracing::warn!(%error, "the bank was not told of all cash movements");
        }
    }

    /// Sends one movement.
    pub(super) async fn tell(&mut self, movement: &Movement, deadline: Deadline) -> Told {
        match self.bank.record_movement(movement, deadline).await {
            Ok(answer) => {
                self.journal.saw(answer.outcome.commit_sequence);
                told(movement, &answer)
            }
            Err(error) => match error.status.code() {
                code @ (Code::AlreadyExists | Code::InvalidArgument) => {
                    Told::Refused(format!("movement_refused_{}", judge::code_name(code)))
                }
                code => {
                    tracing::info!(?code, attempts = error.attempts, "no answer to a cash movement");
                    Told::Silence
                }
            },
        }
    }
}

fn told(movement: &Movement, answer: &Answer) -> Told {
    let outcome = &answer.outcome;
    if outcome.transaction_id != movement.id.to_string() {
        return Told::Silence;
    }
    match outcome.state() {
        TransactionState::Posted => Told::Posted,
        TransactionState::Declined => Told::Refused(judge::decline_reason(outcome)),
        TransactionState::Unspecified
        | TransactionState::Held
        | TransactionState::Captured
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::CapturedLate
        | TransactionState::Suspect => Told::Refused("unexpected_answer".to_owned()),
    }
}
