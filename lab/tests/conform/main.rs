//! The conformance suite against ledgers that are wrong in one way each, and against the real one.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod fake;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use atm_lab::binaries::Binaries;
use atm_lab::conform::{Report, Target, Verdict, run};
use atm_rpc::credentials::BearerToken;
use fake::{Fake, Flaw};
use tempfile::TempDir;

const CHECKS: usize = 14;

fn target(url: String) -> Target {
    let patience = Duration::from_secs(5);
    Target { url, token: None, currency: "BDT".to_owned(), restart: None, patience }
}

fn with(reports: &[Report], verdict: Verdict) -> BTreeSet<&'static str> {
    reports.iter().filter(|report| report.verdict == verdict).map(|report| report.name).collect()
}

/// Restarts the fake whenever a file appears, as `command` makes it do.
fn restartable(fake: Fake, directory: &Path) -> String {
    let asked = directory.join("restart");
    let command = format!("touch {0}; while [ -e {0} ]; do sleep 0.01; done", asked.display());
    tokio::spawn(async move {
        loop {
            if asked.exists() {
                fake.restart();
                std::fs::remove_file(&asked).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    command
}

async fn try_fake(flaw: Flaw) -> Vec<Report> {
    let directory = TempDir::new().unwrap();
    let (fake, url) = Fake::start(flaw).await;
    let restart = Some(restartable(fake, directory.path()));
    run(&Target { restart, ..target(url) }, |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_ledger_that_keeps_its_word_passes_everything() {
    let reports = try_fake(Flaw::None).await;
    assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS, "{reports:#?}");
}

#[tokio::test]
async fn without_a_restart_command_the_restarts_are_not_tried_and_that_is_said() {
    let (_fake, url) = Fake::start(Flaw::ForgetsOnRestart).await;
    let reports = run(&target(url), |_| {}).await.unwrap();
    assert_eq!(with(&reports, Verdict::NotTried), ["crash-after-commit", "repeat-after-restart"].into());
    assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS - 2);
    let reason = reports.iter().find(|report| report.verdict == Verdict::NotTried).unwrap();
    assert!(reason.detail.contains("--restart-command"));
}

#[tokio::test]
async fn every_flaw_is_found_by_the_checks_that_are_for_it() {
    let cases: [(Flaw, &[&str]); 11] = [
        (
            Flaw::ForgetsIds,
            &[
                "same-body",
                "changed-body",
                "declined-then-funded",
                "concurrent-duplicates",
                "another-callers-id",
                "cancel-before-hold",
                "late-original",
                "hold-once",
                "lost-answer",
                "crash-after-commit",
                "repeat-after-restart",
            ],
        ),
        (Flaw::IgnoresTheBody, &["changed-body"]),
        (Flaw::RedecidesDeclines, &["declined-then-funded", "repeat-after-restart"]),
        (Flaw::LooksThenActs, &["concurrent-duplicates"]),
        (Flaw::TrustsStrangers, &["another-callers-id"]),
        (Flaw::ForgetsCancels, &["cancel-before-hold", "late-original", "repeat-after-restart"]),
        (Flaw::CancelUndoes, &["cancel-is-a-fence"]),
        (Flaw::HoldsAgain, &["hold-once", "repeat-after-restart"]),
        (Flaw::RefusesLateCaptures, &["late-capture"]),
        (Flaw::ForgetsOnRestart, &["crash-after-commit", "repeat-after-restart"]),
        (Flaw::OneSided, &["books-balance"]),
    ];
    let tried = futures_util::future::join_all(cases.iter().map(|(flaw, _)| try_fake(*flaw))).await;
    for ((flaw, expected), reports) in cases.into_iter().zip(tried) {
        let failed = with(&reports, Verdict::Fail);
        // A credit that is lost leaves every account unfunded, so that much else fails with it.
        if flaw == Flaw::OneSided {
            assert!(failed.contains("books-balance"), "{flaw:?}: {failed:?}");
            continue;
        }
        assert_eq!(failed, expected.iter().copied().collect(), "{flaw:?}: {reports:#?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_verdict() {
    let error = run(&target("http://127.0.0.1:1".to_owned()), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("nobody listens at http://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_server_that_answers_nothing_sensible_fails_everything_in_plain_words() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = Target { patience: Duration::from_millis(300), ..target(url) };
    let reports = run(&silent, |_| {}).await.unwrap();
    assert_eq!(with(&reports, Verdict::Fail).len(), CHECKS - 2);
    assert!(reports.iter().all(|report| report.detail.len() < 120), "{reports:#?}");
}

/// The real ledger under a supervisor that starts it again whenever it dies, as an operator would have it.
struct Real {
    directory: TempDir,
    supervisor: Child,
    url: String,
}

impl Real {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| directory.path().join(name).display().to_string();
        // Waiting for the dead one frees its port and its books for the next.
        let supervisor = format!(
            "while :; do {} --data {} --service-token-file {} --listen 127.0.0.1:{port} 2>>{} & \
             echo $! >{pid}.new; mv {pid}.new {pid}; wait; done",
            Binaries::find().unwrap().ledger.display(),
            at("books"),
            at("service.token"),
            at("log"),
            pid = at("pid"),
        );
        let supervisor = Command::new("sh").args(["-c", &supervisor]).spawn().unwrap();
        Self { supervisor, url: format!("http://127.0.0.1:{port}"), directory }
    }

    /// Kills the ledger, and returns when there is another one.
    fn restart_command(&self) -> String {
        let pid = self.directory.path().join("pid").display().to_string();
        format!("old=$(cat {pid}); kill -9 $old; while [ $(cat {pid}) = $old ]; do sleep 0.01; done")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.supervisor.kill().unwrap();
        self.supervisor.wait().unwrap();
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    }
}

#[tokio::test]
async fn the_real_ledger_passes_everything_across_crashes_too() {
    let real = Real::start();
    while !atm_rpc::server::check_health(&real.url).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let token = BearerToken::load(&real.directory.path().join("service.token")).unwrap();
    let restart = Some(real.restart_command());
    let target = Target { token: Some(token), restart, ..target(real.url.clone()) };
    for round in 1..=2 {
        let reports = run(&target, |_| {}).await.unwrap();
        assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS, "round {round}: {reports:#?}");
    }
}
