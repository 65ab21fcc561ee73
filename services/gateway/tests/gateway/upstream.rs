//! What is handed on to auth and ledger, how often, and what becomes of their failures.

use std::time::Duration;

use atm_proto::gateway::*;
use atm_proto::ledger::AccountKind;
use atm_rpc::status::{reason, retry_delay};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::support::fake_auth::account_of;
use crate::support::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn bank() -> World {
    let world = World::new().await;
    world.ledger.add_account(&account_of(CARD), AccountKind::Customer);
    world
}

async fn withdraw(machine: &Machine) -> Result<(), Status> {
    let request = WithdrawRequest { transaction_id: new_id(), amount: bdt(5) };
    machine.client.clone().withdraw(machine.request(request)).await.map(drop)
}

/// Reads `grpc-timeout` back.
fn timeout_in(metadata: &MetadataMap) -> Duration {
    let text = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_deadline_is_handed_on_less_a_margin() {
    let world = bank().await;
    let mut machine = world.customer("ATM-1", CARD).await;
    machine.deadline = Duration::from_secs(4);
    withdraw(&machine).await.unwrap();
    let told = timeout_in(&world.ledger.log.metadata("PostTransaction")[0]);
    assert!(told <= Duration::from_millis(3_950), "{told:?}");
    assert!(told > Duration::from_secs(1), "{told:?}");
}

#[tokio::test]
async fn a_caller_without_a_deadline_gets_one_that_is_handed_on() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut request = machine.request(WithdrawRequest { transaction_id: new_id(), amount: bdt(5) });
    request.metadata_mut().remove("grpc-timeout");
    machine.client.clone().withdraw(request).await.unwrap();
    let told = timeout_in(&world.ledger.log.metadata("PostTransaction")[0]);
    assert!(told <= Duration::from_millis(9_950), "row 20: {told:?}");
}

#[tokio::test]
async fn nothing_of_the_callers_metadata_is_handed_on_but_the_trace() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let mut request = machine.request(WithdrawRequest { transaction_id: new_id(), amount: bdt(5) });
    for (key, value) in [
        ("traceparent", TRACE),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-terminal-id", "someone-else"),
        ("grpc-previous-rpc-attempts", "7"),
        ("x-canary", "smuggled"),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    machine.client.clone().withdraw(request).await.unwrap();
    for metadata in world.ledger.log.metadata("PostTransaction") {
        let mut keys: Vec<_> = metadata.as_ref().keys().map(ToString::to_string).collect();
        keys.sort();
        let allowed = ["authorization", "content-type", "grpc-timeout", "te", "traceparent", "user-agent"];
        assert!(keys.iter().all(|key| allowed.contains(&key.as_str())), "{keys:?}");
        assert_eq!(metadata.get("authorization").unwrap(), SERVICE_HEADER, "the gateway's own token");
        assert_eq!(metadata.get("traceparent").unwrap(), TRACE);
    }
}

#[tokio::test]
async fn a_money_command_that_may_have_been_processed_is_never_sent_again_by_the_gateway() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    for (count, (status, code)) in [
        (Status::unavailable("committing batch 7"), Code::Unavailable),
        (Status::unknown("broken pipe"), Code::Unavailable),
        (Status::cancelled("connection closed"), Code::Unavailable),
        (Status::internal("panicked at writer.rs"), Code::Internal),
        (Status::deadline_exceeded("late"), Code::DeadlineExceeded),
    ]
    .into_iter()
    .enumerate()
    {
        world.ledger.log.next("PostTransaction", Fault::Status(status.clone()));
        let answer = withdraw(&machine).await.unwrap_err();
        assert_eq!(answer.code(), code, "{status:?}");
        assert!(!answer.message().contains(status.message()), "row 26: {answer:?}");
        assert_eq!(world.ledger.log.count("PostTransaction"), count + 1, "{status:?}");
        if code == Code::Unavailable {
            assert_eq!(reason(&answer).as_deref(), Some("OUTCOME_UNKNOWN"));
            assert!(retry_delay(&answer).is_some());
        }
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_not_waited_for_longer_than_the_caller_does() {
    // A wide margin, so that the gateway's answer wins against the caller's own timer on a busy machine.
    let world = World::with(|config| config.deadline_margin = Duration::from_secs(1)).await;
    let mut machine = world.customer("ATM-1", CARD).await;
    withdraw(&machine).await.unwrap();
    machine.deadline = Duration::from_secs(3);
    world.ledger.log.next("PostTransaction", Fault::Silence);
    let status = withdraw(&machine).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::DeadlineExceeded, Some("OUTCOME_UNKNOWN"))
    );
    assert_eq!(world.ledger.log.count("PostTransaction"), 2);
}

