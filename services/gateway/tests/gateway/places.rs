//! The places of a machine's cash in the real books: loads, counts and deposits, and that they add up.

use atm_proto::gateway::*;
use atm_proto::types::TransactionState;
use atm_rpc::status::reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::real::{BIVA, Bank, FARHAN, account};
use crate::support::*;

fn field(status: &Status) -> String {
    status.get_details_error_info().unwrap().metadata["field"].clone()
}

fn movement(id: &str, from: CashBin, to: CashBin, minor_units: i64) -> RecordCashMovementRequest {
    RecordCashMovementRequest {
        transaction_id: id.to_owned(),
        from: from.into(),
        to: to.into(),
        amount: bdt(minor_units),
    }
}

async fn record(
    machine: &Machine,
    request: RecordCashMovementRequest,
) -> Result<RecordCashMovementResponse, Status> {
    let answer = machine.client.clone().record_cash_movement(machine.request(request)).await;
    answer.map(tonic::Response::into_inner)
}

fn carry(id: &str, (from, to): (CashBin, CashBin), minor_units: i64) -> MoveCashRequest {
    MoveCashRequest {
        transaction_id: id.to_owned(),
        atm_id: "ATM-1".to_owned(),
        from: from.into(),
        to: to.into(),
        amount: bdt(minor_units),
    }
}

async fn move_cash(bank: &Bank, request: MoveCashRequest) -> Result<Outcome, Status> {
    Ok(bank.admin().move_cash(as_operator(request)).await?.into_inner().outcome.unwrap())
}

/// Balance and pending of cassettes, reject, retract, deposit box and suspense.
async fn position(bank: &Bank) -> [(i64, i64); 5] {
    let asked = GetCashPositionRequest { atm_id: "ATM-1".to_owned() };
    let answer = bank.admin().get_cash_position(as_operator(asked)).await.unwrap().into_inner();
    let lines: Vec<_> = answer
        .positions
        .iter()
        .map(|position| (position.balance_minor_units, position.pending_minor_units))
        .collect();
    lines.try_into().unwrap()
}

