//! Suspending, moving and counting cash with fake services behind the gateway: which accounts, whose name, and what
//! is refused.

use atm_proto::gateway::*;
use atm_proto::ledger::{
    self, Account, AccountKind, Entry, OpenAccountRequest, PostTransactionRequest, ResolveTransactionRequest,
    Side, Step, StepKind, SuspendTransactionRequest,
};
use atm_proto::types::{Money, TransactionState};
use atm_rpc::status::{reason, violated_field, with_reason};
use atm_types::{AccountId, Currency};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::fake_auth::account_of;
use crate::support::fake_ledger::DEBIT_BALANCE;
use crate::support::*;

const BDT: Currency = Currency::BDT;

/// A machine whose name is bound to its terminal; nobody stands before it.
async fn enrolled(world: &World) -> Machine {
    Machine { session: None, ..world.customer("ATM-1", CARD).await }
}

fn suspend_request() -> SuspendWithdrawalRequest {
    SuspendWithdrawalRequest { transaction_id: new_id(), authorization: b"signed".to_vec() }
}

async fn suspend(
    machine: &Machine,
    request: SuspendWithdrawalRequest,
) -> Result<SuspendWithdrawalResponse, Status> {
    machine.client.clone().suspend_withdrawal(machine.request(request)).await.map(tonic::Response::into_inner)
}

fn movement(from: CashBin, to: CashBin) -> RecordCashMovementRequest {
    RecordCashMovementRequest {
        transaction_id: new_id(),
        from: from.into(),
        to: to.into(),
        amount: bdt(70_000),
    }
}

async fn record(
    machine: &Machine,
    request: RecordCashMovementRequest,
) -> Result<RecordCashMovementResponse, Status> {
    let answer = machine.client.clone().record_cash_movement(machine.request(request)).await;
    answer.map(tonic::Response::into_inner)
}

fn opened(world: &World) -> Vec<(String, AccountKind)> {
    let requests = world.ledger.log.requests::<OpenAccountRequest>("OpenAccount");
    let accounts = requests.into_iter().map(|request| request.account.unwrap());
    accounts.map(|account| (account.account_id.clone(), account.kind())).collect()
}

#[tokio::test]
async fn a_suspension_goes_to_the_machines_own_suspense_account_and_needs_no_session() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let request = suspend_request();
    let answer = suspend(&machine, request.clone()).await.unwrap();
    assert_eq!(answer.current_state(), TransactionState::Suspect);
    assert_eq!(answer.outcome.as_ref().unwrap().balance.unwrap().balance_minor_units, DEBIT_BALANCE);
    assert_eq!(suspend(&machine, request.clone()).await.unwrap(), answer);
    let suspense = AccountId::of_suspense("ATM-1", BDT).to_string();
    assert_eq!(opened(&world), [(suspense.clone(), AccountKind::Suspense)], "opened once");
    let asked = world.ledger.log.requests::<SuspendTransactionRequest>("SuspendTransaction");
    let expected = SuspendTransactionRequest {
        transaction_id: request.transaction_id,
        terminal_id: machine.terminal(),
        suspense_account_id: suspense,
        authorization: b"signed".to_vec(),
    };
    assert_eq!(asked, [expected.clone(), expected]);
    assert_eq!(world.auth.log.count("GetTerminal"), 1, "what is bound is asked for once");
}

#[tokio::test]
async fn a_suspension_refused_for_good_says_where_the_transaction_stands() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let posted = with_reason(
        Code::FailedPrecondition,
        "step 0 of row 7",
        "NEVER_HELD",
        &[("state", "TRANSACTION_STATE_POSTED".to_owned())],
    );
    world.ledger.log.next("SuspendTransaction", Fault::Status(posted));
    let status = suspend(&machine, suspend_request()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("NOTHING_TO_SUSPEND"))
    );
    assert_eq!(status.get_details_error_info().unwrap().metadata["state"], "POSTED");
    world.ledger.log.next("SuspendTransaction", Fault::Status(Status::not_found("terminal abc")));
    let status = suspend(&machine, suspend_request()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no such transaction"));
    let bad = SuspendWithdrawalRequest { transaction_id: "7".to_owned(), authorization: vec![] };
    let status = suspend(&machine, bad).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("transaction_id"));
}

