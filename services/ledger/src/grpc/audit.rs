//! Whether the books agree: the trial balance, and the verification of everything.

use atm_proto::ledger as wire;
use futures_util::stream;
use tokio::sync::mpsc::Receiver;
use tonic::{Response, Status};

use super::status::Failure;
use super::{Answer, Api, Messages, convert};
use crate::verify::VerifyProgress;

pub(super) async fn trial_balance(api: &Api) -> Answer<wire::GetTrialBalanceResponse> {
    let taken = api.ledger.trial_balance().await.map_err(|error| api.unanswered(error))?;
    let lines = taken.lines.iter().map(|line| wire::TrialBalanceLine {
        kind: convert::account_kind(line.kind).into(),
        currency_code: line.currency.code().to_owned(),
        account_count: line.account_count,
        debits_posted_minor_units: line.debits_posted.to_string(),
        credits_posted_minor_units: line.credits_posted.to_string(),
        debits_pending_minor_units: line.debits_pending.to_string(),
        credits_pending_minor_units: line.credits_pending.to_string(),
    });
    Ok(Response::new(wire::GetTrialBalanceResponse {
        lines: lines.collect(),
        balanced: taken.balanced,
        commit_sequence: taken.commit_sequence,
    }))
}

/// The verification runs beside the writer and ends when its reader goes away.
pub(super) fn verify(api: &Api) -> Response<Messages<wire::VerifyLedgerResponse>> {
    let running = Some(api.ledger.verify());
    Response::new(Box::pin(stream::try_unfold(running, next)))
}

type Running = Option<Receiver<VerifyProgress>>;

async fn next(running: Running) -> Result<Option<(wire::VerifyLedgerResponse, Running)>, Status> {
    let Some(mut receiver) = running else { return Ok(None) };
    // A verification that ends without saying so was cut off: nobody may take it for a clean one.
    let progress = receiver.recv().await.ok_or(Failure::Stopped)?;
    let rest = (!progress.complete).then_some(receiver);
    let message = wire::VerifyLedgerResponse {
        steps_checked: progress.steps_checked,
        steps_total: progress.steps_total,
        findings: progress.findings,
        complete: progress.complete,
        chain_head: progress.chain_head.map(hex::encode).unwrap_or_default(),
    };
    Ok(Some((message, rest)))
}
