//! What operators do at a machine: its cash, and the withdrawals that wait for a person. A real bank, the real program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "operators/scene.rs"]
mod scene;
mod support;
#[path = "operators/suspects.rs"]
mod suspects;

use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::{CashBin, MoveCashRequest};
use atm_proto::types::Money;
use atm_types::{IdSource, SystemIds};
use scene::*;
use support::own_bank::{self, OwnBank};
use support::proxy::{Mode, Proxy};
use support::{Atm, said, text};

#[test]
fn notes_are_loaded_and_unloaded_and_the_books_follow() {
    let scene = Scene::new();
    scene.assert_all_agrees("after the first withdrawal");
    let before = scene.cassettes();
    let (code, json) = scene.admin_json(&["load", "1000=50", "500=100"]);
    assert_eq!(code, 0, "{json}");
    assert_eq!(
        (text(&json["movement"], "amount"), text(&json["movement"], "state")),
        ("100000.00".into(), "posted".into())
    );
    assert_eq!(scene.notes_of("1000.00"), before["1000.00"] + 50);
    assert_eq!(scene.notes_of("500.00"), before["500.00"] + 100);
    scene.assert_all_agrees("after a load");

    let (code, json) = scene.admin_json(&["unload", "cassettes:1000"]);
    assert_eq!((code, text(&json["movement"], "to")), (0, "vault".into()), "{json}");
    assert_eq!((scene.notes_of("1000.00"), scene.notes_of("500.00")), (0, before["500.00"] + 100));
    scene.assert_all_agrees("after one cassette was taken out");

    assert_eq!(scene.atm.run(&["deposit", "300", "--card", &scene.customer.card]).code, 0);
    scene.assert_all_agrees("after a deposit");
    let (code, json) = scene.admin_json(&["unload", "deposit"]);
    assert_eq!((code, text(&json["movement"], "amount")), (0, "300.00".into()), "{json}");
    let (code, json) = scene.admin_json(&["unload", "deposit"]);
    assert_eq!((code, json["movement"].is_null()), (0, true), "nothing is left: {json}");
    assert_eq!(scene.admin(&["unload", "cassettes"]).code, 0);
    assert_eq!(scene.worth("cassettes"), "0.00");
    scene.assert_all_agrees("after everything was taken out");
    let said = scene.admin(&["load", "500=2"]);
    assert!(said.stdout.contains("Moved 2 x 500 (1000.00 BDT) from vault to cassettes"), "{said:?}");
    assert!(!said.stdout.contains('\u{1b}'), "NO_COLOR is obeyed: {said:?}");
}

