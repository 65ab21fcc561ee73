//! `VerifyPin` and `GetSessionKeys`: sessions, and retries that get the same one.

use std::time::Duration;

use atm_proto::auth::{GetSessionKeysRequest, Session, VerifyPinResponse};
use pasetors::Public;
use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};

use crate::bank::{Bank, CARD, PIN, WRONG, press, reason};

/// What a gateway does: verifies the token with the published key and reads the payload.
async fn verified(bank: &Bank, answer: &VerifyPinResponse) -> serde_json::Value {
    let keys = bank.client().get_session_keys(GetSessionKeysRequest {}).await.unwrap().into_inner();
    let key = AsymmetricPublicKey::<V4>::from(&keys.public_keys[0]).unwrap();
    let token = UntrustedToken::<Public, V4>::try_from(&answer.session_token).unwrap();
    assert!(token.untrusted_footer().is_empty());
    let token = PublicToken::verify(&key, &token, None, None).unwrap();
    serde_json::from_str(token.payload()).unwrap()
}

fn session(answer: &VerifyPinResponse) -> &Session {
    answer.session.as_ref().unwrap()
}

#[tokio::test]
async fn a_right_pin_opens_a_session_that_a_gateway_verifies_without_asking() {
    let bank = Bank::open().await;
    let answer = bank.log_in(CARD, PIN).await.unwrap();
    let session = session(&answer);
    let payload = verified(&bank, &answer).await;
    for (key, value) in [
        ("sid", &session.session_id),
        ("cid", &session.card_id),
        ("aid", &session.account_id),
        ("atm", &session.atm_id),
        ("tid", &session.terminal_id),
    ] {
        assert_eq!(payload[key], value.as_str(), "{key}");
    }
    assert_eq!(session.account_id, atm_types::AccountId::of_number("Farhan").to_string());
    assert_eq!((session.atm_id.as_str(), session.terminal_id.as_str()), ("ATM-0042", &*"a5".repeat(32)));
    let (issued, expires) = (session.issue_time.unwrap(), session.expire_time.unwrap());
    assert_eq!(issued.seconds, 1_800_000_000);
    assert_eq!(expires.seconds - issued.seconds, 300);
    assert_eq!(payload["iat"], 1_800_000_000_000_000_000_i64);
    assert_eq!(payload["exp"], 1_800_000_300_000_000_000_i64);
    assert_eq!(payload.as_object().unwrap().len(), 7);
}

#[tokio::test]
async fn a_retry_gets_the_same_session_byte_for_byte_without_hashing() {
    let bank = Bank::open().await;
    let request = press(CARD, PIN);
    let first = bank.send(request.clone()).await.unwrap();
    let hashes = bank.hasher.count();
    bank.clock.advance(Duration::from_secs(59));
    let again = bank.send(request.clone()).await.unwrap();
    assert_eq!(first.session_token, again.session_token);
    assert_eq!(first.session, again.session);
    assert_eq!(bank.hasher.count(), hashes);

    bank.clock.advance(Duration::from_secs(1));
    let forgotten = bank.send(request).await.unwrap();
    assert_ne!(first.session_token, forgotten.session_token, "after 60 s it is a new attempt");
    assert_eq!(bank.hasher.count(), hashes + 1);
}

#[tokio::test]
async fn retries_in_parallel_are_verified_once_and_get_one_session() {
    let bank = Bank::open().await;
    let request = press(CARD, PIN);
    let before = bank.hasher.count();
    let sends = (0..8).map(|_| bank.send(request.clone()));
    let answers = futures_util::future::join_all(sends).await;
    let tokens: std::collections::BTreeSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().session_token).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(bank.hasher.count() - before, 1);
}

#[tokio::test]
async fn retries_of_a_wrong_pin_are_answered_alike_and_counted_once() {
    let bank = Bank::open().await;
    let request = press(CARD, WRONG);
    for _ in 0..10 {
        assert_eq!(reason(&bank.send(request.clone()).await), "WRONG_CARD_OR_PIN");
    }
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN", "only the second");
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn each_press_of_the_key_opens_a_session_of_its_own() {
    let bank = Bank::open().await;
    let first = bank.log_in(CARD, PIN).await.unwrap();
    let second = bank.log_in(CARD, PIN).await.unwrap();
    assert_ne!(session(&first).session_id, session(&second).session_id);
    assert_eq!(session(&first).card_id, session(&second).card_id);
}

#[tokio::test]
async fn a_session_lasts_as_long_as_it_is_configured_to() {
    let bank = Bank::open_with(|config| config.session_lifetime = Duration::from_secs(30)).await;
    let answer = bank.log_in(CARD, PIN).await.unwrap();
    let session = session(&answer);
    assert_eq!(session.expire_time.unwrap().seconds - session.issue_time.unwrap().seconds, 30);
}
