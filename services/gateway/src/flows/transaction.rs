//! Everything recorded under one id, for those whom it concerns: the accounts on either side, and the terminal
//! that owns it. For everybody else it does not exist.

use atm_proto::gateway::{GetTransactionRequest, GetTransactionResponse};
use atm_proto::ledger::{self, AccountKind, Step, StepKind};
use atm_proto::types::TransactionState;
use atm_types::AccountId;

use crate::caller::{Customer, Terminal};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, Side, View};
use crate::request;
use crate::upstream::Asked;

/// Reads the transaction.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TransactionNotFound`], and those of the ledger.
pub async fn transaction(
    gateway: &Gateway,
    terminal: &Terminal,
    customer: Option<&Customer>,
    request: GetTransactionRequest,
) -> Result<GetTransactionResponse, Failure> {
    let id = request::transaction_id(&request.transaction_id)?;
    let asked = ledger::GetTransactionRequest { transaction_id: id.to_string() };
    let answer = gateway.ledger.get_transaction(terminal.deadline, Asked::Transaction, asked).await?;
    let view = view(gateway, terminal, customer, &answer.steps).await?;
    let outcomes = answer
        .steps
        .into_iter()
        .map(|step| convert::outcome(step.outcome, view))
        .collect::<Result<_, _>>()?;
    Ok(GetTransactionResponse { outcomes, current_state: convert::state(answer.current_state)? })
}

/// What this caller may see of the transaction, if anything.
async fn view(
    gateway: &Gateway,
    terminal: &Terminal,
    customer: Option<&Customer>,
    steps: &[Step],
) -> Result<View, Failure> {
    let first = steps.first().ok_or(Failure::TransactionNotFound)?;
    let outcome = first.outcome.as_ref().ok_or_else(|| Failure::missing("ledger", "outcome"))?;
    if outcome.step() == StepKind::OpenAccount {
        return Err(Failure::TransactionNotFound);
    }
    let owner = first.terminal_id == terminal.id.to_string();
    let side = match customer {
        Some(customer) => own_side(gateway, customer, outcome).await?,
        None if owner => gateway.customers_side(terminal, accounts_of(steps).unwrap_or(outcome)).await,
        None => None,
    };
    if side.is_none() && !owner {
        return Err(Failure::TransactionNotFound);
    }
    Ok(View { side, owner })
}

/// The first step that names accounts: on books restored from a backup a tombstone may come before it.
pub fn accounts_of(steps: &[Step]) -> Option<&ledger::Outcome> {
    steps.iter().filter_map(|step| step.outcome.as_ref()).find(|outcome| !outcome.debit_account_id.is_empty())
}

/// The side of the session's account. Someone else's transfer that was declined never reached the account
/// that it named, so it does not concern that account.
async fn own_side(
    gateway: &Gateway,
    customer: &Customer,
    outcome: &ledger::Outcome,
) -> Result<Option<Side>, Failure> {
    let own = |text: &str| convert::account_id(text) == Some(customer.session.account_id);
    if own(&outcome.debit_account_id) {
        return Ok(Some(Side::Debit));
    }
    if !own(&outcome.credit_account_id) {
        return Ok(None);
    }
    let declined = outcome.state() == TransactionState::Declined;
    let debtor = convert::account_id(&outcome.debit_account_id);
    if declined && is_customer(gateway, customer, debtor).await? {
        return Ok(None);
    }
    Ok(Some(Side::Credit))
}

async fn is_customer(
    gateway: &Gateway,
    customer: &Customer,
    account: Option<AccountId>,
) -> Result<bool, Failure> {
    let Some(account) = account else { return Ok(false) };
    let kind = gateway.accounts.kind(&gateway.ledger, customer.deadline, account).await?;
    Ok(kind == Some(AccountKind::Customer))
}