#[test]
fn what_makes_no_sense_or_has_no_token_changes_nothing() {
    let scene = Scene::new();
    let before = scene.cassettes();
    for (arguments, words) in [
        (vec!["load", "3=5"], "no cassette for \"3\""),
        (vec!["load", "1000=-5"], "whole number"),
        (vec!["load", "1000=0"], "more than 0"),
        (vec!["load", "1000=+5"], "whole number"),
        (vec!["load", "1000"], "CASSETTE=COUNT"),
        (vec!["load", "1000=5", "1000=6"], "named before"),
        (vec!["load", "1000=1000001"], "whole number"),
        (vec!["load", "1000=1000000"], "does not hold"),
        (vec!["unload", "pocket"], "is no place"),
        (vec!["unload", "cassettes:3"], "no cassette"),
        (vec!["count", "cassettes:1000"], "PLACE:DENOMINATION=COUNT"),
        (vec!["count", "pocket:1000=1"], "is no place"),
        (vec!["count", "cassettes:3=1"], "no cassette"),
        (vec!["count", "cassettes:1000=-1"], "whole number"),
        (vec!["count", "cassettes:1000=1", "cassettes:1000=2"], "counted before"),
    ] {
        let said = scene.admin(&arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(words), "{arguments:?}: {said:?}");
    }
    let wrong = tempfile::tempdir().unwrap();
    let wrong = wrong.path().join("token");
    std::fs::write(&wrong, format!("{}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let id = new_id();
    for arguments in [
        vec!["load", "1000=5"],
        vec!["unload", "cassettes"],
        vec!["count", "cassettes:1000=5"],
        vec!["reconcile"],
        vec!["suspects"],
        vec!["suspect", &id],
        vec!["resolve", &id, "--not-presented", "--operator", "O", "--reason", "R"],
    ] {
        let none = said(scene.atm.command(&["admin"]).args(&arguments));
        assert_eq!(none.code, 2, "{arguments:?} without a token: {none:?}");
        let refused =
            said(scene.atm.command(&["admin"]).args(&arguments).arg("--operator-token-file").arg(&wrong));
        assert_eq!(refused.code, 4, "{arguments:?} with a wrong token: {refused:?}");
        let mut away = scene.atm.command(&["admin"]);
        away.env("ATM_GATEWAY", "http://127.0.0.1:1").args(&arguments);
        let away = said(away.args(["--deadline", "1s", "--operator-token-file"]).arg(scene.token()));
        assert_eq!(away.code, 5, "{arguments:?} without a bank: {away:?}");
    }
    let nowhere = Atm::new(&scene.house.gateway);
    let said =
        said(nowhere.command(&["admin", "load", "1000=5", "--operator-token-file"]).arg(scene.token()));
    assert_eq!(said.code, 5, "{said:?}");
    assert!(!nowhere.journal().exists(), "no machine was made");
    assert_eq!(scene.cassettes(), before);
    scene.assert_all_agrees("after nothing was done");
}

/// Every point of a load and a count at which the machine can die, in their order.
const POINTS: [&str; 6] = [
    "BEFORE_CASH_MOVED",
    "CASH_MOVED",
    "BEFORE_MOVE_CASH",
    "MOVE_CASH_ANSWERED",
    "BEFORE_MOVEMENT_POSTED",
    "MOVEMENT_POSTED",
];

#[test]
fn a_load_that_dies_anywhere_is_finished_and_counts_once() {
    let scene = Scene::new();
    for point in POINTS.into_iter().chain(["BEFORE_DEVICE_LOADED", "DEVICE_LOADED"]) {
        let (before, id) = (scene.notes_of("1000.00"), new_id());
        let load = ["load", "1000=5", "--transaction-id", &id];
        let died = scene.admin(&[&load[..], &["--crash-at", point]].concat());
        assert_eq!(died.code, -1, "{point}: {died:?}");
        let (code, json) = scene.admin_json(&load);
        assert_eq!((code, text(&json["movement"], "transaction_id")), (0, id.clone()), "{point}: {json}");
        assert_eq!(scene.notes_of("1000.00"), before + 5, "{point}");
        scene.assert_all_agrees(point);
        // And once more, when all of it is known.
        assert_eq!(scene.admin(&load).code, 0, "{point}");
        assert_eq!(scene.notes_of("1000.00"), before + 5, "{point}");
        let other = scene.admin_json(&["load", "1000=6", "--transaction-id", &id]);
        assert_eq!((other.0, text(&other.1, "reason")), (2, "id_reused".into()), "{point}");
    }
    scene.assert_all_agrees("after all of them");
}

#[test]
fn a_load_without_an_id_is_finished_by_its_repeat_or_by_recover() {
    let scene = Scene::new();
    for point in ["CASH_MOVED", "DEVICE_LOADED", "MOVE_CASH_ANSWERED"] {
        let before = scene.notes_of("500.00");
        assert_eq!(scene.admin(&["load", "500=7", "--crash-at", point]).code, -1, "{point}");
        let (code, json) = scene.admin_json(&["load", "500=7"]);
        assert_eq!((code, json["finished_an_earlier_run"].as_bool()), (0, Some(true)), "{point}: {json}");
        assert_eq!(scene.notes_of("500.00"), before + 7, "{point}");

        assert_eq!(scene.admin(&["load", "500=7", "--crash-at", point]).code, -1, "{point}");
        // Without the operators' token the notes are put in, and the bank is not told.
        let (code, json) = scene.atm.run_json(&["recover"]);
        assert_eq!((code, json["movements_pending"].as_u64()), (3, Some(1)), "{point}: {json}");
        assert_eq!(scene.notes_of("500.00"), before + 14, "{point}");
        let (code, json) = scene.admin_json(&["reconcile"]);
        assert_eq!(
            (code, json["agrees"].as_bool()),
            (0, Some(point == "MOVE_CASH_ANSWERED")),
            "{point}: {json}"
        );
        let what = if point == "MOVE_CASH_ANSWERED" { None } else { Some("pending_in_journal") };
        assert_eq!(whats(&json).first().map(|(_, what)| what.as_str()), what, "{point}: {json}");
        let token = scene.token().to_str().unwrap();
        assert_eq!(scene.atm.run(&["recover", "--operator-token-file", token]).code, 0, "{point}");
        assert_eq!(scene.notes_of("500.00"), before + 14, "{point}");
        scene.assert_all_agrees(point);
    }
}

#[test]
fn a_bank_that_falls_silent_after_the_notes_were_moved_is_told_later_once() {
    let scene = Scene::new();
    // Sign-on, and whether the bank remembers this machine, are answered.
    for mode in [Mode::SwallowRequestsAfter(3), Mode::SwallowAnswersAfter(3)] {
        let proxy = Proxy::new(scene.house, 7);
        proxy.set(mode);
        let before = scene.notes_of("1000.00");
        let mut load = scene.atm.command(&["admin", "load", "1000=3", "--deadline", "1s", "--json"]);
        load.env("ATM_GATEWAY", proxy.url()).arg("--operator-token-file").arg(scene.token());
        let silent = said(&mut load);
        assert_eq!(silent.code, 3, "{mode:?}: {silent:?}");
        assert_eq!(text(&silent.json()["movement"], "state"), "pending", "{mode:?}");
        assert_eq!(scene.notes_of("1000.00"), before + 3, "{mode:?}");
        // The machine serves meanwhile.
        assert_eq!(scene.withdraw("20").code, 0, "{mode:?}");
        assert_eq!(scene.admin(&["load", "1000=3"]).code, 0, "{mode:?}");
        assert_eq!(scene.notes_of("1000.00"), before + 3, "{mode:?}");
        scene.assert_all_agrees(&format!("{mode:?}"));
    }
}

#[test]
fn an_unload_that_dies_is_finished_and_counts_once() {
    let scene = Scene::new();
    for point in POINTS.into_iter().chain(["BEFORE_DEVICE_COUNTED", "DEVICE_COUNTED"]) {
        assert_eq!(scene.admin(&["load", "200=4"]).code, 0);
        let id = new_id();
        let unload = ["unload", "cassettes:200", "--transaction-id", &id];
        assert_eq!(scene.admin(&[&unload[..], &["--crash-at", point]].concat()).code, -1, "{point}");
        assert_eq!(scene.admin(&unload).code, 0, "{point}");
        assert_eq!(scene.notes_of("200.00"), 0, "{point}");
        scene.assert_all_agrees(point);
    }
}

#[test]
fn a_count_corrects_counters_and_books_once_wherever_it_dies() {
    let scene = Scene::new();
    let (code, json) = scene.admin_json(&["count"]);
    assert_eq!(code, 0, "{json}");
    let confirm = text(&json, "confirm");
    let typed: Vec<&str> = confirm.split_whitespace().skip(2).collect();
    let (code, json) = scene.admin_json(&typed);
    assert_eq!((code, json["agreed"].as_bool()), (0, Some(true)), "{json}");

    let mut suspense = 0;
    for point in POINTS.into_iter().chain(["BEFORE_DEVICE_COUNTED", "DEVICE_COUNTED"]) {
        let there = scene.notes_of("1000.00");
        let typed = format!("cassettes:1000={}", there - 1);
        assert_eq!(scene.admin(&["count", &typed, "--crash-at", point]).code, -1, "{point}");
        let (code, json) = scene.admin_json(&["count", &typed]);
        assert_eq!(code, 0, "{point}: {json}");
        assert_eq!(scene.notes_of("1000.00"), there - 1, "{point}");
        suspense -= 1000;
        assert_eq!(scene.books("suspense"), format!("{suspense}.00"), "{point}");
        scene.assert_all_agrees(point);
    }
    // Too much of one, too little of another: both are written down, and the rest stays as it is.
    let (fifties, tens) = (scene.notes_of("50.00"), scene.notes_of("10.00"));
    let (fewer, more) = (format!("cassettes:50={}", fifties - 1), format!("cassettes:10={}", tens + 5));
    let (code, json) = scene.admin_json(&["count", &fewer, &more]);
    assert_eq!((code, json["movements"].as_array().unwrap().len()), (0, 2), "{json}");
    assert_eq!(scene.books("suspense"), format!("{suspense}.00"), "worth the same");
    scene.assert_all_agrees("after both");
}

#[test]
fn a_counter_that_is_wrong_is_found_and_set_right_without_touching_the_books() {
    let scene = Scene::new();
    let there = scene.notes_of("1000.00");
    scene.displace(100_000, "cassettes", "customers");
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, json["explained"].as_bool()), (1, Some(false)), "{json}");
    assert_eq!(whats(&json), [("cassettes".to_owned(), "counter_differs".to_owned())]);
    assert_eq!(text(&json["findings"][0], "amount"), "-1000.00");
    let (code, json) = scene.admin_json(&["count", &format!("cassettes:1000={there}")]);
    assert_eq!(
        (code, json["agreed"].as_bool(), json["movements"].as_array().unwrap().len()),
        (0, Some(false), 0)
    );
    scene.assert_all_agrees("after the count");
    assert_eq!(scene.books("suspense"), "0.00");

    // A note that changed its bin is worth the same, and found all the same.
    scene.displace(10_000, "cassettes", "reject");
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, whats(&json).len()), (1, 2), "{json}");
}

