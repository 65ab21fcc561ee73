//! The gateway as a process: how it starts, answers its health check, and leaves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so where it stands")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_atm-gateway");

fn gateway(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .args(arguments)
        .arg("--service-token-file")
        .arg(directory.join("service.token"))
        .arg("--operator-token-file")
        .arg(directory.join("operator.token"))
        .stderr(Stdio::piped());
    command
}

fn health(url: &str) -> Option<i32> {
    Command::new(PROGRAM).env_clear().args(["health", "--url", url]).status().unwrap().code()
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn row_02_listening_beyond_this_machine_needs_to_be_asked_for_by_name() {
    let directory = TempDir::new().unwrap();
    let refused = gateway(directory.path(), &["--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("--insecure") && why.contains("0.0.0.0"), "{why}");
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("service.token");
    std::fs::write(&file, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = gateway(directory.path(), &["--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("service.token") && !why.contains(&"ab".repeat(32)), "{why}");
}

#[test]
fn a_missing_flag_a_wrong_currency_and_a_wrong_url_are_told_by_name() {
    let directory = TempDir::new().unwrap();
    let without = Command::new(PROGRAM).env_clear().stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&without.stderr).contains("--service-token-file"));
    for (arguments, named) in [(["--currency", "taka"], "taka"), (["--auth", "nowhere"], "nowhere")] {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let refused = gateway(directory.path(), &all).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{named}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(named), "{named}");
    }
}

#[test]
fn it_starts_without_its_upstreams_is_healthy_and_leaves_on_sigterm() {
    let directory = TempDir::new().unwrap();
    let mut command = gateway(directory.path(), &["--listen", "127.0.0.1:0", "--auth", "http://127.0.0.1:1"]);
    let mut running = Running(command.env("RUST_LOG", "info").spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            line["address"].as_str().map(str::to_owned)
        })
        .unwrap();
    let url = format!("http://{address}");
    assert_eq!(health(&url), Some(0));
    let mode = std::fs::metadata(directory.path().join("operator.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "made at the first start");

    // Keeps the pipe from filling while the gateway says goodbye.
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).any(|line| line.contains("stopped")));
    let told = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(reader.join().unwrap());
    assert_eq!(health(&url), Some(1));
}
