//! The real program in a directory of its own, and short words for what is asked of it.
#![allow(dead_code, reason = "each test file uses the part that it needs")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use atm_proto::auth::auth_service_client::AuthServiceClient;
use atm_proto::auth::{CardToIssue, IssueCardsRequest, VerifyPinRequest};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_rpc::process::SecretFile;
use atm_types::{AccountId, IdSource, SystemIds};
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub(crate) const CARD: &str = "123456789";

/// A directory with all that the service needs, and the program.
pub(crate) struct Home(pub(crate) TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        SecretFile::create_or_load(&home.token(), &SystemIds).unwrap();
        home
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.0.path().join("service.token")
    }

    pub(crate) fn pepper(&self) -> PathBuf {
        self.0.path().join("secrets/pepper")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
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
    pub(crate) fn refused(&self, more: &[&str]) -> String {
        let output = self.command(more).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "it started: {text}");
        text
    }

    pub(crate) fn start(&self, more: &[&str]) -> Process {
        self.start_with(more, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn start_with(&self, more: &[&str], environment: &[(&str, OsString)]) -> Process {
        let mut command = self.command(&["--listen", "127.0.0.1:0"]);
        command.args(more).env("RUST_LOG", "trace").envs(environment.iter().cloned());
        let mut child = command.spawn().unwrap();
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

    pub(crate) fn client(
        &self,
        process: &Process,
    ) -> AuthServiceClient<InterceptedService<Channel, AttachToken>> {
        let channel = Endpoint::from_shared(process.url.clone()).unwrap().connect_lazy();
        let token = BearerToken::load(&self.token()).unwrap();
        AuthServiceClient::with_interceptor(channel, AttachToken::new(token))
    }
}

/// A running service. It is killed when this is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) output: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// The same for one that may have ended by itself.
    pub(crate) fn kill_if_it_lives(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
        }
        self.wait();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
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

pub(crate) fn press(pin: &str) -> VerifyPinRequest {
    VerifyPinRequest {
        card_number: CARD.to_owned(),
        pin: pin.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
        atm_id: "ATM-0042".to_owned(),
        terminal_id: "a5".repeat(32),
        boot: None,
    }
}

pub(crate) fn cards(pin: &str) -> IssueCardsRequest {
    let card = CardToIssue {
        card_number: CARD.to_owned(),
        account_id: AccountId::of_number("Farhan").to_string(),
        pin: pin.to_owned(),
    };
    IssueCardsRequest { cards: vec![card] }
}

pub(crate) fn reason<T>(answer: &Result<T, tonic::Status>) -> Option<String> {
    answer.as_ref().err().and_then(atm_rpc::status::reason)
}
