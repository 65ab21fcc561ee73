//! Suspended withdrawals in the real books, from the dispenser that does not know to the person who decides.

use atm_proto::gateway::*;
use atm_proto::types::TransactionState;
use atm_rpc::status::reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::real::{BIVA, Bank, FARHAN};
use crate::support::*;

fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata[key].clone()
}

async fn suspend_with(
    machine: &Machine,
    id: &str,
    authorization: Vec<u8>,
) -> Result<SuspendWithdrawalResponse, Status> {
    let request = SuspendWithdrawalRequest { transaction_id: id.to_owned(), authorization };
    machine.client.clone().suspend_withdrawal(machine.request(request)).await.map(tonic::Response::into_inner)
}

async fn suspend(machine: &Machine, id: &str) -> Result<SuspendWithdrawalResponse, Status> {
    suspend_with(machine, id, Vec::new()).await
}

async fn resolve(bank: &Bank, id: &str, minor_units: i64) -> Result<Outcome, Status> {
    let request = ResolveSuspectRequest {
        transaction_id: id.to_owned(),
        amount: bdt(minor_units),
        operator: "Nadia Rahman".to_owned(),
        reason: "the counters say so".to_owned(),
    };
    Ok(bank.admin().resolve_suspect(as_operator(request)).await?.into_inner().outcome.unwrap())
}

async fn suspects(bank: &Bank) -> Vec<(String, i64)> {
    let asked = ListSuspectsRequest { atm_id: "ATM-1".to_owned() };
    let answer = bank.admin().list_suspects(as_operator(asked)).await.unwrap().into_inner();
    assert!(answer.complete);
    let line = |suspect: Suspect| (suspect.transaction_id, suspect.amount.unwrap().minor_units);
    answer.suspects.into_iter().map(line).collect()
}

/// Balance and pending of the cassettes and of suspense.
async fn cash(bank: &Bank) -> [(i64, i64); 2] {
    let asked = GetCashPositionRequest { atm_id: "ATM-1".to_owned() };
    let position = bank.admin().get_cash_position(as_operator(asked)).await.unwrap().into_inner();
    [CashBin::Cassettes, CashBin::Suspense].map(|bin| {
        let line = position.positions.iter().find(|line| line.bin() == bin).unwrap();
        (line.balance_minor_units, line.pending_minor_units)
    })
}

async fn assert_sound(bank: &Bank) {
    let books = bank.admin().get_trial_balance(as_operator(GetTrialBalanceRequest {})).await.unwrap();
    assert!(books.into_inner().balanced);
}

#[tokio::test]
async fn a_suspect_stays_frozen_until_a_person_decides_and_then_reads_like_a_withdrawal() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let machine = Machine { session: None, ..farhan.clone() };
    let id = new_id();
    farhan.authorize(&id, 30_000).await.unwrap();
    assert_eq!(cash(&bank).await, [(0, 30_000), (0, 0)]);
    let suspended = suspend(&machine, &id).await.unwrap();
    assert_eq!(suspended.current_state(), TransactionState::Suspect);
    assert_eq!(suspended.outcome.as_ref().unwrap().balance.unwrap().available_minor_units, 70_000);
    assert_eq!(suspend(&machine, &id).await.unwrap(), suspended, "a repeat");
    assert_eq!(cash(&bank).await, [(0, 0), (0, 30_000)]);
    assert_eq!(farhan.balance().await.unwrap(), (100_000, 70_000), "frozen");
    assert_eq!(suspects(&bank).await, [(id.clone(), 30_000)]);
    assert_sound(&bank).await;

    let status = farhan.capture(&id, 30_000).await.unwrap_err();
    assert_eq!((status.code(), &*metadata(&status, "state")), (Code::FailedPrecondition, "SUSPECT"));
    assert_eq!(reason(&status).as_deref(), Some("SUSPENDED"));
    assert_eq!(farhan.cancel(&id).await.unwrap().current_state(), TransactionState::Suspect);
    let seen = farhan.transaction(&id).await.unwrap();
    assert_eq!(seen.current_state(), TransactionState::Suspect);
    assert!(farhan.statement(1, "").await.unwrap().lines[0].transaction_id != id, "nothing was posted");

    let resolved = resolve(&bank, &id, 20_000).await.unwrap();
    assert_eq!(resolved.state(), TransactionState::Captured);
    assert_eq!(resolve(&bank, &id, 20_000).await.unwrap(), resolved, "a repeat");
    let status = resolve(&bank, &id, 20_001).await.unwrap_err();
    assert_eq!((status.code(), &*metadata(&status, "field")), (Code::AlreadyExists, "amount.minor_units"));
    assert_eq!(farhan.balance().await.unwrap(), (80_000, 80_000));
    assert_eq!(cash(&bank).await, [(-20_000, 0), (0, 0)]);
    assert_eq!(suspects(&bank).await, []);
    let line = farhan.statement(1, "").await.unwrap().lines.remove(0);
    assert_eq!((line.kind(), line.amount.as_ref().unwrap().minor_units), (MovementKind::Withdrawal, -20_000));
    assert_eq!((line.transaction_id.as_str(), line.state()), (id.as_str(), TransactionState::Captured));
    let evidence = as_operator(InspectTransactionRequest { transaction_id: id.clone() });
    let evidence = bank.admin().inspect_transaction(evidence).await.unwrap().into_inner();
    let states: Vec<_> = evidence.outcomes.iter().map(Outcome::state).collect();
    assert_eq!(states, [TransactionState::Held, TransactionState::Suspect, TransactionState::Captured]);
    assert_eq!(
        (&*evidence.resolved_by, &*evidence.resolved_because),
        ("Nadia Rahman", "the counters say so")
    );
    assert_eq!(evidence.terminal_id, machine.terminal());
    assert_eq!(suspend(&machine, &id).await.unwrap().outcome, suspended.outcome, "for ever");
    assert_sound(&bank).await;
}

