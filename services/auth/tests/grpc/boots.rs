//! `SignOnTerminal` and `GetTerminal`: of two machines with one disk, one goes on.

use std::time::Duration;

use atm_auth::storage::CommitFault;
use atm_proto::auth::revocation::Target;
use atm_proto::auth::{
    ForgetStartRequest, GetTerminalRequest, ReleaseTerminalRequest, SignOnTerminalRequest,
    SignOnTerminalResponse, VerifyPinRequest, VerifyPinResponse, WatchRevocationsRequest,
};
use atm_proto::types::Boot;
use atm_rpc::status::violated_field;
use atm_types::{IdSource, SystemIds};
use tonic::{Code, Status};

use crate::bank::{Bank, CARD, PIN, Refusal, WRONG, order_id, press, reason, until};

/// A start after `previous`, as a machine mints it.
fn after(previous: &Boot) -> Boot {
    Boot {
        epoch: previous.epoch + 1,
        boot_id: SystemIds.uuid_v7().to_string(),
        previous_boot_id: previous.boot_id.clone(),
    }
}

/// The first start of a new disk.
fn first() -> Boot {
    Boot { epoch: 1, boot_id: SystemIds.uuid_v7().to_string(), previous_boot_id: String::new() }
}

fn request(boot: &Boot) -> SignOnTerminalRequest {
    let VerifyPinRequest { atm_id, terminal_id, .. } = press(CARD, PIN);
    SignOnTerminalRequest { atm_id, terminal_id, boot: Some(boot.clone()) }
}

async fn sign_on(bank: &Bank, boot: &Boot) -> Result<SignOnTerminalResponse, Status> {
    bank.client().sign_on_terminal(request(boot)).await.map(tonic::Response::into_inner)
}

async fn log_in(bank: &Bank, pin: &str, boot: Option<&Boot>) -> Result<VerifyPinResponse, Status> {
    bank.send(VerifyPinRequest { boot: boot.cloned(), ..press(CARD, pin) }).await
}

async fn bound(bank: &Bank, terminal: &str) -> Result<bool, Status> {
    let asked =
        GetTerminalRequest { terminal_id: terminal.repeat(32), atm_id: press(CARD, PIN).atm_id.clone() };
    bank.client().get_terminal(asked).await.map(|answer| answer.into_inner().bound)
}

/// A bank with a machine that signed on and served its first customer.
async fn enrolled() -> (Bank, Boot) {
    let (bank, boot) = (Bank::open().await, first());
    sign_on(&bank, &boot).await.unwrap();
    log_in(&bank, PIN, Some(&boot)).await.unwrap();
    (bank, boot)
}

#[tokio::test]
async fn the_first_right_pin_records_name_and_start_together() {
    let bank = Bank::open().await;
    let (boot, other) = (first(), first());
    assert!(!sign_on(&bank, &boot).await.unwrap().bound);
    assert!(!sign_on(&bank, &other).await.unwrap().bound, "nothing was recorded, so nobody is refused yet");
    assert!(!bound(&bank, "a5").await.unwrap());
    assert_eq!(reason(&log_in(&bank, WRONG, Some(&boot)).await), "WRONG_CARD_OR_PIN");
    assert!(!bound(&bank, "a5").await.unwrap(), "a wrong PIN binds nothing");

    log_in(&bank, PIN, Some(&boot)).await.unwrap();
    assert!(bound(&bank, "a5").await.unwrap());
    assert!(sign_on(&bank, &boot).await.unwrap().bound, "a repeat of what the PIN recorded");
    assert_eq!(reason(&sign_on(&bank, &other).await), "STALE_BOOT");
    assert_eq!(reason(&bound(&bank, "b6").await), "TERMINAL_MISMATCH");
}

#[tokio::test]
async fn each_start_follows_the_one_before_and_none_comes_back() {
    let (bank, one) = enrolled().await;
    let (two, skipping) = (after(&one), Boot { epoch: 3, ..after(&one) });
    assert_eq!(reason(&sign_on(&bank, &skipping).await), "STALE_BOOT");
    assert_eq!(reason(&sign_on(&bank, &after(&first())).await), "STALE_BOOT", "another predecessor");
    assert!(sign_on(&bank, &two).await.unwrap().bound);
    assert!(sign_on(&bank, &two).await.unwrap().bound, "a lost answer is asked for again");
    for stale in [one, after(&first()), first()] {
        let refused = sign_on(&bank, &stale).await;
        assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "STALE_BOOT"));
    }
}

