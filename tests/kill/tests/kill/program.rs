//! One run of the cash machine's program: which calls of it are open, what it said, and how it ended.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atm_lab::process::within;
use atm_lab::scenario::Victim;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

use crate::scene::{Call, Scene};

pub(crate) const PIN: &str = "1234";
/// A reading is asked for so often, each time with a deadline of its own, before nobody believes in an answer.
const ATTEMPTS: u32 = 20;
/// No command takes so long, whoever is killed.
const PATIENCE: Duration = Duration::from_secs(100);

/// How a run ends.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// By itself.
    Live,
    /// At this crash point.
    At(String),
    /// Killed from outside after so long, wherever it is then.
    After(Duration),
}

/// What a run said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; nothing when it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
    /// The crash points that it passed.
    pub(crate) points: Vec<String>,
    /// Whether a call was open when it ended.
    pub(crate) calling: bool,
}

impl Said {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }
}

/// The program with a state directory of its own.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) scene: Arc<Scene>,
    home: TempDir,
}

impl Program {
    pub(crate) fn new(scene: &Arc<Scene>) -> Self {
        Self { scene: Arc::clone(scene), home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("atm")
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_until(arguments, PIN, &Fate::Live).await
    }

    /// Runs it until it succeeds, for what may be repeated.
    pub(crate) async fn insist(&self, arguments: &[&str]) -> Value {
        let mut last = Value::Null;
        for _ in 0..ATTEMPTS {
            let said = self.run(arguments).await;
            match said.code {
                Some(0) => return said.json,
                Some(3 | 5) => last = said.json,
                _ => panic!("{arguments:?}: {said:?}"),
            }
        }
        panic!("{arguments:?}: never answered, last {last}");
    }

    /// Runs it with this PIN until its fate, and lets everybody see its calls.
    pub(crate) async fn run_until(&self, arguments: &[&str], pin: &str, fate: &Fate) -> Said {
        let mut command = self.command(arguments, pin);
        if let Fate::At(point) = fate {
            command.args(["--crash-at", point]);
        }
        let mut child = command.spawn().unwrap();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut watched = Watched::new(&self.scene);
        let mut output = String::new();
        let reading = async {
            tokio::join!(watched.read(stderr), async {
                stdout.read_to_string(&mut output).await.unwrap();
            });
        };
        if let Fate::After(time) = fate {
            tokio::pin!(reading);
            if timeout(*time, &mut reading).await.is_err() {
                child.start_kill().unwrap();
                reading.await;
            }
        } else {
            within(PATIENCE, reading).await.unwrap_or_else(|| panic!("{arguments:?} does not end"));
        }
        let status = child.wait().await.unwrap();
        let calling = watched.call.take().is_some();
        Said {
            code: status.code(),
            json: serde_json::from_str(output.trim()).unwrap_or_default(),
            points: watched.points,
            calling,
        }
    }

    fn command(&self, arguments: &[&str], pin: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_armed-cli"));
        command
            .env_clear()
            .args(arguments)
            .arg("--json")
            .env("ATM_GATEWAY", &self.scene.gateway)
            .env("ATM_OPERATOR_TOKEN_FILE", &self.scene.operator_token_file)
            .env("ATM_PIN", pin)
            .env("ATM_STATE_DIR", self.state())
            .env("RUST_LOG", "crash_point=trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// What a run's log tells while it runs.
struct Watched<'a> {
    scene: &'a Arc<Scene>,
    points: Vec<String>,
    call: Option<Call>,
}

impl<'a> Watched<'a> {
    fn new(scene: &'a Arc<Scene>) -> Self {
        Self { scene, points: Vec::new(), call: None }
    }

    async fn read(&mut self, log: ChildStderr) {
        let mut lines = BufReader::new(log).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(point) = line["point"].as_str() {
                self.passes(point);
            }
        }
    }

    fn passes(&mut self, point: &str) {
        if let Some(called) = called_after(point) {
            self.call = Some(Call::begin(self.scene, called));
        } else if point == "LOGGED_IN" || point.ends_with("_ANSWERED") {
            self.call = None;
        }
        self.points.push(point.to_owned());
    }
}

/// Whose answer a machine waits for after this point.
fn called_after(point: &str) -> Option<Victim> {
    match point.strip_prefix("BEFORE_")? {
        "SIGN_ON" | "LOG_IN" => Some(Victim::Auth),
        "AUTHORIZE" | "CAPTURE" | "CANCEL" | "SUSPEND" | "RECORD_MOVEMENT" | "DEPOSIT" | "TRANSFER" => {
            Some(Victim::Ledger)
        }
        _ => None,
    }
}

/// Copies a machine's disks.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
