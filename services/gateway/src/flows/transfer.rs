//! A transfer to another customer's account.
//!
//! Only accounts of customers can be paid. A transfer to anything else — an account of the bank itself, or
//! none at all — is declined by the ledger, and recorded, as a transfer to an account that does not exist: it is
//! sent with a stand-in that never will exist, derived from the account that was named. So the two cannot
//! be told apart, and nothing is paid to an account that becomes the bank's own in between.
//!
//! A repetition must name the account that was recorded first, even if the account was opened since then. The
//! ledger tells: it refuses another credit account under a known id, without any effect, and then the other
//! spelling is the only one that can be the recorded one.

use atm_faults::{Bug, planted};
use atm_proto::gateway::{TransferRequest, TransferResponse};
use atm_proto::ledger::{AccountKind, PostTransactionResponse};
use atm_types::{AccountId, Money, TransactionId};

use crate::caller::Customer;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::upstream::Asked;

/// Debits the customer and credits the named account.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::IdReused`], and those of the ledger.
pub async fn transfer(
    gateway: &Gateway,
    customer: &Customer,
    request: TransferRequest,
) -> Result<TransferResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let amount = request::positive_amount(request.amount.as_ref(), gateway.currency)?;
    let named = request::account(&request.to_account, "to_account")?.0;
    if named == customer.session.account_id {
        return Err(Failure::invalid("to_account", "must be another account than the one debited"));
    }
    let answer = pay(gateway, customer, id, amount, named).await?;
    Ok(TransferResponse {
        outcome: Some(convert::outcome(answer.outcome, View::DEBTOR)?),
        current_state: convert::state(answer.current_state)?,
    })
}

async fn pay(
    gateway: &Gateway,
    customer: &Customer,
    id: TransactionId,
    amount: Money,
    named: AccountId,
) -> Result<PostTransactionResponse, Failure> {
    let kind = gateway.accounts.kind(&gateway.ledger, customer.deadline, named).await?;
    let payable = kind == Some(AccountKind::Customer);
    let (first, other) = if payable { (named, stand_in(named)) } else { (stand_in(named), named) };
    let debit = customer.session.account_id;
    if planted(Bug::TransferGoesTheWrongWay) {
        return gateway.post(customer, Asked::Transfer, id, amount, (first, debit)).await;
    }
    match gateway.post(customer, Asked::Transfer, id, amount, (debit, first)).await {
        Err(Failure::IdReused { field: "to_account" }) => {
            // The id is known, so this can only repeat what was recorded, or be refused again.
            gateway.post(customer, Asked::Transfer, id, amount, (debit, other)).await
        }
        answer => answer,
    }
}

/// An account that does not exist and never will: no account number has a colon.
fn stand_in(account: AccountId) -> AccountId {
    AccountId::of_number(&format!("not payable:{account}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_is_always_the_same_and_can_never_be_opened_by_number() {
        let account = AccountId::of_cash("ATM-1", atm_types::Currency::BDT);
        assert_eq!(stand_in(account), stand_in(account));
        assert_ne!(stand_in(account), account);
        assert!(request::account_number(&format!("not payable:{account}")).is_err());
    }
}
