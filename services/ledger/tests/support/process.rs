//! The real program, as a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// A running ledger process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    log: mpsc::UnboundedReceiver<String>,
}

/// How a process ended that was not to serve for long, and what it logged.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atm-ledger"));
    command
        .env_clear()
        .arg("--data")
        .arg(data(directory))
        .arg("--service-token-file")
        .arg(token(directory))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub fn data(directory: &Path) -> PathBuf {
    directory.join("books")
}

pub fn token(directory: &Path) -> PathBuf {
    directory.join("service.token")
}

/// Runs the program until it ends by itself.
pub async fn run(directory: &Path, arguments: &[&str]) -> Ended {
    let output = command(directory).args(arguments).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap();
    Ended { status: output.status, log: String::from_utf8(output.stderr).unwrap() }
}

impl Process {
    /// Starts the program on a free port and waits until it serves.
    pub async fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[]).await
    }

    /// The same, with more in its environment.
    pub async fn start_with(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command(directory)
            .env("ATM_LEDGER_LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, mut log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        let address = loop {
            let line: String = log.recv().await.expect("the process says where it listens before it ends");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_ne!(line["level"], "ERROR", "{line}");
            if let Some(address) = line["address"].as_str() {
                break address.parse().unwrap();
            }
        };
        let process = Self { child, address, log };
        while !atm_rpc::server::check_health(&process.url()).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not ended yet")
    }

    /// Waits until it has ended, by itself or by another's hand.
    pub async fn has_ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// `kill -9`: the process gets no chance to do anything.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks the process to end (SIGTERM).
    pub async fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) -> Ended {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait());
        let status = ended.await.expect("it ends").unwrap();
        let mut log = String::new();
        while let Some(line) = self.log.recv().await {
            log += &line;
            log.push('\n');
        }
        Ended { status, log }
    }
}
