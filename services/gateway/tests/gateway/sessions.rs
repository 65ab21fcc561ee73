//! Who gets in: terminals, sessions, log-in and log-out.

use std::time::Duration;

use atm_proto::auth::VerifyPinRequest;
use atm_proto::auth::revocation::Target;
use atm_proto::gateway::*;
use atm_rpc::status::{reason, retry_delay, violated_field};
use atm_types::SystemIds;
use tonic::{Code, Request, Status};

use crate::support::fake_auth::Claims;
use crate::support::*;

type Claim<'a> = (&'a str, Box<dyn Fn(&mut Claims)>);

async fn balance(machine: &Machine) -> Result<(), Status> {
    machine.client.clone().get_balance(machine.request(GetBalanceRequest {})).await.map(drop)
}

fn farhan(world: &World) {
    world.ledger.add_account(&fake_auth::account_of(CARD), atm_proto::ledger::AccountKind::Customer);
}

#[tokio::test]
async fn a_session_opens_the_account_behind_the_card() {
    let world = World::new().await;
    farhan(&world);
    let machine = world.customer("ATM-1", CARD).await;
    let answer = machine.client.clone().get_balance(machine.request(GetBalanceRequest {})).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.balance.unwrap().available_minor_units, 400);
    assert_eq!((answer.currency_code.as_str(), answer.commit_sequence), ("BDT", 9));
    let asked = world.auth.log.requests::<VerifyPinRequest>("VerifyPin");
    assert_eq!(asked[0].terminal_id, machine.terminal());
    assert_eq!(asked[0].atm_id, "ATM-1");
}

#[tokio::test]
async fn row_04_a_machine_that_names_another_or_anothers_name_is_denied() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let mut request = machine.log_in_request(CARD, PIN);
    request.atm_id = "ATM-2".to_owned();
    let status = machine.client.clone().log_in(machine.request(request)).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(world.auth.log.count("VerifyPin"), 0, "no PIN is checked for it");

    let mismatch =
        atm_rpc::status::with_reason(Code::PermissionDenied, "row 7 of atms", "TERMINAL_MISMATCH", &[]);
    world.auth.log.next("VerifyPin", Fault::Status(mismatch));
    let status = machine.log_in(CARD, PIN).await.err().unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("TERMINAL_MISMATCH"))
    );
    assert!(!status.message().contains("row 7"), "{status:?}");
}

