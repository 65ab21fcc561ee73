//! Holds and captures, while the server lives.

use std::time::Duration;

use anyhow::{Context, ensure};
use atm_proto::ledger::{CaptureTransactionRequest, HoldTransactionRequest, Outcome};
use atm_proto::types::TransactionState;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::checks::{ROUNDS, at_once, crowd, expect_same, expect_state};
use super::scene::{Scene, cancel, expect_reused, expect_status, new_id};

/// Holds, and insists that there is an outcome.
pub(super) async fn held(scene: &Scene, request: &HoldTransactionRequest) -> anyhow::Result<Outcome> {
    let answer = scene.client()?.hold_transaction(request.clone()).await?.into_inner();
    answer.outcome.context("a hold without an outcome")
}

/// Captures, and insists that there is an outcome.
pub(super) async fn captured(scene: &Scene, request: &CaptureTransactionRequest) -> anyhow::Result<Outcome> {
    let answer = scene.client()?.capture_transaction(request.clone()).await?.into_inner();
    answer.outcome.context("a capture without an outcome")
}

pub(super) async fn hold_once(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let id = new_id();
    let hold = scene.hold(&id, &customer, 400);
    let first = held(scene, &hold).await?;
    expect_same(&first, &held(scene, &hold).await?).context("the hold")?;
    scene.expect_balance(&customer, (1000, 600)).await?;
    expect_status(client.capture_transaction(scene.capture(&id, 401)).await, Code::FailedPrecondition)
        .context("a capture of more than was held")?;
    let part = scene.capture(&id, 300);
    let first = captured(scene, &part).await?;
    expect_same(&first, &captured(scene, &part).await?).context("the capture")?;
    expect_reused(client.capture_transaction(scene.capture(&id, 200)).await, "amount")
        .context("a second capture of another amount")?;
    scene.expect_balance(&customer, (700, 700)).await
}

pub(super) async fn changed_hold(scene: &Scene) -> anyhow::Result<()> {
    let (customer, other) = (scene.customer(1000).await?, scene.customer(1000).await?);
    let hold = scene.hold(&new_id(), &customer, 400);
    let first = held(scene, &hold).await?;
    let changes = [
        ("amount", HoldTransactionRequest { amount: scene.money(401), ..hold.clone() }),
        ("debit_account_id", HoldTransactionRequest { debit_account_id: other.clone(), ..hold.clone() }),
        ("credit_account_id", HoldTransactionRequest { credit_account_id: other.clone(), ..hold.clone() }),
    ];
    for (field, changed) in changes {
        let answer = scene.client()?.hold_transaction(changed).await;
        expect_reused(answer, field).with_context(|| format!("with another {field}"))?;
    }
    expect_same(&first, &held(scene, &hold).await?)?;
    scene.expect_balance(&customer, (1000, 600)).await?;
    scene.expect_balance(&other, (1000, 1000)).await
}

pub(super) async fn concurrent_holds(scene: &Scene) -> anyhow::Result<()> {
    let (crowd, balance, mut left) = (crowd(scene)?, 10_000, 10_000);
    let customer = scene.customer(balance).await?;
    for _ in 0..ROUNDS {
        let hold = scene.hold(&new_id(), &customer, 100);
        at_once(&crowd, async |mut client| {
            Ok(client.hold_transaction(hold.clone()).await?.into_inner().outcome)
        })
        .await?;
        left -= 100;
        scene.expect_balance(&customer, (balance, left)).await?;
    }
    Ok(())
}

pub(super) async fn concurrent_captures(scene: &Scene) -> anyhow::Result<()> {
    let (crowd, mut left) = (crowd(scene)?, 10_000);
    let customer = scene.customer(left).await?;
    for _ in 0..ROUNDS {
        let id = new_id();
        held(scene, &scene.hold(&id, &customer, 100)).await?;
        at_once(&crowd, async |mut client| {
            Ok(client.capture_transaction(scene.capture(&id, 100)).await?.into_inner().outcome)
        })
        .await?;
        left -= 100;
        scene.expect_balance(&customer, (left, left)).await?;
    }
    Ok(())
}

/// Twice, with one effect, though the hold is gone.
async fn captured_late(scene: &Scene, id: &str) -> anyhow::Result<()> {
    let capture = scene.capture(id, 400);
    let first = captured(scene, &capture).await?;
    expect_state(first.state(), TransactionState::CapturedLate)?;
    expect_same(&first, &captured(scene, &capture).await?)
}

pub(super) async fn late_capture(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let id = new_id();
    held(scene, &scene.hold(&id, &customer, 400)).await?;
    scene.client()?.cancel_transaction(cancel(&id)).await?;
    scene.expect_balance(&customer, (1000, 1000)).await?;
    captured_late(scene, &id).await?;
    scene.expect_balance(&customer, (600, 600)).await
}

/// The shortest that a hold may live, in seconds.
const SHORTEST: i64 = 1;

pub(super) async fn capture_after_expiry(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let id = new_id();
    let mut hold = scene.hold(&id, &customer, 400);
    hold.lifetime.get_or_insert_default().seconds = SHORTEST;
    let mut client = scene.client()?;
    let expires = async {
        // A repeat tells where the hold stands now.
        loop {
            let state = client.hold_transaction(hold.clone()).await?.into_inner().current_state();
            if state != TransactionState::Held {
                return expect_state(state, TransactionState::Expired);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = Duration::from_secs(1) + scene.patience();
    let expired = timeout(patience, expires).await;
    ensure!(expired.is_ok(), "a hold for {SHORTEST} s still stands after {patience:?}");
    expired??;
    scene.expect_balance(&customer, (1000, 1000)).await?;
    captured_late(scene, &id).await?;
    scene.expect_balance(&customer, (600, 600)).await
}
