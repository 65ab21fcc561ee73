//! The text utility over the wire.

use atm_proto::text::*;
use atm_rpc::status::{retry_delay, violated_field};
use tonic::{Code, Status};

use crate::support::*;

/// 2^4096 − 2549, the largest prime of 4,096 bits.
fn largest_prime() -> String {
    let number = crypto_bigint::BoxedUint::max(4096);
    number.wrapping_sub(crypto_bigint::BoxedUint::from(2548_u64)).to_string_radix_vartime(10)
}

async fn prime(world: &World, number: &str) -> Result<bool, Status> {
    let request = CheckPrimeRequest { number: number.to_owned() };
    world.text().check_prime(request).await.map(|answer| answer.into_inner().prime)
}

async fn palindrome(world: &World, number: &str) -> Result<bool, Status> {
    let request = CheckPalindromeRequest { number: number.to_owned() };
    world.text().check_palindrome(request).await.map(|answer| answer.into_inner().palindrome)
}

async fn upper(world: &World, text: String) -> Result<String, Status> {
    let client = world.text().max_decoding_message_size(1 << 20);
    let answer = { client }.uppercase(UppercaseRequest { text }).await;
    answer.map(|answer| answer.into_inner().text)
}

#[tokio::test]
async fn the_utility_needs_no_credential() {
    let world = World::new().await;
    let lower = world.text().lowercase(LowercaseRequest { text: "HELLOW".to_owned() }).await.unwrap();
    assert_eq!(lower.into_inner().text, "hellow");
    assert_eq!(upper(&world, "straße".to_owned()).await.unwrap(), "STRASSE");
    assert!(prime(&world, "13").await.unwrap());
    assert!(!prime(&world, "-13").await.unwrap());
    assert!(palindrome(&world, "121").await.unwrap());
    assert!(!palindrome(&world, "123").await.unwrap());
    assert!(prime(&world, &largest_prime()).await.unwrap());
}

#[tokio::test]
async fn row_23_strange_numbers_and_texts_are_answered_or_refused_at_once() {
    let world = World::new().await;
    for number in ["", "-", "+5", "1.5", "৭", "5\0", &"9".repeat(10_000), &"9".repeat(60_000)] {
        for status in
            [prime(&world, number).await.unwrap_err(), palindrome(&world, number).await.unwrap_err()]
        {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(violated_field(&status).as_deref(), Some("number"));
        }
    }
    let status = prime(&world, &"9".repeat(10_000)).await.unwrap_err();
    assert!(status.message().contains("4096 bits"), "the limit is stated: {status:?}");
    assert_eq!(upper(&world, "a\0b\u{7f}".to_owned()).await.unwrap(), "A\0B\u{7f}");
    assert_eq!(upper(&world, "\u{390}".repeat(30_000)).await.unwrap().len(), 180_000, "nothing is ever cut");
    assert!(!prime(&world, &"0".repeat(50_000)).await.unwrap());
}

#[tokio::test]
async fn row_18_a_message_of_more_than_64_kib_is_refused() {
    let world = World::new().await;
    let status = upper(&world, "a".repeat(64 * 1024)).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    assert_eq!(upper(&world, "a".repeat(64 * 1024 - 8)).await.unwrap().len(), 64 * 1024 - 8);
}

#[tokio::test]
async fn row_22_a_flood_of_prime_tests_is_told_to_come_back_and_everything_else_goes_on() {
    let world = World::with(|config| {
        config.prime_workers = 1;
        config.prime_queue = 1;
    })
    .await;
    let number = largest_prime();
    let flood: Vec<_> = (0..40)
        .map(|_| {
            let mut client = world.text();
            let request = CheckPrimeRequest { number: number.clone() };
            tokio::spawn(async move { client.check_prime(request).await })
        })
        .collect();
    assert!(palindrome(&world, "121").await.unwrap());
    assert!(prime(&world, "13").await.unwrap(), "small numbers do not queue");
    let mut refused = 0;
    let mut answered = 0;
    for call in flood {
        match call.await.unwrap() {
            Ok(answer) => {
                answered += 1;
                assert!(answer.into_inner().prime);
            }
            Err(status) => {
                refused += 1;
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(retry_delay(&status).is_some());
            }
        }
    }
    assert!(refused > 0 && answered >= 2, "{refused} refused, {answered} answered");
    assert!(prime(&world, &number).await.unwrap(), "and afterwards there is room again");
}
