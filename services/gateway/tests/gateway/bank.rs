//! The whole bank: every call of a machine against the real auth and ledger.

use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::*;
use atm_proto::types::{DeclineReason, TransactionState};
use atm_rpc::status::{reason, violated_field};
use atm_types::{AccountId, Currency, IdSource, SystemIds};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::real::{BIVA, Bank, FARHAN};
use crate::support::*;

fn field(status: &Status) -> String {
    status.get_details_error_info().unwrap().metadata["field"].clone()
}

fn balance_of(outcome: Option<Outcome>) -> i64 {
    outcome.unwrap().balance.unwrap().balance_minor_units
}

#[tokio::test]
async fn a_customers_day() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    assert_eq!(farhan.balance().await.unwrap(), (100_000, 100_000));

    let withdrawal = new_id();
    let held = farhan.authorize(&withdrawal, 30_000).await.unwrap();
    assert_eq!(held.current_state(), TransactionState::Held);
    assert!(!held.outcome.unwrap().authorization.is_empty());
    assert_eq!(farhan.balance().await.unwrap(), (100_000, 70_000), "set aside, not yet gone");
    let captured = farhan.capture(&withdrawal, 20_000).await.unwrap();
    assert_eq!(captured.current_state(), TransactionState::Captured);
    assert_eq!(balance_of(captured.outcome), 80_000);
    assert_eq!(farhan.balance().await.unwrap(), (80_000, 80_000), "the rest is free again");

    let posted = farhan.withdraw(&new_id(), 10_000).await.unwrap();
    assert_eq!((posted.current_state(), balance_of(posted.outcome)), (TransactionState::Posted, 70_000));
    let deposit = new_id();
    assert_eq!(balance_of(farhan.deposit(&deposit, 5_000).await.unwrap().outcome), 75_000);
    let transfer = new_id();
    assert_eq!(balance_of(farhan.transfer(&transfer, 25_000, "Biva").await.unwrap().outcome), 50_000);

    let steps = farhan.transaction(&withdrawal).await.unwrap();
    let states: Vec<_> = steps.outcomes.iter().map(Outcome::state).collect();
    assert_eq!(states, [TransactionState::Held, TransactionState::Captured]);

    let page = farhan.statement(3, "").await.unwrap();
    let kinds: Vec<_> =
        page.lines.iter().map(|line| (line.kind(), line.amount.as_ref().unwrap().minor_units)).collect();
    assert_eq!(
        kinds,
        [
            (MovementKind::TransferOut, -25_000),
            (MovementKind::Deposit, 5_000),
            (MovementKind::Withdrawal, -10_000),
        ]
    );
    let rest = farhan.statement(3, &page.next_page_token).await.unwrap();
    let kinds: Vec<_> =
        rest.lines.iter().map(|line| (line.kind(), line.amount.as_ref().unwrap().minor_units)).collect();
    assert_eq!(kinds, [(MovementKind::Withdrawal, -20_000), (MovementKind::OpeningBalance, 100_000)]);
    assert_eq!(rest.next_page_token, "");

    let biva = bank.customer("ATM-2", BIVA).await;
    assert_eq!(biva.balance().await.unwrap(), (30_000, 30_000));
    let seen = biva.transaction(&transfer).await.unwrap().outcomes.remove(0);
    assert_eq!(seen.balance.unwrap().balance_minor_units, 30_000, "the receiver sees her own side");
    assert_eq!(biva.statement(1, "").await.unwrap().lines[0].kind(), MovementKind::TransferIn);

    farhan.client.clone().log_out(farhan.request(LogOutRequest {})).await.unwrap();
    assert_eq!(farhan.balance().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn row_15_not_enough_money_is_a_recorded_decline_and_never_an_error() {
    let bank = Bank::new().await;
    let biva = bank.customer("ATM-1", BIVA).await;
    let id = new_id();
    let declined = biva.withdraw(&id, 5_001).await.unwrap();
    assert_eq!(declined.current_state(), TransactionState::Declined);
    let decline = declined.outcome.as_ref().unwrap().decline.unwrap();
    assert_eq!((decline.reason(), decline.available_minor_units), (DeclineReason::InsufficientFunds, 5_000));
    biva.deposit(&new_id(), 100_000).await.unwrap();
    assert_eq!(
        biva.withdraw(&id, 5_001).await.unwrap(),
        declined,
        "for ever, whatever the balance is by now"
    );
}

#[tokio::test]
async fn row_16_an_exact_replay_gets_the_first_outcome_and_a_changed_one_the_field() {
    let bank = Bank::new().await;
    let mut farhan = bank.customer("ATM-1", FARHAN).await;
    let (withdrawal, transfer) = (new_id(), new_id());
    let first = farhan.withdraw(&withdrawal, 1_000).await.unwrap();
    let paid = farhan.transfer(&transfer, 1_000, "Biva").await.unwrap();
    farhan.client.clone().log_out(farhan.request(LogOutRequest {})).await.unwrap();
    farhan.session = Some(farhan.log_in(FARHAN, "1234").await.unwrap().session_token);
    assert_eq!(farhan.withdraw(&withdrawal, 1_000).await.unwrap(), first, "from another session");
    farhan.client = AtmServiceClient::new(channel(&bank.gateway().await));
    assert_eq!(farhan.withdraw(&withdrawal, 1_000).await.unwrap(), first, "through another gateway");
    assert_eq!(farhan.transfer(&transfer, 1_000, "Biva").await.unwrap(), paid);
    let by_id = AccountId::of_number("Biva").to_string();
    assert_eq!(farhan.transfer(&transfer, 1_000, &by_id).await.unwrap(), paid, "the same account by its id");

    for (result, named) in [
        (farhan.withdraw(&withdrawal, 1_001).await.map(drop), "amount.minor_units"),
        (farhan.authorize(&withdrawal, 1_000).await.map(drop), "kind"),
        (farhan.transfer(&transfer, 1_000, "nobody").await.map(drop), "to_account"),
        (farhan.transfer(&transfer, 999, "Biva").await.map(drop), "amount.minor_units"),
    ] {
        let status = result.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, named));
    }
    assert_eq!(farhan.balance().await.unwrap().0, 98_000, "each was posted once");
}

