//! The conformance suite against ledgers that are wrong in one way each, and against the real one.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod fake;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{self, Child};
use std::time::Duration;

use atm_lab::binaries::Binaries;
use atm_lab::conform::{Report, Target, Verdict, run};
use atm_proto::ledger::ledger_service_server::LedgerServiceServer;
use atm_rpc::credentials::BearerToken;
use atm_rpc::process::SecretFile;
use atm_types::SystemIds;
use fake::{Fake, Flaw};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Status};

const CHECKS: usize = 22;
const AFTER_RESTARTS: [&str; 3] = ["capture-after-restart", "crash-after-commit", "repeat-after-restart"];

fn target(url: String) -> Target {
    let patience = Duration::from_secs(5);
    Target { url, token: None, currency: "BDT".to_owned(), restart: None, patience }
}

fn with(reports: &[Report], verdict: Verdict) -> BTreeSet<&'static str> {
    reports.iter().filter(|report| report.verdict == verdict).map(|report| report.name).collect()
}

/// Restarts the fake whenever a file appears, as the command makes it do: at once, and after it has returned.
fn restartable(fake: Fake, directory: &Path) -> String {
    let asked = directory.join("restart");
    let command = format!("(sleep 0.2; touch {}) >/dev/null 2>&1 &", asked.display());
    tokio::spawn(async move {
        loop {
            if asked.exists() {
                std::fs::remove_file(&asked).unwrap();
                fake.restart();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    command
}

async fn try_fake(flaw: Flaw) -> Vec<Report> {
    let directory = TempDir::new().unwrap();
    let (fake, url) = Fake::start(flaw);
    let restart = Some(restartable(fake, directory.path()));
    run(&Target { restart, ..target(url) }, |_| {}).await.unwrap().reports
}

#[tokio::test]
async fn a_ledger_that_keeps_its_word_passes_everything() {
    let reports = try_fake(Flaw::None).await;
    assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS, "{reports:#?}");
}

#[tokio::test]
async fn without_a_restart_command_the_restarts_are_not_tried_and_that_is_said() {
    let (_fake, url) = Fake::start(Flaw::ForgetsOnRestart);
    let reports = run(&target(url), |_| {}).await.unwrap().reports;
    assert_eq!(with(&reports, Verdict::NotTried), AFTER_RESTARTS.into());
    assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS - AFTER_RESTARTS.len());
    let reason = reports.iter().find(|report| report.verdict == Verdict::NotTried).unwrap();
    assert!(reason.detail.contains("--restart-command"));
}

#[tokio::test]
async fn a_restart_command_that_restarts_nothing_is_not_a_pass() {
    let (_fake, url) = Fake::start(Flaw::ForgetsOnRestart);
    let output = Command::new(env!("CARGO_BIN_EXE_atm-lab"))
        .args(["conform", "--json", "--target", &url, "--restart-command", "true", "--patience", "500ms"])
        .output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = "the server was not restarted: its connection stayed open for 5s";
    let checks = told["checks"].as_array().unwrap();
    let not_tried: Vec<_> = checks.iter().filter(|check| check["verdict"] == "not_tried").collect();
    assert_eq!(not_tried.len(), AFTER_RESTARTS.len());
    assert!(not_tried.iter().all(|check| check["detail"] == reason), "{told}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("atm-lab: --restart-command: {reason}")), "{said}");
}

#[tokio::test]
async fn a_ledger_without_suspensions_is_not_blamed_for_that() {
    let reports = try_fake(Flaw::SuspendsNothing).await;
    assert_eq!(with(&reports, Verdict::NotTried), ["resolve-once", "suspend-once"].into());
    assert_eq!(with(&reports, Verdict::Fail), BTreeSet::new(), "{reports:#?}");
    let reason = reports.iter().find(|report| report.verdict == Verdict::NotTried).unwrap();
    assert!(reason.detail.contains("does not implement SuspendTransaction"), "{}", reason.detail);
}

#[tokio::test]
async fn every_flaw_is_found_by_the_checks_that_are_for_it() {
    let cases: &[(Flaw, &[&str])] = &[
        (
            Flaw::ForgetsIds,
            &[
                "same-body",
                "changed-body",
                "changed-hold",
                "declined-then-funded",
                "concurrent-duplicates",
                "concurrent-holds",
                "another-callers-id",
                "cancel-before-hold",
                "late-original",
                "hold-once",
                "capture-after-expiry",
                "lost-answer",
                "crash-after-commit",
                "repeat-after-restart",
            ],
        ),
        (Flaw::IgnoresTheBody, &["changed-body"]),
        (Flaw::IgnoresTheBodyOfHolds, &["changed-hold"]),
        (Flaw::IgnoresTheCapturedAmount, &["hold-once"]),
        (Flaw::RedecidesDeclines, &["declined-then-funded", "repeat-after-restart"]),
        (Flaw::LooksThenPosts, &["concurrent-duplicates"]),
        (Flaw::LooksThenHolds, &["concurrent-holds"]),
        (Flaw::LooksThenCaptures, &["concurrent-captures"]),
        (Flaw::TrustsStrangers, &["another-callers-id", "suspend-once"]),
        (Flaw::TellsStrangers, &["another-callers-id"]),
        (
            Flaw::ForgetsCancels,
            &["another-callers-id", "cancel-before-hold", "late-original", "repeat-after-restart"],
        ),
        (Flaw::CancelUndoes, &["cancel-is-a-fence"]),
        (
            Flaw::HoldsAgain,
            &[
                "hold-once",
                "changed-hold",
                "concurrent-holds",
                "capture-after-expiry",
                "repeat-after-restart",
            ],
        ),
        (Flaw::RefusesLateCaptures, &["late-capture", "capture-after-expiry"]),
        (Flaw::NeverExpires, &["capture-after-expiry"]),
        (Flaw::SuspendsAgain, &["suspend-once", "books-balance"]),
        (Flaw::ResolvesAgain, &["resolve-once"]),
        (Flaw::ForgetsOnRestart, &AFTER_RESTARTS),
        (Flaw::ForgetsCapturesOnRestart, &["capture-after-restart"]),
        (Flaw::CashIsNeverCredited, &["both-sides", "books-balance"]),
        (Flaw::OnlySaysThatItBalances, &["books-balance"]),
        (Flaw::TrialBalanceOfNothing, &["books-balance"]),
        (Flaw::OneSided, &["both-sides", "books-balance"]),
    ];
    let tried = futures_util::future::join_all(cases.iter().map(|(flaw, _)| try_fake(*flaw))).await;
    for ((flaw, expected), reports) in cases.iter().zip(tried) {
        let failed = with(&reports, Verdict::Fail);
        // A credit that is lost leaves every account unfunded, so that much else fails with it.
        if *flaw == Flaw::OneSided {
            assert!(expected.iter().all(|name| failed.contains(name)), "{flaw:?}: {failed:?}");
            continue;
        }
        assert_eq!(failed, expected.iter().copied().collect(), "{flaw:?}: {reports:#?}");
    }
}

/// Has a server answer every call with this status; its URL.
async fn answering(status: Status) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |_: Request<()>| -> Result<Request<()>, Status> { Err(status.clone()) };
    let (fake, _) = Fake::start(Flaw::None);
    let server = Server::builder().add_service(LedgerServiceServer::with_interceptor(fake, answer));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

#[tokio::test]
async fn where_no_ledger_lets_us_in_nothing_is_tried_and_the_reason_is_told() {
    let locked = answering(Status::unauthenticated("show a token")).await;
    let something_else = answering(Status::unimplemented("")).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let directory = TempDir::new().unwrap();
    let secret = SecretFile::create_or_load(&directory.path().join("token"), &SystemIds).unwrap();
    let token = Some(BearerToken::from_secret(&secret).unwrap());
    let none = || target(String::new());
    for (target, said) in [
        (Target { url: "http://127.0.0.1:1".to_owned(), ..none() }, "nobody listens at http://127.0.0.1:1"),
        (
            Target { url: locked.clone(), ..none() },
            "wants a service token, see --service-token-file: show a token",
        ),
        (Target { url: locked, token, ..none() }, "does not accept the token of --service-token-file"),
        (Target { url: something_else, ..none() }, "no atm.ledger.v1.LedgerService is served at http://"),
        (
            Target { url: silent, patience: Duration::from_millis(300), ..none() },
            "does not answer within 300ms",
        ),
    ] {
        let error = run(&target, |report| panic!("{report:?}")).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains(&target.url), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_answers_nothing_sensible_fails_everything_in_plain_words() {
    let url = answering(Status::internal("broken")).await;
    let reports = run(&target(url), |_| {}).await.unwrap().reports;
    assert_eq!(with(&reports, Verdict::Fail).len(), CHECKS - AFTER_RESTARTS.len());
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
        let supervisor = process::Command::new("sh").args(["-c", &supervisor]).spawn().unwrap();
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
        process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
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
        let reports = run(&target, |_| {}).await.unwrap().reports;
        assert_eq!(with(&reports, Verdict::Pass).len(), CHECKS, "round {round}: {reports:#?}");
    }
}
