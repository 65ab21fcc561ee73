//! A transaction's life, and the first of all rules: one id, one outcome, the same bytes for ever.

use std::time::Duration;

use atm_proto::ledger::{GetTransactionRequest, HoldTransactionRequest, StepKind};
use atm_proto::types::{DeclineReason, TransactionState};
use tonic::Code;

use crate::support::*;

#[tokio::test]
async fn a_posting_moves_money_between_two_accounts_in_one_step() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000), ("Ayesha", 0)]).await;
    let id = new_id();
    let request = post(&id, &customer("Farhan"), &customer("Ayesha"), 30_000);
    let response = client.post_transaction(request).await.unwrap().into_inner();
    let outcome = response.outcome.clone().unwrap();
    assert_eq!(response.current_state(), TransactionState::Posted);
    assert_eq!((outcome.transaction_id.as_str(), outcome.state()), (id.as_str(), TransactionState::Posted));
    assert_eq!((outcome.step(), outcome.amount), (StepKind::Post, taka(30_000)));
    assert_eq!(outcome.debit_balance.unwrap().balance_minor_units, 70_000);
    assert_eq!(outcome.credit_balance.unwrap().balance_minor_units, 30_000);
    assert_eq!((outcome.expire_time, outcome.authorization.len()), (None, 0));
    assert_eq!(balance(&mut client, customer("Farhan")).await, (70_000, 70_000));
    assert_eq!(balance(&mut client, customer("Ayesha")).await, (30_000, 30_000));
}

#[tokio::test]
async fn a_hold_reserves_and_its_capture_posts_a_part_and_frees_the_rest() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000)]).await;
    let id = new_id();
    let held =
        client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 60_000)).await.unwrap().into_inner();
    let outcome = held.outcome.unwrap();
    assert_eq!(outcome.state(), TransactionState::Held);
    assert_eq!(outcome.expire_time.unwrap().seconds, 1_795_000_000 + 24 * 60 * 60);
    assert_eq!(outcome.authorization.len(), atm_ledger::authorization::AUTHORIZATION_BYTES);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 40_000));

    let captured = client.capture_transaction(capture(&id, 50_000)).await.unwrap().into_inner();
    assert_eq!(captured.current_state(), TransactionState::Captured);
    assert_eq!(captured.outcome.unwrap().amount, taka(50_000));
    assert_eq!(balance(&mut client, customer("Farhan")).await, (50_000, 50_000));

    let read =
        client.get_transaction(GetTransactionRequest { transaction_id: id }).await.unwrap().into_inner();
    let kinds: Vec<_> = read.steps.iter().map(|step| step.outcome.as_ref().unwrap().step()).collect();
    assert_eq!(
        (kinds, read.current_state()),
        (vec![StepKind::Hold, StepKind::Capture], TransactionState::Captured)
    );
    assert_eq!(read.steps[0].terminal_id, TERMINAL);
}

#[tokio::test]
async fn a_repeat_gets_the_first_bytes_across_changed_balances_ends_and_restarts() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000), ("Ayesha", 0)]).await;
    let (farhan, ayesha) = (customer("Farhan"), customer("Ayesha"));
    let posted = post(&new_id(), &farhan, &ayesha, 10_000);
    let declined = post(&new_id(), &farhan, &ayesha, 10_000_000);
    let held = hold(&new_id(), &farhan, &cash(), 20_000);
    let captured = capture(&held.transaction_id, 20_000);
    let released = hold(&new_id(), &farhan, &cash(), 5_000);
    let cancelled = cancel(&released.transaction_id);
    let tombstone = cancel(&new_id());

    macro_rules! outcomes {
        ($client:expr, $replayed:expr) => {{
            let mut outcomes = Vec::new();
            macro_rules! say {
                ($method:ident, $request:expr) => {
                    let response = $client.$method($request.clone()).await.unwrap();
                    assert_eq!(response.metadata().contains_key("atm-replayed"), $replayed);
                    outcomes.push(bytes(&response.into_inner().outcome.unwrap()));
                };
            }
            say!(post_transaction, posted);
            say!(post_transaction, declined);
            say!(hold_transaction, held);
            say!(capture_transaction, captured);
            say!(hold_transaction, released);
            say!(cancel_transaction, cancelled);
            say!(cancel_transaction, tombstone);
            outcomes
        }};
    }
    let first = outcomes!(client, false);
    assert_eq!(outcomes!(client, true), first);
    // Now the decline could be paid, and nothing else could.
    client.post_transaction(post(&new_id(), &opening(), &farhan, 20_000_000)).await.unwrap();
    assert_eq!(outcomes!(client, true), first);
    bank.clock.advance(Duration::from_secs(3 * 24 * 60 * 60));
    let bank = bank.restart().await;
    let mut client = bank.client();
    assert_eq!(outcomes!(client, true), first);
    client.post_transaction(post(&new_id(), &farhan, &ayesha, 20_060_000)).await.unwrap();
    let last = last_sequence(&mut client).await;
    assert_eq!(outcomes!(client, true), first);
    assert_eq!(last_sequence(&mut client).await, last, "a repeat records nothing");
}

