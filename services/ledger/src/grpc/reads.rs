//! Reading what is recorded: one transaction, the ledger page by page, an account's statement.

use atm_proto::ledger as wire;
use tonic::{Request, Response};

use super::status::Failure;
use super::{Answer, Api, convert, outcome, page_token};

pub(super) async fn transaction(
    api: &Api,
    request: Request<wire::GetTransactionRequest>,
) -> Answer<wire::GetTransactionResponse> {
    let id = convert::transaction_id(&request.get_ref().transaction_id)?;
    let transaction = api
        .ledger
        .transaction(id)
        .await
        .map_err(|error| api.unanswered(error))?
        .ok_or(Failure::TransactionNotFound)?;
    Ok(Response::new(wire::GetTransactionResponse {
        steps: transaction.steps().map(|step| outcome::step(step, &api.authorizer)).collect(),
        current_state: convert::state(transaction.state()).into(),
    }))
}

pub(super) async fn entries(
    api: &Api,
    request: Request<wire::ListEntriesRequest>,
) -> Answer<wire::ListEntriesResponse> {
    let asked = request.get_ref();
    let limit = convert::page_size(asked.page_size, 100)?;
    let page =
        api.ledger.steps_after(asked.after_sequence, limit).await.map_err(|error| api.unanswered(error))?;
    Ok(Response::new(wire::ListEntriesResponse {
        steps: page.steps.iter().map(|step| outcome::step(step, &api.authorizer)).collect(),
        last_sequence: page.last_sequence,
    }))
}

pub(super) async fn account_entries(
    api: &Api,
    request: Request<wire::ListAccountEntriesRequest>,
) -> Answer<wire::ListAccountEntriesResponse> {
    let asked = request.get_ref();
    let account = convert::id("account_id", &asked.account_id)?;
    let limit = convert::page_size(asked.page_size, 20)?;
    let from = page_token::read(account, &asked.page_token, &api.authorizer)?;
    let page = api
        .ledger
        .account_entries(account, from, limit, asked.posted_only)
        .await
        .map_err(|error| api.unanswered(error))?;
    let page = page.ok_or(Failure::AccountNotFound)?;
    let next = page.next.map(|entry| page_token::write(account, entry, &api.authorizer));
    Ok(Response::new(wire::ListAccountEntriesResponse {
        steps: page.steps.iter().map(|step| outcome::step(step, &api.authorizer)).collect(),
        next_page_token: next.unwrap_or_default(),
    }))
}
