//! From a command to its answer: through the writer, into the log, and back to the caller.

use atm_faults::fault_point;
use atm_ledger_core::{Action, Command, Refusal, Step, TransactionState};
use atm_proto::{ledger as wire, types};
use atm_rpc::deadline::Deadline;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::convert::{self, Presented};
use super::status::{Failure, Malformed};
use super::{Api, outcome};
use crate::handle::Answer;

/// Says that the outcome was recorded by an earlier call. It stands beside the message, never in it.
const REPLAYED: &str = "atm-replayed";

/// A step that is committed, as the answer to a command.
pub(super) struct Recorded {
    pub(super) step: Step,
    pub(super) state: Option<TransactionState>,
    replayed: bool,
}

impl Recorded {
    /// The frozen outcome, and where the transaction stands now.
    pub(super) fn on_wire(&self, api: &Api) -> (Option<wire::Outcome>, i32) {
        let state: types::TransactionState = convert::state(self.state);
        (Some(outcome::outcome(&self.step, &api.authorizer)), state.into())
    }

    /// Puts a message made of this on its way.
    pub(super) fn respond<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        if self.replayed {
            response.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
        }
        response
    }

    /// Stands at what is worth counting in a simulation.
    fn mark(&self, begins: bool) {
        if !self.replayed {
            return;
        }
        fault_point!("LEDGER_ANSWERED_AGAIN");
        if begins && self.step.action == Action::Tombstone {
            fault_point!("LEDGER_TOMBSTONE_MET_THE_REQUEST");
        }
        if begins && matches!(self.step.action, Action::Decline { .. }) {
            fault_point!("LEDGER_DECLINED_AGAIN");
        }
    }

    /// One line for each committed command, and an alarm for money that had to be posted without asking or
    /// whose cash nobody knows the whereabouts of.
    fn log(&self) {
        macro_rules! tell {
            ($level:ident, $transfer:expr, $text:literal) => {
                tracing::$level!(
                    transaction_id = %self.step.id,
                    commit_sequence = self.step.commit_sequence,
                    account_id = %$transfer.debit,
                    minor_units = $transfer.amount,
                    currency = %$transfer.currency,
                    replayed = self.replayed,
                    $text
                )
            };
        }
        let Step { id, commit_sequence, action, .. } = &self.step;
        match action {
            Action::CaptureLate { transfer, .. } => tell!(
                warn,
                transfer,
                "CAPTURED_LATE: cash had left after its hold was gone; it was posted without asking the balance"
            ),
            Action::Suspend { transfer, .. } => tell!(
                warn,
                transfer,
                "SUSPECT: nobody knows whether the cash left; the hold is frozen until a person decides it"
            ),
            Action::Resolve { transfer, .. } => tell!(info, transfer, "a frozen hold was decided"),
            Action::OpenAccount(_)
            | Action::Post { .. }
            | Action::Hold { .. }
            | Action::Decline { .. }
            | Action::Tombstone
            | Action::Capture { .. }
            | Action::Cancel { .. }
            | Action::Expire { .. } => {}
        }
        tracing::debug!(
            transaction_id = %id,
            commit_sequence,
            step = convert::step_kind(action.kind()).as_str_name(),
            replayed = self.replayed,
            "committed"
        );
    }
}

impl Api {
    /// Has one command decided and committed.
    pub(super) async fn execute(
        &self,
        command: Command,
        deadline: Option<Deadline>,
    ) -> Result<Recorded, Failure> {
        fault_point!("LEDGER_COMMAND_RECEIVED");
        let begins = matches!(command, Command::Hold(_) | Command::Post { .. });
        let mut answers =
            self.ledger.execute(vec![command], deadline).await.map_err(|error| self.unanswered(error))?;
        let recorded = answers.pop().map_or(Err(Failure::Stopped), recorded)?;
        recorded.mark(begins);
        fault_point!("LEDGER_BEFORE_ANSWER");
        Ok(recorded)
    }
}

/// What an answer means for its command.
pub(super) fn recorded(answer: Answer) -> Result<Recorded, Failure> {
    match answer {
        Answer::Recorded { step, state, replayed } => {
            let recorded = Recorded { step, state, replayed };
            recorded.log();
            Ok(recorded)
        }
        Answer::Refused(refusal) => Err(Failure::Refused(refusal)),
        Answer::Expired => Err(Failure::Expired),
        Answer::NoRoom => Err(Failure::NoRoom),
    }
}

/// A capture or a suspension that fails for want of a known hold fails for its authorization, if it brought a
/// wrong one.
pub(super) fn explain_authorized(failure: Failure, presented: Presented) -> Failure {
    let needed = match &failure {
        Failure::Refused(Refusal::NotFound) => true,
        Failure::Refused(Refusal::NothingToCapture { state } | Refusal::NothingToSuspend { state }) => {
            match state {
                TransactionState::Cancelled | TransactionState::Declined => true,
                TransactionState::Posted
                | TransactionState::Held
                | TransactionState::Captured
                | TransactionState::Expired
                | TransactionState::CapturedLate
                | TransactionState::Suspect => false,
            }
        }
        _ => false,
    };
    match presented {
        Presented::Forged if needed => {
            Malformed::new("authorization", "was not signed by this ledger for this transaction and terminal")
                .into()
        }
        Presented::Forged | Presented::NothingWrong => failure,
    }
}

/// What is answered to an opening: the account as it was opened.
pub(super) fn opened(step: &Step) -> Result<wire::OpenAccountResponse, Status> {
    match &step.action {
        Action::OpenAccount(terms) => {
            Ok(wire::OpenAccountResponse { account: Some(outcome::opened(terms, step.commit_time)) })
        }
        // The core answers an opening with an opening or a refusal.
        _ => Err(Failure::Refused(Refusal::IdReused { field: "account.account_id" }).into()),
    }
}
