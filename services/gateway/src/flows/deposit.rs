//! A deposit of cash.

use atm_proto::gateway::{DepositRequest, DepositResponse};

use crate::caller::Customer;
use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Debits the machine's deposit box and credits the customer: what was paid in is not paid out again before
/// somebody has counted it.
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
    let deposits = gateway.place_of(customer, Bin::Deposit).await?;
    let accounts = (deposits, customer.session.account_id);
    let answer = gateway.post(customer, Asked::Cash, id, amount, accounts).await?;
    Ok(DepositResponse {
        outcome: Some(convert::outcome(answer.outcome, View::CREDITOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
