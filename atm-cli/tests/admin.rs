//! The operators' commands.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::{Atm, Customer, cli, house, said, text};

fn write(content: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("accounts.csv");
    std::fs::write(&path, content).unwrap();
    (home, path)
}

#[test]
fn an_import_is_checked_as_a_whole_before_anything_is_written() {
    let house = house();
    let (_home, path) = write(
        "account,name,card,pin,opening_balance\n\
         Imp-1,One,500000000001,1234,10\n\
         Imp-2,Two,500000000002,12,10.005\n\
         Imp 3,Three,5,1234,-1\n",
    );
    let said = house.admin(&["import", path.to_str().unwrap()]);
    assert_eq!(said.code, 2, "{said:?}");
    for expected in [
        "line 3, column pin: it needs 4 to 12 digits",
        "line 3, column opening_balance: it has more than 2 decimals",
        "line 4, column account: it needs",
        "line 4, column card: it needs 8 to 19 digits",
        "line 4, column opening_balance: it must not be negative",
        "Nothing was sent",
    ] {
        assert!(said.stderr.contains(expected), "{expected}: {said:?}");
    }
    let customer = Customer { account: "Imp-1".into(), card: "500000000001".into() };
    let atm = Atm::new(&house.gateway);
    assert_eq!(atm.run(&["balance", "--card", &customer.card]).code, 4, "not even the good line was written");
}

#[test]
fn an_import_that_is_repeated_completes_what_is_missing_and_posts_nothing_twice() {
    let house = house();
    let row = |index: u32, card: bool| {
        let card = if card { format!("51000000{index:04},1234") } else { ",".into() };
        format!("Rep-{index},Person {index},{card},{index}.50\n")
    };
    let header = "account,name,card,pin,opening_balance\n";
    // As if the first run had been interrupted: some accounts are there, some of them without their cards.
    let part: String = (1..=6).map(|index| row(index, index % 2 == 0)).collect();
    let whole: String = (1..=20).map(|index| row(index, true)).collect();
    let (_home, first) = write(&format!("{header}{part}"));
    let (_other, full) = write(&format!("{header}{whole}"));

    let json = house.admin(&["import", first.to_str().unwrap(), "--json"]).json();
    assert_eq!((json["rows"].as_u64(), json["changed"].as_u64()), (Some(6), Some(6)), "{json}");
    let json = house.admin(&["import", full.to_str().unwrap(), "--json"]).json();
    assert_eq!(
        (json["rows"].as_u64(), json["changed"].as_u64(), json["unchanged"].as_u64()),
        (Some(20), Some(17), Some(3)),
        "{json}"
    );
    let json = house.admin(&["import", full.to_str().unwrap(), "--json"]).json();
    assert_eq!(
        (json["changed"].as_u64(), json["unchanged"].as_u64(), json["failed"].as_u64()),
        (Some(0), Some(20), Some(0))
    );
    for index in [1, 2, 20] {
        let customer = Customer { account: format!("Rep-{index}"), card: format!("51000000{index:04}") };
        assert_eq!(
            house.balance(&customer).0,
            format!("{index}.50"),
            "its card works and its money is there once"
        );
    }
}

