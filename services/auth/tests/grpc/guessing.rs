//! What a guesser gets: rows 7 to 12 of the security table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atm_proto::auth::{BlockCardRequest, GetSessionKeysRequest, UnblockCardRequest};
use atm_rpc::status::{retry_delay, violated_field};
use tonic::{Code, Status};

use crate::bank::{Bank, CARD, NOBODYS, PIN, Refusal, WRONG, order_id, press, reason, until};

/// The bytes of an answer without the one random id in it.
fn bytes(status: &Status) -> (Code, String, Vec<u8>) {
    let mut details = status.details().to_vec();
    let key = b"error_id";
    let at = details.windows(key.len()).position(|window| window == key).expect("an error id");
    // The value is a field header of two bytes and sixteen digits.
    let value = &mut details[at + key.len() + 2..at + key.len() + 18];
    assert!(value.iter().all(u8::is_ascii_hexdigit));
    value.fill(b'0');
    (status.code(), status.message().to_owned(), details)
}

#[tokio::test]
async fn row_07_an_unknown_card_looks_and_costs_like_a_wrong_pin_up_to_the_lock_and_beyond() {
    let bank = Bank::open().await;
    bank.issue("99990000", None).await;
    let mut answers = Vec::new();
    for card in [CARD, NOBODYS, "99990000"] {
        let before = bank.hasher.count();
        let mut own = Vec::new();
        for _ in 0..5 {
            let refused = bank.log_in(card, WRONG).await.refused();
            own.push((bytes(&refused), bank.hasher.count() - before));
        }
        answers.push(own);
    }
    assert_eq!(answers[0], answers[1], "a number that is nobody's");
    assert_eq!(answers[0], answers[2], "a card without a PIN");
    let codes: Vec<_> = answers[0].iter().map(|((code, ..), hashes)| (*code, *hashes)).collect();
    let (wrong, locked) = (Code::Unauthenticated, Code::FailedPrecondition);
    assert_eq!(codes, [(wrong, 1), (wrong, 2), (locked, 3), (locked, 3), (locked, 3)]);
}

#[tokio::test]
async fn row_07_two_refusals_differ_in_their_error_id_only() {
    let bank = Bank::open().await;
    let (first, second) = (bank.log_in(CARD, WRONG).await, bank.log_in(NOBODYS, WRONG).await);
    let (first, second) = (first.refused(), second.refused());
    assert_ne!(first.details(), second.details());
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(first.metadata().get("content-type"), second.metadata().get("content-type"));
}

#[tokio::test]
async fn row_07_unknown_numbers_are_bounded_and_the_oldest_is_forgotten_first() {
    let bank = Bank::open_with(|config| config.limits.unknown_numbers = 2).await;
    for _ in 0..3 {
        let _ = bank.log_in(NOBODYS, WRONG).await;
    }
    assert_eq!(reason(&bank.log_in(NOBODYS, WRONG).await), "CARD_LOCKED");
    for other in ["50000001", "50000002"] {
        assert_eq!(reason(&bank.log_in(other, WRONG).await), "WRONG_CARD_OR_PIN");
    }
    assert_eq!(reason(&bank.log_in(NOBODYS, WRONG).await), "WRONG_CARD_OR_PIN", "it made room");
}

#[tokio::test]
async fn row_08_the_third_wrong_pin_locks_the_card_even_for_its_holder() {
    let bank = Bank::open().await;
    let answers = [bank.log_in(CARD, WRONG).await, bank.log_in(CARD, "9999").await];
    assert_eq!(answers.each_ref().map(reason), ["WRONG_CARD_OR_PIN", "WRONG_CARD_OR_PIN"]);
    let third = bank.log_in(CARD, "0000").await;
    assert_eq!(third.code(), Code::FailedPrecondition);
    let hashes = bank.hasher.count();
    assert_eq!([reason(&third), reason(&bank.log_in(CARD, PIN).await)], ["CARD_LOCKED", "CARD_LOCKED"]);
    assert_eq!(bank.hasher.count(), hashes, "a locked card costs nothing");
    let request = UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    bank.client().unblock_card(request).await.unwrap();
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test]
async fn row_08_a_right_pin_takes_the_count_back() {
    let bank = Bank::open().await;
    for _ in 0..3 {
        let _ = bank.log_in(CARD, WRONG).await;
        let _ = bank.log_in(CARD, WRONG).await;
        assert!(bank.log_in(CARD, PIN).await.is_ok());
    }
}

