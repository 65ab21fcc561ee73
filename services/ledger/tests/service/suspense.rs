//! Withdrawals of which nobody knows whether the cash left: suspended, resolved, repeated and refused, over the
//! wire.

use std::time::Duration;

use atm_proto::ledger::{
    AccountKind, CaptureTransactionRequest, Entry, GetTransactionRequest, GetTrialBalanceRequest,
    HoldTransactionRequest, ListAccountEntriesRequest, ResolveTransactionRequest, Side, Step, StepKind,
    SuspendTransactionRequest,
};
use atm_proto::types::{Money, TransactionState};
use atm_rpc::status::{reason, violated_field};
use tonic::{Code, Status};

use crate::support::*;

/// A bank where Farhan has 1,000.00, and a client of it.
async fn open() -> (Bank, Client) {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow_with_suspense(&mut client, &[("Farhan", 100_000)]).await;
    (bank, client)
}

/// Holds 600.00 of Farhan's, for a minute.
async fn withdraw(client: &mut Client) -> (String, Vec<u8>) {
    let id = new_id();
    let lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let asked = HoldTransactionRequest { lifetime, ..hold(&id, &customer("Farhan"), &cash(), 60_000) };
    let held = client.hold_transaction(asked).await.unwrap().into_inner();
    assert_eq!(held.current_state(), TransactionState::Held);
    (id, held.outcome.unwrap().authorization)
}

/// How a withdrawal comes to where it is suspended or resolved.
const WAYS: [&str; 10] = [
    "unknown",
    "tombstone",
    "declined",
    "posted",
    "held",
    "cancelled",
    "expired",
    "captured",
    "suspect",
    "late",
];

async fn bring(bank: &Bank, client: &mut Client, way: &str) -> String {
    if way == "unknown" {
        return new_id();
    }
    if way == "tombstone" {
        let id = new_id();
        client.cancel_transaction(cancel(&id)).await.unwrap();
        return id;
    }
    if way == "declined" || way == "posted" {
        let id = new_id();
        let amount = if way == "posted" { 60_000 } else { 60_000_000 };
        client.post_transaction(post(&id, &customer("Farhan"), &cash(), amount)).await.unwrap();
        return id;
    }
    let (id, _) = withdraw(client).await;
    match way {
        "held" => {}
        "cancelled" => _ = client.cancel_transaction(cancel(&id)).await.unwrap(),
        "expired" => {
            bank.clock.advance(Duration::from_secs(61));
            balance(client, customer("Farhan")).await;
        }
        "captured" => _ = client.capture_transaction(capture(&id, 60_000)).await.unwrap(),
        "suspect" => _ = client.suspend_transaction(suspend(&id)).await.unwrap(),
        "late" => {
            client.cancel_transaction(cancel(&id)).await.unwrap();
            client.capture_transaction(capture(&id, 60_000)).await.unwrap();
        }
        other => panic!("{other}"),
    }
    id
}

/// Account, posted and pending change of each entry.
fn changes(entries: &[Entry]) -> Vec<(String, Side, i64, i64)> {
    let change = |entry: &Entry| {
        (entry.account_id.clone(), entry.side(), entry.posted_minor_units, entry.pending_minor_units)
    };
    entries.iter().map(change).collect()
}

async fn steps(client: &mut Client, id: &str) -> Vec<Step> {
    let request = GetTransactionRequest { transaction_id: id.to_owned() };
    client.get_transaction(request).await.unwrap().into_inner().steps
}

/// Code, reason and the state in the metadata.
fn refusal(status: &Status) -> (Code, String, Option<String>) {
    let info = tonic_types::StatusExt::get_details_error_info(status).unwrap();
    (status.code(), info.reason, info.metadata.get("state").cloned())
}