#[tokio::test]
async fn row_05_every_bad_session_is_refused_with_one_identical_text() {
    let world = World::new().await;
    farhan(&world);
    let good = world.customer("ATM-1", CARD).await;
    assert!(balance(&good).await.is_ok());
    let other_terminal = Machine { session: good.session.clone(), ..world.machine("ATM-1") };
    let renamed = Machine { atm_id: Some("ATM-2".to_owned()), ..good.clone() };
    let logged_out = world.customer("ATM-1", CARD).await;
    logged_out.client.clone().log_out(logged_out.request(LogOutRequest {})).await.unwrap();
    let with_session = |session: Option<String>| Machine { session, ..good.clone() };
    let token = good.session.clone().unwrap();
    let signed = |change: Box<dyn Fn(&mut Claims)>| {
        let mut claims = world.auth.claims(CARD, "ATM-1", &good.terminal());
        change(&mut claims);
        with_session(Some(FakeAuth::sign(&claims)))
    };
    let claims: [Claim<'_>; 4] = [
        ("expired", Box::new(|claims| claims.exp = claims.iat)),
        ("another machine's", Box::new(|claims| claims.atm = "ATM-9".to_owned())),
        ("another terminal's", Box::new(|claims| claims.tid = "ab".repeat(32))),
        ("too long", Box::new(|claims| claims.exp = claims.exp.saturating_add(Duration::from_secs(86_400)))),
    ];
    let mut strangers = vec![
        ("none", with_session(None)),
        ("empty", with_session(Some(String::new()))),
        ("garbled", with_session(Some("v4.public.AAAA".to_owned()))),
        ("tampered", with_session(Some(token.replace("v4.public.ey", "v4.public.eY")))),
        ("cut", with_session(Some(token[..token.len() - 8].to_owned()))),
        ("long", with_session(Some("x".repeat(5_000)))),
        ("other terminal", other_terminal),
        ("renamed machine", renamed),
        ("logged out", logged_out),
    ];
    strangers.extend(claims.into_iter().map(|(name, change)| (name, signed(change))));
    let mut texts = Vec::new();
    for (name, stranger) in &strangers {
        let status = balance(stranger).await.expect_err(name);
        assert_eq!(status.code(), Code::Unauthenticated, "{name}");
        texts.push((without_id(&status), reason(&status)));
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_eq!(world.ledger.log.count("GetAccount"), 1, "only the good session reached the ledger");
    let no_key = Request::new(GetBalanceRequest {});
    let status = good.client.clone().get_balance(no_key).await.unwrap_err();
    assert_eq!((without_id(&status), reason(&status)), texts[0]);
    assert!(balance(&good).await.is_ok(), "the good one still works");
}

#[tokio::test]
async fn row_05_no_rpc_that_acts_for_a_customer_works_without_a_session() {
    let world = World::new().await;
    let stranger = world.machine("ATM-1");
    let mut client = stranger.client.clone();
    let id = new_id();
    let results = [
        client.log_out(stranger.request(LogOutRequest {})).await.map(drop),
        client.get_balance(stranger.request(GetBalanceRequest {})).await.map(drop),
        client
            .authorize_withdrawal(stranger.request(AuthorizeWithdrawalRequest {
                transaction_id: id.clone(),
                amount: bdt(1),
                lifetime: None,
            }))
            .await
            .map(drop),
        client
            .withdraw(stranger.request(WithdrawRequest { transaction_id: id.clone(), amount: bdt(1) }))
            .await
            .map(drop),
        client
            .deposit(stranger.request(DepositRequest { transaction_id: id.clone(), amount: bdt(1) }))
            .await
            .map(drop),
        client
            .transfer(stranger.request(TransferRequest {
                transaction_id: id,
                amount: bdt(1),
                to_account: "Biva".to_owned(),
            }))
            .await
            .map(drop),
        client.list_transactions(stranger.request(ListTransactionsRequest::default())).await.map(drop),
        client.change_pin(stranger.request(ChangePinRequest::default())).await.map(drop),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn row_05_a_session_expires_on_our_clock() {
    let world = World::new().await;
    farhan(&world);
    let machine = world.customer("ATM-1", CARD).await;
    world.clock.advance(Duration::from_secs(299));
    assert!(balance(&machine).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(balance(&machine).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn row_05_a_session_is_over_at_once_after_log_out_even_if_auth_cannot_be_told() {
    let world = World::new().await;
    farhan(&world);
    let machine = world.customer("ATM-1", CARD).await;
    world.auth.log.next("CloseSession", Fault::Status(Status::unavailable("restarting")));
    let status = machine.client.clone().log_out(machine.request(LogOutRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(balance(&machine).await.unwrap_err().code(), Code::Unauthenticated);
    // The machine repeats the log-out, which is no error although the session is over here.
    machine.client.clone().log_out(machine.request(LogOutRequest {})).await.unwrap();
    assert_eq!(world.auth.log.count("CloseSession"), 2);
}

#[tokio::test]
async fn row_05_a_session_is_over_at_once_when_its_card_is_blocked() {
    let world = World::new().await;
    farhan(&world);
    let machine = world.customer("ATM-1", CARD).await;
    let other = world.customer("ATM-2", OTHER_CARD).await;
    let request = BlockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    world.admin().block_card(as_operator(request)).await.unwrap();
    assert_eq!(balance(&machine).await.unwrap_err().code(), Code::Unauthenticated);
    assert_ne!(balance(&other).await.map_err(|status| status.code()), Err(Code::Unauthenticated));

    world.clock.advance(Duration::from_secs(1));
    let request = UnblockCardRequest { card_number: CARD.to_owned(), order_id: order_id() };
    world.admin().unblock_card(as_operator(request)).await.unwrap();
    assert_eq!(
        balance(&machine).await.unwrap_err().code(),
        Code::Unauthenticated,
        "an old session stays ended"
    );
    world.clock.advance(Duration::from_secs(1));
    assert!(balance(&world.customer("ATM-1", CARD).await).await.is_ok());
}

#[tokio::test]
async fn row_05_what_auth_revokes_elsewhere_is_over_here_too() {
    let world = World::new().await;
    farhan(&world);
    let claims = world.auth.claims(CARD, "ATM-1", &world.machine("ATM-1").terminal());
    let mut machine = world.machine("ATM-1");
    let claims = Claims { tid: machine.terminal(), ..claims };
    machine.session = Some(FakeAuth::sign(&claims));
    assert!(balance(&machine).await.is_ok());
    world.auth.revoke(Target::SessionId(claims.sid.to_string()));
    eventually("the revocation arrives", async || {
        balance(&machine).await.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    let second = world.customer("ATM-1", CARD).await;
    assert!(balance(&second).await.is_ok());
    world.auth.revoke(Target::CardId(fake_auth::card_id(CARD).to_string()));
    eventually("the card's revocation arrives", async || balance(&second).await.is_err()).await;
}

#[tokio::test]
async fn sessions_are_refused_as_unavailable_while_auth_was_never_heard() {
    let world = World::with(|config| config.auth_url = "http://127.0.0.1:1".to_owned()).await;
    farhan(&world);
    let mut machine = world.machine("ATM-1");
    machine.deadline = Duration::from_secs(2);
    machine.session = Some(FakeAuth::sign(&world.auth.claims(CARD, "ATM-1", &machine.terminal())));
    let status = balance(&machine).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::Unavailable, Some("NOT_PROCESSED")));
    assert!(retry_delay(&status).is_some());
    assert_eq!(world.ledger.log.count("GetAccount"), 0, "fail closed");
    // Cash that is out is posted all the same: captures need no session.
    let capture =
        CaptureWithdrawalRequest { transaction_id: new_id(), amount: bdt(1), authorization: vec![] };
    assert!(machine.client.clone().capture_withdrawal(machine.request(capture)).await.is_ok());
}

#[tokio::test]
async fn row_07_an_unknown_card_and_a_wrong_pin_are_told_apart_by_nothing() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let wrong_pin = machine.log_in(CARD, "9999").await.err().unwrap();
    let unknown = machine.log_in("4999999999999999", PIN).await.err().unwrap();
    assert_eq!(wrong_pin.code(), Code::Unauthenticated);
    assert_eq!(unknown.code(), Code::Unauthenticated);
    assert_eq!(without_id(&wrong_pin), without_id(&unknown));
    assert_ne!(wrong_pin.message(), unknown.message(), "save a random error id");
    assert!(!format!("{wrong_pin:?}").contains("auth.db"), "row 26");
}

#[tokio::test]
async fn row_08_a_locked_or_blocked_card_is_a_failed_precondition() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    for name in ["CARD_LOCKED", "CARD_BLOCKED"] {
        let locked = atm_rpc::status::with_reason(Code::FailedPrecondition, "count 3 in cards", name, &[]);
        world.auth.log.next("VerifyPin", Fault::Status(locked));
        let status = machine.log_in(CARD, PIN).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_deref()), (Code::FailedPrecondition, Some(name)));
        assert!(!status.message().contains("count 3"), "{status:?}");
    }
}

#[tokio::test]
async fn row_11_malformed_log_ins_never_reach_auth() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let good = machine.log_in_request(CARD, PIN);
    for (request, field) in [
        (LogInRequest { pin: "12a4".into(), ..good.clone() }, "pin"),
        (LogInRequest { pin: "123".into(), ..good.clone() }, "pin"),
        (LogInRequest { card_number: "12".into(), ..good.clone() }, "card_number"),
        (LogInRequest { attempt_id: "x".into(), ..good.clone() }, "attempt_id"),
        (LogInRequest { atm_id: "ATM 1\n".into(), ..good.clone() }, "atm_id"),
    ] {
        let pin = request.pin.clone();
        let status = machine.client.clone().log_in(machine.request(request)).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert_eq!(violated_field(&status).as_deref(), Some(field));
        assert!(!format!("{status:?}").contains(&pin), "row 25: the PIN comes back in no answer");
    }
    assert_eq!(world.auth.log.count("VerifyPin"), 0);
}

#[tokio::test]
async fn a_log_in_without_a_terminal_key_is_refused() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let status = machine.client.clone().log_in(machine.log_in_request(CARD, PIN)).await.err().unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unauthenticated, Some("TERMINAL_KEY_REQUIRED"))
    );
}

