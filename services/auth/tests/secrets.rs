//! Row 25: everything is logged at TRACE, the client's side too, and no secret is in it, nor in any file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may stop where it is")]

#[allow(dead_code, reason = "the plumbing of the other tests, of which this one needs a part")]
#[path = "grpc/bank.rs"]
mod bank;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use atm_auth::domain::{HashCost, Pin};
use atm_auth::hashing::{Argon2id, HashingError, PinHasher};
use atm_auth::pepper::Pepper;
use atm_proto::auth::{BlockCardRequest, CloseSessionRequest, UnblockCardRequest};
use bank::{Bank, Refusal, change, order_id, press, reason};
use tonic::Code;

const CARD: &str = "7391046285170004242";
const UNKNOWN_CARD: &str = "8402157396281114343";
const PIN: &str = "739104628517";
const NEW_PIN: &str = "640213579864";
const WRONG_PIN: &str = "518273640951";
const PANIC_PIN: &str = "995511773388";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Panics over one PIN, in the place where it is in memory in the clear.
struct PanickingHasher;

impl PinHasher for PanickingHasher {
    fn hash(
        &self,
        pepper: &Pepper,
        pin: &Pin,
        salt: &[u8; 16],
        cost: HashCost,
    ) -> Result<[u8; 32], HashingError> {
        assert!(pin.digits() != PANIC_PIN.as_bytes(), "planted");
        Argon2id.hash(pepper, pin, salt, cost)
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// All files below a directory but the two that are there to hold a secret.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("pepper") && !path.ends_with("service.token") {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn row_25_no_secret_is_in_any_log_panic_database_or_write_ahead_log() {
    let captured = Captured::default();
    let (to_logs, to_panics) = (captured.clone(), captured.clone());
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to_logs.clone())
        .init();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(to_panics.clone(), "{panic} {}", std::backtrace::Backtrace::force_capture());
    }));

    let bank = Bank::open_with(|config| config.hashing.hasher = Arc::new(PanickingHasher)).await;
    let mut tokens = Vec::new();
    bank.issue(CARD, Some(PIN)).await;
    let answer = bank.log_in(CARD, PIN).await.unwrap();
    tokens.push(answer.session_token);
    let session = answer.session.unwrap();
    assert_eq!(reason(&bank.log_in(CARD, WRONG_PIN).await), "WRONG_CARD_OR_PIN");
    assert_eq!(reason(&bank.log_in(UNKNOWN_CARD, WRONG_PIN).await), "WRONG_CARD_OR_PIN");
    assert_eq!(bank.log_in(CARD, PANIC_PIN).await.code(), Code::Internal);
    let malformed = format!("{PIN}{PIN}");
    assert_eq!(bank.log_in(CARD, &malformed).await.code(), Code::InvalidArgument);
    let mut misplaced = press(CARD, PIN);
    (misplaced.atm_id, misplaced.attempt_id) = (CARD.to_owned() + " " + PIN, PIN.to_owned());
    assert_eq!(bank.send(misplaced).await.code(), Code::InvalidArgument);
    bank.client().change_pin(change(&session.card_id, PIN, NEW_PIN)).await.unwrap();
    tokens.push(bank.log_in(CARD, NEW_PIN).await.unwrap().session_token);
    let request = CloseSessionRequest { session_id: session.session_id };
    bank.client().close_session(request).await.unwrap();
    bank.client()
        .block_card(BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() })
        .await
        .unwrap();
    bank.client()
        .unblock_card(UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() })
        .await
        .unwrap();

    let _ = std::panic::take_hook();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    let pepper = read(&bank.config.pepper_file);
    let raw_pepper: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&pepper[at..at + 2], 16).unwrap()).collect();
    let mut canaries: Vec<Vec<u8>> = [CARD, UNKNOWN_CARD, PIN, NEW_PIN, WRONG_PIN, PANIC_PIN, &malformed]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    canaries.extend([pepper.into_bytes(), raw_pepper, read(&bank.config.service_token_file).into_bytes()]);
    canaries.extend(tokens.into_iter().map(String::into_bytes));

    // While it runs, so that the log of writes is there too.
    let files = files(bank.home.path());
    assert!(files.iter().any(|(name, bytes)| name.ends_with("auth.db-wal") && !bytes.is_empty()));
    let logs = captured.bytes();
    let text = String::from_utf8_lossy(&logs);
    for (what, word) in [
        ("TRACE of the transport", "h2::codec"),
        ("our own words", "verified a PIN"),
        ("the panic", "planted"),
        ("the last four digits, which may be shown", "4242"),
    ] {
        assert!(text.contains(word), "the capture itself does not work: {what}");
    }
    for canary in canaries {
        let shown = String::from_utf8_lossy(&canary).into_owned();
        if contains(&logs, &canary) {
            let line = text.lines().find(|line| line.contains(&shown)).unwrap_or_default();
            panic!("{shown:?} is in the logs: {line}");
        }
        for (name, bytes) in &files {
            assert!(!contains(bytes, &canary), "{shown:?} is in {name}");
        }
    }
    // Not in part either: a run of nine digits cannot be there by chance.
    for run in CARD.as_bytes().windows(9).chain(UNKNOWN_CARD.as_bytes().windows(9)) {
        assert!(!contains(&logs, run), "a part of a card number is in the logs");
    }
}