#[tokio::test]
async fn row_06_someone_elses_id_account_and_transaction() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let biva = bank.customer("ATM-2", BIVA).await;
    let id = new_id();
    farhan.withdraw(&id, 1_000).await.unwrap();
    // Another terminal, with the very same fields and with others.
    for amount in [1_000, 7] {
        let status = biva.withdraw(&id, amount).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, "transaction_id"));
    }
    // The same terminal with another customer before it.
    let mut next = farhan.clone();
    next.session = Some(next.log_in(BIVA, "1234").await.unwrap().session_token);
    let status = next.withdraw(&id, 1_000).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, "transaction_id"));
    for status in [biva.transaction(&id).await.unwrap_err(), biva.transaction(&new_id()).await.unwrap_err()] {
        assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no such transaction"));
    }
    // An account's id is a transaction id to the ledger, and nobody's business.
    let opened = AccountId::of_number("Farhan").to_string();
    assert_eq!(farhan.transaction(&opened).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(farhan.cancel(&opened).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(field(&farhan.withdraw(&opened, 5).await.unwrap_err()), "transaction_id");
    // A page token of another account.
    for _ in 0..2 {
        biva.deposit(&new_id(), 5).await.unwrap();
    }
    let token = biva.statement(1, "").await.unwrap().next_page_token;
    let status = farhan.statement(1, &token).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("page_token"));
    assert_eq!(farhan.statement(1, "garbage").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn row_17_captures_that_cannot_be() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let held = new_id();
    farhan.authorize(&held, 1_000).await.unwrap();
    let status = farhan.capture(&held, 1_001).await.unwrap_err();
    assert_eq!(reason(&status).as_deref(), Some("CAPTURE_EXCEEDS_HOLD"));
    let stranger = bank.machine("ATM-2");
    assert_eq!(
        stranger.capture(&held, 1_000).await.unwrap_err().code(),
        Code::NotFound,
        "another ATM's hold"
    );
    assert_eq!(stranger.cancel(&held).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(stranger.transaction(&held).await.unwrap_err().code(), Code::NotFound);

    let machine = Machine { session: None, ..farhan.clone() };
    assert_eq!(machine.capture(&held, 400).await.unwrap().current_state(), TransactionState::Captured);
    let again = machine.capture(&held, 400).await.unwrap();
    assert_eq!(balance_of(again.outcome), 99_600);
    assert_eq!(field(&machine.capture(&held, 500).await.unwrap_err()), "amount.minor_units");
    let cancelled = machine.cancel(&held).await.unwrap();
    assert_eq!(cancelled.current_state(), TransactionState::Captured, "the final state, nothing undone");

    let posted = new_id();
    farhan.withdraw(&posted, 5).await.unwrap();
    let status = farhan.capture(&posted, 5).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("NOTHING_TO_CAPTURE"))
    );
    assert_eq!(status.get_details_error_info().unwrap().metadata["state"], "POSTED");
    assert_eq!(farhan.capture(&new_id(), 5).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_cancelled_id_never_holds_and_a_cancelled_hold_can_still_be_captured() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let never = new_id();
    let tombstone = farhan.cancel(&never).await.unwrap();
    assert_eq!(tombstone.current_state(), TransactionState::Cancelled);
    assert_eq!(tombstone.outcome.as_ref().unwrap().balance, None);
    let late = farhan.authorize(&never, 1_000).await.unwrap();
    assert_eq!(late.outcome, tombstone.outcome, "the fence came first");
    assert_eq!(farhan.transfer(&never, 10, "Biva").await.unwrap().outcome, tombstone.outcome);
    assert_eq!(farhan.balance().await.unwrap(), (100_000, 100_000));

    let held = new_id();
    farhan.authorize(&held, 1_000).await.unwrap();
    assert_eq!(farhan.cancel(&held).await.unwrap().current_state(), TransactionState::Cancelled);
    let captured = farhan.capture(&held, 1_000).await.unwrap();
    assert_eq!(captured.current_state(), TransactionState::CapturedLate, "the cash had left");
    assert_eq!(balance_of(captured.outcome), 99_000);
}

#[tokio::test]
async fn the_banks_own_accounts_cannot_be_paid() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    farhan.deposit(&new_id(), 5).await.unwrap();
    let mut answers = Vec::new();
    for to in [
        AccountId::of_cash("ATM-1", Currency::BDT),
        AccountId::of_cash("ATM-never-used", Currency::BDT),
        AccountId::of_deposit_box("ATM-1", Currency::BDT),
        AccountId::of_suspense("ATM-1", Currency::BDT),
        AccountId::of_vault(Currency::BDT),
        AccountId::of_opening_balances(Currency::BDT),
        AccountId::of_number("nobody"),
    ] {
        let id = new_id();
        let first = farhan.transfer(&id, 100, &to.to_string()).await.unwrap();
        assert_eq!(farhan.transfer(&id, 100, &to.to_string()).await.unwrap(), first);
        let outcome = first.outcome.unwrap();
        answers.push((outcome.state, outcome.decline, outcome.amount, outcome.balance));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1.unwrap().reason(), DeclineReason::CreditAccountNotFound);
    assert_eq!(farhan.balance().await.unwrap().0, 100_005);

    // Declined once, declined for ever, although the machine opens its deposit box afterwards.
    let (id, deposits) = (new_id(), AccountId::of_deposit_box("ATM-9", Currency::BDT).to_string());
    let declined = farhan.transfer(&id, 100, &deposits).await.unwrap();
    bank.customer("ATM-9", BIVA).await.deposit(&new_id(), 5).await.unwrap();
    assert_eq!(farhan.transfer(&id, 100, &deposits).await.unwrap(), declined);
    // The same with an account that a customer opens afterwards.
    let id = new_id();
    let declined = farhan.transfer(&id, 100, "Chandni").await.unwrap();
    let account = Some(real::account("Chandni", 0));
    bank.admin().open_account(as_operator(OpenAccountRequest { account })).await.unwrap();
    assert_eq!(farhan.transfer(&id, 100, "Chandni").await.unwrap(), declined);
    let paid = farhan.transfer(&new_id(), 100, "Chandni").await.unwrap();
    assert_eq!(paid.current_state(), TransactionState::Posted);
}

