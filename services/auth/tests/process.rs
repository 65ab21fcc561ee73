//! The program itself: what it says when it does not start, and what a kill leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may stop where it is")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_proto::auth::auth_service_client::AuthServiceClient;
use atm_proto::auth::{CardToIssue, IssueCardsRequest, VerifyPinRequest};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_rpc::process::SecretFile;
use atm_types::{AccountId, IdSource, SystemIds};
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

const CARD: &str = "123456789";

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        SecretFile::create_or_load(&home.token(), &SystemIds).unwrap();
        home
    }

    fn token(&self) -> PathBuf {
        self.0.path().join("service.token")
    }

    fn pepper(&self) -> PathBuf {
        self.0.path().join("secrets/pepper")
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atm-auth"));
        command
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .args(["--data".as_ref(), self.data().as_os_str()])
            .args(["--service-token-file".as_ref(), self.token().as_os_str()])
            .args(["--pepper-file".as_ref(), self.pepper().as_os_str()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it until it ends by itself.
    fn refused(&self, more: &[&str]) -> String {
        let output = self.command(more).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "it started: {text}");
        text
    }

    fn start(&self, more: &[&str]) -> Process {
        let mut child =
            self.command(&["--listen", "127.0.0.1:0"]).args(more).env("RUST_LOG", "trace").spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut output = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it did not start: {output}")).unwrap();
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            output.push_str(&line);
            if event["message"] == "listening" {
                break event["address"].as_str().unwrap().to_owned();
            }
        };
        let output = Arc::new(Mutex::new(output));
        let sink = Arc::clone(&output);
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push_str(&line);
            }
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            sink.lock().unwrap().push_str(&rest);
        });
        Process { child, url: format!("http://{address}"), output, reader: Some(reader) }
    }

    fn client(&self, process: &Process) -> AuthServiceClient<InterceptedService<Channel, AttachToken>> {
        let channel = Endpoint::from_shared(process.url.clone()).unwrap().connect_lazy();
        let token = BearerToken::load(&self.token()).unwrap();
        AuthServiceClient::with_interceptor(channel, AttachToken::new(token))
    }
}

