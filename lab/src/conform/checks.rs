//! Postings and cancels, while the server lives.

use std::time::Duration;

use anyhow::{Context, ensure};
use atm_fault_proxy::{Fault, Glob, Heard, Reorder, Rule, Span};
use atm_proto::ledger::{
    CancelTransactionRequest, CaptureTransactionRequest, HoldTransactionRequest, Outcome,
    PostTransactionRequest,
};
use atm_proto::types::TransactionState;
use futures_util::future::try_join_all;
use prost::Message;
use tonic::{Code, Request, Status};

use super::scene::{Client, STRANGER, Scene, cancel, expect_reused, expect_status, new_id};

/// Rounds and callers of the race.
pub(super) const ROUNDS: usize = 8;
const CALLERS: usize = 16;
/// How long a client waits that is meant to give up.
const IMPATIENT: Duration = Duration::from_millis(150);

/// Posts, and insists that there is an outcome.
pub(super) async fn posted(scene: &Scene, request: PostTransactionRequest) -> anyhow::Result<Outcome> {
    let answer = scene.client()?.post_transaction(request).await?;
    answer.into_inner().outcome.context("an answer without an outcome")
}

/// Insists on the same bytes.
pub(super) fn expect_same(first: &Outcome, again: &Outcome) -> anyhow::Result<()> {
    ensure!(
        first.encode_to_vec() == again.encode_to_vec(),
        "the repeat was answered {} at {}, and the first time it was {} at {}, or other fields differ",
        again.state().as_str_name(),
        again.commit_sequence,
        first.state().as_str_name(),
        first.commit_sequence
    );
    Ok(())
}

/// Insists on a state.
pub(super) fn expect_state(state: TransactionState, expected: TransactionState) -> anyhow::Result<()> {
    ensure!(state == expected, "{} instead of {}", state.as_str_name(), expected.as_str_name());
    Ok(())
}

pub(super) async fn same_body(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let request = scene.post(&new_id(), &customer, 400);
    let first = posted(scene, request.clone()).await?;
    expect_state(first.state(), TransactionState::Posted)?;
    for _ in 0..3 {
        expect_same(&first, &posted(scene, request.clone()).await?)?;
    }
    scene.expect_balance(&customer, (600, 600)).await
}

pub(super) async fn changed_body(scene: &Scene) -> anyhow::Result<()> {
    let (customer, other) = (scene.customer(1000).await?, scene.customer(1000).await?);
    let request = scene.post(&new_id(), &customer, 400);
    let first = posted(scene, request.clone()).await?;
    let changes = [
        ("amount", PostTransactionRequest { amount: scene.money(401), ..request.clone() }),
        ("debit_account_id", PostTransactionRequest { debit_account_id: other.clone(), ..request.clone() }),
        ("credit_account_id", PostTransactionRequest { credit_account_id: other.clone(), ..request.clone() }),
    ];
    for (field, changed) in changes {
        let answer = scene.client()?.post_transaction(changed).await;
        expect_reused(answer, field).with_context(|| format!("with another {field}"))?;
    }
    expect_same(&first, &posted(scene, request).await?)?;
    scene.expect_balance(&customer, (600, 600)).await?;
    scene.expect_balance(&other, (1000, 1000)).await
}

pub(super) async fn declined_then_funded(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(100).await?;
    let request = scene.post(&new_id(), &customer, 400);
    let first = posted(scene, request.clone()).await?;
    expect_state(first.state(), TransactionState::Declined)?;
    scene.fund(&customer, 1000).await?;
    expect_same(&first, &posted(scene, request).await?)?;
    scene.expect_balance(&customer, (1100, 1100)).await
}

/// Many clients on connections of their own.
pub(super) fn crowd(scene: &Scene) -> anyhow::Result<Vec<Client>> {
    (0..CALLERS).map(|_| scene.client()).collect()
}

/// Has all of them make the same call at once, whose outcome has to be the same.
pub(super) async fn at_once(
    crowd: &[Client],
    call: impl AsyncFn(Client) -> Result<Option<Outcome>, Status>,
) -> anyhow::Result<()> {
    let calls = crowd.iter().map(|client| call(client.clone()));
    let answers = try_join_all(calls).await.context("one of many callers at once")?;
    let outcomes: Vec<Outcome> = answers.into_iter().flatten().collect();
    ensure!(outcomes.len() == crowd.len(), "an answer without an outcome");
    outcomes.iter().try_for_each(|outcome| expect_same(&outcomes[0], outcome))
}

pub(super) async fn concurrent_duplicates(scene: &Scene) -> anyhow::Result<()> {
    let (crowd, mut left) = (crowd(scene)?, 10_000);
    let customer = scene.customer(left).await?;
    for _ in 0..ROUNDS {
        let request = scene.post(&new_id(), &customer, 100);
        at_once(&crowd, async |mut client| {
            Ok(client.post_transaction(request.clone()).await?.into_inner().outcome)
        })
        .await?;
        left -= 100;
        scene.expect_balance(&customer, (left, left)).await?;
    }
    Ok(())
}

