//! What becomes of money calls: which accounts, whose balance, and what a stranger sees.

use atm_proto::gateway::*;
use atm_proto::ledger::{
    self, AccountKind, Entry, HoldTransactionRequest, OpenAccountRequest, PostTransactionRequest, Side, Step,
    StepKind,
};
use atm_proto::types::{Balance, Decline, DeclineReason, Money, TransactionState};
use atm_rpc::status::{reason, violated_field, with_reason};
use atm_types::{AccountId, Currency};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::fake_auth::account_of;
use crate::support::fake_ledger::{CREDIT_BALANCE, DEBIT_BALANCE};
use crate::support::*;

async fn bank() -> World {
    let world = World::new().await;
    world.ledger.add_account(&account_of(CARD), AccountKind::Customer);
    world.ledger.add_account(&account_of(OTHER_CARD), AccountKind::Customer);
    world
}

fn cash(atm_id: &str) -> String {
    AccountId::of_cash(atm_id, Currency::BDT).to_string()
}

fn shown(outcome: Option<Outcome>) -> Option<i64> {
    outcome.unwrap().balance.map(|balance| balance.balance_minor_units)
}

async fn transfer(machine: &Machine, id: &str, to: &str) -> Result<TransferResponse, Status> {
    let request =
        TransferRequest { transaction_id: id.to_owned(), amount: bdt(70), to_account: to.to_owned() };
    machine.client.clone().transfer(machine.request(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_withdrawal_is_held_between_the_sessions_account_and_the_machines_cash() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let request = AuthorizeWithdrawalRequest { transaction_id: new_id(), amount: bdt(700), lifetime: None };
    let answer = machine
        .client
        .clone()
        .authorize_withdrawal(machine.request(request.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.current_state(), TransactionState::Held);
    let outcome = answer.outcome.unwrap();
    assert_eq!(outcome.authorization, b"signed");
    assert_eq!(outcome.balance.unwrap().balance_minor_units, DEBIT_BALANCE, "the customer's side");
    let held = world.ledger.log.requests::<HoldTransactionRequest>("HoldTransaction");
    assert_eq!(held[0].transaction_id, request.transaction_id);
    assert_eq!(held[0].terminal_id, machine.terminal());
    assert_eq!(held[0].debit_account_id, account_of(CARD).to_string());
    assert_eq!(held[0].credit_account_id, cash("ATM-1"));
    assert_eq!(held[0].amount, bdt(700));
    let opened = world.ledger.log.requests::<OpenAccountRequest>("OpenAccount");
    assert_eq!(opened[0].account.as_ref().unwrap().kind(), AccountKind::Cash);

    machine.client.clone().authorize_withdrawal(machine.request(request)).await.unwrap();
    let again = world.ledger.log.requests::<HoldTransactionRequest>("HoldTransaction");
    assert_eq!(again[0], again[1], "a repetition is handed on with the same bytes");
    assert_eq!(world.ledger.log.count("OpenAccount"), 1, "the cash account is opened once");
}

#[tokio::test]
async fn the_same_request_from_a_new_session_is_the_same_to_the_ledger() {
    let world = bank().await;
    let mut machine = world.customer("ATM-1", CARD).await;
    let request = WithdrawRequest { transaction_id: new_id(), amount: bdt(5) };
    machine.client.clone().withdraw(machine.request(request.clone())).await.unwrap();
    machine.session = Some(machine.log_in(CARD, PIN).await.unwrap().session_token);
    machine.client.clone().withdraw(machine.request(request)).await.unwrap();
    let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
    assert_eq!(posted[0], posted[1]);
}

#[tokio::test]
async fn withdrawals_debit_and_deposits_credit_the_customer() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut client = machine.client.clone();
    let request = WithdrawRequest { transaction_id: new_id(), amount: bdt(5) };
    let withdrawn = client.withdraw(machine.request(request)).await.unwrap().into_inner();
    let request = DepositRequest { transaction_id: new_id(), amount: bdt(6) };
    let deposited = client.deposit(machine.request(request)).await.unwrap().into_inner();
    let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
    let own = account_of(CARD).to_string();
    assert_eq!((&posted[0].debit_account_id, &posted[0].credit_account_id), (&own, &cash("ATM-1")));
    let deposits = AccountId::of_deposit_box("ATM-1", Currency::BDT).to_string();
    assert_eq!((&posted[1].debit_account_id, &posted[1].credit_account_id), (&deposits, &own));
    assert_eq!(shown(withdrawn.outcome), Some(DEBIT_BALANCE));
    assert_eq!(shown(deposited.outcome), Some(CREDIT_BALANCE));
}

#[tokio::test]
async fn a_transfer_pays_a_customer_by_number_or_id() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let answer = transfer(&machine, &new_id(), "Biva").await.unwrap();
    assert_eq!(shown(answer.outcome), Some(DEBIT_BALANCE));
    transfer(&machine, &new_id(), &account_of(OTHER_CARD).to_string()).await.unwrap();
    let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
    for post in posted {
        assert_eq!(post.debit_account_id, account_of(CARD).to_string());
        assert_eq!(post.credit_account_id, account_of(OTHER_CARD).to_string());
    }
    assert_eq!(world.ledger.log.count("GetAccount"), 1, "kinds never change and are asked for once");
}

#[tokio::test]
async fn a_transfer_to_oneself_is_invalid() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    for to in ["Farhan".to_owned(), account_of(CARD).to_string()] {
        let status = transfer(&machine, &new_id(), &to).await.unwrap_err();
        assert_eq!(
            (status.code(), violated_field(&status).as_deref()),
            (Code::InvalidArgument, Some("to_account"))
        );
    }
    assert_eq!(world.ledger.log.count("PostTransaction"), 0);
}