async fn entries(bank: &Bank, bin: CashBin, page_size: i32, page_token: &str) -> ListCashEntriesResponse {
    let asked = ListCashEntriesRequest {
        atm_id: "ATM-1".to_owned(),
        bin: bin.into(),
        page_size,
        page_token: page_token.to_owned(),
    };
    bank.admin().list_cash_entries(as_operator(asked)).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_books_say_where_a_machines_cash_is() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    assert_eq!(position(&bank).await, [(0, 0); 5]);
    let machine = Machine { session: None, ..farhan.clone() };
    let load = movement(&new_id(), CashBin::Vault, CashBin::Cassettes, 500_000);
    let loaded = record(&machine, load).await.unwrap();
    assert_eq!(loaded.current_state(), TransactionState::Posted);

    farhan.deposit(&new_id(), 7_000).await.unwrap();
    farhan.withdraw(&new_id(), 10_000).await.unwrap();
    let held = new_id();
    farhan.authorize(&held, 20_000).await.unwrap();
    assert_eq!(position(&bank).await, [(490_000, 20_000), (0, 0), (0, 0), (7_000, 0), (0, 0)]);
    farhan.capture(&held, 15_000).await.unwrap();
    record(&machine, movement(&new_id(), CashBin::Cassettes, CashBin::Reject, 1_000)).await.unwrap();
    record(&machine, movement(&new_id(), CashBin::Cassettes, CashBin::Retract, 5_000)).await.unwrap();
    record(&machine, movement(&new_id(), CashBin::Deposit, CashBin::Vault, 7_000)).await.unwrap();
    assert_eq!(position(&bank).await, [(469_000, 0), (1_000, 0), (5_000, 0), (0, 0), (0, 0)]);

    // A count finds 2,000 too little in the cassettes and 500 too much in the reject bin.
    move_cash(&bank, carry(&new_id(), (CashBin::Cassettes, CashBin::Suspense), 2_000)).await.unwrap();
    move_cash(&bank, carry(&new_id(), (CashBin::Suspense, CashBin::Reject), 500)).await.unwrap();
    assert_eq!(position(&bank).await, [(467_000, 0), (1_500, 0), (5_000, 0), (0, 0), (-1_500, 0)]);

    // Every balance is the sum of the entries that explain it.
    let balances = position(&bank).await;
    for (bin, (balance, _)) in
        [CashBin::Cassettes, CashBin::Reject, CashBin::Retract, CashBin::Deposit, CashBin::Suspense]
            .into_iter()
            .zip(balances)
    {
        let (mut sum, mut token, mut last) = (0, String::new(), u64::MAX);
        loop {
            let page = entries(&bank, bin, 2, &token).await;
            for entry in &page.entries {
                assert!(entry.commit_sequence < last, "newest first");
                assert!(entry.commit_time.is_some() && entry.state != 0);
                (sum, last) = (sum + entry.amount_minor_units, entry.commit_sequence);
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(sum, balance, "{bin:?}");
    }
    let newest = entries(&bank, CashBin::Cassettes, 0, "").await.entries;
    let amounts: Vec<_> = newest.iter().map(|entry| entry.amount_minor_units).collect();
    assert_eq!(amounts, [-2_000, -5_000, -1_000, -15_000, -10_000, 500_000], "and no holds");
    assert_eq!(newest[3].state(), TransactionState::Captured);
    assert_eq!(newest[3].transaction_id, held);

    let status = bank
        .admin()
        .list_cash_entries(as_operator(ListCashEntriesRequest {
            atm_id: "ATM-1".to_owned(),
            bin: CashBin::Cassettes.into(),
            page_size: 0,
            page_token: "garbage".to_owned(),
        }))
        .await
        .unwrap_err();
    assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("page_token"));
    let books = bank.admin().get_trial_balance(as_operator(GetTrialBalanceRequest {})).await.unwrap();
    assert!(books.into_inner().balanced);
}

#[tokio::test]
async fn row_16_a_repeated_movement_is_posted_once_and_a_changed_one_names_the_field() {
    let bank = Bank::new().await;
    let customer = bank.customer("ATM-1", FARHAN).await;
    let machine = Machine { session: None, ..customer.clone() };
    let id = new_id();
    let load = |from, to, minor_units| movement(&id, from, to, minor_units);
    let (vault, cassettes) = (CashBin::Vault, CashBin::Cassettes);
    let first = record(&machine, load(vault, cassettes, 500)).await.unwrap();
    assert_eq!(record(&machine, load(vault, cassettes, 500)).await.unwrap(), first);
    for (request, named) in [
        (load(vault, cassettes, 501), "amount.minor_units"),
        (load(vault, CashBin::Reject, 500), "to"),
        (load(CashBin::Reject, cassettes, 500), "from"),
    ] {
        let status = record(&machine, request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, named));
    }
    let status = customer.deposit(&id, 500).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, "transaction_id"));
    // Somebody else's id, the operators' included.
    let other = Machine { session: None, ..bank.customer("ATM-2", BIVA).await };
    let status = record(&other, load(vault, cassettes, 500)).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, "transaction_id"));
    let status = move_cash(&bank, carry(&id, (vault, cassettes), 500)).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, "transaction_id"));
    assert_eq!(position(&bank).await[0], (500, 0), "posted once");

    let id = new_id();
    let carried = move_cash(&bank, carry(&id, (vault, cassettes), 700)).await.unwrap();
    assert_eq!(move_cash(&bank, carry(&id, (vault, cassettes), 700)).await.unwrap(), carried);
    let elsewhere = MoveCashRequest { atm_id: "ATM-2".to_owned(), ..carry(&id, (vault, cassettes), 700) };
    for (request, named) in [
        (carry(&id, (vault, cassettes), 701), "amount.minor_units"),
        (carry(&id, (vault, CashBin::Retract), 700), "to"),
        (carry(&id, (CashBin::Suspense, cassettes), 700), "from"),
        (elsewhere, "atm_id"),
    ] {
        let status = move_cash(&bank, request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::AlreadyExists, named));
    }
    assert_eq!(position(&bank).await[0], (1_200, 0));
}

#[tokio::test]
async fn a_machine_speaks_for_itself_once_a_right_pin_has_bound_its_name() {
    let bank = Bank::new().await;
    let machine = bank.machine("ATM-1");
    let load = movement(&new_id(), CashBin::Vault, CashBin::Cassettes, 500);
    let status = record(&machine, load.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_NOT_BOUND"))
    );
    machine.log_in(FARHAN, "1234").await.unwrap();
    record(&machine, load.clone()).await.unwrap();
    let stranger = bank.machine("ATM-1");
    let status = record(&stranger, load.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH"))
    );
    let status = record(&Machine { atm_id: Some("ATM-2".to_owned()), ..machine.clone() }, load).await;
    assert_eq!(reason(&status.unwrap_err()).as_deref(), Some("TERMINAL_NOT_BOUND"), "another machine's name");
    assert_eq!(position(&bank).await[0], (500, 0));
}

