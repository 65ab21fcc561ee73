//! A deposit of cash.

use atm_proto::gateway::{DepositRequest, DepositResponse};

use crate::caller::Customer;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Debits the machine's cash and credits the customer.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::IdReused`], and those of the ledger.
pub async fn deposit(
    gateway: &Gateway,
    customer: &Customer,
    request: DepositRequest,
) -> Result<DepositResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::positive_amount(request.amount.as_ref(), gateway.currency)?;
    let cash = gateway.cash_of(customer).await?;
    let accounts = (cash, customer.session.account_id);
    let answer = gateway.post(customer, Asked::Cash, id, amount, accounts).await?;
    Ok(DepositResponse {
        outcome: Some(convert::outcome(answer.outcome, View::CREDITOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
