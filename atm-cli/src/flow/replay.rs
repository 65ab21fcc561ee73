//! An id that this journal does not know, but the bank may: its recorded outcome is repeated, and nothing is
//! ever dispensed on it, because this journal did not write its INTENT.

use atm_proto::gateway::GetTransactionResponse;
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use tonic::Code;

use super::perform::id_reused;
use super::{Machine, judge};
use crate::client::{Answer, Session, read_failure};
use crate::exit::{Exit, Failure};
use crate::journal::Intent;
use crate::output::{Receipt, Status, When};

impl Machine {
    /// The bank's outcome for an id that was given by the caller, or nothing when the bank has none.
    pub(super) async fn replay(
        &self,
        session: &Session,
        intent: &Intent,
        deadline: Deadline,
    ) -> Result<Option<Receipt>, Failure> {
        let known = match self.bank.transaction(Some(session), intent.id, deadline).await {
            Ok(known) => known,
            // Also when it is somebody else's; then the bank will say so when it is sent.
            Err(error) if error.status.code() == Code::NotFound => return Ok(None),
            Err(error) => {
                let failure =
                    Failure { exit: Exit::Unavailable, reason: "no_answer", ..read_failure(&error) };
                return Err(failure.in_doubt(intent.id));
            }
        };
        // A used id is never executed again, so sending it can do nothing but bring the first outcome back, or
        // the field in which this request differs from it.
        match self.send(session, intent, deadline).await {
            Ok(answer) => Ok(Some(receipt(intent, &known, &answer))),
            Err(error) if error.status.code() == Code::AlreadyExists => {
                Err(id_reused(intent.id, &judge::used_how(&error.status)))
            }
            Err(error) => {
                let message = format!(
                    "transaction {} is known to the bank, but it gave no answer ({}); run the same command again, or \
                     look it up with `atm-cli transaction show {} --card N`",
                    intent.id,
                    error.status.code(),
                    intent.id
                );
                Err(Failure::new(Exit::Unknown, "no_answer", message).about(intent.id))
            }
        }
    }
}

fn receipt(intent: &Intent, known: &GetTransactionResponse, answer: &Answer) -> Receipt {
    let newest = known.outcomes.last().unwrap_or(&answer.outcome);
    let (status, reason) = match answer.current_state {
        TransactionState::Posted => (Status::Posted, None),
        TransactionState::Captured | TransactionState::CapturedLate => (Status::Captured, None),
        TransactionState::Declined => (Status::Declined, Some(judge::decline_reason(newest))),
        TransactionState::Cancelled => (Status::Cancelled, Some("cancelled".to_owned())),
        TransactionState::Expired => (Status::Cancelled, Some("expired".to_owned())),
        // Whoever wrote its INTENT may have paid it out; this journal did not, so it does not either.
        TransactionState::Suspect => (Status::Unknown, Some("suspect".to_owned())),
        TransactionState::Held | TransactionState::Unspecified => {
            (Status::Unknown, Some("held_elsewhere".to_owned()))
        }
    };
    Receipt {
        id: intent.id,
        kind: Some(intent.kind),
        status,
        reason,
        amount: Some(intent.amount),
        balance: judge::balance(newest),
        suspect: false,
        when: When::Before,
    }
}