#[tokio::test]
async fn a_ledger_that_is_not_there_is_told_apart_from_one_that_fell_silent() {
    let world = World::with(|config| config.ledger_url = "http://127.0.0.1:1".to_owned()).await;
    let machine = world.customer("ATM-1", CARD).await;
    let status = withdraw(&machine).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::Unavailable, Some("NOT_PROCESSED")));
    assert!(retry_delay(&status).is_some());
}

#[tokio::test]
async fn row_22_the_ledgers_word_that_it_is_full_reaches_the_machine_with_its_delay() {
    let world = bank().await;
    let machine = world.customer("ATM-1", CARD).await;
    let delay = Duration::from_millis(123);
    let full = atm_rpc::status::resource_exhausted("8190 commands queued", delay);
    world.ledger.log.next("PostTransaction", Fault::Status(full));
    let status = withdraw(&machine).await.unwrap_err();
    assert_eq!((status.code(), retry_delay(&status)), (Code::ResourceExhausted, Some(delay)));
    assert_eq!(world.ledger.log.count("PostTransaction"), 1, "only the machine comes back");
}

#[tokio::test]
async fn row_22_when_it_is_crowded_captures_go_before_money_and_money_before_reads() {
    let world = World::with(|config| {
        config.server.admission.max_in_flight = 3;
        config.server.admission.reserved_for_critical = 1;
        config.server.admission.reserved_for_normal = 1;
    })
    .await;
    world.ledger.add_account(&account_of(CARD), AccountKind::Customer);
    let machine = world.customer("ATM-1", CARD).await;
    withdraw(&machine).await.unwrap();
    let hang = async |method: &'static str, count: usize| {
        world.ledger.log.next(method, Fault::Silence);
        let machine = machine.clone();
        tokio::spawn(async move { withdraw(&machine).await });
        eventually("the call hangs", async || world.ledger.log.count(method) == count).await;
    };
    hang("PostTransaction", 2).await;
    let read = machine.client.clone().get_balance(machine.request(GetBalanceRequest {})).await;
    assert_eq!(read.unwrap_err().code(), Code::ResourceExhausted);
    hang("PostTransaction", 3).await;
    let status = withdraw(&machine).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(retry_delay(&status).is_some());
    let capture =
        CaptureWithdrawalRequest { transaction_id: new_id(), amount: bdt(1), authorization: vec![] };
    assert!(machine.client.clone().capture_withdrawal(machine.request(capture)).await.is_ok());
    let text = atm_proto::text::CheckPrimeRequest { number: "13".to_owned() };
    assert!(world.text().check_prime(text).await.unwrap().into_inner().prime, "bounded apart");
}

#[tokio::test]
async fn row_03_a_service_token_that_upstreams_refuse_is_our_own_defect() {
    let world = World::with(|config| config.service_token = token("wrong")).await;
    let status = world.machine("ATM-1").log_in(CARD, PIN).await.err().unwrap();
    assert_eq!(status.code(), Code::Internal, "never UNAUTHENTICATED, which would mean a wrong PIN");
    let machine = world.machine("ATM-1");
    let cancel = CancelTransactionRequest { transaction_id: new_id() };
    let status = machine.client.clone().cancel_transaction(machine.request(cancel)).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
}
