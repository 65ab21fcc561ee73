//! The cash machine as a whole: its device, its disk, its copies, and a bank that forgets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::own_bank::{OwnBank, copy};
use support::proxy::{Mode, Proxy};
use support::{Atm, Said, house, said, text, wait_until};

/// What the device counts in one of its places.
fn counted(atm: &Atm, place: &str) -> String {
    let status = atm.json(&["dispenser", "status"]);
    let places = status["places"].as_array().unwrap();
    text(places.iter().find(|line| line["place"] == place).unwrap(), "amount")
}

fn withdraw(atm: &Atm, card: &str, amount: &str) -> (i32, Value) {
    atm.run_json(&["withdraw", amount, "--card", card])
}

#[test]
fn a_new_machine_is_loaded_once_after_its_first_right_pin() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    assert_eq!(counted(&atm, "cassettes"), "0.00");
    let wrong = said(atm.command(&["withdraw", "10", "--card", &customer.card]).env("ATM_PIN", "9999"));
    assert_eq!((wrong.code, counted(&atm, "cassettes")), (4, "0.00".into()));
    for (amount, left) in [("100", "400100.00"), ("7", "400093.00")] {
        assert_eq!(withdraw(&atm, &customer.card, amount).0, 0);
        assert_eq!(counted(&atm, "cassettes"), left);
    }
    let plain = atm.run(&["dispenser", "status"]);
    for words in ["1000.00", "reject", "deposit", "400093.00"] {
        assert!(plain.stdout.contains(words), "{plain:?}");
    }
}

#[test]
fn a_fault_is_kept_until_the_next_dispense_and_an_unknown_one_is_wrong_use() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    assert_eq!(atm.run(&["dispenser", "fault", "earthquake"]).code, 2);
    assert_eq!(atm.json(&["dispenser", "fault", "jam-stack"])["fault"], "jam-stack");
    assert_eq!(atm.json(&["dispenser", "status"])["next_fault"], "jam-stack");
    let (code, json) = withdraw(&atm, &customer.card, "300");
    assert_eq!(
        (code, text(&json, "status"), text(&json, "reason")),
        (1, "cancelled".into(), "not_presented".into())
    );
    assert_eq!(counted(&atm, "reject"), "300.00");
    assert_eq!(atm.json(&["dispenser", "status"])["next_fault"], "none");
    assert_eq!(withdraw(&atm, &customer.card, "300").0, 0);
    assert_eq!(house.balance(&customer).0, "690.00");
}

#[test]
fn what_the_device_does_not_know_is_frozen_and_others_are_served() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("1000"));
    let atm = Atm::new(&house.gateway);
    atm.json(&["dispenser", "fault", "status-unknown"]);
    let (code, json) = withdraw(&atm, &customer.card, "300");
    assert_eq!(
        (code, text(&json, "status"), text(&json, "reason")),
        (3, "unknown".into(), "presentation_unknown".into())
    );
    let id = text(&json, "transaction_id");
    assert_eq!(house.balance(&customer), ("1000.00".into(), "700.00".into()));
    let shown = atm.json(&["transaction", "show", &id, "--card", &customer.card]);
    assert_eq!(text(&shown, "state"), "suspect", "the bank knows");
    assert_eq!(atm.run(&["transaction", "cancel", &id, "--card", &customer.card]).code, 3);
    // Neither others nor the same card have to wait for the bank's decision.
    assert_eq!(withdraw(&atm, &other.card, "10").0, 0);
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    let (code, json) = atm.run_json(&["recover"]);
    assert_eq!((code, json["open"].as_u64()), (3, Some(1)));
}