#[tokio::test]
async fn the_banks_own_accounts_cannot_be_paid_and_look_like_unknown_ones() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut answers = Vec::new();
    for (to, kind) in [
        (AccountId::of_cash("ATM-1", Currency::BDT), Some(AccountKind::Cash)),
        (AccountId::of_suspense("ATM-1", Currency::BDT), Some(AccountKind::Suspense)),
        (AccountId::of_deposit_box("ATM-1", Currency::BDT), Some(AccountKind::Cash)),
        (AccountId::of_reject("ATM-1", Currency::BDT), Some(AccountKind::Cash)),
        (AccountId::of_retract("ATM-1", Currency::BDT), None),
        (AccountId::of_vault(Currency::BDT), Some(AccountKind::Cash)),
        (AccountId::of_opening_balances(Currency::BDT), Some(AccountKind::OpeningBalance)),
        (AccountId::of_number("nobody"), None),
    ] {
        if let Some(kind) = kind {
            world.ledger.add_account(&to, kind);
        }
        let id = new_id();
        let first = transfer(&machine, &id, &to.to_string()).await.unwrap();
        assert_eq!(first, transfer(&machine, &id, &to.to_string()).await.unwrap(), "a repetition");
        let outcome = first.outcome.unwrap();
        assert_eq!(outcome.decline.as_ref().unwrap().reason(), DeclineReason::CreditAccountNotFound);
        answers.push(Outcome { transaction_id: String::new(), ..outcome });
        let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
        assert!(
            posted.iter().all(|post| post.credit_account_id != to.to_string()),
            "nothing is posted to {kind:?}"
        );
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn a_repeated_transfer_finds_what_was_recorded_although_the_account_was_opened_since() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let id = new_id();
    transfer(&machine, &id, "Chandni").await.unwrap();
    world.ledger.add_account(&AccountId::of_number("Chandni"), AccountKind::Customer);
    let differs =
        with_reason(Code::AlreadyExists, "other", "ID_REUSED", &[("field", "credit_account_id".to_owned())]);
    world.ledger.log.next("PostTransaction", Fault::Status(differs));
    let again = transfer(&machine, &id, "Chandni").await.unwrap();
    let decline = again.outcome.unwrap().decline.unwrap();
    assert_eq!(decline.reason(), DeclineReason::CreditAccountNotFound, "the first outcome");
    let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
    assert_eq!(posted.len(), 3);
    assert_eq!(posted[0], posted[2], "the body that was recorded first");
}

