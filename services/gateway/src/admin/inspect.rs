//! Everything that was recorded under one id, as evidence.

use atm_proto::gateway::{InspectTransactionRequest, InspectTransactionResponse};
use atm_proto::ledger::{GetTransactionRequest, StepKind};
use atm_rpc::deadline::Deadline;

use crate::failure::Failure;
use crate::flows::transaction::accounts_of;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Reads the transaction, whoever owns it. The ledger's authorization is left out: it belongs into the machine's
/// journal and nowhere else.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TransactionNotFound`], and those of the ledger.
pub async fn inspect(
    gateway: &Gateway,
    deadline: Deadline,
    request: InspectTransactionRequest,
) -> Result<InspectTransactionResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let asked = GetTransactionRequest { transaction_id: id.to_string() };
    let answer = gateway.ledger.get_transaction(deadline, Asked::Transaction, asked).await?;
    let first = answer.steps.first().ok_or(Failure::TransactionNotFound)?;
    if first.outcome.as_ref().is_some_and(|outcome| outcome.step() == StepKind::OpenAccount) {
        // The id of an account.
        return Err(Failure::TransactionNotFound);
    }
    let terminal_id = first.terminal_id.clone();
    let (mut debit_account_id, mut credit_account_id, mut side) = (String::new(), String::new(), None);
    if let Some(outcome) = accounts_of(&answer.steps) {
        side = gateway.side_among(deadline, outcome).await?;
        debit_account_id = outcome.debit_account_id.clone();
        credit_account_id = outcome.credit_account_id.clone();
    }
    let outcomes = answer.steps.iter().filter_map(|step| step.outcome.as_ref());
    let resolution =
        outcomes.filter_map(|outcome| outcome.resolution.clone()).next_back().unwrap_or_default();
    let view = View { side, owner: false };
    Ok(InspectTransactionResponse {
        outcomes: answer
            .steps
            .into_iter()
            .map(|step| convert::outcome(step.outcome, view))
            .collect::<Result<_, _>>()?,
        current_state: convert::state(answer.current_state)?,
        terminal_id,
        debit_account_id,
        credit_account_id,
        resolved_by: resolution.operator,
        resolved_because: resolution.reason,
    })
}
