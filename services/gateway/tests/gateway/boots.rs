//! `SignOn`, and log-ins that name a start: what is handed on, what is refused, and that a clone is fenced off.

use atm_proto::auth::{SignOnTerminalRequest, VerifyPinRequest};
use atm_proto::gateway::*;
use atm_proto::types::Boot;
use atm_rpc::status::{reason, violated_field, with_reason};
use atm_types::{IdSource, SystemIds};
use tonic::{Code, Status};

use crate::support::real::{Bank, FARHAN};
use crate::support::*;

fn boot(epoch: u64, previous: &str) -> Boot {
    Boot { epoch, boot_id: SystemIds.uuid_v7().to_string(), previous_boot_id: previous.to_owned() }
}

async fn sign_on(machine: &Machine, boot: &Boot) -> Result<SignOnResponse, Status> {
    let request = SignOnRequest { atm_id: machine.atm_id.clone().unwrap(), boot: Some(boot.clone()) };
    machine.client.clone().sign_on(machine.request(request)).await.map(tonic::Response::into_inner)
}

async fn log_in(machine: &Machine, card: &str, boot: &Boot) -> Result<LogInResponse, Status> {
    let request = LogInRequest { boot: Some(boot.clone()), ..machine.log_in_request(card, "1234") };
    machine.client.clone().log_in(machine.request(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_sign_on_is_handed_on_and_answered_with_the_state_of_the_books() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let one = boot(1, "");
    let answer = sign_on(&machine, &one).await.unwrap();
    assert_eq!((answer.bound, answer.commit_sequence, &*answer.currency_code), (false, 5, "BDT"));
    log_in(&machine, CARD, &one).await.unwrap();
    assert!(sign_on(&machine, &one).await.unwrap().bound);
    let asked = world.auth.log.requests::<SignOnTerminalRequest>("SignOnTerminal");
    let expected = SignOnTerminalRequest {
        terminal_id: machine.terminal(),
        atm_id: "ATM-1".to_owned(),
        boot: Some(one.clone()),
    };
    assert_eq!(asked, [expected.clone(), expected]);
    let verified = world.auth.log.requests::<VerifyPinRequest>("VerifyPin");
    assert_eq!(verified[0].boot, Some(one), "a log-in hands its start on");

    let nameless = Machine { atm_id: None, ..machine };
    let request = SignOnRequest { atm_id: "ATM-1".to_owned(), boot: Some(boot(1, "")) };
    assert!(nameless.client.clone().sign_on(nameless.request(request)).await.is_ok(), "the request names it");
}

#[tokio::test]
async fn a_sign_on_at_fault_names_the_field_and_never_reaches_auth() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let good = boot(2, &SystemIds.uuid_v7().to_string());
    let with = |change: fn(&mut Boot)| {
        let mut boot = good.clone();
        change(&mut boot);
        boot
    };
    let named = |boot: Option<Boot>| SignOnRequest { atm_id: "ATM-1".to_owned(), boot };
    for (request, field) in [
        (SignOnRequest { atm_id: "a b".to_owned(), boot: Some(good.clone()) }, "atm_id"),
        (SignOnRequest { atm_id: String::new(), boot: Some(good.clone()) }, "atm_id"),
        (named(None), "boot"),
        (named(Some(with(|boot| boot.epoch = 0))), "boot.epoch"),
        (named(Some(with(|boot| boot.boot_id.clear()))), "boot.boot_id"),
        (named(Some(with(|boot| boot.previous_boot_id.clear()))), "boot.previous_boot_id"),
        (named(Some(with(|boot| boot.previous_boot_id = boot.boot_id.clone()))), "boot.previous_boot_id"),
    ] {
        let in_log_in = LogInRequest { boot: request.boot.clone(), ..machine.log_in_request(CARD, PIN) };
        let status = machine.client.clone().sign_on(machine.request(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violated_field(&status).as_deref(), Some(field));
        if field.starts_with("boot.") {
            let status = machine.client.clone().log_in(machine.request(in_log_in)).await.err().unwrap();
            assert_eq!(violated_field(&status).as_deref(), Some(field));
        }
    }
    let elsewhere = SignOnRequest { atm_id: "ATM-2".to_owned(), boot: Some(good.clone()) };
    let status = machine.client.clone().sign_on(machine.request(elsewhere)).await.unwrap_err();
    assert_eq!(reason(&status).as_deref(), Some("TERMINAL_MISMATCH"), "metadata and request differ");
    let status = machine.client.clone().sign_on(named(Some(good))).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unauthenticated, Some("TERMINAL_KEY_REQUIRED"))
    );
    assert_eq!(world.auth.log.count("SignOnTerminal") + world.auth.log.count("VerifyPin"), 0);
}

#[tokio::test]
async fn what_auth_refuses_is_told_in_our_own_words() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let stale = || with_reason(Code::FailedPrecondition, "row of epoch 7", "STALE_BOOT", &[]);
    world.auth.log.next("SignOnTerminal", Fault::Status(stale()));
    world.auth.log.next("VerifyPin", Fault::Status(stale()));
    let one = boot(1, "");
    for status in
        [sign_on(&machine, &one).await.unwrap_err(), log_in(&machine, CARD, &one).await.err().unwrap()]
    {
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::FailedPrecondition, Some("STALE_BOOT"))
        );
        assert!(!status.message().contains("epoch 7"), "{status:?}");
    }
    world.auth.terminals.lock().unwrap().insert("ATM-1".to_owned(), "b6".repeat(32));
    let status = sign_on(&machine, &one).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH"))
    );
    assert_eq!(world.ledger.log.count("ListEntries"), 0, "and the books are nobody's business");
    world.ledger.log.next("ListEntries", Fault::Status(Status::unavailable("gone")));
    let status = sign_on(&world.machine("ATM-2"), &one).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "to be sent again");
}

#[tokio::test]
async fn of_two_machines_with_one_disk_one_goes_on_and_the_others_session_ends() {
    let bank = Bank::new().await;
    let machine = bank.machine("ATM-1");
    let one = boot(1, "");
    assert!(!sign_on(&machine, &one).await.unwrap().bound);
    let session = log_in(&machine, FARHAN, &one).await.unwrap().session_token;
    let customer = Machine { session: Some(session), ..machine.clone() };
    customer.deposit(&new_id(), 500).await.unwrap();
    let before = sign_on(&machine, &one).await.unwrap();
    assert!(before.bound && before.commit_sequence > 0);

    // The clone has the same key, the same name and the same last start.
    let clone = machine.clone();
    let (winner, loser) = (boot(2, &one.boot_id), boot(2, &one.boot_id));
    let first = sign_on(&clone, &winner).await.unwrap();
    assert_eq!(first, sign_on(&clone, &winner).await.unwrap(), "a lost answer is asked for again");
    assert!(first.commit_sequence >= before.commit_sequence);
    for refused in [
        sign_on(&machine, &loser).await.map(drop),
        sign_on(&machine, &one).await.map(drop),
        log_in(&machine, FARHAN, &one).await.map(drop),
        log_in(&machine, FARHAN, &loser).await.map(drop),
    ] {
        let status = refused.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::FailedPrecondition, Some("STALE_BOOT"))
        );
    }
    assert!(log_in(&clone, FARHAN, &winner).await.is_ok());
    eventually("the session of the older start ends", async || {
        customer.balance().await.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;

    let stranger = bank.machine("ATM-1");
    let status = sign_on(&stranger, &boot(3, &winner.boot_id)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH"))
    );
}