#[tokio::test]
async fn only_the_terminal_that_a_name_is_bound_to_speaks_for_the_machine() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let stranger = world.machine("ATM-1");
    let unbound = world.machine("ATM-new");
    let nameless = Machine { atm_id: None, ..machine.clone() };
    let spelt = Machine { atm_id: Some("a b".to_owned()), ..machine.clone() };
    for (machine, code, told) in [
        (&stranger, Code::PermissionDenied, "TERMINAL_MISMATCH"),
        (&unbound, Code::PermissionDenied, "TERMINAL_NOT_BOUND"),
        (&nameless, Code::InvalidArgument, "atm-id"),
        (&spelt, Code::InvalidArgument, "atm-id"),
    ] {
        for refused in [
            suspend(machine, suspend_request()).await.map(drop),
            record(machine, movement(CashBin::Vault, CashBin::Cassettes)).await.map(drop),
        ] {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), code, "{told}");
            let told_so = violated_field(&status).or_else(|| reason(&status));
            assert_eq!(told_so.as_deref(), Some(told));
        }
    }
    for status in [
        machine.client.clone().suspend_withdrawal(suspend_request()).await.unwrap_err(),
        machine
            .client
            .clone()
            .record_cash_movement(movement(CashBin::Vault, CashBin::Cassettes))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::Unauthenticated, Some("TERMINAL_KEY_REQUIRED"))
        );
    }
    for method in ["SuspendTransaction", "PostTransaction", "OpenAccount"] {
        assert_eq!(world.ledger.log.count(method), 0, "{method}");
    }
    // A name that is nobody's is asked for again: the next right PIN binds it.
    let asked = world.auth.log.count("GetTerminal");
    unbound.log_in(CARD, PIN).await.unwrap();
    assert!(record(&unbound, movement(CashBin::Vault, CashBin::Cassettes)).await.is_ok());
    assert_eq!(world.auth.log.count("GetTerminal"), asked + 1);
    // While auth is away nothing is done, and the machine is told to come back.
    world.auth.log.next("GetTerminal", Fault::Status(Status::unavailable("gone")));
    let status = suspend(&machine, suspend_request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(suspend(&machine, suspend_request()).await.is_ok());
}

#[tokio::test]
async fn a_movement_debits_where_the_cash_is_now_under_the_terminals_id() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let account = |bin| match bin {
        CashBin::Vault => AccountId::of_vault(BDT),
        CashBin::Cassettes => AccountId::of_cash("ATM-1", BDT),
        CashBin::Reject => AccountId::of_reject("ATM-1", BDT),
        CashBin::Retract => AccountId::of_retract("ATM-1", BDT),
        _ => AccountId::of_deposit_box("ATM-1", BDT),
    };
    let ways = [
        (CashBin::Vault, CashBin::Cassettes),
        (CashBin::Cassettes, CashBin::Reject),
        (CashBin::Cassettes, CashBin::Retract),
        (CashBin::Deposit, CashBin::Vault),
    ];
    for (from, to) in ways {
        let request = movement(from, to);
        let answer = record(&machine, request.clone()).await.unwrap();
        assert_eq!(answer.current_state(), TransactionState::Posted);
        let outcome = answer.outcome.clone().unwrap();
        assert_eq!((outcome.balance, outcome.amount), (None, bdt(70_000)), "no customer is concerned");
        assert_eq!(record(&machine, request).await.unwrap(), answer);
        let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
        let [first, again] = &posted[posted.len() - 2..] else { unreachable!() };
        assert_eq!(first, again, "a repetition is handed on with the same bytes");
        assert_eq!(first.debit_account_id, account(to).to_string());
        assert_eq!(first.credit_account_id, account(from).to_string());
        assert_eq!(first.terminal_id, machine.terminal());
    }
    assert!(opened(&world).iter().all(|(_, kind)| *kind == AccountKind::Cash));
    assert_eq!(world.ledger.log.count("OpenAccount"), 5, "each once");
}

