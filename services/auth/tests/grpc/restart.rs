//! What survives a restart, and what a failing disk does.

use std::sync::Arc;

use atm_auth::config::Storage;
use atm_auth::storage::{CommitFault, SqliteOptions};
use atm_auth::{Error, pepper::PepperError};
use atm_proto::auth::{BlockCardRequest, CloseSessionRequest, SignOnTerminalRequest, VerifyPinRequest};
use atm_proto::types::Boot;
use atm_types::SystemIds;
use tonic::Code;

use crate::bank::{Bank, CARD, NOBODYS, PIN, Refusal, WRONG, order_id, press, reason, until};

#[tokio::test]
async fn row_08_the_count_and_the_lock_survive_restarts_in_good_order_and_without() {
    let mut bank = Bank::open().await;
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    assert_eq!(reason(&bank.log_in(NOBODYS, WRONG).await), "WRONG_CARD_OR_PIN");
    bank.stop().await.unwrap();
    bank.start_again().await;
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    assert_eq!(reason(&bank.log_in(NOBODYS, WRONG).await), "WRONG_CARD_OR_PIN");
    bank.abort().await;
    bank.start_again().await;
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "CARD_LOCKED");
    assert_eq!(reason(&bank.log_in(NOBODYS, WRONG).await), "CARD_LOCKED");
    bank.abort().await;
    bank.start_again().await;
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_LOCKED");
    assert_eq!(reason(&bank.log_in(NOBODYS, PIN).await), "CARD_LOCKED");
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_very_same_session() {
    let mut bank = Bank::open().await;
    let request = press(CARD, PIN);
    let first = bank.send(request.clone()).await.unwrap();
    bank.abort().await;
    bank.start_again().await;
    let hashes = bank.hasher.count();
    assert_eq!(bank.send(request).await.unwrap().session_token, first.session_token);
    assert_eq!(bank.hasher.count(), hashes);
}

#[tokio::test]
async fn row_04_a_machines_terminal_survives_a_restart() {
    let mut bank = Bank::open().await;
    bank.log_in(CARD, PIN).await.unwrap();
    bank.abort().await;
    bank.start_again().await;
    let mut foreign = press(CARD, PIN);
    foreign.terminal_id = "b6".repeat(32);
    assert_eq!(reason(&bank.send(foreign).await), "TERMINAL_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_a_verification_whose_caller_is_gone() {
    let mut bank = Bank::open().await;
    bank.hasher.close(None);
    let mut client = bank.client();
    let guess = tokio::spawn(async move { client.verify_pin(press(CARD, WRONG)).await });
    until("the guess is being verified", || bank.hasher.waiting() == 1).await;
    guess.abort();
    let _ = guess.await;
    let (hasher, url) = (Arc::clone(&bank.hasher), bank.url());
    let (stopped, ()) = tokio::join!(bank.stop(), async {
        while atm_rpc::server::check_health(&url).await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        hasher.open();
    });
    stopped.unwrap();
    bank.start_again().await;
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN");
    assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "CARD_LOCKED", "the abandoned one was the first");
}

#[tokio::test]
async fn row_26_a_failed_commit_answers_unavailable_without_details_and_ends_the_service() {
    for (fault, counted) in [(CommitFault::Lost, 0), (CommitFault::Kept, 1)] {
        let (mut bank, memory) = Bank::in_memory().await;
        memory.fail_next_commit(fault);
        let refused = bank.log_in(CARD, WRONG).await.refused();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(atm_rpc::status::retry_delay(&refused).is_some());
        let text = format!("{refused:?}");
        assert!(!text.contains("planted") && !text.contains("commit"), "{text}");
        assert!(matches!(bank.ended().await, Err(Error::StorageFailed)));

        bank.start_again().await;
        for _ in counted..2 {
            assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "WRONG_CARD_OR_PIN", "{fault:?}");
        }
        assert_eq!(reason(&bank.log_in(CARD, WRONG).await), "CARD_LOCKED", "{fault:?}");
    }
}

