//! Callers without a token, other terminals, and messages that are none: rows 3, 4, 18 to 20 and 24.

use std::time::Duration;

use atm_proto::auth::auth_service_client::AuthServiceClient;
use atm_proto::auth::{
    BlockCardRequest, ChangePinRequest, CloseSessionRequest, GetSessionKeysRequest, GetTerminalRequest,
    IssueCardsRequest, SignOnTerminalRequest, UnblockCardRequest, VerifyPinRequest, WatchRevocationsRequest,
};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_rpc::status::violated_field;
use prost::bytes::{Buf, BufMut};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::bank::{Bank, CARD, PIN, Refusal, WRONG, change, order_id, press, reason};

/// Sends bytes as they are, so that a test can send what no generated client would.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

async fn send_raw(bank: &Bank, method: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(bank.channel());
    client.ready().await.unwrap();
    let mut request = Request::new(message);
    bank.token().attach(&mut request);
    let path = format!("/atm.auth.v1.AuthService/{method}").parse().unwrap();
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn row_03_without_the_service_token_no_method_answers_and_health_does() {
    let bank = Bank::open().await;
    let other = BearerToken::new("not-the-token").unwrap();
    let hashes = bank.hasher.count();
    let mut answers = Vec::new();
    // One client without any token, one with another.
    let mut without = AuthServiceClient::new(bank.channel());
    answers.push(without.verify_pin(press(CARD, PIN)).await.map(drop));
    let mut with = AuthServiceClient::with_interceptor(bank.channel(), AttachToken::new(other));
    answers.push(with.verify_pin(press(CARD, PIN)).await.map(drop));
    answers.push(with.close_session(CloseSessionRequest::default()).await.map(drop));
    answers.push(with.change_pin(ChangePinRequest::default()).await.map(drop));
    answers.push(with.issue_cards(IssueCardsRequest::default()).await.map(drop));
    answers.push(
        with.block_card(BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() })
            .await
            .map(drop),
    );
    answers.push(
        with.unblock_card(UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() })
            .await
            .map(drop),
    );
    answers.push(with.get_session_keys(GetSessionKeysRequest {}).await.map(drop));
    answers.push(with.watch_revocations(WatchRevocationsRequest {}).await.map(drop));
    answers.push(with.sign_on_terminal(SignOnTerminalRequest::default()).await.map(drop));
    answers.push(with.get_terminal(GetTerminalRequest::default()).await.map(drop));
    assert_eq!(answers.len(), 11);
    for answer in answers {
        let refused = answer.refused();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(atm_rpc::status::reason(&refused).as_deref(), Some("SERVICE_TOKEN_REQUIRED"));
    }
    assert_eq!(bank.hasher.count(), hashes);
    let mut health = HealthClient::new(bank.channel());
    for service in ["", "atm.auth.v1.AuthService"] {
        health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
    }
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn row_04_a_machines_name_works_from_its_own_terminal_only() {
    let bank = Bank::open().await;
    bank.log_in(CARD, PIN).await.unwrap();
    let hashes = bank.hasher.count();
    for _ in 0..5 {
        let mut foreign = press(CARD, WRONG);
        foreign.terminal_id = "b6".repeat(32);
        let refused = bank.send(foreign).await;
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(reason(&refused), "TERMINAL_MISMATCH");
    }
    let mut foreign = change("018f4e9a-5b2c-7def-8123-456789abcdef", PIN, "5678");
    foreign.terminal_id = "b6".repeat(32);
    assert_eq!(reason(&bank.client().change_pin(foreign).await), "TERMINAL_MISMATCH");
    assert_eq!(bank.hasher.count(), hashes, "nothing was hashed");
    for _ in 0..2 {
        assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN", "nothing was counted");
    }
}

#[tokio::test]
async fn row_04_a_wrong_pin_takes_nobodys_name_and_one_terminal_may_have_several() {
    let bank = Bank::open().await;
    let mut stranger = press(CARD, WRONG);
    stranger.terminal_id = "b6".repeat(32);
    assert_eq!(reason(&bank.send(stranger).await), "WRONG_CARD_OR_PIN");
    assert!(bank.log_in(CARD, PIN).await.is_ok(), "the name was still free");
    let mut second_name = press(CARD, PIN);
    second_name.atm_id = "ATM-0043".to_owned();
    assert!(bank.send(second_name).await.is_ok());
}

