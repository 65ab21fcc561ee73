//! Opening and reading accounts.

use atm_proto::ledger as wire;
use atm_rpc::deadline::Deadline;
use tonic::{Request, Response};

use super::status::Failure;
use super::{Answer, Api, convert, execute};

pub(super) async fn open(
    api: &Api,
    request: Request<wire::OpenAccountRequest>,
) -> Answer<wire::OpenAccountResponse> {
    let deadline = Deadline::of(&request);
    let command = convert::open_account(request.into_inner())?;
    let recorded = api.execute(command, deadline).await?;
    Ok(recorded.respond(execute::opened(&recorded.step)?))
}

pub(super) async fn get(
    api: &Api,
    request: Request<wire::GetAccountRequest>,
) -> Answer<wire::GetAccountResponse> {
    let id = convert::id("account_id", &request.get_ref().account_id)?;
    let view = api
        .ledger
        .account(id)
        .await
        .map_err(|error| api.unanswered(error))?
        .ok_or(Failure::AccountNotFound)?;
    Ok(Response::new(wire::GetAccountResponse {
        account: Some(convert::account(&view.account, view.day)),
        commit_sequence: view.commit_sequence,
    }))
}