#[tokio::test]
async fn the_outcome_of_a_hold_stays_as_it_was_while_its_state_moves_on() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000)]).await;
    let request = hold(&new_id(), &customer("Farhan"), &cash(), 20_000);
    let first = client.hold_transaction(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.current_state(), TransactionState::Held);
    client.cancel_transaction(cancel(&request.transaction_id)).await.unwrap();
    let again = client.hold_transaction(request).await.unwrap().into_inner();
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(again.current_state(), TransactionState::Cancelled);
}

#[tokio::test]
async fn a_tombstoned_id_never_holds() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000)]).await;
    let id = new_id();
    let fenced = client.cancel_transaction(cancel(&id)).await.unwrap().into_inner();
    assert_eq!(fenced.current_state(), TransactionState::Cancelled);
    let late =
        client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 20_000)).await.unwrap().into_inner();
    assert_eq!(late.outcome, fenced.outcome);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 100_000));
}

#[tokio::test]
async fn a_hold_expires_on_the_ledgers_clock_and_cash_that_left_on_it_is_captured_late() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000)]).await;
    let lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request =
        HoldTransactionRequest { lifetime, ..hold(&new_id(), &customer("Farhan"), &cash(), 90_000) };
    let id = request.transaction_id.clone();
    client.hold_transaction(request.clone()).await.unwrap();
    bank.clock.advance(Duration::from_secs(61));
    client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 50_000)).await.unwrap();
    let again = client.hold_transaction(request).await.unwrap().into_inner();
    assert_eq!(again.current_state(), TransactionState::Expired);
    let late = client.capture_transaction(capture(&id, 90_000)).await.unwrap().into_inner();
    assert_eq!(late.current_state(), TransactionState::CapturedLate);
    assert_eq!(late.outcome.unwrap().step(), StepKind::CaptureLate);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (-40_000, -40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_decline_is_a_recorded_value_and_not_an_error() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let cases = [
        (post(&new_id(), &customer("Farhan"), &cash(), 1_001), DeclineReason::InsufficientFunds, 1_000),
        (post(&new_id(), &customer("nobody"), &cash(), 1), DeclineReason::DebitAccountNotFound, 0),
        (
            post(&new_id(), &customer("Farhan"), &customer("nobody"), 1),
            DeclineReason::CreditAccountNotFound,
            0,
        ),
    ];
    for (request, reason, available) in cases {
        let before = last_sequence(&mut client).await;
        let response = client.post_transaction(request).await.unwrap().into_inner();
        assert_eq!(response.current_state(), TransactionState::Declined);
        let decline = response.outcome.unwrap().decline.unwrap();
        assert_eq!((decline.reason(), decline.available_minor_units), (reason, available));
        assert_eq!(last_sequence(&mut client).await, before + 1, "it is recorded");
    }
}

#[tokio::test]
async fn an_unknown_transaction_is_not_found() {
    let bank = Bank::open().await;
    let status =
        bank.client().get_transaction(GetTransactionRequest { transaction_id: new_id() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