#[tokio::test]
async fn a_stale_start_is_refused_before_its_pin_is_looked_at_or_counted() {
    let (bank, one) = enrolled().await;
    let replayed = VerifyPinRequest { boot: Some(one.clone()), ..press(CARD, PIN) };
    bank.send(replayed.clone()).await.unwrap();
    let two = after(&one);
    sign_on(&bank, &two).await.unwrap();
    let hashes = bank.hasher.count();
    for _ in 0..5 {
        assert_eq!(reason(&log_in(&bank, WRONG, Some(&one)).await), "STALE_BOOT");
        assert_eq!(reason(&log_in(&bank, PIN, Some(&after(&two))).await), "STALE_BOOT", "not signed on");
    }
    assert_eq!(reason(&bank.send(replayed).await), "STALE_BOOT", "what it was answered before is no way in");
    assert_eq!(bank.hasher.count(), hashes);
    assert!(log_in(&bank, PIN, Some(&two)).await.is_ok(), "nothing was counted");
    assert!(log_in(&bank, PIN, None).await.is_ok(), "a caller without a start is not asked for one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_pin_opens_nothing_if_another_start_came_while_it_was_verified() {
    let (bank, one) = enrolled().await;
    bank.hasher.close(None);
    let (mut client, asked) =
        (bank.client(), VerifyPinRequest { boot: Some(one.clone()), ..press(CARD, PIN) });
    let slow = tokio::spawn(async move { client.verify_pin(asked).await });
    until("the PIN is being verified", || bank.hasher.waiting() == 1).await;
    sign_on(&bank, &after(&one)).await.unwrap();
    bank.hasher.open();
    assert_eq!(reason(&slow.await.unwrap()), "STALE_BOOT");
}

#[tokio::test]
async fn a_machine_that_logged_in_without_a_start_records_one_when_it_names_one() {
    let bank = Bank::open().await;
    log_in(&bank, PIN, None).await.unwrap();
    let five = Boot { epoch: 5, ..after(&first()) };
    assert!(sign_on(&bank, &five).await.unwrap().bound);
    assert_eq!(reason(&sign_on(&bank, &first()).await), "STALE_BOOT");

    let bank = Bank::open().await;
    log_in(&bank, PIN, None).await.unwrap();
    log_in(&bank, PIN, Some(&five)).await.unwrap();
    assert_eq!(reason(&sign_on(&bank, &first()).await), "STALE_BOOT", "a right PIN recorded it as well");
}

#[tokio::test]
async fn of_two_clones_that_sign_on_at_once_exactly_one_goes_on() {
    let (bank, mut current) = enrolled().await;
    for _ in 0..10 {
        let clones: Vec<_> = (0..8).map(|_| after(&current)).collect();
        let answers = futures_util::future::join_all(clones.iter().map(|boot| sign_on(&bank, boot))).await;
        let won: Vec<_> = (0..8).filter(|index| answers[*index].is_ok()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().filter(|answer| answer.is_err()).all(|answer| reason(answer) == "STALE_BOOT"));
        current = clones[won[0]].clone();
        assert!(sign_on(&bank, &current).await.unwrap().bound);
    }
}

#[tokio::test]
async fn a_clone_that_starts_often_never_overtakes() {
    let (bank, one) = enrolled().await;
    // The clone keeps its refused start, or mints others behind its own back: neither helps.
    let mut clone = after(&one);
    sign_on(&bank, &after(&one)).await.unwrap();
    for _ in 0..20 {
        assert_eq!(reason(&sign_on(&bank, &clone).await), "STALE_BOOT");
        clone = after(&clone);
    }
}

#[tokio::test]
async fn a_start_survives_restarts_of_the_bank_and_answers_that_were_lost() {
    let (mut bank, one) = enrolled().await;
    let two = after(&one);
    sign_on(&bank, &two).await.unwrap();
    bank.abort().await;
    bank.start_again().await;
    assert_eq!(reason(&sign_on(&bank, &one).await), "STALE_BOOT");
    assert!(sign_on(&bank, &two).await.unwrap().bound);
    assert!(log_in(&bank, PIN, Some(&two)).await.is_ok());

    for (fault, kept) in [(CommitFault::Kept, true), (CommitFault::Lost, false)] {
        let (mut bank, memory) = Bank::in_memory().await;
        log_in(&bank, PIN, Some(&one)).await.unwrap();
        memory.fail_next_commit(fault);
        assert_eq!(sign_on(&bank, &two).await.code(), Code::Unavailable);
        assert!(bank.ended().await.is_err());
        bank.start_again().await;
        // Another clone gets in only if the first was never recorded.
        if !kept {
            assert!(sign_on(&bank, &after(&one)).await.is_ok());
        }
        assert_eq!(sign_on(&bank, &two).await.is_ok(), kept, "{fault:?}");
    }
}

#[tokio::test]
async fn a_new_start_ends_the_sessions_of_the_one_before_and_no_others() {
    let (bank, one) = enrolled().await;
    let old = log_in(&bank, PIN, Some(&one)).await.unwrap().session.unwrap().session_id;
    let elsewhere = VerifyPinRequest { atm_id: "ATM-0043".to_owned(), ..press(CARD, PIN) };
    let elsewhere = bank.send(elsewhere).await.unwrap().session.unwrap().session_id;
    let mut stream = bank.client().watch_revocations(WatchRevocationsRequest {}).await.unwrap().into_inner();
    let mut heard = Vec::new();
    let mut listen = async |heard: &mut Vec<Target>| {
        let message = tokio::time::timeout(Duration::from_secs(60), stream.message()).await.unwrap();
        let revocations = message.unwrap().unwrap().revocations;
        heard.extend(revocations.into_iter().filter_map(|revocation| revocation.target));
    };
    listen(&mut heard).await;
    assert_eq!(heard, []);

    let two = after(&one);
    sign_on(&bank, &one).await.unwrap();
    sign_on(&bank, &two).await.unwrap();
    let new = log_in(&bank, PIN, Some(&two)).await.unwrap().session.unwrap().session_id;
    sign_on(&bank, &two).await.unwrap();
    // All of them come at once, after a few heartbeats at most.
    for _ in 0..5 {
        if heard.len() < 2 {
            listen(&mut heard).await;
        }
    }
    assert_eq!(heard.len(), 2, "the session of the enrolment as well");
    assert!(heard.contains(&Target::SessionId(old)));
    for kept in [new, elsewhere] {
        assert!(!heard.contains(&Target::SessionId(kept)));
    }
    let mut again = bank.client().watch_revocations(WatchRevocationsRequest {}).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap().revocations.len(), 2, "and they are on the disk");
}

