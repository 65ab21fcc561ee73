//! `serve` and `demo` as real processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Atm, cli, said, text};

/// A bank in a process of its own; killed when dropped.
struct Served {
    child: Child,
    addresses: Value,
}

impl Served {
    fn start(data: &Path) -> Self {
        let mut command = cli("http://127.0.0.1:1");
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = serde_json::from_str(&line).expect("one object with the addresses");
        Self { child, addresses }
    }

    fn gateway(&self) -> String {
        text(&self.addresses, "gateway")
    }

    fn admin(&self, arguments: &[&str]) -> support::Said {
        let token = text(&self.addresses, "operator_token_file");
        said(
            cli(&self.gateway())
                .arg("admin")
                .args(arguments)
                .args(["--operator-token-file", &token])
                .env("ATM_PIN", "1234"),
        )
    }

    /// Ends it politely and says with which code it left.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bank_in_one_process_survives_a_restart_and_a_kill_with_books_and_secrets_intact() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("bank");
    let served = Served::start(&data);
    assert_eq!(
        served.admin(&["open-account", "Joty", "--name", "Joty", "--opening-balance", "1000"]).code,
        0
    );
    assert_eq!(served.admin(&["issue-card", "--card", "123456789", "--account", "Joty"]).code, 0);
    let mut atm = Atm::new(&served.gateway());
    assert_eq!(text(&atm.json(&["withdraw", "100", "--card", "123456789"]), "balance"), "900.00");

    // A second bank on the same directory leaves and says who is there.
    let mut second = cli("http://127.0.0.1:1");
    let second = said(second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.stderr.contains(&served.child.id().to_string()), "{second:?}");

    assert_eq!(served.terminate(), Some(0));
    let served = Served::start(&data);
    atm.behind(&served.gateway());
    assert_eq!(text(&atm.json(&["withdraw", "100", "--card", "123456789"]), "balance"), "800.00");
    // Dropping it is kill -9.
    drop(served);
    let served = Served::start(&data);
    atm.behind(&served.gateway());
    assert_eq!(text(&atm.json(&["balance", "--card", "123456789"]), "balance"), "800.00");
    assert_eq!(served.admin(&["verify"]).code, 0);
    assert_eq!(served.admin(&["trial-balance"]).code, 0);

    use std::os::unix::fs::PermissionsExt;
    for secret in ["service.token", "operator.token", "secrets/pepper"] {
        let mode = std::fs::metadata(data.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[test]
fn a_bank_is_not_opened_to_other_machines_by_accident() {
    let home = tempfile::tempdir().unwrap();
    let mut command = cli("http://127.0.0.1:1");
    let refused =
        said(command.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(home.path().join("bank")));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--insecure"), "{refused:?}");
}

#[test]
fn the_demo_tells_the_whole_story_and_every_number_is_right() {
    let json = said(cli("http://127.0.0.1:1").args(["demo", "--json"]));
    assert_eq!(json.code, 0, "{json:?}");
    let json = json.json();
    assert_eq!(json["right"].as_bool(), Some(true));
    let steps = json["steps"].as_array().unwrap();
    let step = |what: &str| {
        let found = steps.iter().find(|step| text(step, "what").contains(what));
        text(found.unwrap_or_else(|| panic!("{what}")), "found")
    };
    assert_eq!(step("answers that were lost"), "2");
    assert_eq!(step("debits under its id"), "1");
    assert_eq!(step("HELLOW"), "hellow");

    let plain = said(cli("http://127.0.0.1:1").arg("demo"));
    assert_eq!(plain.code, 0);
    assert!(plain.stdout.contains("numbers are right"), "{plain:?}");
}
