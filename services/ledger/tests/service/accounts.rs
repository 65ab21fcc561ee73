//! Opening and reading accounts.

use atm_proto::ledger::{AccountKind, GetAccountRequest};
use tonic::Code;

use crate::support::*;

#[tokio::test]
async fn an_account_is_opened_once_and_a_repeat_gets_the_same_bytes_whatever_became_of_it() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[]).await;
    let mut request = account(customer("Farhan"), AccountKind::Customer);
    let asked = request.account.as_mut().unwrap();
    asked.account_number = "Farhan".to_owned();
    asked.holder_name = "ফারহান".to_owned();
    asked.daily_withdrawal_limit_minor_units = 50_000;
    asked.overdraft_limit_minor_units = 700;

    let first = client.open_account(request.clone()).await.unwrap();
    assert!(first.metadata().get("atm-replayed").is_none());
    let opened = first.get_ref().account.clone().unwrap();
    assert_eq!(opened.balance.unwrap().available_minor_units, 700);
    assert_eq!(opened.daily_withdrawal_remaining_minor_units, Some(50_000));
    assert_eq!(opened.create_time.unwrap().seconds, 1_795_000_000);

    client.post_transaction(post(&new_id(), &opening(), &customer("Farhan"), 100_000)).await.unwrap();
    client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 20_000)).await.unwrap();
    let bank = bank.restart().await;
    let mut client = bank.client();
    let again = client.open_account(request.clone()).await.unwrap();
    assert_eq!(again.metadata().get("atm-replayed").unwrap(), "true");
    assert_eq!(bytes(again.get_ref()), bytes(first.get_ref()));

    let read =
        client.get_account(GetAccountRequest { account_id: customer("Farhan") }).await.unwrap().into_inner();
    let account = read.account.unwrap();
    assert_eq!((account.credits_posted_minor_units, account.debits_posted_minor_units), (100_000, 20_000));
    assert_eq!(account.balance.unwrap().available_minor_units, 80_700);
    assert_eq!(account.daily_withdrawal_remaining_minor_units, Some(30_000));
    assert_eq!(account.holder_name, "ফারহান");
    assert_eq!(read.commit_sequence, 5);
}

#[tokio::test]
async fn an_account_that_is_opened_again_with_other_terms_names_the_first_that_differs() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    let request = account(customer("Farhan"), AccountKind::Customer);
    client.open_account(request.clone()).await.unwrap();
    let mut changed = request;
    changed.account.as_mut().unwrap().holder_name = "Mallory".to_owned();
    let status = client.open_account(changed).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(reused_field(&status), "account.holder_name");
}

#[tokio::test]
async fn an_account_that_nobody_opened_is_not_found() {
    let bank = Bank::open().await;
    let request = GetAccountRequest { account_id: customer("nobody") };
    let status = bank.client().get_account(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(atm_rpc::status::reason(&status).as_deref(), Some("ACCOUNT_NOT_FOUND"));
}