/// What can be wrong with a movement, and the field that is named.
fn spoilt() -> Vec<(MoveCashRequest, &'static str)> {
    let good = || MoveCashRequest {
        transaction_id: new_id(),
        atm_id: "ATM-1".to_owned(),
        from: CashBin::Vault.into(),
        to: CashBin::Cassettes.into(),
        amount: bdt(5),
    };
    let usd = Some(Money { currency_code: "USD".to_owned(), minor_units: 5 });
    vec![
        (MoveCashRequest { transaction_id: "X".to_owned(), ..good() }, "transaction_id"),
        (MoveCashRequest { from: CashBin::Unspecified.into(), ..good() }, "from"),
        (MoveCashRequest { from: 77, ..good() }, "from"),
        (MoveCashRequest { to: CashBin::Unspecified.into(), ..good() }, "to"),
        (MoveCashRequest { to: CashBin::Vault.into(), ..good() }, "to"),
        (MoveCashRequest { amount: None, ..good() }, "amount"),
        (MoveCashRequest { amount: bdt(0), ..good() }, "amount.minor_units"),
        (MoveCashRequest { amount: bdt(-5), ..good() }, "amount.minor_units"),
        (MoveCashRequest { amount: usd, ..good() }, "amount.currency_code"),
    ]
}

#[tokio::test]
async fn row_14_a_bad_movement_names_the_field_and_never_reaches_the_ledger() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    for (request, field) in spoilt() {
        let MoveCashRequest { transaction_id, from, to, amount, .. } = request.clone();
        let status = record(&machine, RecordCashMovementRequest { transaction_id, from, to, amount })
            .await
            .unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some(field));
        let status = world.admin().move_cash(as_operator(request)).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some(field));
    }
    for (from, to, field) in
        [(CashBin::Suspense, CashBin::Cassettes, "from"), (CashBin::Cassettes, CashBin::Suspense, "to")]
    {
        let status = record(&machine, movement(from, to)).await.unwrap_err();
        assert_eq!(violated_field(&status).as_deref(), Some(field), "a machine explains nothing away");
    }
    let nameless = MoveCashRequest { atm_id: String::new(), ..spoilt()[0].0.clone() };
    let status = world.admin().move_cash(as_operator(nameless)).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("atm_id"));
    assert_eq!(world.ledger.log.count("PostTransaction") + world.ledger.log.count("OpenAccount"), 0);
}

#[tokio::test]
async fn an_operator_moves_cash_in_the_banks_own_name_and_may_use_suspense() {
    let world = World::new().await;
    let request = MoveCashRequest {
        transaction_id: new_id(),
        atm_id: "ATM-1".to_owned(),
        from: CashBin::Cassettes.into(),
        to: CashBin::Suspense.into(),
        amount: bdt(100),
    };
    let answer = world.admin().move_cash(as_operator(request.clone())).await.unwrap().into_inner();
    assert_eq!(answer.outcome.as_ref().unwrap().balance, None);
    assert_eq!(world.admin().move_cash(as_operator(request)).await.unwrap().into_inner(), answer);
    let posted = world.ledger.log.requests::<PostTransactionRequest>("PostTransaction");
    assert_eq!(posted[0], posted[1]);
    assert_eq!(posted[0].terminal_id, "", "the service itself");
    assert_eq!(posted[0].debit_account_id, AccountId::of_suspense("ATM-1", BDT).to_string());
    assert_eq!(posted[0].credit_account_id, AccountId::of_cash("ATM-1", BDT).to_string());
    assert_eq!(opened(&world)[0].1, AccountKind::Suspense);
}