#[test]
fn books_that_this_machine_did_not_make_are_found() {
    let scene = Scene::new();
    let (_, json) = scene.admin_json(&["reconcile"]);
    let (atm_id, id) = (text(&json, "atm_id"), new_id());
    let token = std::fs::read_to_string(scene.token()).unwrap();
    scene.house.runtime.block_on(async {
        let mut client = AdminServiceClient::connect(scene.house.gateway.clone()).await.unwrap();
        let mut request = tonic::Request::new(MoveCashRequest {
            transaction_id: id.clone(),
            atm_id,
            from: CashBin::Vault.into(),
            to: CashBin::Retract.into(),
            amount: Some(Money { currency_code: "BDT".into(), minor_units: 700 }),
        });
        let bearer = format!("Bearer {}", token.trim());
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        client.move_cash(request).await.unwrap();
    });
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!(code, 1, "{json}");
    assert_eq!(whats(&json), [("retract".to_owned(), "not_in_journal".to_owned())]);
    let finding = &json["findings"][0];
    assert_eq!((text(finding, "transaction_id"), text(finding, "amount")), (id, "7.00".into()));
}

#[test]
fn a_dispense_that_the_journal_does_not_know_is_found() {
    let scene = Scene::new();
    let id = SystemIds.uuid_v7().to_string();
    scene.displace(50_000, "cassettes", "customers");
    let device = rusqlite::Connection::open(scene.atm.state.join("dispenser.sqlite3")).unwrap();
    let sql = "INSERT INTO dispenses VALUES (?1, 'taken', 'none', ?2, ?2, '', ?2, '', 1, 0, '', '')";
    device.execute(sql, [id.as_str(), "1x50000"]).unwrap();
    drop(device);
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!(
        (code, whats(&json)),
        (1, vec![("cassettes".into(), "dispense_not_in_journal".into())]),
        "{json}"
    );
    let finding = &json["findings"][0];
    assert_eq!((text(finding, "transaction_id"), text(finding, "amount")), (id, "-500.00".into()));
}

