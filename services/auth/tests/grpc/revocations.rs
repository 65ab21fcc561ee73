//! `CloseSession` and `WatchRevocations`: what a gateway hears, and when.

use std::time::Duration;

use atm_proto::auth::revocation::Target;
use atm_proto::auth::{
    BlockCardRequest, CloseSessionRequest, Revocation, UnblockCardRequest, WatchRevocationsRequest,
    WatchRevocationsResponse,
};
use tonic::{Code, Streaming};

use crate::bank::{Bank, CARD, PIN, Refusal, order_id};

async fn watch(bank: &Bank) -> Streaming<WatchRevocationsResponse> {
    bank.client().watch_revocations(WatchRevocationsRequest {}).await.unwrap().into_inner()
}

/// The next message, heartbeats included.
async fn next(stream: &mut Streaming<WatchRevocationsResponse>) -> Vec<Revocation> {
    let message = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
    message.expect("a heartbeat at least").unwrap().unwrap().revocations
}

/// The next revocations, after a few heartbeats at most.
async fn next_news(stream: &mut Streaming<WatchRevocationsResponse>) -> Vec<Revocation> {
    for _ in 0..5 {
        let revocations = next(stream).await;
        if !revocations.is_empty() {
            return revocations;
        }
    }
    panic!("nothing but heartbeats");
}

async fn news(stream: &mut Streaming<WatchRevocationsResponse>) -> Vec<Target> {
    next_news(stream).await.into_iter().map(|revocation| revocation.target.unwrap()).collect()
}

async fn close(bank: &Bank, session_id: &str) {
    let request = CloseSessionRequest { session_id: session_id.to_owned() };
    bank.client().close_session(request).await.unwrap();
}

async fn open_session(bank: &Bank) -> String {
    bank.log_in(CARD, PIN).await.unwrap().session.unwrap().session_id
}

#[tokio::test]
async fn a_watcher_hears_first_what_still_matters_and_then_what_happens() {
    let bank = Bank::open().await;
    let (first, second) = (open_session(&bank).await, open_session(&bank).await);
    close(&bank, &first).await;
    let mut stream = watch(&bank).await;
    let known: Vec<_> = next(&mut stream).await.into_iter().map(|it| it.target.unwrap()).collect();
    assert_eq!(known, [Target::SessionId(first.clone())]);
    close(&bank, &second).await;
    assert_eq!(news(&mut stream).await, [Target::SessionId(second.clone())]);
    close(&bank, &second).await;
    assert_eq!(news(&mut stream).await, [Target::SessionId(second)], "closing twice is no error");
}

#[tokio::test]
async fn a_blocked_card_revokes_all_its_sessions_so_far_and_none_after() {
    let bank = Bank::open().await;
    let mut stream = watch(&bank).await;
    assert!(next(&mut stream).await.is_empty());
    let session = bank.log_in(CARD, PIN).await.unwrap().session.unwrap();
    let request = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    bank.client().block_card(request).await.unwrap();
    let revocation = next_news(&mut stream).await.pop().unwrap();
    assert_eq!(revocation.target, Some(Target::CardId(session.card_id.clone())));
    let order = |time: prost_types::Timestamp| (time.seconds, time.nanos);
    let revoked = order(revocation.revoke_time.unwrap());
    assert!(order(session.issue_time.unwrap()) <= revoked);

    // The clock stands still, and even so the next session is issued after the revocation.
    let request = UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    bank.client().unblock_card(request).await.unwrap();
    let later = bank.log_in(CARD, PIN).await.unwrap().session.unwrap();
    assert!(order(later.issue_time.unwrap()) > revoked);
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_heartbeats() {
    let bank = Bank::open_with(|config| config.heartbeat = Duration::from_millis(20)).await;
    let mut stream = watch(&bank).await;
    for _ in 0..5 {
        assert!(next(&mut stream).await.is_empty());
    }
}

#[tokio::test]
async fn a_revocation_is_kept_over_a_restart_until_its_session_would_have_ended() {
    let mut bank = Bank::open().await;
    let session = open_session(&bank).await;
    close(&bank, &session).await;
    bank.stop().await.unwrap();
    bank.start_again().await;
    assert_eq!(next(&mut watch(&bank).await).await.len(), 1);
    // The session is over after 300 s; a gateway whose clock is some minutes behind still has to know.
    bank.clock.advance(Duration::from_secs(301));
    assert_eq!(next(&mut watch(&bank).await).await.len(), 1);
    bank.clock.advance(Duration::from_secs(600));
    assert!(next(&mut watch(&bank).await).await.is_empty());
}

#[tokio::test]
async fn a_session_that_this_database_does_not_know_is_revoked_all_the_same() {
    let bank = Bank::open().await;
    let unknown = "018f4e9a-5b2c-7def-8123-456789abcdef";
    close(&bank, unknown).await;
    let known = next(&mut watch(&bank).await).await;
    assert_eq!(known[0].target, Some(Target::SessionId(unknown.to_owned())));
    let request = CloseSessionRequest { session_id: "not an id".to_owned() };
    let refused = bank.client().close_session(request).await.refused();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn watchers_do_not_hold_up_a_shutdown_and_are_told_to_come_back() {
    let mut bank = Bank::open().await;
    let mut stream = watch(&bank).await;
    next(&mut stream).await;
    bank.stop().await.unwrap();
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
}