#[test]
fn of_two_machines_with_one_disk_the_first_to_start_goes_on_and_the_other_touches_nothing() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 42);
    let mut atm = Atm::new(&proxy.url());
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    // The notes are out and the capture is under way when somebody copies the disk.
    proxy.set(Mode::SwallowRequestsAfter(4));
    let pending = atm.json(&["withdraw", "100", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!(text(&pending, "status"), "capture_pending");
    let clone = Atm::new(&house.gateway);
    copy(&atm.state, &clone.state);
    atm.behind(&house.gateway);
    assert_eq!(withdraw(&atm, &customer.card, "20").0, 0);

    let id = text(&pending, "transaction_id");
    let before = house.movements(&customer);
    for (arguments, code) in [
        (&["withdraw", "30", "--card", &customer.card][..], 5),
        (&["deposit", "30", "--card", &customer.card], 5),
        // What this disk says of the transaction may be out of date.
        (&["transaction", "cancel", &id, "--card", &customer.card], 3),
        (&["recover"], 5),
    ] {
        let said = clone.run(arguments);
        assert_eq!(said.code, code, "{said:?}");
        assert!(
            said.stderr.contains("fenced off") && said.stderr.contains("new state directory"),
            "{said:?}"
        );
    }
    assert_eq!(house.movements(&customer), before);
    assert_eq!(counted(&clone, "cassettes"), counted(&atm, "cassettes").replace("400070", "400090"));
    assert_eq!(withdraw(&atm, &customer.card, "30").0, 0, "the first one goes on");
}

#[test]
fn a_machine_with_a_new_key_gets_its_name_back_when_operators_release_it() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let old = Atm::new(&bank.gateway());
    assert_eq!(withdraw(&old, &customer.card, "10").0, 0);
    let new = Atm::new(&bank.gateway());
    let words = ["withdraw", "10", "--card", &customer.card, "--atm-id", &old.atm_id()];
    assert_eq!(new.run_json(&words).0, 4, "the name belongs to another key");
    let released = bank.admin(&["release-terminal", &old.atm_id(), "--json"]);
    assert_eq!((released.code, released.json()["released"].as_bool()), (0, Some(true)), "{released:?}");
    assert_eq!(new.run_json(&words).0, 0);
    assert_eq!(withdraw(&old, &customer.card, "10").0, 4, "now it is the old key that is foreign");

    let unknown = bank.admin(&["forget-start", "nobodys"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    for unclear in [
        &["forget-start"][..],
        &["forget-start", "--all", "A"],
        &["release-terminal"],
        &["release-terminal", "a b"],
    ] {
        assert_eq!(bank.admin(unclear).code, 2, "{unclear:?}");
    }
    let all = bank.admin(&["forget-start", "--all"]);
    assert!(all.code == 0 && all.stdout.contains("The starts of 1 machines"), "{all:?}");
    bank.stop();
}

#[test]
fn a_fenced_off_machine_serves_again_when_the_bank_has_decided_for_it() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let atm = Atm::new(&bank.gateway());
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    let clone = Atm::new(&bank.gateway());
    copy(&atm.state, &clone.state);
    assert_eq!(withdraw(&clone, &customer.card, "20").0, 0, "the copy was faster");
    let (code, json) = withdraw(&atm, &customer.card, "30");
    assert_eq!((code, text(&json, "reason")), (5, "fenced_off".into()));
    let unreachable = said(atm.command(&["recover"]).env("ATM_GATEWAY", "http://127.0.0.1:1"));
    assert_eq!(unreachable.code, 5, "{unreachable:?}");
    // The operators throw the copy away and let the next start of this name in, as the manual says.
    let forgotten = bank.admin(&["forget-start", &atm.atm_id(), "--json"]);
    assert_eq!((forgotten.code, forgotten.json()["machines"].as_u64()), (0, Some(1)), "{forgotten:?}");
    assert_eq!(withdraw(&atm, &customer.card, "30").0, 0);
    assert_eq!(withdraw(&atm, &customer.card, "40").0, 0);
    bank.stop();
}

#[test]
fn a_recover_that_nobody_hears_is_no_success() {
    let house = house();
    let mut atm = Atm::new("http://127.0.0.1:1");
    let (code, json) = atm.run_json(&["recover", "--deadline", "500ms"]);
    assert_eq!((code, json["open"].as_u64(), json["in_service"].is_null()), (5, Some(0), true), "{json}");
    atm.behind(&house.gateway);
    let (code, json) = atm.run_json(&["recover"]);
    assert_eq!((code, json["in_service"].as_bool()), (0, Some(true)), "{json}");
}

#[test]
fn a_new_machine_is_in_its_first_start_until_the_bank_records_one() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let starts = || {
        let count = "SELECT count(*) FROM steps WHERE event = ?1";
        let journal = rusqlite::Connection::open(atm.journal()).unwrap();
        ["BOOT_PENDING", "BOOTED"]
            .map(|event| journal.query_row(count, [event], |row| row.get::<_, u32>(0)).unwrap())
    };
    // Its name is nobody's until somebody shows a right PIN. A sign-on that is delivered late must not be the first that
    // the bank records unless it is that of the start which is under way.
    for _ in 0..3 {
        assert_eq!(atm.run(&["recover"]).code, 0);
        assert_eq!(starts(), [1, 0]);
    }
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    assert_eq!(starts(), [1, 1], "the log-in bound the name to this machine and this start");
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    assert_eq!(starts(), [2, 2]);
}

