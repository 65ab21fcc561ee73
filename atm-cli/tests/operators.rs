//! What operators do at a machine: its cash, and the withdrawals that wait for a person. A real bank, the real program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;

use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::{CashBin, MoveCashRequest};
use atm_proto::types::Money;
use atm_types::{IdSource, SystemIds};
use serde_json::Value;
use support::own_bank::{self, OwnBank};
use support::proxy::{Mode, Proxy};
use support::{Atm, Customer, House, Said, house, said, text};

/// A machine with its first load, and a customer who took 100 from it.
struct Scene {
    house: &'static House,
    atm: Atm,
    customer: Customer,
}

impl Scene {
    fn new() -> Self {
        let house = house();
        let scene = Self { house, atm: Atm::new(&house.gateway), customer: house.customer("5000") };
        assert_eq!(scene.withdraw("100").code, 0);
        scene
    }

    fn withdraw(&self, amount: &str) -> Said {
        self.atm.run(&["withdraw", amount, "--card", &self.customer.card, "--json"])
    }

    /// A withdrawal of 680 that goes wrong in this way and ends as SUSPECT; returns its id.
    fn suspect(&self, fault: &str) -> String {
        assert_eq!(self.atm.run(&["dispenser", "fault", fault]).code, 0);
        self.withdraw("680");
        self.atm.run(&["recover"]);
        let record = self.atm.journaled().into_iter().find(|record| record.state == "SUSPECT").unwrap();
        assert_eq!(record.minor_units, 68_000);
        record.id
    }

    /// An operators' command at this machine.
    fn admin(&self, arguments: &[&str]) -> Said {
        said(self.atm.command(&["admin"]).args(arguments).arg("--operator-token-file").arg(self.token()))
    }

    fn token(&self) -> &std::path::Path {
        &self.house.operator_token_file
    }

    fn admin_json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = self.admin(&[arguments, &["--json"]].concat());
        (said.code, said.json())
    }

    /// What is in the cassettes by the device: count by denomination.
    fn cassettes(&self) -> BTreeMap<String, u64> {
        let status = self.atm.json(&["dispenser", "status"]);
        let notes = status["cassettes"].as_array().unwrap();
        notes.iter().map(|note| (text(note, "denomination"), note["count"].as_u64().unwrap())).collect()
    }

    fn notes_of(&self, denomination: &str) -> u64 {
        self.cassettes().get(denomination).copied().unwrap_or(0)
    }

    /// The worth of a place by the device.
    fn worth(&self, place: &str) -> String {
        let status = self.atm.json(&["dispenser", "status"]);
        let places = status["places"].as_array().unwrap();
        text(places.iter().find(|found| found["place"] == place).unwrap(), "amount")
    }

    fn assert_all_agrees(&self, when: &str) {
        let (code, json) = self.admin_json(&["reconcile"]);
        assert_eq!((code, json["agrees"].as_bool()), (0, Some(true)), "{when}: {json}");
        for place in json["places"].as_array().unwrap() {
            assert_eq!(place["journal"], place["books"], "{when}: {json}");
            let device = &place["device"];
            assert!(device.is_null() || *device == place["books"], "{when}: {json}");
        }
    }

    /// The books' word on a place.
    fn books(&self, place: &str) -> String {
        let (_, json) = self.admin_json(&["reconcile"]);
        let places = json["places"].as_array().unwrap();
        text(places.iter().find(|found| found["place"] == place).unwrap(), "books")
    }

    /// A note goes from one place of the device to another, and its memory adds up all the same.
    fn displace(&self, denomination: i64, from: &str, to: &str) {
        let device = rusqlite::Connection::open(self.atm.state.join("dispenser.sqlite3")).unwrap();
        for (place, by) in [(from, -1), (to, 1)] {
            let sql = "INSERT INTO places VALUES (?1, ?2, ?3)
                       ON CONFLICT (place, denomination) DO UPDATE SET count = count + excluded.count";
            device.execute(sql, rusqlite::params![place, denomination, by]).unwrap();
        }
    }
}

fn whats(json: &Value) -> Vec<(String, String)> {
    let findings = json["findings"].as_array().unwrap();
    findings.iter().map(|finding| (text(finding, "place"), text(finding, "what"))).collect()
}

fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

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