#[tokio::test]
async fn a_machine_that_was_never_used_has_nothing_anywhere() {
    let world = World::new().await;
    let atm_id = || "ATM-1".to_owned();
    let asked = GetCashPositionRequest { atm_id: atm_id() };
    let position = world.admin().get_cash_position(as_operator(asked)).await.unwrap().into_inner();
    let bins: Vec<_> = position.positions.iter().map(CashPosition::bin).collect();
    assert_eq!(
        bins,
        [CashBin::Cassettes, CashBin::Reject, CashBin::Retract, CashBin::Deposit, CashBin::Suspense]
    );
    assert!(position.positions.iter().all(|line| line.balance_minor_units == 0));
    assert_eq!((position.commit_sequence, &*position.currency_code), (5, "BDT"));
    let asked = ListCashEntriesRequest {
        atm_id: atm_id(),
        bin: CashBin::Reject.into(),
        ..ListCashEntriesRequest::default()
    };
    let entries = world.admin().list_cash_entries(as_operator(asked)).await.unwrap().into_inner();
    assert_eq!(entries, ListCashEntriesResponse::default());
    let asked = ListSuspectsRequest { atm_id: atm_id() };
    let suspects = world.admin().list_suspects(as_operator(asked)).await.unwrap().into_inner();
    assert_eq!((suspects.suspects.len(), suspects.complete), (0, true));
    assert_eq!(world.ledger.log.count("OpenAccount"), 0, "reading opens nothing");
}

#[tokio::test]
async fn operators_mistakes_are_named() {
    let world = World::new().await;
    let mut admin = world.admin();
    let bad = || "a b".to_owned();
    let entries = |change: fn(&mut ListCashEntriesRequest)| {
        let mut request = ListCashEntriesRequest {
            atm_id: "ATM-1".to_owned(),
            bin: CashBin::Cassettes.into(),
            page_size: 0,
            page_token: String::new(),
        };
        change(&mut request);
        as_operator(request)
    };
    let resolve = |change: fn(&mut ResolveSuspectRequest)| {
        let mut request = ResolveSuspectRequest {
            transaction_id: new_id(),
            amount: bdt(5),
            operator: "Nadia".to_owned(),
            reason: "counted twice".to_owned(),
        };
        change(&mut request);
        as_operator(request)
    };
    let position = as_operator(GetCashPositionRequest { atm_id: bad() });
    let suspects = as_operator(ListSuspectsRequest { atm_id: bad() });
    let inspected = as_operator(InspectTransactionRequest { transaction_id: bad() });
    for (status, field) in [
        (admin.get_cash_position(position).await.unwrap_err(), "atm_id"),
        (admin.list_suspects(suspects).await.unwrap_err(), "atm_id"),
        (admin.inspect_transaction(inspected).await.unwrap_err(), "transaction_id"),
        (admin.list_cash_entries(entries(|it| it.atm_id.clear())).await.unwrap_err(), "atm_id"),
        (admin.list_cash_entries(entries(|it| it.bin = 0)).await.unwrap_err(), "bin"),
        (admin.list_cash_entries(entries(|it| it.bin = CashBin::Vault.into())).await.unwrap_err(), "bin"),
        (admin.list_cash_entries(entries(|it| it.page_size = 1_001)).await.unwrap_err(), "page_size"),
        (admin.resolve_suspect(resolve(|it| it.transaction_id.clear())).await.unwrap_err(), "transaction_id"),
        (admin.resolve_suspect(resolve(|it| it.amount = None)).await.unwrap_err(), "amount"),
        (admin.resolve_suspect(resolve(|it| it.amount = bdt(-1))).await.unwrap_err(), "amount.minor_units"),
        (admin.resolve_suspect(resolve(|it| it.operator.clear())).await.unwrap_err(), "operator"),
        (admin.resolve_suspect(resolve(|it| it.operator = "x".repeat(101))).await.unwrap_err(), "operator"),
        (admin.resolve_suspect(resolve(|it| it.reason = "a\u{7}b".to_owned())).await.unwrap_err(), "reason"),
        (admin.resolve_suspect(resolve(|it| it.reason = "x".repeat(501))).await.unwrap_err(), "reason"),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert_eq!(violated_field(&status).as_deref(), Some(field));
    }
    assert_eq!(world.ledger.log.count("ResolveTransaction"), 0);
}