#[test]
fn of_two_machines_with_one_disk_that_was_copied_while_a_start_was_under_way_one_pays_out() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    for point in ["BOOT_PENDING", "SIGN_ON_ANSWERED"] {
        assert_eq!(atm.run(&["recover", "--crash-at", point]).code, -1);
        let clone = Atm::new(&house.gateway);
        copy(&atm.state, &clone.state);
        assert_eq!(withdraw(&atm, &customer.card, "20").0, 0, "{point}: the first one goes on");
        let (code, json) = withdraw(&clone, &customer.card, "30");
        assert_eq!((code, text(&json, "reason")), (5, "fenced_off".into()), "{point}");
    }
    assert_eq!(house.balance(&customer).0, "950.00", "1000 - 10 - 20 - 20");
}

#[test]
fn a_bank_restored_from_an_older_backup_is_noticed_and_told_again_what_it_forgot() {
    let mut bank = OwnBank::new();
    let (joty, ahona) = (bank.customer(1, "1000"), bank.customer(2, "1000"));
    let mut atm = Atm::new(&bank.gateway());
    assert_eq!(withdraw(&atm, &joty.card, "10").0, 0);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    // All that happens on Tuesday: a withdrawal, one that jams, one that nobody knows of, and a deposit.
    assert_eq!(withdraw(&atm, &joty.card, "100").0, 0);
    atm.json(&["dispenser", "fault", "jam-stack"]);
    assert_eq!(withdraw(&atm, &joty.card, "40").0, 1);
    atm.json(&["dispenser", "fault", "status-unknown"]);
    assert_eq!(withdraw(&atm, &joty.card, "50").0, 3);
    assert_eq!(atm.run(&["deposit", "20", "--card", &ahona.card]).code, 0);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());

    for _ in 0..2 {
        let (code, json) = withdraw(&atm, &joty.card, "500");
        assert_eq!((code, text(&json, "reason")), (5, "bank_went_back".into()));
    }
    assert_eq!(counted(&atm, "cassettes"), "400000.00", "nothing came out: 400200 - 10 - 100 - 40 - 50");
    let (code, json) = atm.run_json(&["recover"]);
    // Only Ahona could repeat her deposit, so a person must see to it.
    assert_eq!(
        (code, json["redriven"]["alarms"].as_u64(), json["in_service"].as_bool()),
        (3, Some(1), Some(true))
    );
    let lost: Vec<_> = atm.journaled().into_iter().filter(|t| t.kind == "deposit").collect();
    assert_eq!((lost.len(), lost[0].state.as_str()), (1, "SUSPECT"));

    let balance = |card: &str| {
        let json = atm.json(&["balance", "--card", card]);
        (text(&json, "balance"), text(&json, "available"))
    };
    assert_eq!(
        balance(&joty.card),
        ("890.00".into(), "840.00".into()),
        "the capture and the freeze are back"
    );
    assert_eq!(balance(&ahona.card).0, "1000.00", "the deposit is not");
    assert_eq!(withdraw(&atm, &joty.card, "5").0, 0, "back in service");
    let trial = bank.admin(&["trial-balance", "--json"]);
    assert_eq!(trial.json()["balanced"].as_bool(), Some(true));
    assert_eq!(bank.admin(&["verify"]).code, 0);
    bank.stop();
}

