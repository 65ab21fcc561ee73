//! The commands that move money, one at a time.
//!
//! A request is let go of before its command waits for the writer: what is freed on the thread that allocated
//! it costs a fraction of what it costs later on another.

use atm_ledger_core::Command;
use atm_proto::ledger as wire;
use atm_rpc::deadline::Deadline;
use tonic::{Request, Status};

use super::convert::Presented;
use super::execute::{Recorded, explain_authorized};
use super::status::Failure;
use super::{Answer, Api, convert};

pub(super) async fn post(
    api: &Api,
    request: Request<wire::PostTransactionRequest>,
) -> Answer<wire::PostTransactionResponse> {
    let deadline = Deadline::of(&request);
    let command = {
        let asked = request.into_inner();
        convert::post(&asked)?
    };
    let recorded = api.execute(command, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::PostTransactionResponse { outcome, current_state }))
}

pub(super) async fn hold(
    api: &Api,
    request: Request<wire::HoldTransactionRequest>,
) -> Answer<wire::HoldTransactionResponse> {
    let deadline = Deadline::of(&request);
    let command = {
        let asked = request.into_inner();
        convert::hold(&asked)?
    };
    let recorded = api.execute(command, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::HoldTransactionResponse { outcome, current_state }))
}

pub(super) async fn capture(
    api: &Api,
    request: Request<wire::CaptureTransactionRequest>,
) -> Answer<wire::CaptureTransactionResponse> {
    let deadline = Deadline::of(&request);
    let (command, presented) = {
        let asked = request.into_inner();
        convert::capture(&asked, &api.authorizer)?
    };
    let recorded = see_through(api, command, presented, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::CaptureTransactionResponse { outcome, current_state }))
}

pub(super) async fn cancel(
    api: &Api,
    request: Request<wire::CancelTransactionRequest>,
) -> Answer<wire::CancelTransactionResponse> {
    let deadline = Deadline::of(&request);
    let command = {
        let asked = request.into_inner();
        convert::cancel(&asked)?
    };
    let recorded = api.execute(command, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::CancelTransactionResponse { outcome, current_state }))
}

pub(super) async fn suspend(
    api: &Api,
    request: Request<wire::SuspendTransactionRequest>,
) -> Answer<wire::SuspendTransactionResponse> {
    let deadline = Deadline::of(&request);
    let (command, presented) = {
        let asked = request.into_inner();
        convert::suspend(&asked, &api.authorizer)?
    };
    let recorded = see_through(api, command, presented, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::SuspendTransactionResponse { outcome, current_state }))
}

pub(super) async fn resolve(
    api: &Api,
    request: Request<wire::ResolveTransactionRequest>,
) -> Answer<wire::ResolveTransactionResponse> {
    let deadline = Deadline::of(&request);
    let command = convert::resolve(request.into_inner())?;
    let recorded = see_through(api, command, Presented::NothingWrong, deadline).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::ResolveTransactionResponse { outcome, current_state }))
}

/// Executes a command in a task of its own: the caller may go away before the commit, and a late capture, a
/// suspension or a resolution must raise its alarm all the same.
async fn see_through(
    api: &Api,
    command: Command,
    presented: Presented,
    deadline: Option<Deadline>,
) -> Result<Recorded, Status> {
    let work = {
        let api = api.clone();
        async move { api.execute(command, deadline).await }
    };
    let task = match atm_rpc::telemetry::current() {
        Some(trace) => tokio::spawn(atm_rpc::telemetry::scope(trace, work)),
        None => tokio::spawn(work),
    };
    let stopped = |_| Failure::Stopped;
    let answer = task.await.map_err(stopped).and_then(|answer| answer);
    answer.map_err(|failure| explain_authorized(failure, presented).into())
}
