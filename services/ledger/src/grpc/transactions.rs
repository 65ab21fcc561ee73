//! The commands that move money, one at a time.

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
    let command = convert::post(request.get_ref())?;
    let recorded = api.execute(command, Deadline::of(&request)).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::PostTransactionResponse { outcome, current_state }))
}

pub(super) async fn hold(
    api: &Api,
    request: Request<wire::HoldTransactionRequest>,
) -> Answer<wire::HoldTransactionResponse> {
    let command = convert::hold(request.get_ref())?;
    let recorded = api.execute(command, Deadline::of(&request)).await?;
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
    let (command, presented) = convert::capture(request.get_ref(), &api.authorizer)?;
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
    let command = convert::cancel(request.get_ref())?;
    let recorded = api.execute(command, Deadline::of(&request)).await?;
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(recorded.respond(wire::CancelTransactionResponse { outcome, current_state }))
}
