//! What can only be seen across a crash.

use anyhow::Context;
use atm_proto::ledger::Outcome;
use atm_proto::types::TransactionState;

use super::checks::{expect_same, expect_state, post_without_answer, posted, without_answer};
use super::holds::{captured, held};
use super::scene::{Client, Scene, cancel, new_id};

pub(super) async fn crash_after_commit(scene: &Scene) -> anyhow::Result<()> {
    scene.may_restart()?;
    let customer = scene.customer(1000).await?;
    let request = scene.post(&new_id(), &customer, 400);
    post_without_answer(scene, &request).await?;
    scene.restart().await?;
    let answered = posted(scene, request.clone()).await?;
    expect_state(answered.state(), TransactionState::Posted)?;
    expect_same(&answered, &posted(scene, request).await?)?;
    scene.expect_balance(&customer, (600, 600)).await
}

pub(super) async fn repeat_after_restart(scene: &Scene) -> anyhow::Result<()> {
    scene.may_restart()?;
    let customer = scene.customer(1000).await?;
    let (post, decline) = (scene.post(&new_id(), &customer, 400), scene.post(&new_id(), &customer, 5000));
    let (hold, tombstone) = (scene.hold(&new_id(), &customer, 200), cancel(&new_id()));
    let everything = async || -> anyhow::Result<Vec<Outcome>> {
        let mut client = scene.client()?;
        let fenced = client.cancel_transaction(tombstone.clone()).await?.into_inner().outcome;
        Ok(vec![
            posted(scene, post.clone()).await?,
            posted(scene, decline.clone()).await?,
            held(scene, &hold).await?,
            fenced.context("a cancel without an outcome")?,
        ])
    };
    let before = everything().await?;
    scene.restart().await?;
    // What was declined could now be paid.
    scene.fund(&customer, 10_000).await?;
    let after = everything().await?;
    let names = ["the posting", "the decline", "the hold", "the cancel"];
    for ((name, first), again) in names.iter().zip(&before).zip(&after) {
        expect_same(first, again).context(*name)?;
    }
    scene.expect_balance(&customer, (10_600, 10_400)).await
}

pub(super) async fn capture_after_restart(scene: &Scene) -> anyhow::Result<()> {
    scene.may_restart()?;
    let customer = scene.customer(1000).await?;
    let (answered, unheard) = (new_id(), new_id());
    for id in [&answered, &unheard] {
        held(scene, &scene.hold(id, &customer, 400)).await?;
    }
    let first = captured(scene, &scene.capture(&answered, 300)).await?;
    let request = scene.capture(&unheard, 400);
    let lost = request.clone();
    let call = async |mut client: Client| client.capture_transaction(lost).await;
    without_answer(scene, "CaptureTransaction", call).await?;
    scene.restart().await?;
    expect_same(&first, &captured(scene, &scene.capture(&answered, 300)).await?)?;
    let heard = captured(scene, &request).await?;
    expect_state(heard.state(), TransactionState::Captured)?;
    expect_same(&heard, &captured(scene, &request).await?)?;
    scene.expect_balance(&customer, (300, 300)).await
}