#[tokio::test]
async fn a_resolution_is_handed_on_and_its_refusals_say_why() {
    let world = World::new().await;
    let request = |minor_units| ResolveSuspectRequest {
        transaction_id: new_id(),
        amount: bdt(minor_units),
        operator: "Nadia".to_owned(),
        reason: "the tray was empty".to_owned(),
    };
    for (minor_units, state) in [(300, TransactionState::Captured), (0, TransactionState::Cancelled)] {
        let asked = request(minor_units);
        let answer = world.admin().resolve_suspect(as_operator(asked.clone())).await.unwrap().into_inner();
        assert_eq!(answer.outcome.unwrap().state(), state);
        let seen = world.ledger.log.requests::<ResolveTransactionRequest>("ResolveTransaction");
        let seen = seen.last().unwrap();
        assert_eq!((&seen.transaction_id, &seen.amount), (&asked.transaction_id, &asked.amount));
        assert_eq!((&*seen.operator, &*seen.reason), ("Nadia", "the tray was empty"));
    }
    let in_state = |state: &str| {
        let state = [("state", format!("TRANSACTION_STATE_{state}"))];
        with_reason(Code::FailedPrecondition, "row 7", "WHY", &state)
    };
    let other =
        with_reason(Code::AlreadyExists, "row 7", "ID_REUSED", &[("field", "amount.minor_units".to_owned())]);
    for (refusal, code, told) in [
        (in_state("HELD"), Code::FailedPrecondition, "NOT_SUSPECT"),
        (in_state("SUSPECT"), Code::FailedPrecondition, "RESOLUTION_EXCEEDS_HOLD"),
        (Status::not_found("row 7"), Code::NotFound, "TRANSACTION_NOT_FOUND"),
        (other, Code::AlreadyExists, "ID_REUSED"),
    ] {
        world.ledger.log.next("ResolveTransaction", Fault::Status(refusal));
        let status = world.admin().resolve_suspect(as_operator(request(5))).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_deref()), (code, Some(told)));
        assert!(!status.message().contains("row"), "{status:?}");
    }
}

/// A step that suspends (`pending` above 0) or resolves (below) an amount.
fn step(id: &str, pending: i64, commit_sequence: u64) -> Step {
    let entry = |account: AccountId, pending_minor_units| Entry {
        account_id: account.to_string(),
        side: Side::Credit.into(),
        pending_minor_units,
        ..Entry::default()
    };
    let outcome = ledger::Outcome {
        transaction_id: id.to_owned(),
        debit_account_id: account_of(CARD).to_string(),
        commit_sequence,
        ..ledger::Outcome::default()
    };
    let entries = vec![
        entry(AccountId::of_cash("ATM-1", BDT), 0),
        entry(AccountId::of_suspense("ATM-1", BDT), pending),
    ];
    Step { outcome: Some(outcome), entries, ..Step::default() }
}