#[tokio::test]
async fn a_hold_is_suspended_from_every_state_that_it_can_be_suspended_from_and_from_no_other() {
    for way in WAYS {
        let (bank, mut client) = open().await;
        let id = bring(&bank, &mut client, way).await;
        let before = last_sequence(&mut client).await;
        let answer = client.suspend_transaction(suspend(&id)).await;
        let recorded = last_sequence(&mut client).await - before;
        let state = |state: TransactionState| Some(state.as_str_name().to_owned());
        let nothing = |at| (Code::FailedPrecondition, "NOTHING_TO_SUSPEND".to_owned(), state(at));
        match way {
            "unknown" => {
                let told = refusal(&answer.unwrap_err());
                assert_eq!(told, (Code::NotFound, "TRANSACTION_NOT_FOUND".to_owned(), None));
            }
            "tombstone" => {
                assert_eq!(refusal(&answer.unwrap_err()), nothing(TransactionState::Cancelled));
            }
            "declined" => assert_eq!(refusal(&answer.unwrap_err()), nothing(TransactionState::Declined)),
            "posted" => assert_eq!(refusal(&answer.unwrap_err()), nothing(TransactionState::Posted)),
            "captured" | "late" => {
                let told = answer.unwrap().into_inner();
                let (kind, at) = if way == "late" {
                    (StepKind::CaptureLate, TransactionState::CapturedLate)
                } else {
                    (StepKind::Capture, TransactionState::Captured)
                };
                assert_eq!((told.outcome.as_ref().unwrap().step(), told.current_state()), (kind, at));
                assert_eq!(recorded, 0);
            }
            "suspect" => {
                let told = answer.unwrap();
                assert_eq!(told.metadata().get("atm-replayed").unwrap(), "true");
                assert_eq!((told.get_ref().current_state(), recorded), (TransactionState::Suspect, 0));
            }
            "held" | "cancelled" | "expired" => {
                let told = answer.unwrap().into_inner();
                let outcome = told.outcome.clone().unwrap();
                assert_eq!((outcome.step(), outcome.state()), (StepKind::Suspend, TransactionState::Suspect));
                assert_eq!((told.current_state(), recorded), (TransactionState::Suspect, 1));
                assert_eq!(outcome.amount, taka(60_000));
                assert_eq!(
                    (outcome.debit_account_id, outcome.credit_account_id),
                    (customer("Farhan"), cash())
                );
                assert_eq!((outcome.resolution, outcome.expire_time), (None, None));
                let entries = steps(&mut client, &id).await.pop().unwrap().entries;
                let (debit, credit) = if way == "held" { (0, -60_000) } else { (60_000, 0) };
                let expected = [
                    (customer("Farhan"), Side::Debit, 0, debit),
                    (cash(), Side::Credit, 0, credit),
                    (suspense(), Side::Credit, 0, 60_000),
                ];
                assert_eq!(changes(&entries), expected, "{way}");
                assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 40_000));
                // However long it takes.
                bank.clock.advance(Duration::from_secs(60 * 24 * 60 * 60));
                assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 40_000));
            }
            other => panic!("{other}"),
        }
        assert_eq!(audit(&mut client).await, Vec::<String>::new(), "{way}");
    }
}