#[test]
fn a_machine_serves_again_whatever_the_bank_acknowledged_last() {
    let mut bank = OwnBank::new();
    let joty = bank.customer(1, "1000");
    let mut atm = Atm::new(&bank.gateway());
    atm.json(&["dispenser", "fault", "status-unknown"]);
    let (code, suspect) = withdraw(&atm, &joty.card, "50");
    assert_eq!(code, 3);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    // The last word is a decline, which the bank forgets.
    assert_eq!(withdraw(&atm, &joty.card, "5000").0, 1);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    let (code, json) = withdraw(&atm, &joty.card, "10");
    assert_eq!((code, text(&json, "reason")), (5, "bank_went_back".into()));
    let recovered = |atm: &Atm| {
        let (_, json) = atm.run_json(&["recover"]);
        (json["redriven"]["alarms"].as_u64(), json["in_service"].as_bool())
    };
    assert_eq!(recovered(&atm), (Some(0), Some(true)));
    assert_eq!(withdraw(&atm, &joty.card, "10").0, 0, "back in service");
    bank.stop();
    bank.back_up_ledger("tuesday");
    bank.start();
    atm.behind(&bank.gateway());

    // The last word is what a person decided, which the bank forgets as well: that is to be decided again.
    let id = text(&suspect, "transaction_id");
    let token = bank.operator_token_file();
    let decide = [
        "admin",
        "resolve",
        &id,
        "--not-presented",
        "--found-in",
        "reject",
        "--operator",
        "T",
        "--reason",
        "r",
    ];
    let decided = said(atm.command(&decide).arg("--operator-token-file").arg(token));
    assert_eq!(decided.code, 0, "{decided:?}");
    bank.stop();
    bank.restore_ledger("tuesday");
    bank.start();
    atm.behind(&bank.gateway());
    assert_eq!(withdraw(&atm, &joty.card, "10").0, 5);
    assert_eq!(recovered(&atm), (Some(1), Some(true)));
    assert_eq!(withdraw(&atm, &joty.card, "10").0, 0, "back in service");
    assert_eq!(bank.admin(&["verify"]).code, 0);
    bank.stop();
}

#[test]
fn a_bank_that_went_back_is_noticed_although_other_machines_have_made_its_books_longer_since() {
    let mut bank = OwnBank::new();
    let (joty, ahona) = (bank.customer(1, "1000"), bank.customer(2, "1000"));
    let (mut atm, mut other) = (Atm::new(&bank.gateway()), Atm::new(&bank.gateway()));
    assert_eq!(withdraw(&atm, &joty.card, "10").0, 0);
    assert_eq!(withdraw(&other, &ahona.card, "10").0, 0);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    assert_eq!(withdraw(&atm, &joty.card, "100").0, 0);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    other.behind(&bank.gateway());
    for _ in 0..5 {
        assert_eq!(withdraw(&other, &ahona.card, "1").0, 0, "it had seen nothing that was forgotten");
    }
    let (code, json) = withdraw(&atm, &joty.card, "5");
    assert_eq!((code, text(&json, "reason")), (5, "bank_went_back".into()));
    assert_eq!(atm.run(&["recover"]).code, 0);
    let balance = atm.json(&["balance", "--card", &joty.card]);
    assert_eq!(text(&balance, "balance"), "890.00", "told again");
    assert_eq!(withdraw(&atm, &joty.card, "5").0, 0, "back in service");
    assert_eq!(bank.admin(&["verify"]).code, 0);
    bank.stop();
}

#[test]
fn what_a_bank_forgot_is_told_again_however_late_and_whatever_the_clock_of_the_machine_says() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let mut atm = Atm::new(&bank.gateway());
    assert_eq!(withdraw(&atm, &customer.card, "10").0, 0);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    assert_eq!(withdraw(&atm, &customer.card, "100").0, 0);
    assert_eq!(withdraw(&atm, &customer.card, "20").0, 0);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());

    // The machine hears of it forty days later, and a person comes forty days after that.
    let late = ["withdraw", "5", "--card", &customer.card, "--days-ahead", "40"];
    let (code, json) = atm.run_json(&late);
    assert_eq!((code, text(&json, "reason")), (5, "bank_went_back".into()));
    let (code, json) = atm.run_json(&["recover", "--days-ahead", "80"]);
    assert_eq!((code, json["in_service"].as_bool()), (0, Some(true)), "{json}");
    let balance = atm.json(&["balance", "--card", &customer.card]);
    assert_eq!(text(&balance, "balance"), "870.00", "1000 - 10 - 100 - 20: all that came out");
    bank.stop();
}

#[test]
fn a_bank_that_forgot_the_whole_machine_gets_its_captures_all_the_same() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let mut atm = Atm::new(&bank.gateway());
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    // The machine is new on Tuesday, and so are its accounts.
    assert_eq!(withdraw(&atm, &customer.card, "100").0, 0);
    let said = atm.run(&["withdraw", "20", "--card", &customer.card, "--crash-at", "PRESENTED"]);
    assert_eq!(said.code, -1, "{said:?}");
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    let (code, json) = atm.run_json(&["recover"]);
    assert_eq!((code, json["redriven"]["alarms"].as_u64()), (0, Some(0)), "{json}");
    let balance = atm.json(&["balance", "--card", &customer.card]);
    assert_eq!(text(&balance, "balance"), "880.00", "1000 - 100 - 20, and nothing suspect");
    bank.stop();
}