#[test]
fn what_is_still_open_is_named_and_explains_the_difference() {
    let scene = Scene::new();
    for (point, place, what) in [
        ("BEFORE_PRESENTED", "cassettes", "not_settled"),
        ("BEFORE_CAPTURE", "cassettes", "pending_in_journal"),
        ("CAPTURE_ANSWERED", "", ""),
    ] {
        let died = scene.atm.run(&["withdraw", "500", "--card", &scene.customer.card, "--crash-at", point]);
        assert_eq!(died.code, -1, "{point}: {died:?}");
        let (code, json) = scene.admin_json(&["reconcile"]);
        assert_eq!((code, json["explained"].as_bool()), (0, Some(true)), "{point}: {json}");
        let expected = if what.is_empty() { vec![] } else { vec![(place.to_owned(), what.to_owned())] };
        assert_eq!(whats(&json), expected, "{point}: {json}");
        let open = scene.atm.journaled().into_iter().rfind(|record| record.state != "DONE").unwrap();
        if !what.is_empty() {
            assert_eq!(text(&json["findings"][0], "transaction_id"), open.id, "{point}");
        }
        assert_eq!(scene.atm.run(&["recover"]).code, 0, "{point}");
        scene.assert_all_agrees(point);
    }
}

#[test]
fn a_bank_that_went_back_hears_of_operators_cash_again() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let mut atm = Atm::new(&bank.gateway());
    assert_eq!(atm.run(&["withdraw", "100", "--card", &customer.card]).code, 0);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    let admin = |atm: &Atm, bank: &OwnBank, arguments: &[&str]| {
        let mut command = atm.command(&["admin", "--json", "--operator-token-file"]);
        said(command.arg(bank.operator_token_file()).args(arguments))
    };
    assert_eq!(admin(&atm, &bank, &["load", "1000=5"]).code, 0);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    let lost = admin(&atm, &bank, &["reconcile"]);
    assert_eq!((lost.code, whats(&lost.json())), (1, vec![("cassettes".into(), "missing_in_books".into())]));
    let (code, json) = atm.run_json(&["recover"]);
    assert_eq!((code, json["movements_pending"].as_u64()), (3, Some(1)), "{json}");
    assert_eq!(admin(&atm, &bank, &["reconcile"]).code, 0, "it is named, and waits for the token");
    let token = bank.operator_token_file();
    assert_eq!(atm.run(&["recover", "--operator-token-file", token.to_str().unwrap()]).code, 0);
    let agreed = admin(&atm, &bank, &["reconcile"]);
    assert_eq!((agreed.code, agreed.json()["agrees"].as_bool()), (0, Some(true)), "{agreed:?}");
    bank.stop();
}