#[tokio::test]
async fn row_12_a_flood_of_log_ins_is_told_to_come_back_and_leaves_room_for_money() {
    let world = World::with(|config| config.max_pin_checks = 2).await;
    farhan(&world);
    let customer = world.customer("ATM-1", CARD).await;
    for _ in 0..2 {
        world.auth.log.next("VerifyPin", Fault::Silence);
        let machine = world.machine("ATM-2");
        tokio::spawn(async move { machine.log_in(CARD, PIN).await.map(drop) });
    }
    eventually("both places are taken", async || world.auth.log.count("VerifyPin") == 3).await;
    let status = world.machine("ATM-3").log_in(CARD, PIN).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(retry_delay(&status).is_some());
    assert_eq!(world.auth.log.count("VerifyPin"), 3, "refused at once, not queued");
    let deposit = DepositRequest { transaction_id: new_id(), amount: bdt(5) };
    assert!(customer.client.clone().deposit(customer.request(deposit)).await.is_ok());
}

#[tokio::test]
async fn auths_word_that_it_is_busy_reaches_the_machine_with_its_delay() {
    let world = World::new().await;
    let delay = Duration::from_millis(321);
    let busy = atm_rpc::status::resource_exhausted("3 hashes queued", delay);
    world.auth.log.next("VerifyPin", Fault::Status(busy));
    let status = world.machine("ATM-1").log_in(CARD, PIN).await.err().unwrap();
    assert_eq!((status.code(), retry_delay(&status)), (Code::ResourceExhausted, Some(delay)));
}

#[tokio::test]
async fn a_pin_is_changed_for_the_sessions_card() {
    let world = World::new().await;
    let machine = world.customer("ATM-1", CARD).await;
    let request = |old_pin: &str| ChangePinRequest {
        old_pin: old_pin.to_owned(),
        new_pin: "4321".to_owned(),
        attempt_id: atm_types::IdSource::attempt_id(&SystemIds).to_string(),
    };
    machine.client.clone().change_pin(machine.request(request(PIN))).await.unwrap();
    let asked = world.auth.log.requests::<atm_proto::auth::ChangePinRequest>("ChangePin");
    assert_eq!(asked[0].card_id, fake_auth::card_id(CARD).to_string());
    assert_eq!(
        (asked[0].atm_id.as_str(), asked[0].terminal_id.as_str()),
        ("ATM-1", machine.terminal().as_str())
    );
    let status = machine.client.clone().change_pin(machine.request(request("9999"))).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unauthenticated, Some("WRONG_CARD_OR_PIN"))
    );
    let status = machine.client.clone().change_pin(machine.request(request("1"))).await.unwrap_err();
    assert_eq!(violated_field(&status).as_deref(), Some("old_pin"));
}