#[tokio::test]
async fn a_suspect_that_never_left_is_freed_and_a_late_capture_is_still_posted() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let id = new_id();
    farhan.authorize(&id, 30_000).await.unwrap();
    suspend(&farhan, &id).await.unwrap();
    let freed = resolve(&bank, &id, 0).await.unwrap();
    assert_eq!(freed.state(), TransactionState::Cancelled);
    assert_eq!(farhan.balance().await.unwrap(), (100_000, 100_000));
    assert_eq!(cash(&bank).await, [(0, 0), (0, 0)]);
    let late = farhan.capture(&id, 30_000).await.unwrap();
    assert_eq!(late.current_state(), TransactionState::CapturedLate, "cash is never lost");
    assert_eq!(farhan.balance().await.unwrap().0, 70_000);
    assert_sound(&bank).await;
}

#[tokio::test]
async fn of_many_suspensions_the_unresolved_ones_are_listed_newest_first() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let mut ids = Vec::new();
    for amount in 1..=5 {
        let id = new_id();
        farhan.authorize(&id, amount * 100).await.unwrap();
        suspend(&farhan, &id).await.unwrap();
        ids.push((id, amount * 100));
    }
    let count = MoveCashRequest {
        transaction_id: new_id(),
        atm_id: "ATM-1".to_owned(),
        from: CashBin::Cassettes.into(),
        to: CashBin::Suspense.into(),
        amount: bdt(7),
    };
    bank.admin().move_cash(as_operator(count)).await.unwrap();
    resolve(&bank, &ids[1].0, 0).await.unwrap();
    resolve(&bank, &ids[3].0, 400).await.unwrap();
    let left: Vec<_> = [4, 2, 0].map(|index: usize| ids[index].clone()).into();
    assert_eq!(suspects(&bank).await, left);
    assert_sound(&bank).await;
}

#[tokio::test]
async fn what_cannot_be_suspended_or_resolved() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let held = new_id();
    farhan.authorize(&held, 1_000).await.unwrap();
    let status = resolve(&bank, &held, 1_000).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::FailedPrecondition, Some("NOT_SUSPECT")));
    assert_eq!(metadata(&status, "state"), "HELD");
    assert_eq!(resolve(&bank, &new_id(), 5).await.unwrap_err().code(), Code::NotFound);
    let stranger = bank.customer("ATM-2", BIVA).await;
    assert_eq!(suspend(&stranger, &held).await.unwrap_err().code(), Code::NotFound, "another ATM's hold");
    assert_eq!(suspend(&farhan, &new_id()).await.unwrap_err().code(), Code::NotFound);
    suspend(&farhan, &held).await.unwrap();
    let status = resolve(&bank, &held, 1_001).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("RESOLUTION_EXCEEDS_HOLD"))
    );

    let posted = new_id();
    farhan.withdraw(&posted, 5).await.unwrap();
    let status = suspend(&farhan, &posted).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("NOTHING_TO_SUSPEND"))
    );
    assert_eq!(metadata(&status, "state"), "POSTED");
    let captured = new_id();
    farhan.authorize(&captured, 700).await.unwrap();
    farhan.capture(&captured, 600).await.unwrap();
    let kept = suspend(&farhan, &captured).await.unwrap();
    assert_eq!(kept.current_state(), TransactionState::Captured, "what was captured before stays captured");
    assert_eq!(kept.outcome.unwrap().amount, bdt(600));
}

#[tokio::test]
async fn a_hold_that_was_cancelled_before_is_suspended_all_the_same() {
    let bank = Bank::new().await;
    let farhan = bank.customer("ATM-1", FARHAN).await;
    let id = new_id();
    let held = farhan.authorize(&id, 60_000).await.unwrap().outcome.unwrap();
    farhan.cancel(&id).await.unwrap();
    farhan.withdraw(&new_id(), 90_000).await.unwrap();
    let suspended = suspend_with(&farhan, &id, held.authorization).await.unwrap();
    assert_eq!(suspended.current_state(), TransactionState::Suspect);
    assert_eq!(farhan.balance().await.unwrap(), (10_000, -50_000), "without a look at the balance");
    assert_eq!(suspects(&bank).await, [(id.clone(), 60_000)]);
    resolve(&bank, &id, 0).await.unwrap();
    assert_eq!(farhan.balance().await.unwrap(), (10_000, 10_000));
    assert_sound(&bank).await;
}
