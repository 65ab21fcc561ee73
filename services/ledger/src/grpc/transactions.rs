//! The commands that move money, one at a time.
//!
//! A request is let go of before its command waits for the writer: what is freed on the thread that allocated
//! it costs a fraction of what it costs later on another.

use atm_proto::ledger as wire;
use atm_rpc::deadline::Deadline;
use tonic::{Request, Status};

use super::execute::explain_capture;
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

/// Captures run in a task of their own: the caller may go away before the commit, and a late capture must
/// raise its alarm all the same.
pub(super) async fn capture(
    api: &Api,
    request: Request<wire::CaptureTransactionRequest>,
) -> Answer<wire::CaptureTransactionResponse> {
    let deadline = Deadline::of(&request);
    let (command, presented) = {
        let asked = request.into_inner();
        convert::capture(&asked, &api.authorizer)?
    };
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
    let recorded = answer.map_err(|failure| Status::from(explain_capture(failure, presented)))?;
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
