//! What operators do to the books and the cards of a real bank.

use atm_proto::gateway::*;
use atm_rpc::status::reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::real::{Bank, FARHAN, account};
use crate::support::*;

async fn open(bank: &Bank, account: NewAccount) -> Result<String, Status> {
    let request = OpenAccountRequest { account: Some(account) };
    Ok(bank.admin().open_account(as_operator(request)).await?.into_inner().account_id)
}

async fn import(bank: &Bank, rows: Vec<ImportRow>) -> Vec<ImportResult> {
    let request = as_operator(ImportAccountsRequest { rows });
    bank.admin().import_accounts(request).await.unwrap().into_inner().results
}

fn row(number: &str, minor_units: i64, card: &str, pin: &str) -> ImportRow {
    let account = Some(account(number, minor_units));
    ImportRow { account, card_number: card.to_owned(), pin: pin.to_owned() }
}

async fn trial_balance(bank: &Bank) -> GetTrialBalanceResponse {
    bank.admin().get_trial_balance(as_operator(GetTrialBalanceRequest {})).await.unwrap().into_inner()
}

fn line<'a>(balance: &'a GetTrialBalanceResponse, kind: &str) -> &'a TrialBalanceLine {
    balance.lines.iter().find(|line| line.kind == kind).unwrap()
}

#[tokio::test]
async fn opening_an_account_twice_posts_its_balance_once() {
    let bank = Bank::empty().await;
    let first = open(&bank, account("Farhan", 500)).await.unwrap();
    assert_eq!(open(&bank, account("Farhan", 500)).await.unwrap(), first);
    let balance = trial_balance(&bank).await;
    assert!(balance.balanced);
    assert_eq!(line(&balance, "CUSTOMER").credits_posted_minor_units, "500");
    assert_eq!(line(&balance, "OPENING_BALANCE").debits_posted_minor_units, "500");
    assert_eq!(line(&balance, "CUSTOMER").account_count, 1);
}

#[tokio::test]
async fn an_account_that_differs_is_told_by_the_field_and_changes_nothing() {
    let bank = Bank::empty().await;
    open(&bank, account("Farhan", 500)).await.unwrap();
    open(&bank, account("Biva", 0)).await.unwrap();
    let usd = Some(atm_proto::types::Money { currency_code: "USD".to_owned(), minor_units: 500 });
    for (account, field) in [
        (NewAccount { holder_name: "Someone".into(), ..account("Farhan", 500) }, "holder_name"),
        (
            NewAccount { overdraft_limit_minor_units: 1, ..account("Farhan", 500) },
            "overdraft_limit_minor_units",
        ),
        (
            NewAccount { daily_withdrawal_limit_minor_units: 1, ..account("Farhan", 500) },
            "daily_withdrawal_limit_minor_units",
        ),
        (NewAccount { opening_balance: usd, ..account("Farhan", 500) }, "opening_balance.currency_code"),
        (account("Farhan", 501), "opening_balance"),
        (account("Farhan", 0), "opening_balance"),
        (account("Biva", 5), "opening_balance"),
    ] {
        let status = open(&bank, account).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::AlreadyExists, Some("ACCOUNT_DIFFERS"))
        );
        assert_eq!(status.get_details_error_info().unwrap().metadata["field"], field);
    }
    open(&bank, account("Farhan", 500)).await.unwrap();
    open(&bank, account("Biva", 0)).await.unwrap();
    let balance = trial_balance(&bank).await;
    assert_eq!(line(&balance, "CUSTOMER").credits_posted_minor_units, "500");
}

#[tokio::test]
async fn accounts_of_another_currency_are_opened_but_not_served_here() {
    let bank = Bank::empty().await;
    let usd = Some(atm_proto::types::Money { currency_code: "USD".to_owned(), minor_units: 500 });
    open(&bank, NewAccount { opening_balance: usd, ..account("Dollar", 0) }).await.unwrap();
    let request = IssueCardRequest {
        card_number: FARHAN.to_owned(),
        account: "Dollar".to_owned(),
        pin: "1234".to_owned(),
    };
    bank.admin().issue_card(as_operator(request)).await.unwrap();
    let customer = bank.customer("ATM-1", FARHAN).await;
    assert_eq!(customer.balance().await.unwrap().0, 500);
    let status = customer.withdraw(&new_id(), 5).await.unwrap_err();
    assert_eq!(
        (status.code(), atm_rpc::status::violated_field(&status).as_deref()),
        (Code::InvalidArgument, Some("amount.currency_code"))
    );
}

#[tokio::test]
async fn a_card_without_a_pin_opens_nothing_until_it_gets_one() {
    let bank = Bank::empty().await;
    let id = open(&bank, account("Farhan", 500)).await.unwrap();
    let issue = async |account: &str, pin: &str| {
        let request = IssueCardRequest {
            card_number: FARHAN.to_owned(),
            account: account.to_owned(),
            pin: pin.to_owned(),
        };
        bank.admin().issue_card(as_operator(request)).await.unwrap().into_inner().changed
    };
    assert!(issue("Farhan", "").await);
    assert!(!issue(&id, "").await, "by id, and nothing changes");
    assert_eq!(
        bank.machine("ATM-1").log_in(FARHAN, "1234").await.err().unwrap().code(),
        Code::Unauthenticated
    );
    assert!(issue("Farhan", "1234").await);
    assert!(!issue("Farhan", "1234").await);
    assert!(bank.machine("ATM-2").log_in(FARHAN, "1234").await.is_ok());
}

