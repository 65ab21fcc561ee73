//! Books restored from an older backup, and the authorizations that make up for what they forgot.

use std::path::Path;

use atm_proto::ledger::{CaptureTransactionRequest, StepKind, SuspendTransactionRequest};
use atm_proto::types::TransactionState;
use tonic::Code;

use crate::support::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A bank whose books were restored to the moment before a hold of 600.00, and that hold's authorization.
async fn restored(id: &str) -> (Bank, Vec<u8>) {
    let bank = Bank::open().await;
    endow_with_suspense(&mut bank.client(), &[("Farhan", 100_000)]).await;
    let backup = bank.directory.path().join("backup");
    let bank = bank.restart_after(|books| copy(books, &backup)).await;
    let request = hold(id, &customer("Farhan"), &cash(), 60_000);
    let held = bank.client().hold_transaction(request).await.unwrap().into_inner().outcome.unwrap();
    let bank = bank
        .restart_after(|books| {
            std::fs::remove_dir_all(books).unwrap();
            copy(&backup, books);
        })
        .await;
    (bank, held.authorization)
}

#[tokio::test]
async fn cash_that_left_on_a_forgotten_hold_is_posted_late_and_the_books_balance() {
    let id = new_id();
    let (bank, authorization) = restored(&id).await;
    let mut client = bank.client();
    let unknown = client.capture_transaction(capture(&id, 50_000)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "without the authorization nobody knows the hold");

    let request = CaptureTransactionRequest { authorization, ..capture(&id, 50_000) };
    let first = client.capture_transaction(request.clone()).await.unwrap().into_inner();
    let outcome = first.outcome.clone().unwrap();
    assert_eq!((outcome.step(), outcome.state()), (StepKind::CaptureLate, TransactionState::CapturedLate));
    assert_eq!((outcome.debit_account_id, outcome.credit_account_id), (customer("Farhan"), cash()));
    assert_eq!(balance(&mut client, customer("Farhan")).await, (50_000, 50_000));
    let again = client.capture_transaction(request).await.unwrap().into_inner();
    assert_eq!(bytes(&again), bytes(&first));
    // Once it is recorded it needs no authorization any more, and a late hold finds it.
    assert_eq!(client.capture_transaction(capture(&id, 50_000)).await.unwrap().into_inner(), first);
    let late = client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 60_000)).await.unwrap();
    assert_eq!(late.into_inner().current_state(), TransactionState::CapturedLate);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (50_000, 50_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_tombstone_on_the_restored_books_does_not_swallow_cash_that_left() {
    let id = new_id();
    let (bank, authorization) = restored(&id).await;
    let mut client = bank.client();
    client.cancel_transaction(cancel(&id)).await.unwrap();
    let refused = client.capture_transaction(capture(&id, 60_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let request = CaptureTransactionRequest { authorization, ..capture(&id, 60_000) };
    let captured = client.capture_transaction(request).await.unwrap().into_inner();
    assert_eq!(captured.current_state(), TransactionState::CapturedLate);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (40_000, 40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_forgotten_hold_is_suspended_on_its_authorization_and_resolved_like_any_other() {
    for before in ["nothing", "tombstone", "declined"] {
        let id = new_id();
        let (bank, authorization) = restored(&id).await;
        let mut client = bank.client();
        match before {
            "tombstone" => _ = client.cancel_transaction(cancel(&id)).await.unwrap(),
            "declined" => {
                let spent = post(&new_id(), &customer("Farhan"), &cash(), 50_000);
                client.post_transaction(spent).await.unwrap();
                let request = hold(&id, &customer("Farhan"), &cash(), 60_000);
                let declined = client.hold_transaction(request).await.unwrap().into_inner();
                assert_eq!(declined.current_state(), TransactionState::Declined);
            }
            _ => {}
        }
        let had = balance(&mut client, customer("Farhan")).await.0;
        let last = last_sequence(&mut client).await;
        let code = if before == "nothing" { Code::NotFound } else { Code::FailedPrecondition };
        assert_eq!(client.suspend_transaction(suspend(&id)).await.unwrap_err().code(), code);
        let honest = SuspendTransactionRequest { authorization, ..suspend(&id) };
        let mut forged = honest.clone();
        forged.authorization[40] ^= 0x80;
        for request in [
            forged,
            SuspendTransactionRequest { authorization: b"trust me".to_vec(), ..honest.clone() },
            SuspendTransactionRequest { transaction_id: new_id(), ..honest.clone() },
        ] {
            let status = client.suspend_transaction(request).await.unwrap_err();
            assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("authorization"));
        }
        assert_eq!(last_sequence(&mut client).await, last);
        let first = client.suspend_transaction(honest.clone()).await.unwrap().into_inner();
        assert_eq!(first.current_state(), TransactionState::Suspect, "{before}");
        let again = client.suspend_transaction(honest).await.unwrap().into_inner();
        assert_eq!(bytes(&again), bytes(&first));
        assert_eq!(client.suspend_transaction(suspend(&id)).await.unwrap().into_inner(), first);
        assert_eq!(balance(&mut client, customer("Farhan")).await, (had, had - 60_000));
        assert_eq!(audit(&mut client).await, Vec::<String>::new());
        // The books forget nothing of it, and a person decides it.
        let bank = bank.restart().await;
        let mut client = bank.client();
        client.resolve_transaction(resolve(&id, 60_000)).await.unwrap();
        assert_eq!(balance(&mut client, customer("Farhan")).await, (had - 60_000, had - 60_000));
        assert_eq!(audit(&mut client).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_suspect_of_the_backup_is_a_suspect_again_and_its_forgotten_resolution_is_decided_again() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow_with_suspense(&mut client, &[("Farhan", 100_000)]).await;
    let id = new_id();
    client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 60_000)).await.unwrap();
    let suspended = client.suspend_transaction(suspend(&id)).await.unwrap().into_inner();
    let backup = bank.directory.path().join("backup");
    let bank = bank.restart_after(|books| copy(books, &backup)).await;
    bank.client().resolve_transaction(resolve(&id, 60_000)).await.unwrap();
    let bank = bank
        .restart_after(|books| {
            std::fs::remove_dir_all(books).unwrap();
            copy(&backup, books);
        })
        .await;
    let mut client = bank.client();
    assert_eq!(client.suspend_transaction(suspend(&id)).await.unwrap().into_inner(), suspended);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
    let resolved = client.resolve_transaction(resolve(&id, 60_000)).await.unwrap();
    assert!(resolved.metadata().get("atm-replayed").is_none());
    assert_eq!(balance(&mut client, customer("Farhan")).await, (40_000, 40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_authorization_that_this_ledger_did_not_sign_is_refused_where_it_would_be_needed() {
    let id = new_id();
    let (bank, authorization) = restored(&id).await;
    let mut client = bank.client();
    let mut forged = authorization.clone();
    // A larger amount.
    forged[40] ^= 0x80;
    let honest = CaptureTransactionRequest { authorization, ..capture(&id, 60_000) };
    let refused = [
        CaptureTransactionRequest { authorization: forged, ..honest.clone() },
        CaptureTransactionRequest { authorization: b"trust me".to_vec(), ..honest.clone() },
        CaptureTransactionRequest { terminal_id: STRANGER.to_owned(), ..honest.clone() },
        CaptureTransactionRequest { transaction_id: new_id(), ..honest.clone() },
    ];
    for tombstoned in [false, true] {
        if tombstoned {
            client.cancel_transaction(cancel(&id)).await.unwrap();
        }
        let before = last_sequence(&mut client).await;
        for request in &refused {
            let status = client.capture_transaction(request.clone()).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("authorization"));
        }
        assert_eq!(last_sequence(&mut client).await, before);
    }
    let above = CaptureTransactionRequest { amount: taka(60_001), ..honest.clone() };
    let status = client.capture_transaction(above).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "not even its own amount may be exceeded");
    client.capture_transaction(honest).await.unwrap();
}

#[tokio::test]
async fn an_authorization_is_not_looked_at_where_the_hold_is_known() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 100_000)]).await;
    let id = new_id();
    client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 60_000)).await.unwrap();
    let request = CaptureTransactionRequest { authorization: b"trust me".to_vec(), ..capture(&id, 60_000) };
    let captured = client.capture_transaction(request).await.unwrap().into_inner();
    assert_eq!(captured.current_state(), TransactionState::Captured);
    let posted = new_id();
    client.post_transaction(post(&posted, &customer("Farhan"), &cash(), 1)).await.unwrap();
    let request = CaptureTransactionRequest { authorization: b"trust me".to_vec(), ..capture(&posted, 1) };
    let status = client.capture_transaction(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "a posting is known, and holds nothing");
}

#[tokio::test]
async fn books_without_their_key_do_not_open() {
    let bank = Bank::open().await;
    endow(&mut bank.client(), &[]).await;
    let bank = bank
        .restart_after(|books| std::fs::remove_file(books.join(atm_ledger::authorization::KEY_FILE)).unwrap())
        .await;
    let error = bank.running.await.unwrap().unwrap_err();
    assert!(matches!(error, atm_ledger::Error::Key(_)), "{error}");
}