#[test]
fn at_a_copy_of_the_machine_no_cash_is_moved() {
    let scene = Scene::new();
    let copy = Atm::new(&scene.house.gateway);
    own_bank::copy(&scene.atm.state, &copy.state);
    assert_eq!(scene.withdraw("20").code, 0);
    for arguments in [&["load", "1000=5"][..], &["unload", "cassettes"], &["count", "cassettes:1000=0"]] {
        let mut command = copy.command(&["admin", "--json", "--operator-token-file"]);
        let said = said(command.arg(scene.token()).args(arguments));
        assert_eq!((said.code, text(&said.json(), "reason")), (5, "fenced_off".into()), "{arguments:?}");
    }
    scene.assert_all_agrees("after nothing was moved");
}

#[test]
fn what_the_journal_forgot_still_counts() {
    let scene = Scene::new();
    assert_eq!(scene.admin(&["load", "1000=5"]).code, 0);
    assert_eq!(scene.atm.run(&["dispenser", "fault", "jam-stack"]).code, 0);
    scene.withdraw("680");
    assert_eq!(scene.atm.run(&["deposit", "300", "--card", &scene.customer.card]).code, 0);
    assert_eq!(scene.atm.run(&["recover"]).code, 0);
    scene.assert_all_agrees("before");
    for days in ["40", "80"] {
        assert_eq!(scene.atm.run(&["recover", "--days-ahead", days]).code, 0);
        let (code, json) = scene.admin_json(&["reconcile", "--days-ahead", days]);
        assert_eq!((code, json["agrees"].as_bool()), (0, Some(true)), "{json}");
    }
    assert_eq!(scene.atm.journaled().len(), 0, "all of it was compacted");
    assert_eq!(scene.withdraw("100").code, 0);
    scene.assert_all_agrees("after new business");
}
