//! Whether there is a ledger that lets us in: a suite that fails throughout for want of a token says nothing of it.

use anyhow::{bail, ensure};
use atm_proto::ledger::GetAccountRequest;
use atm_rpc::retry::{is_retryable, normalized};
use tonic::Code;

use super::scene::{Scene, new_id};

/// Asks for an account that there is not.
///
/// # Errors
/// When nobody answers, no ledger does, or it does not let us in. What it answers otherwise is for the checks to judge.
pub(super) async fn knock(scene: &Scene) -> anyhow::Result<()> {
    let (url, patience) = (&scene.target.url, scene.target.patience);
    let Err(status) = scene.client()?.get_account(GetAccountRequest { account_id: new_id() }).await else {
        return Ok(());
    };
    let status = normalized(status);
    let (code, message) = (status.code(), status.message());
    if matches!(code, Code::Unauthenticated | Code::PermissionDenied) {
        match &scene.target.token {
            Some(_) => bail!("{url} does not accept the token of --service-token-file: {message}"),
            None => bail!("{url} wants a service token, see --service-token-file: {message}"),
        }
    }
    ensure!(code != Code::Unimplemented, "no atm.ledger.v1.LedgerService is served at {url}");
    ensure!(code != Code::DeadlineExceeded, "{url} does not answer within {patience:?}");
    ensure!(!is_retryable(&status), "{url} does not speak gRPC, or not now: {code:?} ({message})");
    Ok(())
}