pub(super) async fn another_callers_id(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let stranger = || STRANGER.to_owned();
    let (held, done, fenced) = (new_id(), new_id(), new_id());
    client.hold_transaction(scene.hold(&held, &customer, 400)).await?;
    client.post_transaction(scene.post(&done, &customer, 100)).await?;
    client.cancel_transaction(cancel(&fenced)).await?;
    // To learn: a repeat would tell the outcome, and a changed one which of its fields is wrong.
    for (id, amount) in [(&held, 400), (&held, 399), (&fenced, 400)] {
        let hold = HoldTransactionRequest { terminal_id: stranger(), ..scene.hold(id, &customer, amount) };
        expect_reused(client.hold_transaction(hold).await, "transaction_id").context("a stranger's hold")?;
    }
    for (id, amount) in [(&done, 100), (&done, 99), (&held, 400)] {
        let post = PostTransactionRequest { terminal_id: stranger(), ..scene.post(id, &customer, amount) };
        expect_reused(client.post_transaction(post).await, "transaction_id").context("a stranger's post")?;
    }
    // To take, and to cancel, which would tell the outcome as well.
    let capture = CaptureTransactionRequest { terminal_id: stranger(), ..scene.capture(&held, 400) };
    expect_status(client.capture_transaction(capture).await, Code::NotFound)
        .context("a stranger's capture")?;
    for id in [&held, &done, &fenced] {
        let cancel = CancelTransactionRequest { terminal_id: stranger(), ..cancel(id) };
        expect_status(client.cancel_transaction(cancel).await, Code::NotFound)
            .context("a stranger's cancel")?;
    }
    scene.expect_balance(&customer, (900, 500)).await?;
    let captured = client.capture_transaction(scene.capture(&held, 400)).await?.into_inner();
    expect_state(captured.current_state(), TransactionState::Captured)
}

pub(super) async fn cancel_before_hold(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let id = new_id();
    let fenced = client.cancel_transaction(cancel(&id)).await?.into_inner();
    expect_state(fenced.current_state(), TransactionState::Cancelled)?;
    let late = client.hold_transaction(scene.hold(&id, &customer, 400)).await?.into_inner();
    expect_state(late.current_state(), TransactionState::Cancelled)?;
    let late = client.post_transaction(scene.post(&id, &customer, 400)).await?.into_inner();
    expect_state(late.current_state(), TransactionState::Cancelled)?;
    scene.expect_balance(&customer, (1000, 1000)).await
}

pub(super) async fn late_original(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let id = new_id();
    // The proxy holds the original back until the cancel has been answered.
    let reorder = Reorder { probability: 1.0, calls: 1, at_most: Span(2 * scene.patience()) };
    let rule = Rule { method: Glob::new("*/PostTransaction"), reorder: Some(reorder), ..Rule::default() };
    let mut client = scene.client_through(rule)?;
    let mut request = Request::new(scene.post(&id, &customer, 400));
    request.set_timeout(IMPATIENT);
    let given_up = client.post_transaction(request).await;
    ensure!(given_up.is_err(), "the proxy does not hold back");
    let fenced = client.cancel_transaction(cancel(&id)).await?.into_inner();
    expect_state(fenced.current_state(), TransactionState::Cancelled)?;
    scene.proxy.quiet().await;
    scene.expect_balance(&customer, (1000, 1000)).await
}

pub(super) async fn cancel_is_a_fence(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let request = scene.post(&new_id(), &customer, 400);
    posted(scene, request.clone()).await?;
    for _ in 0..2 {
        let too_late =
            scene.client()?.cancel_transaction(cancel(&request.transaction_id)).await?.into_inner();
        expect_state(too_late.current_state(), TransactionState::Posted)?;
    }
    scene.expect_balance(&customer, (600, 600)).await
}

/// A call whose answer the proxy throws away.
pub(super) async fn without_answer<T>(
    scene: &Scene,
    method: &str,
    call: impl AsyncFnOnce(Client) -> Result<T, Status>,
) -> anyhow::Result<()> {
    let before = scene.proxy.counters().total(Fault::LostAnswer);
    let lossy = Rule { heard: Heard::Reset, ..Rule::lossy(0.0, 1.0) };
    let rule = Rule { method: Glob::new(format!("*/{method}")), ..lossy };
    let answer = call(scene.client_through(rule)?).await;
    ensure!(answer.is_err(), "the proxy does not lose answers");
    ensure!(scene.proxy.counters().total(Fault::LostAnswer) == before + 1, "the call did not come through");
    scene.proxy.quiet().await;
    Ok(())
}

/// A posting whose answer the proxy throws away.
pub(super) async fn post_without_answer(
    scene: &Scene,
    request: &PostTransactionRequest,
) -> anyhow::Result<()> {
    let request = request.clone();
    without_answer(scene, "PostTransaction", async |mut client| client.post_transaction(request).await).await
}

pub(super) async fn lost_answer(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let request = scene.post(&new_id(), &customer, 400);
    post_without_answer(scene, &request).await?;
    scene.expect_balance(&customer, (600, 600)).await.context("after the answer was lost")?;
    let answered = posted(scene, request).await?;
    expect_state(answered.state(), TransactionState::Posted)?;
    scene.expect_balance(&customer, (600, 600)).await.context("after the repeat")
}