#[tokio::test]
async fn row_14_bad_amounts_name_the_field_and_never_reach_the_ledger() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut client = machine.client.clone();
    let usd = Some(Money { currency_code: "USD".to_owned(), minor_units: 5 });
    for (amount, field) in [
        (None, "amount"),
        (bdt(0), "amount.minor_units"),
        (bdt(-5), "amount.minor_units"),
        (bdt(i64::MIN), "amount.minor_units"),
        (usd, "amount.currency_code"),
    ] {
        let id = new_id();
        let authorize =
            AuthorizeWithdrawalRequest { transaction_id: id.clone(), amount: amount.clone(), lifetime: None };
        let withdraw = WithdrawRequest { transaction_id: id.clone(), amount: amount.clone() };
        let deposit = DepositRequest { transaction_id: id.clone(), amount: amount.clone() };
        let to_account = "Biva".to_owned();
        let transfer = TransferRequest { transaction_id: id, amount, to_account };
        for status in [
            client.authorize_withdrawal(machine.request(authorize)).await.unwrap_err(),
            client.withdraw(machine.request(withdraw)).await.unwrap_err(),
            client.deposit(machine.request(deposit)).await.unwrap_err(),
            client.transfer(machine.request(transfer)).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(violated_field(&status).as_deref(), Some(field));
        }
    }
    let capture =
        CaptureWithdrawalRequest { transaction_id: new_id(), amount: bdt(-1), authorization: vec![] };
    let status = client.capture_withdrawal(machine.request(capture)).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("amount.minor_units"));
    for method in ["HoldTransaction", "PostTransaction", "CaptureTransaction", "OpenAccount"] {
        assert_eq!(world.ledger.log.count(method), 0, "{method}");
    }
}

#[tokio::test]
async fn row_14_an_amount_in_another_currency_than_the_accounts_is_refused_by_name() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mismatch =
        atm_rpc::status::invalid_argument("amount.currency_code", "must be USD, says table accounts");
    world.ledger.log.next("PostTransaction", Fault::Status(mismatch));
    let status = transfer(&machine, &new_id(), "Biva").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(violated_field(&status).as_deref(), Some("amount.currency_code"));
    assert!(!status.message().contains("table"), "{status:?}");
}

#[tokio::test]
async fn row_16_a_malformed_id_is_invalid_and_a_changed_replay_names_the_field() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut client = machine.client.clone();
    for id in ["", "7", "018F4E9A-5B2C-7DEF-8123-456789ABCDEF", "x\n"] {
        let cancel = CancelTransactionRequest { transaction_id: id.to_owned() };
        let status = client.cancel_transaction(machine.request(cancel)).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some("transaction_id"), "{id:?}");
        let read = GetTransactionRequest { transaction_id: id.to_owned() };
        let status = client.get_transaction(machine.request(read)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id:?}");
    }
    let reused = |field: &str| {
        Fault::Status(with_reason(Code::AlreadyExists, "x", "ID_REUSED", &[("field", field.to_owned())]))
    };
    for (field, told) in [
        ("amount.minor_units", "amount.minor_units"),
        ("kind", "kind"),
        ("transaction_id", "transaction_id"),
        ("debit_account_id", "transaction_id"),
    ] {
        world.ledger.log.next("PostTransaction", reused(field));
        let request = WithdrawRequest { transaction_id: new_id(), amount: bdt(5) };
        let status = client.withdraw(machine.request(request)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_deref()), (Code::AlreadyExists, Some("ID_REUSED")));
        assert_eq!(status.get_details_error_info().unwrap().metadata["field"], told);
    }
}

#[tokio::test]
async fn row_17_a_capture_that_can_never_succeed_says_where_the_transaction_stands() {
    let world = bank().await;
    let machine = world.machine("ATM-1");
    let mut client = machine.client.clone();
    let capture =
        || CaptureWithdrawalRequest { transaction_id: new_id(), amount: bdt(9), authorization: vec![1] };
    let above = with_reason(
        Code::FailedPrecondition,
        "held 5",
        "CAPTURE_EXCEEDS_HOLD",
        &[("state", "HELD".to_owned())],
    );
    world.ledger.log.next("CaptureTransaction", Fault::Status(above));
    let status = client.capture_withdrawal(machine.request(capture())).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("CAPTURE_EXCEEDS_HOLD"))
    );
    assert_eq!(status.get_details_error_info().unwrap().metadata["state"], "HELD");
    world.ledger.log.next("CaptureTransaction", Fault::Status(Status::not_found("terminal abc owns it")));
    let status = client.capture_withdrawal(machine.request(capture())).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(!status.message().contains("abc"), "{status:?}");
}