#[tokio::test]
async fn the_suspects_of_a_machine_are_what_its_suspense_account_still_holds() {
    let world = World::new().await;
    let suspense = AccountId::of_suspense("ATM-1", BDT);
    let account = |held| Account {
        account_id: suspense.to_string(),
        credits_pending_minor_units: held,
        ..Account::default()
    };
    *world.ledger.entries.lock().unwrap() = vec![step("b", 5, 9), step("a", -7, 8)];
    *world.ledger.older_entries.lock().unwrap() = vec![step("a", 7, 6), step("c", 3, 5)];
    let list = async || {
        let asked = ListSuspectsRequest { atm_id: "ATM-1".to_owned() };
        world.admin().list_suspects(as_operator(asked)).await.unwrap().into_inner()
    };
    for (held, listed, complete) in
        [(8, vec!["b", "c"], true), (5, vec!["b"], true), (0, vec![], true), (9, vec!["b", "c"], false)]
    {
        world.ledger.accounts.lock().unwrap().insert(suspense.to_string(), account(held));
        let answer = list().await;
        let ids: Vec<_> = answer.suspects.iter().map(|suspect| suspect.transaction_id.as_str()).collect();
        assert_eq!((ids, answer.complete), (listed, complete), "{held} are held");
        for suspect in &answer.suspects {
            assert_eq!(suspect.account_id, account_of(CARD).to_string());
            assert!(suspect.amount.as_ref().unwrap().minor_units > 0);
        }
    }
    // Books without an end do not make a call without an end.
    world.ledger.pages_never_end.store(true, std::sync::atomic::Ordering::SeqCst);
    world.ledger.accounts.lock().unwrap().insert(suspense.to_string(), account(1_000_000));
    let before = world.ledger.log.count("ListAccountEntries");
    assert!(!list().await.complete);
    assert_eq!(world.ledger.log.count("ListAccountEntries") - before, 20);
}

#[tokio::test]
async fn an_inspection_shows_every_step_to_an_operator_and_the_authorization_to_nobody() {
    let world = World::new().await;
    world.ledger.add_account(&account_of(CARD), AccountKind::Customer);
    let id = new_id();
    let cash = AccountId::of_cash("ATM-1", BDT).to_string();
    let outcome = |step: StepKind, state: TransactionState| ledger::Outcome {
        transaction_id: id.clone(),
        step: step.into(),
        state: state.into(),
        debit_account_id: account_of(CARD).to_string(),
        credit_account_id: cash.clone(),
        amount: bdt(700),
        debit_balance: Some(atm_proto::types::Balance { balance_minor_units: 1, available_minor_units: 2 }),
        authorization: b"signed".to_vec(),
        ..ledger::Outcome::default()
    };
    let resolved = ledger::Outcome {
        resolution: Some(ledger::Resolution { operator: "Nadia".to_owned(), reason: "counted".to_owned() }),
        ..outcome(StepKind::Resolve, TransactionState::Captured)
    };
    let steps = [
        outcome(StepKind::Hold, TransactionState::Held),
        outcome(StepKind::Suspend, TransactionState::Suspect),
        resolved,
    ];
    let steps =
        steps.map(|outcome| Step { outcome: Some(outcome), terminal_id: "a5".repeat(32), ..Step::default() });
    let recorded = ledger::GetTransactionResponse {
        steps: steps.to_vec(),
        current_state: TransactionState::Captured.into(),
    };
    world.ledger.transactions.lock().unwrap().insert(id.clone(), recorded);
    let inspect = async |id: String| {
        let asked = as_operator(InspectTransactionRequest { transaction_id: id });
        world.admin().inspect_transaction(asked).await.map(tonic::Response::into_inner)
    };
    let seen = inspect(id.clone()).await.unwrap();
    let states: Vec<_> = seen.outcomes.iter().map(Outcome::state).collect();
    assert_eq!(states, [TransactionState::Held, TransactionState::Suspect, TransactionState::Captured]);
    assert!(seen.outcomes.iter().all(|outcome| outcome.authorization.is_empty()));
    assert!(seen.outcomes.iter().all(|outcome| outcome.balance.unwrap().balance_minor_units == 1));
    assert_eq!(seen.current_state(), TransactionState::Captured);
    assert_eq!(seen.terminal_id, "a5".repeat(32));
    assert_eq!((seen.debit_account_id, seen.credit_account_id), (account_of(CARD).to_string(), cash));
    assert_eq!((&*seen.resolved_by, &*seen.resolved_because), ("Nadia", "counted"));
    let status = inspect(new_id()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::NotFound, Some("TRANSACTION_NOT_FOUND")));
}