#[tokio::test]
async fn an_import_can_be_sent_again_and_completes_what_is_missing() {
    let bank = Bank::empty().await;
    let rows = || vec![row("A", 100, "40000001", "1234"), row("B", 0, "40000002", ""), row("C", 300, "", "")];
    let changed = |results: &[ImportResult]| {
        results.iter().map(|result| (result.error.clone(), result.changed)).collect::<Vec<_>>()
    };
    assert_eq!(changed(&import(&bank, rows()).await), vec![(None, true); 3]);
    assert_eq!(changed(&import(&bank, rows()).await), vec![(None, false); 3]);
    // A PIN for the second card, a card for the third account, and one more account.
    let mut more = rows();
    more[1].pin = "5678".to_owned();
    more[2].card_number = "40000003".to_owned();
    more.push(row("D", 400, "", ""));
    assert_eq!(
        changed(&import(&bank, more).await),
        [(None, false), (None, true), (None, true), (None, true)]
    );
    let balance = trial_balance(&bank).await;
    assert!(balance.balanced);
    assert_eq!(line(&balance, "CUSTOMER").credits_posted_minor_units, "800");
    assert_eq!(line(&balance, "CUSTOMER").account_count, 4);
    assert!(bank.machine("ATM-1").log_in("40000002", "5678").await.is_ok());
}

#[tokio::test]
async fn a_bad_row_of_an_import_is_told_and_does_not_hold_up_its_neighbours() {
    let bank = Bank::empty().await;
    let long_name = NewAccount { holder_name: "x".repeat(101), ..account("F", 1) };
    let results = import(
        &bank,
        vec![
            row("A", 100, "40000001", "1234"),
            row("B\n", 100, "40000002", ""),
            row("A", 999, "40000003", ""),
            row("C", -1, "", ""),
            row("D", 100, "40000001", ""),
            row("E", 100, "12", ""),
            ImportRow { account: Some(long_name), ..ImportRow::default() },
            row("G", 100, "", "1234"),
            ImportRow::default(),
            row("H", 100, "40000008", ""),
        ],
    )
    .await;
    let seen: Vec<_> = results
        .iter()
        .map(|result| result.error.as_ref().map(|error| (Code::from(error.code), error.field.as_str())))
        .collect();
    let invalid = Code::InvalidArgument;
    assert_eq!(
        seen,
        [
            None,
            Some((invalid, "account.account_number")),
            Some((Code::AlreadyExists, "opening_balance")),
            Some((invalid, "account.opening_balance.minor_units")),
            Some((Code::AlreadyExists, "card_number")),
            Some((invalid, "card_number")),
            Some((invalid, "account.holder_name")),
            Some((invalid, "pin")),
            Some((invalid, "account")),
            None,
        ]
    );
    assert!(results[0].changed && results[9].changed && !results[2].changed);
    // The card of another account is refused across chunks too.
    let results = import(&bank, vec![row("D", 100, "40000001", "")]).await;
    assert_eq!(results[0].error.as_ref().unwrap().reason, "CARD_OF_ANOTHER_ACCOUNT");
    let balance = trial_balance(&bank).await;
    assert_eq!(line(&balance, "CUSTOMER").credits_posted_minor_units, "300", "A, D and H");
}

#[tokio::test]
async fn a_chunk_of_a_thousand_rows_is_one_round_trip() {
    let bank = Bank::empty().await;
    let rows: Vec<_> =
        (0..1_000).map(|n| row(&format!("BD-{n:04}"), n, &format!("4000{n:012}"), "")).collect();
    let results = import(&bank, rows.clone()).await;
    assert!(results.iter().all(|result| result.error.is_none() && result.changed));
    let results = import(&bank, rows).await;
    assert!(results.iter().all(|result| result.error.is_none() && !result.changed));
    let balance = trial_balance(&bank).await;
    assert_eq!(line(&balance, "CUSTOMER").account_count, 1_000);
    assert_eq!(line(&balance, "CUSTOMER").credits_posted_minor_units, "499500");
}

#[tokio::test]
async fn the_books_agree_after_a_day_and_the_verification_says_so() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    farhan.withdraw(&new_id(), 700).await.unwrap();
    farhan.authorize(&new_id(), 300).await.unwrap();
    farhan.transfer(&new_id(), 50, "Biva").await.unwrap();
    let balance = trial_balance(&bank).await;
    assert!(balance.balanced);
    assert_eq!(line(&balance, "CASH").credits_posted_minor_units, "700");
    assert_eq!(line(&balance, "CUSTOMER").debits_pending_minor_units, "300");
    let mut stream =
        bank.admin().verify_ledger(as_operator(VerifyLedgerRequest {})).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        assert!(message.findings.is_empty(), "{message:?}");
        last = Some(message);
    }
    let last = last.unwrap();
    assert!(last.complete && last.chain_head.len() == 64);
    assert_eq!(last.steps_checked, balance.commit_sequence);
}
