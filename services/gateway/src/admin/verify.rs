//! A full verification of the books, streamed as the ledger goes along.

use std::sync::Arc;

use atm_proto::gateway::VerifyLedgerResponse;
use atm_proto::ledger;
use atm_rpc::retry::RetryError;
use futures_util::{Stream, StreamExt};
use tonic::Status;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::status::status;
use crate::upstream::{Asked, refusal};

/// Verifies the books; the stream ends with the verification, and dropping it ends the verification.
///
/// # Errors
/// Those of the ledger, before the stream or in it.
pub async fn verify(
    gateway: &Arc<Gateway>,
) -> Result<impl Stream<Item = Result<VerifyLedgerResponse, Status>> + Send + 'static, Failure> {
    let stream = gateway.ledger.verify_ledger().await.map_err(failure)?;
    let gateway = Arc::clone(gateway);
    Ok(stream.map(move |message| match message {
        Ok(message) => Ok(progress(message)),
        Err(error) => Err(status(gateway.ids.as_ref(), failure(error))),
    }))
}

fn progress(message: ledger::VerifyLedgerResponse) -> VerifyLedgerResponse {
    VerifyLedgerResponse {
        steps_checked: message.steps_checked,
        steps_total: message.steps_total,
        findings: message.findings,
        complete: message.complete,
        chain_head: message.chain_head,
    }
}

fn failure(status: Status) -> Failure {
    let maybe_sent = !atm_rpc::retry::provably_not_sent(&status);
    let error = RetryError { status, attempts: 1, maybe_sent, deadline_over: false };
    refusal::of_ledger(error, Asked::Books)
}