#[tokio::test]
async fn another_terminals_name_and_bad_fields_are_refused() {
    let (bank, one) = enrolled().await;
    let foreign = SignOnTerminalRequest { terminal_id: "b6".repeat(32), ..request(&after(&one)) };
    let refused = bank.client().sign_on_terminal(foreign).await;
    assert_eq!((refused.code(), &*reason(&refused)), (Code::PermissionDenied, "TERMINAL_MISMATCH"));
    assert!(sign_on(&bank, &after(&one)).await.is_ok(), "and it changed nothing");

    type Spoil = fn(&mut SignOnTerminalRequest);
    let cases: [(&str, Spoil); 6] = [
        ("atm_id", |request| request.atm_id.clear()),
        ("terminal_id", |request| request.terminal_id.clear()),
        ("boot", |request| request.boot = None),
        ("boot.epoch", |request| request.boot.as_mut().unwrap().epoch = 0),
        ("boot.boot_id", |request| request.boot.as_mut().unwrap().boot_id.make_ascii_uppercase()),
        ("boot.previous_boot_id", |request| request.boot.as_mut().unwrap().previous_boot_id.clear()),
    ];
    for (field, spoil) in cases {
        let mut spoilt =
            request(&Boot { boot_id: "ab".repeat(4) + "-abab-7bab-8bab-abababababab", ..after(&one) });
        spoil(&mut spoilt);
        let refused = bank.client().sign_on_terminal(spoilt).await.refused();
        assert_eq!(violated_field(&refused).as_deref(), Some(field));
    }
    for (atm_id, terminal_id, field) in
        [("a b", "a5".repeat(32), "atm_id"), ("ATM-1", "00".repeat(32), "terminal_id")]
    {
        let asked = GetTerminalRequest { atm_id: atm_id.to_owned(), terminal_id };
        let refused = bank.client().get_terminal(asked).await.refused();
        assert_eq!(violated_field(&refused).as_deref(), Some(field));
    }
}

#[tokio::test]
async fn the_table_of_machines_is_not_filled_by_signing_on() {
    let bank = Bank::open_with(|config| config.limits.machines = 1).await;
    for number in 0..5 {
        let asked = SignOnTerminalRequest { atm_id: format!("ATM-{number}"), ..request(&first()) };
        assert!(!bank.client().sign_on_terminal(asked).await.unwrap().into_inner().bound);
    }
    assert!(log_in(&bank, PIN, None).await.is_ok());
}

