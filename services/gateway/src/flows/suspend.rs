//! A withdrawal of which the dispenser cannot say whether the cash left is frozen until a person decides. Like a
//! capture it needs no session, only the terminal that holds the money; and since the machine's own suspense account
//! takes it, the machine's name must be bound to that terminal.

use atm_proto::gateway::{SuspendWithdrawalRequest, SuspendWithdrawalResponse};
use atm_proto::ledger::SuspendTransactionRequest;

use crate::caller::Terminal;
use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Suspends the hold.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TerminalMismatch`], [`Failure::TerminalNotBound`],
/// [`Failure::TransactionNotFound`], [`Failure::NotSuspendable`], [`Failure::IdReused`], and those of an upstream.
pub async fn suspend(
    gateway: &Gateway,
    terminal: &Terminal,
    request: SuspendWithdrawalRequest,
) -> Result<SuspendWithdrawalResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let atm_id = gateway.own_machine(terminal).await?;
    let (ledger, deadline) = (&gateway.ledger, terminal.deadline);
    let suspense = gateway.accounts.place(ledger, deadline, Bin::Suspense, atm_id, gateway.currency).await?;
    let suspend = SuspendTransactionRequest {
        transaction_id: id.to_string(),
        terminal_id: terminal.id.to_string(),
        suspense_account_id: suspense.to_string(),
        authorization: request.authorization,
    };
    let answer = ledger.suspend_transaction(deadline, Asked::Suspension, suspend).await?;
    // What is suspended was held for cash: the customer is the debtor.
    Ok(SuspendWithdrawalResponse {
        outcome: Some(convert::outcome(answer.outcome, View::DEBTOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