#[test]
fn an_import_that_contradicts_the_books_says_which_lines_and_does_the_others() {
    let house = house();
    let header = "account\tname\topening_balance\n";
    let (_home, first) = write(&format!("{header}Con-1\tOne\t10\n"));
    assert_eq!(house.admin(&["import", first.to_str().unwrap()]).code, 0);
    let (_other, second) = write(&format!("{header}Con-1\tOne\t11\nCon-2\tTwo\t5\n"));
    let said = house.admin(&["import", second.to_str().unwrap(), "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let json = said.json();
    assert_eq!((json["failed"].as_u64(), json["changed"].as_u64()), (Some(1), Some(1)), "{json}");
    assert!(json["problems"][0].as_str().unwrap().starts_with("line 2"), "{json}");
}

#[test]
fn pin_later_issues_cards_that_wait_for_their_pins() {
    let house = house();
    let (_home, path) = write("account,name,card,pin,opening_balance\nLate-1,Late,520000000001,1234,10\n");
    assert_eq!(house.admin(&["import", path.to_str().unwrap(), "--pin-later"]).code, 0);
    let atm = Atm::new(&house.gateway);
    assert_eq!(atm.run(&["balance", "--card", "520000000001"]).code, 4, "no PIN, no way in");
    assert_eq!(house.admin(&["import", path.to_str().unwrap()]).code, 0);
    assert_eq!(text(&atm.json(&["balance", "--card", "520000000001"]), "balance"), "10.00");
}

#[test]
fn the_accounts_of_the_source_systems_can_be_imported_and_used() {
    let house = house();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/accounts.csv");
    assert_eq!(house.admin(&["import", path]).code, 0);
    let atm = Atm::new(&house.gateway);
    for (card, pin, holder, balance) in [
        ("123456789", "1234", "Joty", "10000.00"),
        ("987654321", "5678", "Ahona", "5000.00"),
        ("100000001", "1234", "Farhan", "1169.00"),
        ("100000002", "1234", "Sami", "45720.00"),
        ("100000003", "1234", "Moyeed", "70000.00"),
        ("100000004", "1234", "Kader", "1200.00"),
    ] {
        let said = said(atm.command(&["balance", "--card", card, "--json"]).env("ATM_PIN", pin));
        let json = said.json();
        assert_eq!((text(&json, "holder"), text(&json, "balance")), (holder.into(), balance.into()));
    }
}

#[test]
fn limits_are_the_accounts_own() {
    let house = house();
    let opened = house.admin(&[
        "open-account",
        "Lim-1",
        "--name",
        "Limited",
        "--opening-balance",
        "100",
        "--overdraft-limit",
        "50",
        "--daily-withdrawal-limit",
        "120",
    ]);
    assert_eq!(opened.code, 0, "{opened:?}");
    assert_eq!(house.admin(&["issue-card", "--card", "530000000001", "--account", "Lim-1"]).code, 0);
    let atm = Atm::new(&house.gateway);
    let json = atm.json(&["balance", "--card", "530000000001"]);
    assert_eq!((text(&json, "balance"), text(&json, "available")), ("100.00".into(), "150.00".into()));
    let (code, json) = atm.run_json(&["withdraw", "121", "--card", "530000000001"]);
    assert_eq!((code, text(&json, "reason")), (1, "daily_limit_exceeded".into()));
    let json = atm.json(&["withdraw", "110", "--card", "530000000001"]);
    assert_eq!(text(&json, "balance"), "-10.00");
}

#[test]
fn the_books_balance_and_verify() {
    let house = house();
    let customer = house.customer("77");
    Atm::new(&house.gateway).json(&["withdraw", "7", "--card", &customer.card]);
    let trial = house.admin(&["trial-balance", "--json"]);
    assert_eq!(trial.code, 0);
    let json = trial.json();
    assert_eq!(json["balanced"].as_bool(), Some(true));
    let kinds: Vec<_> = json["lines"].as_array().unwrap().iter().map(|line| text(line, "kind")).collect();
    assert!(kinds.contains(&"customer".to_owned()) && kinds.contains(&"cash".to_owned()), "{kinds:?}");
    let plain = house.admin(&["trial-balance"]);
    assert!(plain.stdout.contains("kind") && plain.stdout.contains("Balanced"), "{plain:?}");

    let verified = house.admin(&["verify", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let json = verified.json();
    assert_eq!(json["verified"].as_bool(), Some(true));
    assert!(json["steps_checked"].as_u64().unwrap() >= 2, "{json}");
    assert_eq!(text(&json, "chain_head").len(), 64);
}

#[test]
fn nobody_is_an_operator_without_the_token() {
    let house = house();
    let none = said(cli(&house.gateway).args(["admin", "trial-balance"]));
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("--operator-token-file"), "{none:?}");

    let (_home, path) = write(&"0".repeat(64));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let wrong =
        said(cli(&house.gateway).args(["admin", "trial-balance"]).env("ATM_OPERATOR_TOKEN_FILE", &path));
    assert_eq!(wrong.code, 4, "{wrong:?}");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open =
        said(cli(&house.gateway).args(["admin", "trial-balance"]).env("ATM_OPERATOR_TOKEN_FILE", &path));
    assert_eq!(open.code, 2);
    assert!(open.stderr.contains("0600"), "{open:?}");
}

#[test]
fn secrets_are_made_once_for_their_owner_alone_and_kept_ever_after() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (service, pepper, operator) = (path("s/service.token"), path("p/pepper"), path("o/operator.token"));
    let run = || {
        said(cli("http://127.0.0.1:1").args([
            "admin",
            "init-secrets",
            "--json",
            "--service-token-file",
            &service,
            "--pepper-file",
            &pepper,
            "--operator-token-file",
            &operator,
        ]))
    };
    let first = run();
    assert_eq!((first.code, first.json()["made"].as_array().unwrap().len()), (0, 3), "{first:?}");
    let read = || [&service, &pepper, &operator].map(|path| std::fs::read_to_string(path).unwrap());
    let made = read();
    assert!(made[0] != made[1] && made[1] != made[2]);
    for path in [&service, &pepper, &operator] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::remove_file(&operator).unwrap();
    let second = run();
    assert_eq!(second.json()["made"].as_array().unwrap().len(), 1);
    assert_eq!(read()[..2], made[..2]);
    assert_eq!(said(cli("http://127.0.0.1:1").args(["admin", "init-secrets"])).code, 2);
}