#[tokio::test]
async fn row_28_a_full_disk_refuses_pins_unverified_lets_machines_sign_on_and_ends_nothing() {
    let mut bank = Bank::open().await;
    let elsewhere = |pin| {
        let boot = Some(Boot { epoch: 1, boot_id: order_id(), previous_boot_id: String::new() });
        VerifyPinRequest { atm_id: "ATM-0043".to_owned(), boot, ..press(CARD, pin) }
    };
    let first = elsewhere(PIN);
    let session_id = bank.send(first.clone()).await.unwrap().session.unwrap().session_id;
    bank.stop().await.unwrap();
    // It cannot grow any more, and nobody finds room for a reserve.
    let options = SqliteOptions { max_pages: Some(1), ..SqliteOptions::default() };
    bank.config.storage = Storage::Sqlite(options);
    bank.start_again().await;
    let reserve = bank.config.data.join("reserve");
    let refused = loop {
        match bank.log_in(CARD, PIN).await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(atm_rpc::status::retry_delay(&refused).is_some());
    assert!(!format!("{refused:?}").contains("full"), "{refused:?}");
    assert!(!reserve.exists());
    std::fs::create_dir(&reserve).unwrap();

    let hashes = bank.hasher.count();
    for pin in [WRONG, WRONG, WRONG, WRONG, PIN] {
        assert_eq!(bank.log_in(CARD, pin).await.code(), Code::Unavailable);
    }
    let answered = bank.send(first.clone()).await;
    assert_eq!(answered.unwrap().session.unwrap().session_id, session_id, "it was recorded before");
    assert_eq!(bank.hasher.count(), hashes, "a PIN was verified that could not be counted");

    let VerifyPinRequest { atm_id, terminal_id, boot, .. } = first;
    let previous_boot_id = boot.unwrap().boot_id;
    let boot = Some(Boot { epoch: 2, boot_id: order_id(), previous_boot_id });
    let mut client = bank.client();
    client.sign_on_terminal(SignOnTerminalRequest { atm_id, terminal_id, boot }).await.unwrap();
    client.close_session(CloseSessionRequest { session_id }).await.unwrap();
    let block = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    client.block_card(block).await.unwrap();

    // What is over makes room.
    std::fs::remove_dir(&reserve).unwrap();
    bank.clock.advance(std::time::Duration::from_secs(61));
    until("the disk has room", || reserve.exists()).await;
    assert_eq!(reason(&bank.log_in(CARD, PIN).await), "CARD_BLOCKED", "and not locked by what was refused");
    bank.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_committed_but_not_given_is_given_to_the_retry() {
    let (mut bank, memory) = Bank::in_memory().await;
    let request = press(CARD, PIN);
    memory.fail_next_commit(CommitFault::Kept);
    assert_eq!(bank.send(request.clone()).await.code(), Code::Unavailable);
    assert!(bank.ended().await.is_err());
    bank.start_again().await;
    let hashes = bank.hasher.count();
    assert!(bank.send(request).await.is_ok());
    assert_eq!(bank.hasher.count(), hashes, "the outcome was on the disk already");
}

#[tokio::test]
async fn row_13_a_missing_wrong_or_readable_pepper_keeps_the_service_from_starting() {
    use std::os::unix::fs::PermissionsExt;
    let mut bank = Bank::open().await;
    bank.stop().await.unwrap();
    let pepper = bank.config.pepper_file.clone();
    let hidden = bank.home.path().join("hidden");

    std::fs::rename(&pepper, &hidden).unwrap();
    let missing = bank.start().await.unwrap_err();
    assert!(matches!(missing, Error::Pepper(PepperError::Missing { .. })));
    assert!(missing.to_string().contains("is missing although cards exist"), "{missing}");
    assert!(!pepper.exists());

    atm_rpc::process::SecretFile::create_or_load(&pepper, &SystemIds).unwrap();
    let wrong = bank.start().await.unwrap_err();
    assert!(wrong.to_string().contains("not the one that this database was made with"), "{wrong}");

    std::fs::rename(&hidden, &pepper).unwrap();
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o604)).unwrap();
    let readable = bank.start().await.unwrap_err();
    let source = std::error::Error::source(&readable).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{readable} {source}").contains("0600"), "{readable} {source}");

    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o600)).unwrap();
    bank.start_again().await;
    assert!(bank.log_in(CARD, PIN).await.is_ok(), "and nothing was locked by the wrong one");
}

#[tokio::test]
async fn row_27_a_second_service_on_the_same_directory_leaves_and_says_who_is_there() {
    let mut bank = Bank::open().await;
    let url = bank.url();
    let second = bank.start().await.unwrap_err();
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    assert!(atm_rpc::server::check_health(&url).await, "the first goes on");
}

#[tokio::test]
async fn attempts_are_erased_after_a_minute_whether_anybody_asks_or_not() {
    let bank = Bank::open().await;
    bank.log_in(CARD, WRONG).await.refused();
    let database = bank.config.data.join("auth.db");
    let count = || -> i64 {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.query_row("SELECT count(*) FROM attempts", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 1);
    bank.clock.advance(std::time::Duration::from_secs(61));
    until("the sweep", || count() == 0).await;
}
