//! Operators: their credential, and what is told of their mistakes. What their calls do to the books is
//! tested with the real services.

use atm_proto::gateway::*;
use atm_proto::ledger::AccountKind;
use atm_rpc::status::{reason, violated_field};
use tonic::{Code, Request, Status};

use crate::support::fake_auth::account_of;
use crate::support::*;

fn account(number: &str, minor_units: i64) -> Option<NewAccount> {
    Some(NewAccount {
        account_number: number.to_owned(),
        holder_name: "Farhan".to_owned(),
        opening_balance: bdt(minor_units),
        ..NewAccount::default()
    })
}

#[tokio::test]
async fn row_03_every_method_needs_the_operators_token() {
    let world = World::new().await;
    let customer = world.customer("ATM-1", CARD).await;
    let bad =
        [None, Some("Bearer wrong".to_owned()), Some(SERVICE_HEADER.to_owned()), customer.session.clone()];
    fn with<T>(header: &Option<String>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        request
    }
    let mut texts = Vec::new();
    for header in bad {
        let mut admin = world.admin();
        let results: [Result<(), Status>; 15] = [
            admin
                .open_account(with(&header, OpenAccountRequest { account: account("A", 5) }))
                .await
                .map(drop),
            admin.issue_card(with(&header, IssueCardRequest::default())).await.map(drop),
            admin
                .block_card(with(
                    &header,
                    BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() },
                ))
                .await
                .map(drop),
            admin.unblock_card(with(&header, UnblockCardRequest::default())).await.map(drop),
            admin.forget_start(with(&header, ForgetStartRequest::default())).await.map(drop),
            admin.release_terminal(with(&header, ReleaseTerminalRequest::default())).await.map(drop),
            admin.import_accounts(with(&header, ImportAccountsRequest::default())).await.map(drop),
            admin.get_trial_balance(with(&header, GetTrialBalanceRequest {})).await.map(drop),
            admin.verify_ledger(with(&header, VerifyLedgerRequest {})).await.map(drop),
            admin.move_cash(with(&header, MoveCashRequest::default())).await.map(drop),
            admin.get_cash_position(with(&header, GetCashPositionRequest::default())).await.map(drop),
            admin.list_cash_entries(with(&header, ListCashEntriesRequest::default())).await.map(drop),
            admin.list_suspects(with(&header, ListSuspectsRequest::default())).await.map(drop),
            admin.inspect_transaction(with(&header, InspectTransactionRequest::default())).await.map(drop),
            admin.resolve_suspect(with(&header, ResolveSuspectRequest::default())).await.map(drop),
        ];
        for result in results {
            let status = result.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            texts.push(without_id(&status));
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
    for method in ["OpenAccount", "GetTrialBalance", "VerifyLedger"] {
        assert_eq!(world.ledger.log.count(method), 0, "{method}");
    }
    assert_eq!(world.auth.log.count("BlockCard"), 0);
}

#[tokio::test]
async fn an_operators_token_is_no_session() {
    let world = World::new().await;
    let machine = Machine { session: Some(OPERATOR.to_owned()), ..world.machine("ATM-1") };
    let status = machine.client.clone().get_balance(machine.request(GetBalanceRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_card_is_issued_only_for_a_customers_account() {
    let world = World::new().await;
    world.ledger.add_account(&account_of(CARD), AccountKind::Customer);
    let cash = atm_types::AccountId::of_cash("ATM-1", atm_types::Currency::BDT);
    world.ledger.add_account(&cash, AccountKind::Cash);
    let issue = async |card: &str, account: &str| {
        let request = IssueCardRequest {
            card_number: card.to_owned(),
            account: account.to_owned(),
            pin: "1234".to_owned(),
        };
        world.admin().issue_card(as_operator(request)).await.map(|answer| answer.into_inner().changed)
    };
    assert!(issue("5555555555", "Farhan").await.unwrap());
    assert!(!issue(CARD, &account_of(CARD).to_string()).await.unwrap());
    for account in ["nobody", &cash.to_string()] {
        let status = issue("5555555555", account).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_deref()), (Code::NotFound, Some("ACCOUNT_NOT_FOUND")));
    }
    let status = issue(OTHER_CARD, "Farhan").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::AlreadyExists, Some("CARD_OF_ANOTHER_ACCOUNT"))
    );
    let status = issue("12", "Farhan").await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("card_number"));
}

#[tokio::test]
async fn a_card_that_does_not_exist_is_not_found() {
    let world = World::new().await;
    let request = BlockCardRequest { card_number: "4999999999999999".to_owned(), order_id: order_id() };
    let status = world.admin().block_card(as_operator(request)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::NotFound, Some("CARD_NOT_FOUND")));
    assert!(!status.message().contains("row"), "{status:?}");
}

#[tokio::test]
async fn row_24_control_characters_in_names_are_invalid() {
    let world = World::new().await;
    for (number, name, field) in [
        ("a\nb", "Farhan", "account.account_number"),
        ("A", "Far\nhan", "account.holder_name"),
        ("A", "\u{1b}[31mFarhan", "account.holder_name"),
    ] {
        let account =
            account(number, 5).map(|account| NewAccount { holder_name: name.to_owned(), ..account });
        let status =
            world.admin().open_account(as_operator(OpenAccountRequest { account })).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some(field));
    }
    assert_eq!(world.ledger.log.count("OpenAccount"), 0);
}

#[tokio::test]
async fn the_trial_balance_names_the_kinds() {
    let world = World::new().await;
    let answer = world.admin().get_trial_balance(as_operator(GetTrialBalanceRequest {})).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!((answer.lines[0].kind.as_str(), answer.balanced, answer.commit_sequence), ("CASH", true, 9));
}

#[tokio::test]
async fn a_verification_streams_its_progress_and_row_26_hides_how_it_broke() {
    let world = World::new().await;
    let stream = world.admin().verify_ledger(as_operator(VerifyLedgerRequest {})).await.unwrap();
    let mut stream = stream.into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.steps_checked, first.steps_total), (1, 2));
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains("ledger.db"), "{status:?}");
}

#[tokio::test]
async fn a_chunk_of_no_rows_or_too_many_is_invalid() {
    let world = World::new().await;
    for count in [0, 1_001] {
        let rows = vec![ImportRow { account: account("A", 5), ..ImportRow::default() }; count];
        let status =
            world.admin().import_accounts(as_operator(ImportAccountsRequest { rows })).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some("rows"));
    }
}