/// Runs a script in a file system of three megabytes of its own, or says why not.
fn on_a_small_disk(disk: &Path, script: &str) -> Option<Said> {
    let mount = format!("mount -t tmpfs -o size=3m tmpfs '{}' && {script}", disk.display());
    let said =
        said(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]));
    if said.stderr.contains("unshare failed") || said.stderr.contains("Operation not permitted") {
        eprintln!("SKIPPED: this machine allows no mounts in a name space: {}", said.stderr);
        assert!(std::env::var_os("CI").is_none(), "CI must be able to");
        return None;
    }
    Some(said)
}

#[test]
fn a_full_disk_is_refused_before_anything_happens_and_never_loses_what_has_begun() {
    let house = house();
    let customer = house.customer("1000");
    let disk = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin!("atm-cli").display().to_string();
    let atm = format!(
        "'{program}' --gateway {} --state '{}' --json",
        house.gateway,
        disk.path().join("atm").display()
    );
    let fill = format!("dd if=/dev/zero of='{}' bs=1k 2>/dev/null; ", disk.path().join("filler").display());
    let free = format!("rm -f '{}'; ", disk.path().join("filler").display());
    let card = &customer.card;
    // Cash is out and not posted; then the disk is filled to the last byte: `recover` lives on what was kept. A new
    // withdrawal is refused; once there is room again it works.
    let script = format!(
        "export ATM_PIN=1234; {atm} withdraw 10 --card {card}; {atm} withdraw 100 --card {card} --crash-at PRESENTED; \
         {fill} {atm} recover; {atm} withdraw 20 --card {card}; echo code $?; {fill} {atm} withdraw 20 --card {card}; \
         echo code $?; {free} {atm} withdraw 30 --card {card}"
    );
    let Some(said) = on_a_small_disk(disk.path(), &script) else { return };
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(lines[1].contains(r#""open":0"#) && lines[1].contains(r#""state":"DONE""#), "{said:?}");
    assert!(said.stdout.contains("disk_full") && said.stdout.contains("code 5"), "{said:?}");
    let refused = said.stdout.matches("disk_full").count();
    let captured = said.stdout.matches(r#""status":"captured""#).count();
    assert_eq!(refused + captured, 4 + 1, "each is refused or done: {said:?}");
    let expected = 1000 - 10 - 100 - 30 - 20 * i64::try_from(captured - 3).unwrap();
    assert_eq!(house.balance(&customer).0, format!("{expected}.00"), "{said:?}");
}

#[test]
fn an_unknown_crash_point_is_wrong_use_and_the_list_has_a_count() {
    let atm = Atm::new("http://127.0.0.1:1");
    let said = atm.run(&["withdraw", "10", "--card", "123456789", "--crash-at", "NOWHERE"]);
    assert!(said.code == 2 && said.stderr.contains("BEFORE_PRESENTED"), "{said:?}");
    let json = atm.json(&["crash-points"]);
    let count = json["points"].as_array().unwrap().len();
    assert_eq!(json["count"].as_u64(), u64::try_from(count).ok());
    assert!(count > 60, "{count}");
}

#[test]
fn a_machine_that_is_killed_in_the_gap_tells_the_story_when_it_recovers() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let killed = atm.run(&["withdraw", "500", "--card", &customer.card, "--crash-at", "BEFORE_PRESENTED"]);
    assert_eq!((killed.code, killed.stdout.as_str()), (-1, ""), "as by kill -9");
    assert_eq!(atm.journaled()[0].state, "DISPENSING");
    let said = atm.run(&["recover"]);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "is DISPENSING; asking the dispenser",
        "found: the device was about to be told to pay out 1 x 500",
        "now: the device presented 500.00 BDT",
        "the customer got 500.00 BDT",
        "1 settled, 0 still open",
    ] {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
    assert_eq!(house.balance(&customer), ("500.00".into(), "500.00".into()));
    wait_until("the lock is free", || atm.run(&["dispenser", "status"]).code == 0);
}
