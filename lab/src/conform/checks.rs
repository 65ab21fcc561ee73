//! What can be tried while the server lives.

use std::time::Duration;

use anyhow::{Context, ensure};
use atm_fault_proxy::{Fault, Glob, Heard, Reorder, Rule, Span};
use atm_proto::ledger::{GetTrialBalanceRequest, HoldTransactionRequest, Outcome, PostTransactionRequest};
use atm_proto::types::TransactionState;
use futures_util::future::try_join_all;
use prost::Message;
use tonic::{Code, Request};

use super::scene::{STRANGER, Scene, cancel, expect_reused, expect_status, new_id};

/// Rounds and callers of the race.
const ROUNDS: usize = 8;
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

pub(super) async fn concurrent_duplicates(scene: &Scene) -> anyhow::Result<()> {
    let clients = (0..CALLERS).map(|_| scene.client()).collect::<Result<Vec<_>, _>>()?;
    let mut left = 10_000;
    let customer = scene.customer(left).await?;
    for _ in 0..ROUNDS {
        let request = scene.post(&new_id(), &customer, 100);
        let calls = clients.iter().map(|client| {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.post_transaction(request).await }
        });
        let answers = try_join_all(calls).await.context("one of many callers at once")?;
        let outcomes: Vec<Outcome> = answers.into_iter().filter_map(|it| it.into_inner().outcome).collect();
        ensure!(outcomes.len() == CALLERS, "an answer without an outcome");
        for outcome in &outcomes {
            expect_same(&outcomes[0], outcome)?;
        }
        left -= 100;
        scene.expect_balance(&customer, (left, left)).await?;
    }
    Ok(())
}

pub(super) async fn another_callers_id(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let id = new_id();
    let hold = scene.hold(&id, &customer, 400);
    client.hold_transaction(hold.clone()).await?;
    let stolen = HoldTransactionRequest { terminal_id: STRANGER.to_owned(), ..hold };
    expect_reused(client.hold_transaction(stolen).await, "transaction_id").context("a stranger's hold")?;
    let mut capture = scene.capture(&id, 400);
    capture.terminal_id = STRANGER.to_owned();
    expect_status(client.capture_transaction(capture).await, Code::NotFound)
        .context("a stranger's capture")?;
    let mut cancelled = cancel(&id);
    cancelled.terminal_id = STRANGER.to_owned();
    expect_status(client.cancel_transaction(cancelled).await, Code::NotFound)
        .context("a stranger's cancel")?;
    scene.expect_balance(&customer, (1000, 600)).await?;
    let captured = client.capture_transaction(scene.capture(&id, 400)).await?.into_inner();
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

pub(super) async fn hold_once(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let id = new_id();
    let hold = scene.hold(&id, &customer, 400);
    let first = client.hold_transaction(hold.clone()).await?.into_inner().outcome.context("no outcome")?;
    let again = client.hold_transaction(hold).await?.into_inner().outcome.context("no outcome")?;
    expect_same(&first, &again).context("the hold")?;
    scene.expect_balance(&customer, (1000, 600)).await?;
    expect_status(client.capture_transaction(scene.capture(&id, 401)).await, Code::FailedPrecondition)
        .context("a capture of more than was held")?;
    let part = scene.capture(&id, 300);
    let first = client.capture_transaction(part.clone()).await?.into_inner().outcome.context("no outcome")?;
    let again = client.capture_transaction(part).await?.into_inner().outcome.context("no outcome")?;
    expect_same(&first, &again).context("the capture")?;
    expect_reused(client.capture_transaction(scene.capture(&id, 200)).await, "amount")
        .context("a second capture of another amount")?;
    scene.expect_balance(&customer, (700, 700)).await
}

pub(super) async fn late_capture(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let mut client = scene.client()?;
    let id = new_id();
    client.hold_transaction(scene.hold(&id, &customer, 400)).await?;
    client.cancel_transaction(cancel(&id)).await?;
    scene.expect_balance(&customer, (1000, 1000)).await?;
    for _ in 0..2 {
        let late = client.capture_transaction(scene.capture(&id, 400)).await?.into_inner();
        expect_state(late.current_state(), TransactionState::CapturedLate)?;
    }
    scene.expect_balance(&customer, (600, 600)).await
}

/// A posting whose answer the proxy throws away.
pub(super) async fn post_without_answer(
    scene: &Scene,
    request: &PostTransactionRequest,
) -> anyhow::Result<()> {
    let before = scene.proxy.counters().total(Fault::LostAnswer);
    let lossy = Rule { heard: Heard::Reset, ..Rule::lossy(0.0, 1.0) };
    let rule = Rule { method: Glob::new("*/PostTransaction"), ..lossy };
    let answer = scene.client_through(rule)?.post_transaction(request.clone()).await;
    ensure!(answer.is_err(), "the proxy does not lose answers");
    ensure!(scene.proxy.counters().total(Fault::LostAnswer) == before + 1, "the call did not come through");
    scene.proxy.quiet().await;
    Ok(())
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

pub(super) async fn books_balance(scene: &Scene) -> anyhow::Result<()> {
    let trial = scene.client()?.get_trial_balance(GetTrialBalanceRequest {}).await?.into_inner();
    ensure!(trial.balanced, "the trial balance does not balance");
    Ok(())
}