#[tokio::test]
async fn row_04_a_machines_name_belongs_to_the_first_terminal_that_used_it() {
    let bank = Bank::new().await;
    bank.customer("ATM-1", FARHAN).await;
    let status = bank.machine("ATM-1").log_in(FARHAN, "1234").await.err().unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH"))
    );
}

#[tokio::test]
async fn row_07_and_08_wrong_pins_are_counted_and_the_third_locks_the_card() {
    let bank = Bank::new().await;
    let machine = bank.machine("ATM-1");
    let unknown = machine.log_in("4999999999999999", "1234").await.err().unwrap();
    let repeated = machine.log_in_request(FARHAN, "9999");
    for _ in 0..4 {
        let status = machine.client.clone().log_in(machine.request(repeated.clone())).await.err().unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "the same key press counts once");
        assert_eq!(without_id(&status), without_id(&unknown));
    }
    assert_eq!(machine.log_in(FARHAN, "8888").await.err().unwrap().code(), Code::Unauthenticated);
    machine.log_in(FARHAN, "7777").await.err().unwrap();
    let status = machine.log_in(FARHAN, "1234").await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::FailedPrecondition, Some("CARD_LOCKED")));

    let request = UnblockCardRequest { card_number: FARHAN.to_owned(), order_id: order_id() };
    bank.admin().unblock_card(as_operator(request)).await.unwrap();
    assert!(machine.log_in(FARHAN, "1234").await.is_ok());
}