#[tokio::test]
async fn row_04_the_table_of_machines_is_bounded() {
    let bank = Bank::open_with(|config| config.limits.machines = 1).await;
    bank.log_in(CARD, PIN).await.unwrap();
    let hashes = bank.hasher.count();
    let mut another = press(CARD, PIN);
    another.atm_id = "ATM-0043".to_owned();
    let refused = bank.send(another).await.refused();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(atm_rpc::status::retry_delay(&refused).is_some());
    assert_eq!(bank.hasher.count(), hashes);
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn row_18_a_message_of_more_than_64_kib_is_refused() {
    let bank = Bank::open().await;
    let mut request = press(CARD, PIN);
    request.atm_id = "x".repeat(70_000);
    let refused = bank.send(request).await.refused();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    let cards = vec![crate::bank::to_issue(&"1".repeat(200_000), "A", None)];
    let refused = bank.client().issue_cards(IssueCardsRequest { cards }).await.refused();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
}

#[tokio::test]
async fn row_19_what_is_no_message_is_internal_and_what_is_no_method_unimplemented() {
    let bank = Bank::open().await;
    let hashes = bank.hasher.count();
    let garbage = send_raw(&bank, "VerifyPin", vec![0xff; 40]).await.refused();
    assert_eq!(garbage.code(), Code::Internal);
    // Field 1 is a string, and this is no UTF-8.
    let invalid = send_raw(&bank, "VerifyPin", vec![0x0a, 2, 0xc3, 0x28]).await.refused();
    assert_eq!(invalid.code(), Code::Internal);
    let unknown = send_raw(&bank, "OpenTheVault", Vec::new()).await.refused();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let empty = send_raw(&bank, "VerifyPin", Vec::new()).await.refused();
    assert_eq!(empty.code(), Code::InvalidArgument);
    assert_eq!(bank.hasher.count(), hashes);
}

#[tokio::test]
async fn row_20_a_call_whose_time_is_over_has_no_effect() {
    let bank = Bank::open().await;
    let hashes = bank.hasher.count();
    for _ in 0..5 {
        let status = bank.status_of_call_with_timeout("0n", &press(CARD, WRONG)).await;
        assert_eq!(status, Code::DeadlineExceeded);
    }
    assert_eq!(bank.hasher.count(), hashes);
    let status = bank.status_of_call_with_timeout("60S", &press(CARD, PIN)).await;
    assert_eq!(status, Code::Ok, "nothing was counted, and the call itself is a good one");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_log_in_whose_time_runs_out_in_the_queue_is_neither_hashed_nor_counted() {
    let bank = Bank::open_with(|config| config.hashing.permits = 2).await;
    bank.hasher.close(Some("7777"));
    let mut others = tokio::task::JoinSet::new();
    for card in ["60000001", "60000002"] {
        let mut client = bank.client();
        others.spawn(async move { client.verify_pin(press(card, "7777")).await });
    }
    crate::bank::until("both permits are taken", || bank.hasher.waiting() == 2).await;
    let hashes = bank.hasher.count();
    for _ in 0..3 {
        let mut request = Request::new(press(CARD, WRONG));
        request.set_timeout(Duration::from_millis(50));
        let refused = bank.client().verify_pin(request).await.refused();
        assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused:?}");
    }
    bank.hasher.open();
    while let Some(answer) = others.join_next().await {
        assert_eq!(reason(&answer.unwrap()), "WRONG_CARD_OR_PIN");
    }
    assert_eq!(bank.hasher.count(), hashes);
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn row_24_control_characters_and_malformed_ids_are_refused_by_field_and_not_counted() {
    let bank = Bank::open().await;
    type Spoil = fn(&mut VerifyPinRequest);
    let cases: [(&str, Spoil); 9] = [
        ("atm_id", |request| request.atm_id = "ATM\n2026 ERROR forged".to_owned()),
        ("atm_id", |request| request.atm_id = "\u{1b}[31m".to_owned()),
        ("atm_id", |request| request.atm_id = "ATM\0".to_owned()),
        ("atm_id", |request| request.atm_id.clear()),
        ("card_number", |request| request.card_number = "12345678\r\n".to_owned()),
        ("attempt_id", |request| request.attempt_id = "not-an-id".to_owned()),
        ("attempt_id", |request| request.attempt_id = "00000000-0000-0000-0000-000000000000".to_owned()),
        ("terminal_id", |request| request.terminal_id = "zz".repeat(32)),
        ("terminal_id", |request| request.terminal_id.clear()),
    ];
    let hashes = bank.hasher.count();
    for (field, spoil) in cases {
        let mut request = press(CARD, WRONG);
        spoil(&mut request);
        let refused = bank.send(request).await.refused();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(violated_field(&refused).as_deref(), Some(field));
        assert!(!refused.message().contains(['\n', '\r', '\0', '\u{1b}']));
    }
    assert_eq!(bank.hasher.count(), hashes);
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}