#[tokio::test]
async fn a_movement_is_no_customers_and_its_evidence_is_an_operators() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let machine = Machine { session: None, ..farhan.clone() };
    let id = new_id();
    record(&machine, movement(&id, CashBin::Vault, CashBin::Cassettes, 500)).await.unwrap();
    let seen = machine.transaction(&id).await.unwrap().outcomes.remove(0);
    assert_eq!(seen.balance, None);
    let cancelled = machine.cancel(&id).await.unwrap();
    assert_eq!(cancelled.current_state(), TransactionState::Posted, "nothing undone");
    assert_eq!(cancelled.outcome.unwrap().balance, None);
    let stranger = bank.customer("ATM-2", BIVA).await;
    assert_eq!(stranger.transaction(&id).await.unwrap_err().code(), Code::NotFound);

    let inspect = async |id: &str| {
        let asked = as_operator(InspectTransactionRequest { transaction_id: id.to_owned() });
        bank.admin().inspect_transaction(asked).await.map(tonic::Response::into_inner)
    };
    let evidence = inspect(&id).await.unwrap();
    assert_eq!(evidence.terminal_id, machine.terminal());
    assert_eq!(evidence.current_state(), TransactionState::Posted);
    assert_eq!(evidence.outcomes[0].balance, None);
    let held = new_id();
    farhan.authorize(&held, 700).await.unwrap();
    let evidence = inspect(&held).await.unwrap();
    assert_eq!(evidence.outcomes[0].balance.unwrap().available_minor_units, 99_300, "the customer's side");
    assert!(evidence.outcomes[0].authorization.is_empty());
    assert_eq!(evidence.resolved_by, "");
    let own = atm_types::AccountId::of_number("Farhan").to_string();
    assert_eq!(inspect(&own).await.unwrap_err().code(), Code::NotFound, "an account is no transaction");
    let never = new_id();
    farhan.cancel(&never).await.unwrap();
    let tombstone = inspect(&never).await.unwrap();
    assert_eq!((tombstone.current_state(), &*tombstone.debit_account_id), (TransactionState::Cancelled, ""));
}

#[tokio::test]
async fn row_15_a_daily_limit_counts_what_leaves_in_cash_and_nothing_else() {
    let bank = Bank::empty().await;
    let limited = NewAccount { daily_withdrawal_limit_minor_units: 1_000, ..account("Farhan", 100_000) };
    bank.admin().open_account(as_operator(OpenAccountRequest { account: Some(limited) })).await.unwrap();
    let other = Some(account("Biva", 0));
    bank.admin().open_account(as_operator(OpenAccountRequest { account: other })).await.unwrap();
    let card = IssueCardRequest {
        card_number: FARHAN.to_owned(),
        account: "Farhan".to_owned(),
        pin: "1234".to_owned(),
    };
    bank.admin().issue_card(as_operator(card)).await.unwrap();
    let farhan = bank.customer("ATM-1", FARHAN).await;
    farhan.deposit(&new_id(), 5_000).await.unwrap();
    let machine = Machine { session: None, ..farhan.clone() };
    record(&machine, movement(&new_id(), CashBin::Deposit, CashBin::Vault, 5_000)).await.unwrap();
    farhan.transfer(&new_id(), 5_000, "Biva").await.unwrap();
    let held = farhan.authorize(&new_id(), 1_000).await.unwrap();
    assert_eq!(held.current_state(), TransactionState::Held, "the whole limit was left");
    assert_eq!(farhan.withdraw(&new_id(), 1).await.unwrap().current_state(), TransactionState::Declined);
}

#[tokio::test]
async fn a_released_name_is_nobodys_at_this_gateway_at_once_and_a_repeat_takes_it_from_nobody() {
    let bank = Bank::new().await;
    let old = Machine { session: None, ..bank.customer("ATM-1", FARHAN).await };
    let load = || movement(&new_id(), CashBin::Vault, CashBin::Cassettes, 1_000);
    record(&old, load()).await.unwrap();
    let release = ReleaseTerminalRequest { order_id: order_id(), atm_id: "ATM-1".to_owned() };
    bank.admin().release_terminal(as_operator(release.clone())).await.unwrap();
    assert_eq!(reason(&record(&old, load()).await.unwrap_err()).as_deref(), Some("TERMINAL_NOT_BOUND"));

    let new = Machine { session: None, ..bank.customer("ATM-1", FARHAN).await };
    record(&new, load()).await.unwrap();
    assert_eq!(reason(&record(&old, load()).await.unwrap_err()).as_deref(), Some("TERMINAL_MISMATCH"));
    bank.admin().release_terminal(as_operator(release.clone())).await.unwrap();
    record(&new, load()).await.unwrap();

    let other = ReleaseTerminalRequest { atm_id: "ATM-2".to_owned(), ..release };
    let refused = bank.admin().release_terminal(as_operator(other)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_deref()), (Code::AlreadyExists, Some("ID_REUSED")));
    let unknown = ForgetStartRequest { order_id: order_id(), atm_id: "ATM-9".to_owned(), all: false };
    let refused = bank.admin().forget_start(as_operator(unknown)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_deref()), (Code::NotFound, Some("MACHINE_NOT_FOUND")));
    let all = ForgetStartRequest { order_id: order_id(), atm_id: String::new(), all: true };
    assert_eq!(bank.admin().forget_start(as_operator(all)).await.unwrap().into_inner().machines, 1);
}