#[test]
fn a_suspect_whose_notes_left_is_shown_with_its_evidence_and_decided_once() {
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["agrees"].as_bool()), (0, Some(true)), "{json}");
    let suspect = &json["suspects"][0];
    assert_eq!((text(suspect, "transaction_id"), text(suspect, "amount")), (id.clone(), "680.00".into()));
    assert_eq!(
        (text(suspect, "journal_state"), suspect["at_bank"].as_bool()),
        ("SUSPECT".into(), Some(true))
    );

    let (code, json) = scene.admin_json(&["suspect", &id]);
    assert_eq!(code, 0, "{json}");
    assert_eq!(text(&json["device"], "status"), "unknown");
    assert_eq!(text(&json["ledger"], "current_state"), "suspect");
    let steps = json["journal"]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["event"] == "PRESENTATION_UNKNOWN"), "{json}");
    let said = scene.admin(&["suspect", &id]);
    assert!(said.stdout.contains("680.00 BDT short"), "{said:?}");
    assert!(said.stdout.contains("the notes of this withdrawal left the cassettes"), "{said:?}");

    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!(
        (code, json["explained"].as_bool(), json["agrees"].as_bool()),
        (0, Some(true), Some(false)),
        "{json}"
    );
    assert_eq!(whats(&json), [("cassettes".to_owned(), "suspect".to_owned())]);
    assert_eq!(text(&json["findings"][0], "transaction_id"), id);
    // What a person counts meanwhile is shown and not posted: the decision will post it.
    let typed = format!("cassettes:500={}", scene.notes_of("500.00"));
    let (code, json) = scene.admin_json(&["count", &typed]);
    assert_eq!((code, json["open"][0].as_str()), (1, Some(id.as_str())), "{json}");

    let decide = ["resolve", &id, "--presented", "680", "--operator", "Rahman", "--reason", "camera 2"];
    for _ in 0..2 {
        let (code, json) = scene.admin_json(&decide);
        assert_eq!(
            (code, text(&json, "journal_state"), text(&json, "state")),
            (0, "DONE".into(), "captured".into())
        );
    }
    for other in [vec!["--presented", "500"], vec!["--not-presented"]] {
        let arguments = [&["resolve", &id], &other[..], &["--operator", "Rahman", "--reason", "no"]].concat();
        let (code, json) = scene.admin_json(&arguments);
        assert_eq!((code, text(&json, "reason")), (2, "id_reused".into()), "{json}");
    }
    assert_eq!(scene.house.balance(&scene.customer), ("4220.00".into(), "4220.00".into()));
    scene.assert_all_agrees("after the decision");
    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["suspects"].as_array().unwrap().len()), (0, 0), "{json}");
    let (_, json) = scene.admin_json(&["suspect", &id]);
    assert_eq!(text(&json["ledger"], "resolved_by"), "Rahman");
}

#[test]
fn a_suspect_whose_notes_did_not_leave_frees_the_money_and_says_where_they_are() {
    let scene = Scene::new();
    let id = scene.suspect("power-while-presenting");
    let decide = ["resolve", &id, "--not-presented", "--operator", "Rahman", "--reason", "at the shutter"];
    let (code, json) = scene.admin_json(&decide);
    assert_eq!((code, text(&json, "journal_state")), (0, "VOIDED".into()), "{json}");
    assert!(
        json["notes"][0].as_str().unwrap().ends_with("(680.00 BDT) went from cassettes to reject"),
        "{json}"
    );
    assert_eq!(scene.worth("reject"), "680.00");
    assert_eq!(scene.house.balance(&scene.customer), ("4900.00".into(), "4900.00".into()));
    scene.assert_all_agrees("after the decision");
    assert_eq!(scene.admin(&["unload", "reject"]).code, 0);
    scene.assert_all_agrees("after the reject bin was emptied");
}

#[test]
fn notes_that_the_device_lost_are_counted_where_a_person_found_them() {
    for place in ["cassettes", "reject"] {
        let scene = Scene::new();
        let before = scene.cassettes();
        let id = scene.suspect("status-unknown");
        let decide =
            ["resolve", &id, "--not-presented", "--found-in", place, "--operator", "R", "--reason", "found"];
        assert_eq!(scene.admin(&decide).code, 0, "{place}");
        assert_eq!(scene.cassettes() == before, place == "cassettes");
        scene.assert_all_agrees(place);
    }
    // The customer got a part of it, and nobody knows where the rest is.
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    assert_eq!(
        scene.admin(&["resolve", &id, "--presented", "500", "--operator", "R", "--reason", "camera"]).code,
        0
    );
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, text(&json["findings"][0], "what")), (1, "device_disagrees".into()), "{json}");
    assert_eq!(text(&json["findings"][0], "amount"), "-180.00");

    // Nobody said where: the withdrawal is named, until a count says what is there.
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let said = scene.admin(&["resolve", &id, "--not-presented", "--operator", "R", "--reason", "unclear"]);
    assert!(said.stdout.contains("count it by hand"), "{said:?}");
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, text(&json["findings"][0], "transaction_id")), (1, id), "{json}");
    let (_, shown) = scene.admin_json(&["count"]);
    let confirm = text(&shown, "confirm");
    assert_eq!(scene.admin(&confirm.split_whitespace().skip(2).collect::<Vec<_>>()).code, 0);
    assert_eq!(scene.books("suspense"), "-680.00");
    scene.assert_all_agrees("after the count");
}