struct Process {
    child: Child,
    url: String,
    output: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    fn terminate(&mut self) -> ExitStatus {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn press(pin: &str) -> VerifyPinRequest {
    VerifyPinRequest {
        card_number: CARD.to_owned(),
        pin: pin.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
        atm_id: "ATM-0042".to_owned(),
        terminal_id: "a5".repeat(32),
        boot: None,
    }
}

fn cards(pin: &str) -> IssueCardsRequest {
    let card = CardToIssue {
        card_number: CARD.to_owned(),
        account_id: AccountId::of_number("Farhan").to_string(),
        pin: pin.to_owned(),
    };
    IssueCardsRequest { cards: vec![card] }
}

fn reason<T>(answer: &Result<T, tonic::Status>) -> Option<String> {
    answer.as_ref().err().and_then(atm_rpc::status::reason)
}

#[test]
fn row_02_beyond_loopback_only_with_insecure() {
    let home = Home::new();
    let refused = home.refused(&["--listen", "0.0.0.0:0"]);
    assert!(refused.contains("0.0.0.0:0") && refused.contains("--insecure"), "{refused}");
    assert!(!home.data().exists(), "nothing was made");
    home.start(&[]).kill();
}

#[test]
fn what_is_wrong_with_a_flag_or_a_file_is_said_in_a_sentence() {
    let home = Home::new();
    let cheap = home.refused(&["--hash-memory-kib", "8"]);
    assert!(cheap.contains("at least 19456 KiB"), "{cheap}");
    std::fs::write(home.data(), "a file").unwrap();
    let in_the_way = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(in_the_way.contains("cannot lock") && in_the_way.contains("data"), "{in_the_way}");
    std::fs::remove_file(home.token()).unwrap();
    let tokenless = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(tokenless.contains("service.token does not exist"), "{tokenless}");
}

#[test]
fn row_27_a_second_process_on_the_same_data_leaves_and_names_the_first() {
    let home = Home::new();
    let mut first = home.start(&[]);
    let refused = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(refused.contains(&format!("process {}", first.child.id())), "{refused}");
    first.kill();
    home.start(&[]).kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_a_wrong_or_missing_pepper_is_told_to_the_operator() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    process.kill();
    std::fs::rename(home.pepper(), home.0.path().join("kept")).unwrap();
    let missing = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(missing.contains("missing although cards exist"), "{missing}");
    SecretFile::create_or_load(&home.pepper(), &SystemIds).unwrap();
    let wrong = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(wrong.contains("every PIN would be wrong"), "{wrong}");
    std::fs::rename(home.0.path().join("kept"), home.pepper()).unwrap();
    home.start(&[]).kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_every_answered_guess_survives_a_kill() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    for expected in ["WRONG_CARD_OR_PIN", "WRONG_CARD_OR_PIN", "CARD_LOCKED", "CARD_LOCKED"] {
        let answer = home.client(&process).verify_pin(press("4321")).await;
        // The moment the answer is here.
        process.kill();
        assert_eq!(reason(&answer).as_deref(), Some(expected));
        process = home.start(&[]);
    }
    let answer = home.client(&process).verify_pin(press("1234")).await;
    assert_eq!(reason(&answer).as_deref(), Some("CARD_LOCKED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_guesses_never_gives_a_fourth_one_away() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    let mut told_wrong = 0;
    for round in 0..8_u64 {
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut client = home.client(&process);
            guesses.spawn(async move { client.verify_pin(press("4321")).await });
        }
        // At another moment of the verifications each time.
        tokio::time::sleep(Duration::from_millis(10 + 7 * round)).await;
        process.kill();
        while let Some(answer) = guesses.join_next().await {
            told_wrong += usize::from(reason(&answer.unwrap()).as_deref() == Some("WRONG_CARD_OR_PIN"));
        }
        process = home.start(&[]);
        assert!(told_wrong <= 2, "round {round}: {told_wrong} guesses were told that they were wrong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_ends_well_and_health_tells_whether_it_serves() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let health = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atm-auth"));
        // As in a container, whose environment is that of the service.
        for (name, value) in [
            ("ATM_AUTH_DATA", "/data"),
            ("ATM_SERVICE_TOKEN_FILE", "/secrets/service.token"),
            ("ATM_PEPPER_FILE", "/secrets/pepper"),
            ("ATM_AUTH_LISTEN", "0.0.0.0:50052"),
            ("ATM_INSECURE", "true"),
        ] {
            command.env(name, value);
        }
        command.args(["health", "--url", url]).status().unwrap().code()
    };
    assert_eq!(health(&process.url), Some(0));
    assert!(process.terminate().success());
    assert_eq!(health(&process.url), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_the_program_prints_no_secret_even_at_trace() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let (pin, wrong) = ("739104628517", "518273640951");
    home.client(&process).issue_cards(cards(pin)).await.unwrap();
    let token = home.client(&process).verify_pin(press(pin)).await.unwrap().into_inner().session_token;
    assert!(home.client(&process).verify_pin(press(wrong)).await.is_err());
    assert!(process.terminate().success());
    let output = process.output.lock().unwrap().clone();
    assert!(output.contains("TRACE") && output.contains("verified a PIN"), "nothing was captured");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    for secret in [pin, wrong, CARD, &token, &read(&home.token()), &read(&home.pepper())] {
        assert!(!output.contains(secret), "{secret} was printed");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn hashing_takes_the_memory_of_its_permits_and_gives_it_back() {
    const MIB: u64 = 1024;
    let home = Home::new();
    let process = home.start(&["--hash-permits", "2", "--hash-queue", "64"]);
    let kib = |what: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = kib("VmRSS");
    let client = home.client(&process);
    for round in 0..3 {
        let mut guesses = tokio::task::JoinSet::new();
        for number in 0..20 {
            let mut client = client.clone();
            let request =
                VerifyPinRequest { card_number: format!("55550{round}{number:02}"), ..press("1234") };
            guesses.spawn(async move { client.verify_pin(request).await });
        }
        while let Some(answer) = guesses.join_next().await {
            assert_eq!(reason(&answer.unwrap()).as_deref(), Some("WRONG_CARD_OR_PIN"));
        }
    }
    // 60 hashes of 19 MiB each, never more than two of them at once; the rest is threads and connections.
    let (peak, after) = (kib("VmHWM"), kib("VmRSS"));
    assert!(peak < before + 2 * 19 * MIB + 12 * MIB, "{before} KiB became {peak} KiB");
    assert!(after < before + 12 * MIB, "{before} KiB stayed {after} KiB");
}