/// A thousand different PINs at once, and whoever is told to come back does, until all are refused for good.
async fn thousand_guesses(bank: &Arc<Bank>, card: &'static str) -> usize {
    let before = bank.hasher.count();
    let told_to_come_back = Arc::new(AtomicUsize::new(0));
    let mut guesses = tokio::task::JoinSet::new();
    let client = bank.client();
    for guess in 0..1000 {
        let (mut client, busy) = (client.clone(), Arc::clone(&told_to_come_back));
        guesses.spawn(async move {
            let request = press(card, &format!("9{guess:03}"));
            let mut pause = std::time::Duration::from_millis(20);
            loop {
                let refused = client.verify_pin(request.clone()).await.refused();
                if refused.code() != Code::ResourceExhausted {
                    return refused.code();
                }
                assert!(retry_delay(&refused).is_some());
                busy.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(std::time::Duration::from_secs(1));
            }
        });
    }
    let mut wrong = 0;
    while let Some(code) = guesses.join_next().await {
        match code.unwrap() {
            Code::Unauthenticated => wrong += 1,
            code => assert_eq!(code, Code::FailedPrecondition),
        }
    }
    assert_eq!(wrong, 2, "the third is told that the card is locked");
    assert!(told_to_come_back.load(Ordering::SeqCst) > 0, "the line in front of the card was never full");
    bank.hasher.count() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn row_09_a_thousand_parallel_guesses_get_at_most_three_verifications() {
    let bank = Arc::new(Bank::open().await);
    assert_eq!(thousand_guesses(&bank, CARD).await, 3);
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_LOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_09_a_number_that_is_nobodys_gets_as_many() {
    let bank = Arc::new(Bank::open().await);
    assert_eq!(thousand_guesses(&bank, NOBODYS).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_09_a_guesser_who_does_not_wait_for_the_answer_has_been_counted() {
    let bank = Bank::open().await;
    for _ in 0..3 {
        let before = bank.hasher.count();
        bank.hasher.close(None);
        // The server itself gives the call up and drops its handler, while the hash is held up. On a very busy
        // machine the time may be over before the hash begins, and then it does not count.
        while bank.hasher.count() == before {
            let code = bank.status_of_call_with_timeout("300m", &press(CARD, WRONG)).await;
            assert_eq!(code, Code::DeadlineExceeded);
        }
        bank.hasher.open();
        until("the hash has ended", || bank.hasher.waiting() == 0).await;
        // The next one waits for the card, and so for the count.
    }
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_LOCKED");
}

#[tokio::test]
async fn row_10_an_attempt_id_with_another_pin_is_a_new_attempt_and_counted() {
    let bank = Bank::open().await;
    let mut request = press(CARD, WRONG);
    let mut guess = async |pin: &str| {
        request.pin = pin.to_owned();
        let answer = bank.send(request.clone()).await;
        (reason(&answer), bank.hasher.count())
    };
    let start = bank.hasher.count();
    let wrong = |hashes| ("WRONG_CARD_OR_PIN".to_owned(), start + hashes);
    let locked = |hashes| ("CARD_LOCKED".to_owned(), start + hashes);
    assert_eq!(guess("0001").await, wrong(1));
    assert_eq!(guess("0002").await, wrong(2));
    assert_eq!(guess("0001").await, wrong(2), "a retry of the first is free");
    assert_eq!(guess("0003").await, locked(3));
    assert_eq!(guess(PIN).await, locked(3), "and the right one comes too late");
    assert_eq!(guess("0002").await, wrong(3), "a retry gets what was answered, lock or not");
}

#[tokio::test]
async fn row_11_what_is_no_pin_is_neither_hashed_nor_counted() {
    let bank = Bank::open().await;
    let hashes = bank.hasher.count();
    for pin in ["", "123", "1234567890123", "12a4", "12 4", "１２３４", "-1234"] {
        let refused = bank.log_in(CARD, pin).await.refused();
        assert_eq!(refused.code(), Code::InvalidArgument, "{pin:?}");
        assert_eq!(violated_field(&refused).as_deref(), Some("pin"));
    }
    assert_eq!(bank.hasher.count(), hashes);
    for _ in 0..2 {
        assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    }
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_flood_of_log_ins_is_refused_at_once_while_everything_else_is_served() {
    let bank = Bank::open_with(|config| {
        config.hashing.permits = 2;
        config.hashing.queue = 3;
    })
    .await;
    bank.hasher.close(None);
    // Each at a card of its own, so that only the hashing stands between them.
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut client = bank.client();
        flood.spawn(async move { client.verify_pin(press(&format!("6000{number:04}"), WRONG)).await });
    }
    // Nothing is hashed to the end while the gate is closed, and yet all but five have their answer.
    for _ in 0..45 {
        let refused = flood.join_next().await.unwrap().unwrap().refused();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(retry_delay(&refused).is_some_and(|delay| !delay.is_zero()));
    }
    assert_eq!(bank.hasher.waiting(), 2, "no more than the permits are hashed at once");
    let request = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    bank.client().block_card(request).await.unwrap();
    bank.client().get_session_keys(GetSessionKeysRequest {}).await.unwrap();
    assert!(atm_rpc::server::check_health(&bank.url()).await);
    assert_eq!(flood.len(), 5);
    bank.hasher.open();
    while let Some(answer) = flood.join_next().await {
        assert_eq!(reason(&answer.unwrap()), "WRONG_CARD_OR_PIN");
    }
}

#[tokio::test]
async fn row_12_a_refused_log_in_is_not_counted() {
    let bank = Bank::open_with(|config| {
        config.hashing.permits = 2;
        config.hashing.queue = 0;
    })
    .await;
    bank.hasher.close(None);
    let mut others = tokio::task::JoinSet::new();
    for card in ["60000001", "60000002"] {
        let mut client = bank.client();
        others.spawn(async move { client.verify_pin(press(card, WRONG)).await });
    }
    until("both permits are taken", || bank.hasher.waiting() == 2).await;
    let mut retried = press(CARD, WRONG);
    for _ in 0..5 {
        let refused = bank.send(retried.clone()).await.refused();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        retried = press(CARD, WRONG);
    }
    bank.hasher.open();
    while let Some(answer) = others.join_next().await {
        assert_eq!(reason(&answer.unwrap()), "WRONG_CARD_OR_PIN");
    }
    for _ in 0..2 {
        assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    }
    assert!(bank.log_in(CARD, PIN).await.is_ok());
}

/// Invariant 20 of the design, over random histories.
#[tokio::test]
async fn distinct_wrong_attempts_count_exactly_and_retries_count_nothing() {
    let bank = Bank::open().await;
    let unblock = || UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    for seed in 0..20_u64 {
        bank.client().unblock_card(unblock()).await.unwrap();
        // A small linear generator: the seed is all that a replay needs.
        let mut state = seed;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut sent: Vec<(atm_proto::auth::VerifyPinRequest, String)> = Vec::new();
        let mut wrong = 0;
        for _ in 0..12 {
            if !sent.is_empty() && next(2) == 0 {
                let index = usize::try_from(next(sent.len() as u64)).unwrap();
                let (request, expected) = sent[index].clone();
                assert_eq!(reason(&bank.send(request).await), expected, "seed {seed}");
                continue;
            }
            let request = press(CARD, if next(4) == 0 { PIN } else { WRONG });
            let expected = match (wrong, request.pin.as_str()) {
                (3, _) => "CARD_LOCKED",
                (_, PIN) => {
                    wrong = 0;
                    "OK"
                }
                (2, _) => {
                    wrong = 3;
                    "CARD_LOCKED"
                }
                _ => {
                    wrong += 1;
                    "WRONG_CARD_OR_PIN"
                }
            };
            assert_eq!(reason(&bank.send(request.clone()).await), expected, "seed {seed}");
            sent.push((request, expected.to_owned()));
        }
    }
}