fn forget(order_id: &str, atm_id: &str) -> ForgetStartRequest {
    ForgetStartRequest { order_id: order_id.to_owned(), atm_id: atm_id.to_owned(), all: atm_id.is_empty() }
}

#[tokio::test]
async fn an_operator_lets_a_fenced_off_machine_back_in_once_however_often_the_order_comes() {
    let (mut bank, one) = enrolled().await;
    sign_on(&bank, &after(&one)).await.unwrap();
    let (fenced_off, another) = (after(&one), after(&one));
    assert_eq!(reason(&sign_on(&bank, &fenced_off).await), "STALE_BOOT");
    let id = order_id();
    let told = bank.client().forget_start(forget(&id, "ATM-0042")).await.unwrap();
    assert_eq!(told.into_inner().machines, 1);
    assert!(sign_on(&bank, &fenced_off).await.unwrap().bound);
    assert!(log_in(&bank, PIN, Some(&fenced_off)).await.is_ok());

    // A late copy is answered as the order was, also after a restart, and lets nobody else in.
    bank.stop().await.unwrap();
    bank.start_again().await;
    let told = bank.client().forget_start(forget(&id, "ATM-0042")).await.unwrap();
    assert_eq!(told.into_inner().machines, 1);
    assert_eq!(reason(&sign_on(&bank, &another).await), "STALE_BOOT");
    // Another order under its id is refused.
    for other in [forget(&id, "ATM-0043"), forget(&id, "")] {
        assert_eq!(reason(&bank.client().forget_start(other).await), "ORDER_ID_REUSED");
    }
    assert_eq!(reason(&sign_on(&bank, &another).await), "STALE_BOOT");
    assert_eq!(bank.client().forget_start(forget(&order_id(), "")).await.unwrap().into_inner().machines, 1);
    assert!(sign_on(&bank, &another).await.unwrap().bound);
}

#[tokio::test]
async fn a_machine_that_nobody_knows_has_nothing_to_forget_and_no_order_is_unclear() {
    let (bank, _) = enrolled().await;
    let id = order_id();
    for _ in 0..2 {
        assert_eq!(reason(&bank.client().forget_start(forget(&id, "ATM-9")).await), "MACHINE_NOT_FOUND");
    }
    for (request, field) in [
        (forget("", "ATM-0042"), "order_id"),
        (forget(&order_id(), "a b"), "atm_id"),
        (ForgetStartRequest { all: true, ..forget(&order_id(), "ATM-0042") }, "atm_id"),
        (ForgetStartRequest { all: false, ..forget(&order_id(), "") }, "atm_id"),
    ] {
        let refused = bank.client().forget_start(request).await.unwrap_err();
        assert_eq!(violated_field(&refused).as_deref(), Some(field));
    }
}

#[tokio::test]
async fn a_released_name_is_nobodys_until_the_next_right_pin_and_a_late_copy_takes_it_from_nobody() {
    let (bank, one) = enrolled().await;
    let release = ReleaseTerminalRequest { order_id: order_id(), atm_id: "ATM-0042".to_owned() };
    bank.client().release_terminal(release.clone()).await.unwrap();
    assert!(!sign_on(&bank, &after(&one)).await.unwrap().bound, "nobody's");
    let new_key = SignOnTerminalRequest { terminal_id: "b6".repeat(32), ..request(&first()) };
    let press = VerifyPinRequest { terminal_id: "b6".repeat(32), ..press(CARD, PIN) };
    bank.client().verify_pin(press).await.unwrap();
    assert!(bank.client().sign_on_terminal(new_key.clone()).await.unwrap().into_inner().bound);

    bank.client().release_terminal(release.clone()).await.unwrap();
    assert!(bank.client().sign_on_terminal(new_key).await.unwrap().into_inner().bound, "still its own");
    assert_eq!(reason(&sign_on(&bank, &one).await), "TERMINAL_MISMATCH");

    let other = ReleaseTerminalRequest { atm_id: "ATM-9".to_owned(), ..release };
    assert_eq!(reason(&bank.client().release_terminal(other.clone()).await), "ORDER_ID_REUSED");
    let unknown = ReleaseTerminalRequest { order_id: order_id(), ..other };
    assert_eq!(reason(&bank.client().release_terminal(unknown).await), "MACHINE_NOT_FOUND");
}