#[tokio::test]
async fn captures_and_cancels_need_the_terminals_key_and_no_session() {
    let world = bank().await;
    let machine = world.machine("ATM-1");
    let mut client = machine.client.clone();
    let capture = CaptureWithdrawalRequest {
        transaction_id: new_id(),
        amount: bdt(0),
        authorization: b"signed".to_vec(),
    };
    let answer = client.capture_withdrawal(machine.request(capture.clone())).await.unwrap().into_inner();
    assert_eq!(shown(answer.outcome), Some(DEBIT_BALANCE));
    let seen = world.ledger.log.requests::<ledger::CaptureTransactionRequest>("CaptureTransaction");
    assert_eq!(
        (seen[0].terminal_id.as_str(), seen[0].authorization.as_slice()),
        (machine.terminal().as_str(), &b"signed"[..])
    );
    let cancel = CancelTransactionRequest { transaction_id: new_id() };
    let answer = client.cancel_transaction(machine.request(cancel.clone())).await.unwrap().into_inner();
    assert_eq!(answer.current_state(), TransactionState::Cancelled);
    assert_eq!(answer.outcome.unwrap().balance, None, "a tombstone has no accounts");
    for status in [
        client.capture_withdrawal(capture).await.unwrap_err(),
        client.cancel_transaction(cancel).await.unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::Unauthenticated, Some("TERMINAL_KEY_REQUIRED"))
        );
    }
}

/// Puts a transaction of one step into the books.
fn record(world: &World, terminal: &str, state: TransactionState, debit: &str, credit: &str) -> String {
    let id = new_id();
    let balance = |units| Some(Balance { balance_minor_units: units, available_minor_units: units });
    let decline = (state == TransactionState::Declined).then(|| Decline {
        reason: DeclineReason::InsufficientFunds.into(),
        available_minor_units: DEBIT_BALANCE,
    });
    let outcome = ledger::Outcome {
        transaction_id: id.clone(),
        step: StepKind::Post.into(),
        state: state.into(),
        decline,
        debit_account_id: debit.to_owned(),
        credit_account_id: credit.to_owned(),
        amount: bdt(5),
        debit_balance: balance(DEBIT_BALANCE),
        credit_balance: balance(CREDIT_BALANCE),
        authorization: b"signed".to_vec(),
        ..ledger::Outcome::default()
    };
    let step = Step { outcome: Some(outcome), terminal_id: terminal.to_owned(), ..Step::default() };
    let response = ledger::GetTransactionResponse { steps: vec![step], current_state: state.into() };
    world.ledger.transactions.lock().unwrap().insert(id.clone(), response);
    id
}

async fn read(machine: &Machine, id: &str) -> Result<Outcome, Status> {
    let request = GetTransactionRequest { transaction_id: id.to_owned() };
    let answer = machine.client.clone().get_transaction(machine.request(request)).await?;
    Ok(answer.into_inner().outcomes.remove(0))
}

#[tokio::test]
async fn row_06_a_transaction_is_seen_by_its_accounts_and_its_terminal_only() {
    let world = bank().await;
    let own = account_of(CARD).to_string();
    let other = account_of(OTHER_CARD).to_string();
    let payer = world.customer("ATM-1", CARD).await;
    let receiver = world.customer("ATM-2", OTHER_CARD).await;
    let id = record(&world, &payer.terminal(), TransactionState::Posted, &own, &other);

    let seen = read(&payer, &id).await.unwrap();
    assert_eq!(seen.balance.unwrap().balance_minor_units, DEBIT_BALANCE);
    assert_eq!(seen.authorization, b"signed");
    let seen = read(&receiver, &id).await.unwrap();
    assert_eq!(seen.balance.unwrap().balance_minor_units, CREDIT_BALANCE, "the receiver's own side");
    assert!(seen.authorization.is_empty());

    // Another customer at the machine that owns the transaction: the machine may see it, its balances not.
    let mut next_in_line = payer.clone();
    let answer = next_in_line.log_in(OTHER_CARD, PIN).await.unwrap();
    next_in_line.session = Some(answer.session_token);
    let cash_out = record(&world, &payer.terminal(), TransactionState::Posted, &own, &cash("ATM-1"));
    assert_eq!(read(&next_in_line, &cash_out).await.unwrap().balance, None);

    // The machine alone, after a restart: the customer's side, whichever that is.
    let machine = Machine { session: None, ..payer.clone() };
    assert_eq!(read(&machine, &cash_out).await.unwrap().balance.unwrap().balance_minor_units, DEBIT_BALANCE);
    let deposits = AccountId::of_deposit_box("ATM-1", Currency::BDT).to_string();
    let cash_in = record(&world, &payer.terminal(), TransactionState::Posted, &deposits, &own);
    assert_eq!(read(&machine, &cash_in).await.unwrap().balance.unwrap().balance_minor_units, CREDIT_BALANCE);
    world.ledger.add_account(&deposits, AccountKind::Cash);
    let nameless = Machine { atm_id: None, ..machine };
    assert_eq!(read(&nameless, &cash_in).await.unwrap().balance.unwrap().balance_minor_units, CREDIT_BALANCE);
    assert_eq!(read(&nameless, &id).await.unwrap().balance.unwrap().balance_minor_units, DEBIT_BALANCE);

    // Strangers, and a terminal that is nobody's, see what they see of an id that was never used.
    let unknown = read(&receiver, &new_id()).await.unwrap_err();
    let stranger = world.machine("ATM-1");
    for status in [
        read(&stranger, &id).await.unwrap_err(),
        read(&receiver, &cash_out).await.unwrap_err(),
        read(&stranger, &new_id()).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!((status.message(), status.details()), (unknown.message(), unknown.details()));
    }
}

