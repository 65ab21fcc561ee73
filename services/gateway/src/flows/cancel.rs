//! The fence: whatever was on its way under an id is not applied any more, or here is how it ended. It needs
//! no session, only the terminal that owns the id.

use atm_proto::gateway::{CancelTransactionRequest, CancelTransactionResponse};
use atm_proto::ledger;

use crate::caller::Terminal;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Cancels the transaction if it has not ended.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TransactionNotFound`], and those of the ledger.
pub async fn cancel(
    gateway: &Gateway,
    terminal: &Terminal,
    request: CancelTransactionRequest,
) -> Result<CancelTransactionResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let cancel = ledger::CancelTransactionRequest {
        transaction_id: id.to_string(),
        terminal_id: terminal.id.to_string(),
    };
    let answer = gateway.ledger.cancel_transaction(terminal.deadline, Asked::Transaction, cancel).await?;
    let outcome = answer.outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
    let side = gateway.customers_side(terminal, &outcome).await;
    Ok(CancelTransactionResponse {
        outcome: Some(convert::outcome(Some(outcome), View { side, owner: true })?),
        current_state: convert::state(answer.current_state)?,
    })
}