#[tokio::test]
async fn only_what_is_suspended_is_resolved() {
    for way in WAYS {
        let (bank, mut client) = open().await;
        let id = bring(&bank, &mut client, way).await;
        let before = last_sequence(&mut client).await;
        let answer = client.resolve_transaction(resolve(&id, 20_000)).await;
        let recorded = last_sequence(&mut client).await - before;
        let state = match way {
            "unknown" => {
                assert_eq!(answer.unwrap_err().code(), Code::NotFound);
                continue;
            }
            "suspect" => {
                let told = answer.unwrap().into_inner();
                let outcome = told.outcome.clone().unwrap();
                assert_eq!((outcome.step(), outcome.amount.clone()), (StepKind::Resolve, taka(20_000)));
                assert_eq!(
                    (outcome.state(), told.current_state(), recorded),
                    (TransactionState::Captured, TransactionState::Captured, 1)
                );
                let resolution = outcome.resolution.unwrap();
                let said = (resolution.operator.as_str(), resolution.reason.as_str());
                assert_eq!(said, ("Nadia", "the cassettes were counted"));
                let step = steps(&mut client, &id).await.pop().unwrap();
                assert_eq!(step.terminal_id, TERMINAL);
                let expected = [
                    (customer("Farhan"), Side::Debit, 20_000, -60_000),
                    (cash(), Side::Credit, 20_000, 0),
                    (suspense(), Side::Credit, 0, -60_000),
                ];
                assert_eq!(changes(&step.entries), expected);
                assert_eq!(balance(&mut client, customer("Farhan")).await, (80_000, 80_000));
                assert_eq!(balance(&mut client, suspense()).await, (0, 0));
                assert_eq!(balance(&mut client, cash()).await, (-20_000, -20_000));
                assert_eq!(audit(&mut client).await, Vec::<String>::new());
                continue;
            }
            "tombstone" | "cancelled" => TransactionState::Cancelled,
            "declined" => TransactionState::Declined,
            "posted" => TransactionState::Posted,
            "held" => TransactionState::Held,
            "expired" => TransactionState::Expired,
            "captured" => TransactionState::Captured,
            "late" => TransactionState::CapturedLate,
            other => panic!("{other}"),
        };
        let expected =
            (Code::FailedPrecondition, "NOT_SUSPENDED".to_owned(), Some(state.as_str_name().to_owned()));
        assert_eq!((refusal(&answer.unwrap_err()), recorded), (expected, 0), "{way}");
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_bytes_across_whatever_came_after_and_a_restart() {
    let (bank, mut client) = open().await;
    let (id, _) = withdraw(&mut client).await;
    let freeze = suspend(&id);
    let suspended = client.suspend_transaction(freeze.clone()).await.unwrap().into_inner();
    let free = resolve(&id, 0);
    let resolved = client.resolve_transaction(free.clone()).await.unwrap().into_inner();
    assert_eq!(resolved.current_state(), TransactionState::Cancelled);
    client.capture_transaction(capture(&id, 60_000)).await.unwrap();
    let last = last_sequence(&mut client).await;
    let bank = bank.restart().await;
    let mut client = bank.client();
    for _ in 0..2 {
        let again = client.suspend_transaction(freeze.clone()).await.unwrap();
        assert_eq!(again.metadata().get("atm-replayed").unwrap(), "true");
        let again = again.into_inner();
        assert_eq!(again.current_state(), TransactionState::CapturedLate);
        assert_eq!(bytes(&again.outcome.unwrap()), bytes(suspended.outcome.as_ref().unwrap()));
        // Whoever asks, and why: what was decided first stands.
        let asked = ResolveTransactionRequest {
            operator: "Rafi".to_owned(),
            reason: "so they say".to_owned(),
            ..free.clone()
        };
        let again = client.resolve_transaction(asked).await.unwrap();
        assert_eq!(again.metadata().get("atm-replayed").unwrap(), "true");
        assert_eq!(bytes(&again.into_inner().outcome.unwrap()), bytes(resolved.outcome.as_ref().unwrap()));
    }
    let status = client.resolve_transaction(resolve(&id, 1)).await.unwrap_err();
    assert_eq!((status.code(), reused_field(&status).as_str()), (Code::AlreadyExists, "amount.minor_units"));
    let mut other = account(customer("elsewhere"), AccountKind::Suspense);
    other.account.as_mut().unwrap().account_number = "elsewhere".to_owned();
    client.open_account(other).await.unwrap();
    let elsewhere = SuspendTransactionRequest { suspense_account_id: customer("elsewhere"), ..freeze };
    let status = client.suspend_transaction(elsewhere).await.unwrap_err();
    assert_eq!((status.code(), reused_field(&status).as_str()), (Code::AlreadyExists, "suspense_account_id"));
    assert_eq!(last_sequence(&mut client).await, last + 1, "only the account was opened");
}

#[tokio::test]
async fn a_suspect_outlives_a_restart_and_any_lifetime_and_its_terminal_can_do_nothing_to_it() {
    let (bank, mut client) = open().await;
    let (id, authorization) = withdraw(&mut client).await;
    let suspended = client.suspend_transaction(suspend(&id)).await.unwrap().into_inner();
    let bank = bank.restart().await;
    bank.clock.advance(Duration::from_secs(400 * 24 * 60 * 60));
    let mut client = bank.client();
    let last = last_sequence(&mut client).await;
    for amount in [0, 60_000] {
        let asked =
            CaptureTransactionRequest { authorization: authorization.clone(), ..capture(&id, amount) };
        let status = client.capture_transaction(asked).await.unwrap_err();
        let state = Some("TRANSACTION_STATE_SUSPECT".to_owned());
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "SUSPENDED".to_owned(), state));
    }
    let cancelled = client.cancel_transaction(cancel(&id)).await.unwrap().into_inner();
    assert_eq!(cancelled.current_state(), TransactionState::Suspect);
    assert_eq!(cancelled.outcome, suspended.outcome);
    let held = client.hold_transaction(hold(&id, &customer("Farhan"), &cash(), 60_000)).await.unwrap();
    assert_eq!(held.get_ref().current_state(), TransactionState::Suspect);
    assert_eq!(held.get_ref().outcome.as_ref().unwrap().state(), TransactionState::Held);
    assert_eq!(last_sequence(&mut client).await, last);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (100_000, 40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
    client.resolve_transaction(resolve(&id, 60_000)).await.unwrap();
    assert_eq!(balance(&mut client, customer("Farhan")).await, (40_000, 40_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_resolution_the_terminals_capture_finds_it_or_is_posted_late() {
    let (_bank, mut client) = open().await;
    let (kept, _) = withdraw(&mut client).await;
    client.suspend_transaction(suspend(&kept)).await.unwrap();
    let resolved = client.resolve_transaction(resolve(&kept, 20_000)).await.unwrap().into_inner();
    let captured = client.capture_transaction(capture(&kept, 20_000)).await.unwrap().into_inner();
    assert_eq!((captured.current_state(), captured.outcome), (TransactionState::Captured, resolved.outcome));
    let status = client.capture_transaction(capture(&kept, 60_000)).await.unwrap_err();
    assert_eq!(reused_field(&status), "amount.minor_units");
    assert_eq!(balance(&mut client, customer("Farhan")).await, (80_000, 80_000));

    let (freed, _) = withdraw(&mut client).await;
    client.suspend_transaction(suspend(&freed)).await.unwrap();
    client.resolve_transaction(resolve(&freed, 0)).await.unwrap();
    assert_eq!(balance(&mut client, customer("Farhan")).await, (80_000, 80_000));
    client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 80_000)).await.unwrap();
    let late = client.capture_transaction(capture(&freed, 60_000)).await.unwrap().into_inner();
    assert_eq!(late.current_state(), TransactionState::CapturedLate);
    assert_eq!(balance(&mut client, customer("Farhan")).await, (-60_000, -60_000));
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_suspense_account_that_will_not_do_is_named_and_nothing_is_recorded() {
    let (_bank, mut client) = open().await;
    let mut dollars = account(customer("dollars"), AccountKind::Suspense);
    dollars.account.as_mut().unwrap().currency_code = "USD".to_owned();
    client.open_account(dollars).await.unwrap();
    let (id, _) = withdraw(&mut client).await;
    let last = last_sequence(&mut client).await;
    for (suspense_account_id, says) in [
        (customer("nobody"), "must be an account that is open"),
        (cash(), "must be a SUSPENSE account"),
        (customer("Farhan"), "must be a SUSPENSE account"),
        (customer("dollars"), "must be in the currency of the hold"),
        ("suspense".to_owned(), "UUID"),
        (String::new(), "UUID"),
    ] {
        let asked = SuspendTransactionRequest { suspense_account_id, ..suspend(&id) };
        let status = client.suspend_transaction(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violated_field(&status).as_deref(), Some("suspense_account_id"));
        assert!(status.message().contains(says), "{}", status.message());
    }
    assert_eq!(last_sequence(&mut client).await, last);
    assert_eq!(balance(&mut client, suspense()).await, (0, 0));
}

#[tokio::test]
async fn another_terminals_hold_is_not_there_to_be_suspended() {
    let (_bank, mut client) = open().await;
    let (id, authorization) = withdraw(&mut client).await;
    let foreign = SuspendTransactionRequest { terminal_id: STRANGER.to_owned(), ..suspend(&id) };
    assert_eq!(client.suspend_transaction(foreign.clone()).await.unwrap_err().code(), Code::NotFound);
    // Nor does the owner's authorization help a stranger.
    let stolen = SuspendTransactionRequest { authorization, ..foreign };
    let status = client.suspend_transaction(stolen).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("authorization"));
    assert_eq!(balance(&mut client, suspense()).await, (0, 0));
}

#[tokio::test]
async fn a_resolution_that_is_not_well_formed_or_too_large_names_what_is_wrong() {
    let (_bank, mut client) = open().await;
    let (id, _) = withdraw(&mut client).await;
    client.suspend_transaction(suspend(&id)).await.unwrap();
    let last = last_sequence(&mut client).await;
    let good = resolve(&id, 60_000);
    let operator = |text: &str| ResolveTransactionRequest { operator: text.to_owned(), ..good.clone() };
    let reason_of = |text: &str| ResolveTransactionRequest { reason: text.to_owned(), ..good.clone() };
    let amount = |amount| ResolveTransactionRequest { amount, ..good.clone() };
    let dollars = Some(Money { currency_code: "USD".to_owned(), minor_units: 1 });
    for (asked, field) in [
        (operator(""), "operator"),
        (operator(&"x".repeat(101)), "operator"),
        (operator("Nadia\n2026-11-21 INFO forged"), "operator"),
        (operator("a\u{1b}[2J"), "operator"),
        (reason_of(""), "reason"),
        (reason_of(&"x".repeat(501)), "reason"),
        (reason_of("a\0b"), "reason"),
        (reason_of("a\u{85}b"), "reason"),
        (amount(None), "amount"),
        (amount(taka(-1)), "amount.minor_units"),
        (amount(dollars), "amount.currency_code"),
        (ResolveTransactionRequest { transaction_id: "1".to_owned(), ..good.clone() }, "transaction_id"),
    ] {
        let status = client.resolve_transaction(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violated_field(&status).as_deref(), Some(field), "{status:?}");
        assert!(!format!("{status:?}").contains("forged"), "what a stranger wrote is not repeated");
    }
    let status = client.resolve_transaction(resolve(&id, 60_001)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("RESOLUTION_EXCEEDS_HOLD"))
    );
    assert_eq!(refusal(&status).2.as_deref(), Some("TRANSACTION_STATE_SUSPECT"));
    assert_eq!(last_sequence(&mut client).await, last);
    // As long as it may be, in letters of three bytes.
    let longest =
        ResolveTransactionRequest { operator: "ন".repeat(100), reason: "ন".repeat(500), ..good.clone() };
    let told = client.resolve_transaction(longest).await.unwrap().into_inner();
    assert_eq!(told.outcome.unwrap().resolution.unwrap().reason, "ন".repeat(500));
}

#[tokio::test]
async fn statements_walk_along_the_three_legs_of_suspensions_and_resolutions() {
    let (_bank, mut client) = open().await;
    let (first, _) = withdraw(&mut client).await;
    client.suspend_transaction(suspend(&first)).await.unwrap();
    client.resolve_transaction(resolve(&first, 10_000)).await.unwrap();
    let (second, _) = withdraw(&mut client).await;
    client.cancel_transaction(cancel(&second)).await.unwrap();
    client.suspend_transaction(suspend(&second)).await.unwrap();
    let (s, r) = (StepKind::Suspend, StepKind::Resolve);
    let both = [(&second, s), (&second, StepKind::Cancel), (&second, StepKind::Hold)];
    let ever = [(&first, r), (&first, s), (&first, StepKind::Hold)];
    let of_both: Vec<_> = both.into_iter().chain(ever).collect();
    for (account_id, posted_only, expected) in [
        (suspense(), false, vec![(&second, s), (&first, r), (&first, s)]),
        (suspense(), true, vec![]),
        (cash(), false, of_both.clone()),
        (cash(), true, vec![(&first, r)]),
        (customer("Farhan"), false, of_both),
        (customer("Farhan"), true, vec![(&first, r)]),
    ] {
        let mut request = ListAccountEntriesRequest {
            account_id: account_id.clone(),
            page_size: 1,
            posted_only,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = client.list_account_entries(request.clone()).await.unwrap().into_inner();
            seen.extend(page.steps);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        // The customer's began with the opening balance.
        seen.retain(|step| step.outcome.as_ref().unwrap().debit_account_id != opening());
        let ids: Vec<_> = seen
            .iter()
            .map(|step| step.outcome.as_ref().unwrap())
            .map(|outcome| (&outcome.transaction_id, outcome.step()))
            .collect();
        assert_eq!(ids, expected, "{account_id}");
        // Each step's entry on this account says what it was right after.
        let entry = |step: &Step| step.entries.iter().find(|entry| entry.account_id == account_id).cloned();
        let balances: Vec<_> = seen.iter().map(|step| entry(step).unwrap().balance.unwrap()).collect();
        if !posted_only {
            let now = balance(&mut client, account_id).await;
            assert_eq!((balances[0].balance_minor_units, balances[0].available_minor_units), now);
        }
    }
    let trial = client.get_trial_balance(GetTrialBalanceRequest {}).await.unwrap().into_inner();
    assert!(trial.balanced);
    let line = trial.lines.iter().find(|line| line.kind() == AccountKind::Suspense).unwrap();
    assert_eq!((line.account_count, line.credits_pending_minor_units.as_str()), (1, "60000"));
    assert_eq!(
        (line.debits_pending_minor_units.as_str(), line.credits_posted_minor_units.as_str()),
        ("0", "0")
    );
    let line = trial.lines.iter().find(|line| line.kind() == AccountKind::Customer).unwrap();
    assert_eq!(line.debits_pending_minor_units, "60000");
}
