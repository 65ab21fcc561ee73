//! What must stand in no file and on no screen, and what does stand on the screen that everybody reads first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::{all_files, cli, house, said};

const CANARY_PIN: &str = "739146825017";
const CANARY_NEW_PIN: &str = "739146825018";
const CANARY_CARD: &str = "4929746031588217";

#[test]
fn no_pin_card_number_key_or_token_reaches_a_log_a_journal_a_database_or_the_screen() {
    let house = house();
    let opened = house.admin(&["open-account", "Canary", "--name", "Canary", "--opening-balance", "100"]);
    assert_eq!(opened.code, 0, "{opened:?}");
    let mut command = cli(&house.gateway);
    command.args(["admin", "issue-card", "--card", CANARY_CARD, "--account", "Canary"]);
    command.arg("--operator-token-file").arg(&house.operator_token_file);
    let issued = said(command.env("ATM_PIN", CANARY_PIN).env("RUST_LOG", "trace"));
    assert_eq!(issued.code, 0, "{issued:?}");

    let atm = support::Atm::new(&house.gateway);
    let mut heard = issued.stdout + &issued.stderr;
    for (pin, arguments, code) in [
        (CANARY_PIN, &["balance"][..], 0),
        (CANARY_PIN, &["withdraw", "10"], 0),
        (CANARY_PIN, &["withdraw", "1000"], 1),
        (CANARY_PIN, &["deposit", "10"], 0),
        (CANARY_PIN, &["statement"], 0),
        (CANARY_PIN, &["pin", "change"], 0),
        (CANARY_NEW_PIN, &["balance"], 0),
        (CANARY_PIN, &["balance"], 4),
    ] {
        let arguments = [arguments, &["--card", CANARY_CARD]].concat();
        let said = said(
            atm.command(&arguments)
                .env("ATM_PIN", pin)
                .env("ATM_NEW_PIN", CANARY_NEW_PIN)
                .env("RUST_LOG", "trace"),
        );
        assert_eq!(said.code, code, "{arguments:?}");
        assert!(said.stderr.contains("TRACE") || said.stderr.contains("DEBUG"), "the log is really on");
        heard += &(said.stdout + &said.stderr);
    }
    let key = std::fs::read_to_string(atm.state.join("terminal.key")).unwrap();
    let operator = std::fs::read_to_string(&house.operator_token_file).unwrap();
    for (name, canary) in [
        ("PIN", CANARY_PIN),
        ("new PIN", CANARY_NEW_PIN),
        ("card number", CANARY_CARD),
        ("terminal key", key.trim()),
        ("operator token", operator.trim()),
        ("session", "v4.public."),
    ] {
        assert!(!heard.contains(canary), "{name} on the screen or in the log");
        for (path, bytes) in all_files(&atm.state).into_iter().chain(all_files(&house.data)) {
            let its_own_file = path.ends_with("terminal.key") || path.ends_with("operator.token");
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found || its_own_file, "{name} in {}", path.display());
        }
    }
}

#[test]
fn the_help_says_what_a_person_must_know() {
    let help = said(cli("http://127.0.0.1:50051").env_remove("ATM_GATEWAY").arg("--help"));
    assert_eq!(help.code, 0);
    insta::assert_snapshot!("help", help.stdout);
    let help = said(cli("http://127.0.0.1:50051").env_remove("ATM_GATEWAY").args(["withdraw", "--help"]));
    insta::assert_snapshot!("help_withdraw", help.stdout);
}
