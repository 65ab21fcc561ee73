//! A person decides a suspect withdrawal.

use atm_proto::gateway::{ResolveSuspectRequest, ResolveSuspectResponse};
use atm_proto::ledger::ResolveTransactionRequest;
use atm_rpc::deadline::Deadline;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Posts what the customer got and frees the rest; who decided and why is recorded with it.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TransactionNotFound`], [`Failure::NotResolvable`], [`Failure::IdReused`], and
/// those of the ledger.
pub async fn resolve(
    gateway: &Gateway,
    deadline: Deadline,
    request: ResolveSuspectRequest,
) -> Result<ResolveSuspectResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::captured_amount(request.amount.as_ref(), gateway.currency)?;
    request::words(&request.operator, "operator", 100)?;
    request::words(&request.reason, "reason", 500)?;
    let resolve = ResolveTransactionRequest {
        transaction_id: id.to_string(),
        amount: Some(convert::money(amount)),
        operator: request.operator,
        reason: request.reason,
    };
    let answer = gateway.ledger.resolve_transaction(deadline, Asked::Resolution, resolve).await?;
    // What was suspended was held for cash: the customer is the debtor.
    let view = View { owner: false, ..View::DEBTOR };
    Ok(ResolveSuspectResponse { outcome: Some(convert::outcome(answer.outcome, view)?) })
}
