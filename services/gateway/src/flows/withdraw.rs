//! A withdrawal in one posting, for callers without a cash device.

use atm_proto::gateway::{WithdrawRequest, WithdrawResponse};

use crate::caller::Customer;
use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Debits the customer and credits the machine's cash.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::IdReused`], and those of the ledger.
pub async fn withdraw(
    gateway: &Gateway,
    customer: &Customer,
    request: WithdrawRequest,
) -> Result<WithdrawResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::positive_amount(request.amount.as_ref(), gateway.currency)?;
    let cash = gateway.place_of(customer, Bin::Cassettes).await?;
    let accounts = (customer.session.account_id, cash);
    let answer = gateway.post(customer, Asked::Cash, id, amount, accounts).await?;
    Ok(WithdrawResponse {
        outcome: Some(convert::outcome(answer.outcome, View::DEBTOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}