#[tokio::test]
async fn a_log_in_whose_answer_was_lost_gives_the_same_session_again() {
    let bank = Bank::new().await;
    let machine = bank.machine("ATM-1");
    let request = machine.log_in_request(FARHAN, "1234");
    let first = machine.client.clone().log_in(machine.request(request.clone())).await.unwrap().into_inner();
    let again = machine.client.clone().log_in(machine.request(request)).await.unwrap().into_inner();
    assert_eq!(first.session_token, again.session_token);
    assert_eq!(first.account_id, AccountId::of_number("Farhan").to_string());
    assert!(first.expire_time.is_some());
}

#[tokio::test]
async fn a_changed_pin_is_the_one_that_counts() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let request = ChangePinRequest {
        old_pin: "1234".to_owned(),
        new_pin: "567890".to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
    };
    farhan.client.clone().change_pin(farhan.request(request)).await.unwrap();
    assert_eq!(farhan.log_in(FARHAN, "1234").await.err().unwrap().code(), Code::Unauthenticated);
    assert!(farhan.log_in(FARHAN, "567890").await.is_ok());
}

#[tokio::test]
async fn row_05_log_out_and_block_reach_every_gateway() {
    let bank = Bank::new().await;
    let other = AtmServiceClient::new(channel(&bank.gateway().await));
    let elsewhere = |machine: &Machine| Machine { client: other.clone(), ..machine.clone() };
    let refused = async |machine: &Machine| {
        machine.balance().await.is_err_and(|status| status.code() == Code::Unauthenticated)
    };
    let farhan = bank.customer("ATM-1", FARHAN).await;
    assert!(elsewhere(&farhan).balance().await.is_ok(), "verified without a call to auth");
    farhan.client.clone().log_out(farhan.request(LogOutRequest {})).await.unwrap();
    assert!(refused(&farhan).await, "here at once");
    eventually("the log-out reaches the other gateway", async || refused(&elsewhere(&farhan)).await).await;

    let biva = bank.customer("ATM-2", BIVA).await;
    assert!(elsewhere(&biva).balance().await.is_ok());
    let request = BlockCardRequest { card_number: BIVA.to_owned(), order_id: order_id() };
    bank.admin().block_card(as_operator(request)).await.unwrap();
    assert!(refused(&biva).await, "here at once");
    eventually("the block reaches the other gateway", async || refused(&elsewhere(&biva)).await).await;
    let status = biva.log_in(BIVA, "1234").await.err().unwrap();
    assert_eq!(reason(&status).as_deref(), Some("CARD_BLOCKED"));
    let request = UnblockCardRequest { card_number: BIVA.to_owned(), order_id: order_id() };
    bank.admin().unblock_card(as_operator(request)).await.unwrap();
    assert!(refused(&biva).await, "a session of before stays ended");
    let again = bank.customer("ATM-3", BIVA).await;
    assert!(again.balance().await.is_ok());
}
