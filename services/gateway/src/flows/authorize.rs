//! The first half of a withdrawal from a machine with a cash device: the amount is set aside.

use atm_proto::gateway::{AuthorizeWithdrawalRequest, AuthorizeWithdrawalResponse};
use atm_proto::ledger::HoldTransactionRequest;

use crate::caller::Customer;
use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Holds the amount on the customer's account in favour of the machine's cash.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::IdReused`], and those of the ledger.
pub async fn authorize(
    gateway: &Gateway,
    customer: &Customer,
    request: AuthorizeWithdrawalRequest,
) -> Result<AuthorizeWithdrawalResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::positive_amount(request.amount.as_ref(), gateway.currency)?;
    request::lifetime(request.lifetime.as_ref())?;
    let cash = gateway.place_of(customer, Bin::Cassettes).await?;
    let hold = HoldTransactionRequest {
        transaction_id: id.to_string(),
        terminal_id: customer.session.terminal_id.to_string(),
        debit_account_id: customer.session.account_id.to_string(),
        credit_account_id: cash.to_string(),
        amount: Some(convert::money(amount)),
        lifetime: request.lifetime,
    };
    let answer = gateway.ledger.hold_transaction(customer.deadline, Asked::Cash, hold).await?;
    Ok(AuthorizeWithdrawalResponse {
        outcome: Some(convert::outcome(answer.outcome, View::DEBTOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
