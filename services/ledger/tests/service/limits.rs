//! How much is let in: sizes, streams, calls at once, commands that wait.

use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::{BatchCommand, BatchExecuteRequest, WatchEntriesRequest};
use atm_proto::types::TransactionState;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::BearerToken;
use atm_rpc::status::retry_delay;
use tonic::{Code, Request};

use crate::support::*;

const PREFIX: &str = "/atm.ledger.v1.LedgerService/";

#[tokio::test]
async fn row_20_streams_are_capped_on_each_connection() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    let mut open = Vec::new();
    let refusal = loop {
        match client.watch_entries(WatchEntriesRequest { after_sequence: 0 }).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
        assert!(open.len() < 100, "nobody may open streams without end");
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(retry_delay(&refusal).is_some());
    endow(&mut client, &[]).await;
    bank.client().watch_entries(WatchEntriesRequest { after_sequence: 0 }).await.unwrap();
}

#[tokio::test]
async fn row_22_a_crowd_is_told_to_come_back_and_captures_still_get_in() {
    let bank = Bank::open_with(|config| config.max_in_flight = 16).await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let id = new_id();
    client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 100)).await.unwrap();
    // Calls whose requests never come take up the places: all that are not kept for captures and cancels.
    let token = BearerToken::load(&bank.config.service_token_file).unwrap();
    let channel = lazy_channel(&bank.url(), &ChannelConfig::default()).unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (channel, token) = (channel.clone(), token.clone());
        crowd.spawn(async move {
            let mut request = Request::new(());
            token.attach(&mut request);
            raw::stall(&channel, &format!("{PREFIX}PostTransaction"), request).await
        });
    }
    // Those beyond the places are refused, and the others stay.
    for _ in 0..64 - 14 {
        let refusal = soon(crowd.join_next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(retry_delay(&refusal).is_some());
    }
    let refusal =
        client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 1)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let refusal = client.get_trial_balance(atm_proto::ledger::GetTrialBalanceRequest {}).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "reads least of all");
    client.capture_transaction(capture(&id, 100)).await.unwrap();
    client.cancel_transaction(cancel(&new_id())).await.unwrap();
    let suspended = client.suspend_transaction(suspend(&id)).await.unwrap().into_inner();
    assert_eq!(suspended.current_state(), TransactionState::Captured);
    let refusal = client.resolve_transaction(resolve(&id, 100)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "a person can wait");
    crowd.shutdown().await;
    let mut tries = 0;
    while client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 1)).await.is_err() {
        tries += 1;
        assert!(tries < 10_000, "places are given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn row_22_a_full_queue_refuses_with_a_time_to_come_back_and_without_an_effect() {
    let bank = Bank::open_with(|config| config.queue_commands = 1_000).await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    let mut refused = 0;
    let mut done = 0;
    while refused == 0 {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let mut client = bank.client();
                let posts = || post(&new_id(), &opening(), &customer("Farhan"), 1);
                let commands = (0..500).map(|_| BatchCommand { command: Some(Command::Post(posts())) });
                let request = BatchExecuteRequest { commands: commands.collect() };
                tokio::spawn(async move { client.batch_execute(request).await })
            })
            .collect();
        for caller in callers {
            match caller.await.unwrap() {
                Ok(_) => done += 500,
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted);
                    assert_eq!(atm_rpc::status::reason(&status).as_deref(), Some("QUEUE_FULL"));
                    assert!(retry_delay(&status).is_some());
                    refused += 1;
                }
            }
        }
        assert!(done < 1_000_000, "the queue was never full");
    }
    println!("{refused} batches found the queue full");
    assert_eq!(balance(&mut client, customer("Farhan")).await.0, done);
}