#[tokio::test]
async fn row_06_a_declined_transfer_tells_its_would_be_receiver_nothing() {
    let world = bank().await;
    let (own, other) = (account_of(CARD).to_string(), account_of(OTHER_CARD).to_string());
    let payer = world.customer("ATM-1", CARD).await;
    let receiver = world.customer("ATM-2", OTHER_CARD).await;
    let id = record(&world, &payer.terminal(), TransactionState::Declined, &own, &other);
    let seen = read(&payer, &id).await.unwrap();
    assert_eq!(seen.decline.unwrap().available_minor_units, DEBIT_BALANCE);
    assert_eq!(read(&receiver, &id).await.unwrap_err().code(), Code::NotFound);
    // A deposit that was declined is the depositor's own affair.
    world.ledger.add_account(&cash("ATM-9"), AccountKind::Cash);
    let id = record(&world, "other", TransactionState::Declined, &cash("ATM-9"), &other);
    assert!(read(&receiver, &id).await.is_ok());
}

#[tokio::test]
async fn a_bad_session_is_no_way_around_to_what_the_terminal_alone_may_see() {
    let world = bank().await;
    let payer = world.customer("ATM-1", CARD).await;
    let own = account_of(CARD).to_string();
    let id = record(&world, &payer.terminal(), TransactionState::Posted, &own, &cash("ATM-1"));
    let garbled = Machine { session: Some("v4.public.x".to_owned()), ..payer };
    assert_eq!(read(&garbled, &id).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_cancel_shows_the_balance_of_the_customers_side() {
    let world = bank().await;
    let machine = world.machine("ATM-1");
    let own = account_of(CARD).to_string();
    let cancel = async |id: String| {
        let request = CancelTransactionRequest { transaction_id: id };
        machine
            .client
            .clone()
            .cancel_transaction(machine.request(request))
            .await
            .unwrap()
            .into_inner()
            .outcome
    };
    let deposits = AccountId::of_deposit_box("ATM-1", Currency::BDT).to_string();
    let deposit = record(&world, &machine.terminal(), TransactionState::Posted, &deposits, &own);
    assert_eq!(shown(cancel(deposit).await), Some(CREDIT_BALANCE));
    let withdrawal = record(&world, &machine.terminal(), TransactionState::Cancelled, &own, &cash("ATM-1"));
    assert_eq!(shown(cancel(withdrawal).await), Some(DEBIT_BALANCE));
    let biva = account_of(OTHER_CARD).to_string();
    let transfer = record(&world, &machine.terminal(), TransactionState::Posted, &own, &biva);
    assert_eq!(shown(cancel(transfer).await), Some(DEBIT_BALANCE));
}

#[tokio::test]
async fn a_movement_of_the_machines_own_cash_is_no_customers_and_shows_no_balance() {
    let world = bank().await;
    let machine = world.machine("ATM-1");
    let vault = AccountId::of_vault(Currency::BDT).to_string();
    let load = record(&world, &machine.terminal(), TransactionState::Posted, &cash("ATM-1"), &vault);
    let nameless = Machine { atm_id: None, ..machine.clone() };
    for account in [&vault, &cash("ATM-1")] {
        world.ledger.add_account(account, AccountKind::Cash);
    }
    for machine in [machine, nameless] {
        assert_eq!(read(&machine, &load).await.unwrap().balance, None);
        let request = CancelTransactionRequest { transaction_id: load.clone() };
        let answer = machine.client.clone().cancel_transaction(machine.request(request)).await.unwrap();
        assert_eq!(shown(answer.into_inner().outcome), None);
    }
}

#[tokio::test]
async fn a_suspect_withdrawal_is_shown_as_what_it_is() {
    let world = bank().await;
    let payer = world.customer("ATM-1", CARD).await;
    let own = account_of(CARD).to_string();
    let id = record(&world, &payer.terminal(), TransactionState::Suspect, &own, &cash("ATM-1"));
    let request = GetTransactionRequest { transaction_id: id };
    let answer = payer.client.clone().get_transaction(payer.request(request)).await.unwrap().into_inner();
    assert_eq!(answer.current_state(), TransactionState::Suspect);
    assert_eq!(answer.outcomes[0].state(), TransactionState::Suspect);
    assert_eq!(answer.outcomes[0].balance.unwrap().balance_minor_units, DEBIT_BALANCE);
}

#[tokio::test]
async fn a_recorded_outcome_is_handed_over_even_if_the_side_cannot_be_found_out() {
    let world = bank().await;
    let machine = Machine { atm_id: None, ..world.machine("ATM-1") };
    let stranger = AccountId::of_number("far away").to_string();
    let id = record(&world, &machine.terminal(), TransactionState::Posted, &stranger, &cash("ATM-1"));
    world.ledger.log.next("GetAccount", Fault::Status(Status::unavailable("gone")));
    let request = CancelTransactionRequest { transaction_id: id };
    let answer =
        machine.client.clone().cancel_transaction(machine.request(request)).await.unwrap().into_inner();
    assert_eq!(answer.current_state(), TransactionState::Posted);
    assert_eq!(shown(answer.outcome), None);
}

#[tokio::test]
async fn a_statement_names_each_movement_and_shows_only_the_own_account() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let own = account_of(CARD).to_string();
    world.ledger.add_account(&cash("ATM-7"), AccountKind::Cash);
    let opening = AccountId::of_opening_balances(Currency::BDT).to_string();
    world.ledger.add_account(&opening, AccountKind::OpeningBalance);
    let entry = |id: &str, side: Side, units| Entry {
        account_id: id.to_owned(),
        side: side.into(),
        posted_minor_units: 5,
        pending_minor_units: 0,
        balance: Some(Balance { balance_minor_units: units, available_minor_units: units }),
    };
    let step = |debit: &str, credit: &str| Step {
        outcome: Some(ledger::Outcome {
            transaction_id: new_id(),
            state: TransactionState::Posted.into(),
            amount: bdt(5),
            ..ledger::Outcome::default()
        }),
        entries: vec![entry(debit, Side::Debit, 1), entry(credit, Side::Credit, 2)],
        ..Step::default()
    };
    let biva = account_of(OTHER_CARD).to_string();
    *world.ledger.entries.lock().unwrap() = vec![
        step(&own, &cash("ATM-7")),
        step(&cash("ATM-7"), &own),
        step(&own, &biva),
        step(&biva, &own),
        step(&opening, &own),
        step(&biva, &cash("ATM-7")),
    ];
    let request = ListTransactionsRequest { page_size: 0, page_token: "token".to_owned() };
    let page = machine.client.clone().list_transactions(machine.request(request)).await.unwrap().into_inner();
    let seen: Vec<_> = page
        .lines
        .iter()
        .map(|line| {
            (
                line.kind(),
                line.amount.as_ref().unwrap().minor_units,
                line.balance.unwrap().balance_minor_units,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (MovementKind::Withdrawal, -5, 1),
            (MovementKind::Deposit, 5, 2),
            (MovementKind::TransferOut, -5, 1),
            (MovementKind::TransferIn, 5, 2),
            (MovementKind::OpeningBalance, 5, 2),
        ],
        "and the line of two strangers is left out"
    );
    assert_eq!(page.next_page_token, "next");
    let asked = world.ledger.log.requests::<ledger::ListAccountEntriesRequest>("ListAccountEntries");
    assert_eq!((asked[0].account_id.as_str(), asked[0].page_size), (own.as_str(), 20));
    assert_eq!((asked[0].page_token.as_str(), asked[0].posted_only), ("token", true));
    for page_size in [-1, 1_001] {
        let request = ListTransactionsRequest { page_size, page_token: String::new() };
        let status = machine.client.clone().list_transactions(machine.request(request)).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some("page_size"));
    }
}