#[test]
fn a_decision_that_dies_is_finished_by_its_repeat_or_by_recover() {
    for (round, point) in [
        "BEFORE_RESOLVE",
        "RESOLVE_ANSWERED",
        "BEFORE_DEVICE_LOOKED",
        "DEVICE_LOOKED",
        "BEFORE_VOIDED",
        "VOIDED",
    ]
    .into_iter()
    .enumerate()
    {
        let scene = Scene::new();
        let id = scene.suspect("power-while-presenting");
        let decide = ["resolve", &id, "--not-presented", "--operator", "R", "--reason", "shutter"];
        let died = scene.admin(&[&decide[..], &["--crash-at", point]].concat());
        assert_eq!(died.code, -1, "{point}: {died:?}");
        if round % 2 == 1 {
            assert_eq!(scene.atm.run(&["recover"]).code, 0, "{point}");
        } else {
            assert_eq!(scene.admin(&decide).code, 0, "{point}");
        }
        assert_eq!(scene.atm.run(&["recover"]).code, 0, "{point}: nothing is left");
        assert_eq!(scene.worth("reject"), "680.00", "{point}");
        assert_eq!(scene.house.balance(&scene.customer).1, "4900.00", "{point}");
        scene.assert_all_agrees(point);
    }
}

#[test]
fn a_suspect_of_another_machine_is_decided_at_the_bank_and_its_machine_learns_of_it() {
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let office = Atm::new(&scene.house.gateway);
    let elsewhere = |arguments: &[&str]| {
        said(
            office
                .command(&["admin"])
                .args(arguments)
                .arg("--json")
                .arg("--operator-token-file")
                .arg(scene.token()),
        )
    };
    let (_, json) = scene.admin_json(&["reconcile"]);
    let listed = elsewhere(&["suspects", "--atm-id", &text(&json, "atm_id")]).json();
    assert_eq!(
        (listed["journal_asked"].as_bool(), text(&listed["suspects"][0], "transaction_id")),
        (Some(false), id.clone())
    );
    assert_eq!(elsewhere(&["suspects"]).code, 2, "whose?");
    let shown = elsewhere(&["suspect", &id]).json();
    assert!(shown["journal"].is_null() && shown["device"].is_null(), "{shown}");
    let decide = ["resolve", &id, "--presented", "680", "--operator", "R", "--reason", "camera"];
    let decided = elsewhere(&decide);
    assert_eq!((decided.code, decided.json()["journal_state"].is_null()), (0, true), "{decided:?}");
    assert!(!office.journal().exists(), "no machine was made");

    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["agrees"].as_bool()), (1, Some(false)), "{json}");
    assert_eq!(scene.atm.run(&["recover"]).code, 0);
    assert_eq!(scene.admin(&["suspects"]).code, 0);
    scene.assert_all_agrees("after the machine learned of it");
    let unknown = new_id();
    assert_eq!(elsewhere(&["suspect", &unknown]).code, 1);
    let none = elsewhere(&["resolve", &unknown, "--presented", "1", "--operator", "R", "--reason", "none"]);
    assert_eq!((none.code, text(&none.json(), "reason")), (1, "not_found".into()));
}

#[test]
fn only_a_suspect_can_be_decided_and_only_with_a_decision() {
    let scene = Scene::new();
    let id = scene.atm.journaled()[0].id.clone();
    let done = scene.admin_json(&["resolve", &id, "--presented", "50", "--operator", "R", "--reason", "no"]);
    assert_eq!((done.0, text(&done.1, "reason")), (1, "not_suspect".into()), "{done:?}");
    for arguments in [
        vec!["resolve", &id, "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--not-presented", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "0", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "-5", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--operator", "R"],
        vec!["resolve", &id, "--presented", "5", "--operator", "", "--reason", "no"],
        vec!["resolve", "no-id", "--presented", "5", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--not-presented", "--found-in", "deposit", "--operator", "R", "--reason", "no"],
    ] {
        let said = scene.admin(&arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
    }
    scene.assert_all_agrees("after all that");
}
