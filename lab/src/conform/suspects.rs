//! Withdrawals of which nobody knows whether the cash left, while the server lives.

use anyhow::Context;
use atm_proto::ledger::{AccountKind, Outcome, ResolveTransactionRequest, SuspendTransactionRequest};
use atm_proto::types::TransactionState;
use tonic::{Code, Status};

use super::NotTried;
use super::checks::{expect_same, expect_state};
use super::holds::held;
use super::scene::{STRANGER, Scene, cancel, expect_reused, expect_status, new_id, suspend};

async fn suspended(scene: &Scene, request: &SuspendTransactionRequest) -> anyhow::Result<Outcome> {
    let answer = scene.client()?.suspend_transaction(request.clone()).await;
    answer.map_err(unless_missing)?.into_inner().outcome.context("a suspension without an outcome")
}

async fn resolved(scene: &Scene, request: &ResolveTransactionRequest) -> anyhow::Result<Outcome> {
    let answer = scene.client()?.resolve_transaction(request.clone()).await;
    answer.map_err(unless_missing)?.into_inner().outcome.context("a resolution without an outcome")
}

/// A ledger without cash machines needs none of this.
fn unless_missing(status: Status) -> anyhow::Error {
    if status.code() == Code::Unimplemented {
        return NotTried(
            "the server does not implement SuspendTransaction and ResolveTransaction".to_owned(),
        )
        .into();
    }
    status.into()
}

pub(super) async fn suspend_once(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let suspense = scene.open(AccountKind::Suspense).await?;
    let mut client = scene.client()?;
    let id = new_id();
    held(scene, &scene.hold(&id, &customer, 400)).await?;
    let request = suspend(&id, &suspense);
    let first = suspended(scene, &request).await?;
    expect_state(first.state(), TransactionState::Suspect)?;
    expect_same(&first, &suspended(scene, &request).await?)?;
    let elsewhere = suspend(&id, &scene.open(AccountKind::Suspense).await?);
    expect_reused(client.suspend_transaction(elsewhere).await, "suspense_account_id")
        .context("into another account")?;
    let stolen = SuspendTransactionRequest { terminal_id: STRANGER.to_owned(), ..request };
    expect_status(client.suspend_transaction(stolen).await, Code::NotFound).context("a stranger's")?;
    expect_status(client.capture_transaction(scene.capture(&id, 400)).await, Code::FailedPrecondition)
        .context("a capture while it is suspended")?;
    let cancelled = client.cancel_transaction(cancel(&id)).await?.into_inner();
    expect_state(cancelled.current_state(), TransactionState::Suspect).context("a cancel")?;
    scene.expect_totals(&suspense, [0, 0, 0, 400]).await.context("the suspense account")?;
    scene.expect_balance(&customer, (1000, 600)).await
}

pub(super) async fn resolve_once(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let suspense = scene.open(AccountKind::Suspense).await?;
    let id = new_id();
    held(scene, &scene.hold(&id, &customer, 400)).await?;
    suspended(scene, &suspend(&id, &suspense)).await?;
    let request = ResolveTransactionRequest {
        transaction_id: id,
        amount: scene.money(300),
        operator: "lab".to_owned(),
        reason: "100 were found in the reject bin".to_owned(),
    };
    let first = resolved(scene, &request).await?;
    expect_state(first.state(), TransactionState::Captured)?;
    let by_another = ResolveTransactionRequest { operator: "another".to_owned(), ..request.clone() };
    for again in [&request, &by_another] {
        expect_same(&first, &resolved(scene, again).await?)?;
    }
    let otherwise = ResolveTransactionRequest { amount: scene.money(400), ..request };
    expect_reused(scene.client()?.resolve_transaction(otherwise).await, "amount")
        .context("a second decision")?;
    scene.expect_totals(&suspense, [0, 0, 0, 0]).await.context("the suspense account")?;
    scene.expect_balance(&customer, (700, 700)).await
}
