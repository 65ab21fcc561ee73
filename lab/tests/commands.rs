//! The program as its users meet it.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use atm_lab::process::within;
use atm_proto::text::LowercaseRequest;
use atm_proto::text::text_service_client::TextServiceClient;
use atm_proto::text::text_service_server::{TextService, TextServiceServer};
use atm_proto::text::{
    CheckPalindromeRequest, CheckPalindromeResponse, CheckPrimeRequest, CheckPrimeResponse,
    LowercaseResponse, UppercaseRequest, UppercaseResponse,
};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use tempfile::TempDir;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

fn lab(arguments: &[&str]) -> std::process::Output {
    assert_cmd::Command::cargo_bin("atm-lab").unwrap().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Lowers, and nothing else.
struct Lower;

#[tonic::async_trait]
impl TextService for Lower {
    async fn lowercase(
        &self,
        request: Request<LowercaseRequest>,
    ) -> Result<Response<LowercaseResponse>, Status> {
        Ok(Response::new(LowercaseResponse { text: request.into_inner().text.to_lowercase() }))
    }

    async fn uppercase(&self, _: Request<UppercaseRequest>) -> Result<Response<UppercaseResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn check_prime(
        &self,
        _: Request<CheckPrimeRequest>,
    ) -> Result<Response<CheckPrimeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn check_palindrome(
        &self,
        _: Request<CheckPalindromeRequest>,
    ) -> Result<Response<CheckPalindromeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// The proxy as a process of its own, before some server.
struct Proxy {
    child: Child,
    url: String,
}

impl Proxy {
    async fn start(flags: &[&str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(TextServiceServer::new(Lower));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let mut child = Command::new(env!("CARGO_BIN_EXE_atm-lab"))
            .args(["proxy", "--json", "--listen", "127.0.0.1:0", "--upstream", &upstream])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
        let url =
            said.split_whitespace().filter(|word| word.starts_with("http://")).nth(1).unwrap().to_owned();
        Self { child, url }
    }

    async fn say(&self, text: &str) -> Result<String, Status> {
        let channel = lazy_channel(&self.url, &ChannelConfig::default()).unwrap();
        let request = LowercaseRequest { text: text.to_owned() };
        Ok(TextServiceClient::new(channel).lowercase(request).await?.into_inner().text)
    }

    /// Asks it to end; its counters.
    fn end(self) -> serde_json::Value {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

const LOWERCASE: &str = "/atm.text.v1.TextService/Lowercase";

#[tokio::test]
async fn the_proxy_stands_alone_and_tells_what_it_did() {
    let proxy = Proxy::start(&["--lose-answer", "1", "--heard"]).await;
    proxy.say("HELLOW").await.unwrap_err();
    let told = proxy.end();
    assert_eq!(told[LOWERCASE]["answered"], 1);
    assert_eq!(told[LOWERCASE]["faults"]["lost_answer"], 1);
}

#[tokio::test]
async fn the_example_rules_leave_other_methods_alone() {
    let rules = in_repository("rules/example.toml");
    let proxy = Proxy::start(&["--rules", rules.to_str().unwrap()]).await;
    assert_eq!(proxy.say("HELLOW").await.unwrap(), "hellow");
    assert_eq!(proxy.end()[LOWERCASE]["faults"], serde_json::json!({}));
}

#[test]
fn the_proxy_refuses_to_be_reached_from_elsewhere_and_rules_that_make_no_sense() {
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("second-is-wrong.toml");
    std::fs::write(&rules, "[[rule]]\nlose_request = 0.5\n[[rule]]\nlose_answer = 1.5\n").unwrap();
    let rules = rules.to_str().unwrap();
    for (flags, word) in [
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--lose-request", "1.5"], "atm-lab: --lose-request must be from 0 to 1"),
        (["--reorder", "1.5"], "atm-lab: --reorder must be from 0 to 1"),
        (
            ["--upstream", "https://127.0.0.1:1"],
            "--upstream: \"https://127.0.0.1:1\" is not a URL such as http://",
        ),
        (["--rules", "nowhere.toml"], "nowhere.toml"),
        (["--rules", rules], "second-is-wrong.toml: rule 2: lose_answer must be from 0 to 1"),
    ] {
        let upstream: &[&str] =
            if flags[0] == "--upstream" { &[] } else { &["--upstream", "http://127.0.0.1:1"] };
        let output = lab(&[&["proxy"], &flags[..], upstream].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}

/// A result whose only point is that of the given attempts, half of which were lost.
fn result(directory: &Path, attempts: f64, books: &str, explained: &str) -> String {
    let header = "scenario,title,series,call,time_scale,loss,lose_request,lose_answer,heard,attempt_timeout_ms,\
                  initial_backoff_ms,max_backoff_ms,multiplier,deadline_ms,seed,commit,n,requests_lost,\
                  answers_lost,kills,attempts,attempts_low,attempts_high,time_ms,time_low_ms,time_high_ms,\
                  time_median_ms,time_p95_ms,service_ms,failure_ms,known,unknown_applied,unknown_never,books,explained";
    // Theory: 1 / 0.5 = 2 attempts, and one interval of 200 ms besides the service.
    let row = format!(
        "x,X,both,withdraw,5,0.5,0.5,0.0,never,200.0,0.0,0.0,1.0,,1,abc,1000,{},0,0,{attempts},{},{},205.0,\
         200.0,210.0,100.0,600.0,5.0,0.0,1000,0,0,{books},{explained}",
        (attempts * 500.0).round(),
        attempts - 0.05,
        attempts + 0.05
    );
    let path = directory.join("x.csv");
    std::fs::write(&path, format!("{header}\n{row}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn verify_tells_agreement_explanation_and_difference_by_its_exit_code() {
    let directory = TempDir::new().unwrap();
    for (attempts, books, explained, code, word) in [
        (2.0, "ok", "", 0, "agrees"),
        (2.3, "ok", "", 1, "DIFFERS"),
        (2.3, "ok", "a dead ledger", 0, "explained"),
        (2.9, "ok", "a dead ledger", 0, "explained"),
        // No reason excuses more than half.
        (3.1, "ok", "a dead ledger", 1, "DIFFERS"),
        (2.0, "wrong", "a dead ledger", 1, "DIFFERS"),
    ] {
        let output = lab(&["verify", &result(directory.path(), attempts, books, explained)]);
        assert_eq!(output.status.code(), Some(code), "{attempts} {books}");
        let said = text(&output.stdout);
        assert!(said.contains(word), "{said}");
        assert!(!said.contains('\u{1b}'), "no colours in a pipe");
    }
}

#[test]
fn plot_draws_pictures_with_a_ground_of_their_own() {
    let directory = TempDir::new().unwrap();
    let file = result(directory.path(), 2.0, "ok", "");
    let output = lab(&["plot", &file, "--json"]);
    let drawn: Vec<PathBuf> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(drawn.len(), 2);
    for path in drawn {
        let picture = std::fs::read_to_string(path).unwrap();
        assert!(picture.starts_with("<svg") && picture.contains("#FFFFFF") && picture.contains("theory"));
        assert!(picture.contains("run 5 times faster than stated"));
    }
}

#[test]
fn a_picture_that_cannot_be_written_is_named() {
    let directory = TempDir::new().unwrap();
    let file = result(directory.path(), 2.0, "ok", "");
    // A file where a directory should be: even the superuser cannot make one there.
    let out = directory.path().join("x.csv/pictures");
    let output = lab(&["plot", &file, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("cannot make {}", out.display())), "{said}");
}

#[test]
fn what_is_no_result_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.csv");
    std::fs::write(&path, "a,b\n1,2\n").unwrap();
    let output = lab(&["verify", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("lab run"));
}

/// The shortest experiment that has everything: losses both ways, a deadline, kills, real processes, books.
const TINY: &str = r#"
        name = "tiny"
        title = "Tiny"
        call = "withdraw"
        time_scale = 5
        losses = [0.4]
        transactions = 80
        concurrency = 40
        per_second = 100
        quick = { losses = [0.4], transactions = 80 }
        resend = { backoff = { attempt_timeout = "1s", initial = "50ms", max = "1s", multiplier = 2.0 } }
        deadline = "2s"
        series = [{ name = "both", lose_request = "sweep", lose_answer = "sweep" }]
        kill = { service = "ledger", every = "400ms" }
        explained = "the ledger is killed"
    "#;

#[test]
fn an_experiment_with_real_processes_leaves_right_books_and_a_result_that_can_be_read() {
    let directory = TempDir::new().unwrap();
    let scenario = directory.path().join("tiny.toml");
    std::fs::write(&scenario, TINY).unwrap();
    let out = directory.path().join("out");
    let output = lab(&["run", scenario.to_str().unwrap(), "--out", out.to_str().unwrap(), "--seed", "7"]);
    // A crowded machine may put the shares off, which is exit code 1; wrong books leave no result.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output.stderr));
    let rows = atm_lab::row::read(&out.join("tiny.csv")).unwrap();
    let row = &rows[0];
    assert_eq!((rows.len(), row.n, row.books.as_str()), (1, 80, "ok"));
    assert_eq!(row.known + row.unknown_applied + row.unknown_never, 80);
    assert!(row.requests_lost > 0 && row.answers_lost > 0 && row.kills > 0, "{row:?}");
    assert!(row.unknown_applied + row.unknown_never > 0, "{row:?}");
    assert!(out.join("tiny-shares.svg").exists());
}

/// What a lab has started that is called so, by its process numbers (proc(5)).
#[cfg(target_os = "linux")]
fn started_by(lab: u32, called: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (name, fields) = stat.rsplit_once(')')?;
        let parent = fields.split_whitespace().nth(1)?;
        (parent == lab.to_string() && name.contains(called)).then_some(id)
    });
    processes.collect()
}

/// Whether there is such a process that has not ended.
#[cfg(target_os = "linux")]
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_lab_that_is_killed_leaves_no_service_behind() {
    let directory = TempDir::new().unwrap();
    let scenario = directory.path().join("long.toml");
    std::fs::write(&scenario, TINY.replace("80", "100000")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_atm-lab"))
        .args(["run", scenario.to_str().unwrap(), "--out", directory.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Each has a shell beside it, which outlives the lab.
    let all_run = async {
        while started_by(child.id(), "(sh").len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(Duration::from_secs(600), all_run).await.unwrap();
    let services = started_by(child.id(), "(atm-");
    assert_eq!(services.len(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let all_ended = async {
        while services.iter().any(|id| runs(*id)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(Duration::from_secs(60), all_ended).await.unwrap();
}

/// docs/plots: every scenario's result, with a verdict that nothing differs, and pictures that are drawn from it.
#[test]
fn the_published_results_are_complete_agree_with_theory_and_are_what_the_pictures_show() {
    let published = in_repository("../docs/plots");
    let drawn = TempDir::new().unwrap();
    let page = std::fs::read_to_string(in_repository("../docs/FAULT_LAB.md")).unwrap();
    let mut pictures = 0;
    for scenario in std::fs::read_dir(in_repository("scenarios")).unwrap() {
        let scenario = atm_lab::scenario::Scenario::read(&scenario.unwrap().path()).unwrap();
        let file = published.join(format!("{}.csv", scenario.name));
        let points = scenario.losses.len() * scenario.series.len();
        assert_eq!(atm_lab::row::read(&file).unwrap().len(), points, "{}", scenario.name);
        let file = file.to_str().unwrap();
        let verdict = lab(&["verify", file]);
        assert!(verdict.status.success(), "{}", text(&verdict.stdout));
        let output = lab(&["plot", file, "--out", drawn.path().to_str().unwrap(), "--json"]);
        let paths: Vec<PathBuf> = serde_json::from_slice(&output.stdout).unwrap();
        for path in paths {
            let name = path.file_name().unwrap();
            let (now, then) = (std::fs::read(&path).unwrap(), std::fs::read(published.join(name)).unwrap());
            assert!(now == then, "{} is not what `lab plot` draws", path.display());
            assert!(page.contains(&format!("plots/{}", name.display())), "{} is not shown", path.display());
            pictures += 1;
        }
    }
    assert_eq!(pictures, 13);
}
