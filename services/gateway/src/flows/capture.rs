//! The second half of a withdrawal: what was dispensed is posted. The cash is out, so no session is needed,
//! only the terminal that holds the money.

use atm_proto::gateway::{CaptureWithdrawalRequest, CaptureWithdrawalResponse};
use atm_proto::ledger::CaptureTransactionRequest;

use crate::caller::Terminal;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Captures the hold.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TransactionNotFound`], [`Failure::NotCapturable`], [`Failure::IdReused`],
/// and those of the ledger.
pub async fn capture(
    gateway: &Gateway,
    terminal: &Terminal,
    request: CaptureWithdrawalRequest,
) -> Result<CaptureWithdrawalResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::captured_amount(request.amount.as_ref(), gateway.currency)?;
    let capture = CaptureTransactionRequest {
        transaction_id: id.to_string(),
        terminal_id: terminal.id.to_string(),
        amount: Some(convert::money(amount)),
        authorization: request.authorization,
    };
    let answer = gateway.ledger.capture_transaction(terminal.deadline, Asked::Cash, capture).await?;
    // What is captured was held for cash: the customer is the debtor.
    Ok(CaptureWithdrawalResponse {
        outcome: Some(convert::outcome(answer.outcome, View::DEBTOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
