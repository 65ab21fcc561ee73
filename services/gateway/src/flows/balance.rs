//! Balance of the session's account.

use atm_proto::gateway::GetBalanceResponse;
use atm_proto::ledger::GetAccountRequest;

use crate::caller::Customer;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::upstream::Asked;

/// Reads balance and available balance in one consistent view.
///
/// # Errors
/// [`Failure::AccountNotFound`] and those of the ledger.
pub async fn balance(gateway: &Gateway, customer: &Customer) -> Result<GetBalanceResponse, Failure> {
    let request = GetAccountRequest { account_id: customer.session.account_id.to_string() };
    let answer = gateway.ledger.get_account(customer.deadline, Asked::Account, request).await?;
    let account = answer.account.ok_or_else(|| Failure::missing("ledger", "account"))?;
    Ok(GetBalanceResponse {
        balance: account.balance,
        currency_code: account.currency_code,
        holder_name: account.holder_name,
        account_number: account.account_number,
        commit_sequence: answer.commit_sequence,
    })
}
