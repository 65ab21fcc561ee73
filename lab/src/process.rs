//! A service as a process that can be killed and started again at the same address.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// A running service. It is killed when this is dropped, and when the lab ends in any other way.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    // Goes before the child, whose number may be another's afterwards.
    watch: Watch,
    child: Child,
    address: SocketAddr,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Process {
    /// Starts `program` on a free port and waits until it serves. What it logs goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started or ends at once, with what it logged last.
    pub async fn start(program: PathBuf, arguments: Vec<String>, log: PathBuf) -> anyhow::Result<Self> {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, watch, address) = spawn(&program, &arguments, &[], &log, anywhere).await?;
        let process = Self { program, arguments, log, watch, child, address };
        process.serves().await?;
        Ok(process)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `kill -9`, and a start at the same address; returns when it serves again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.start_again(&[]).await?;
        self.serves().await
    }

    /// `kill -9`; returns when there is no process any more.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.watch.end().await?;
        self.child.kill().await.context("the process cannot be killed")
    }

    /// Starts it at the same address with this environment, once it has ended; returns when it says that it listens,
    /// which may be before it serves.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub async fn start_again(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let (child, watch, _) =
            spawn(&self.program, &self.arguments, environment, &self.log, self.address).await?;
        (self.watch, self.child) = (watch, child);
        Ok(())
    }

    /// Its number, as long as it has not ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = within(PATIENCE, self.child.wait()).await;
        let status = ended
            .with_context(|| format!("{} does not end", self.program.display()))?
            .context("it cannot be waited for")?;
        self.watch.end().await?;
        Ok(status)
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn serves(&self) -> anyhow::Result<()> {
        let url = self.url();
        let waiting = async {
            while !atm_rpc::server::check_health(&url).await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within(PATIENCE, waiting).await.with_context(|| format!("{} does not serve", self.program.display()))
    }
}

/// Kills a service when the lab was killed before it could: a shell that waits for the end of its input, which ends
/// with the lab.
#[derive(Debug)]
struct Watch(Child);

impl Watch {
    fn over(child: &Child) -> anyhow::Result<Self> {
        let id = child.id().context("a service ended at once")?;
        let shell = Command::new("sh")
            .args(["-c", r#"read -r never; kill -9 "$0""#, &id.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        shell.map(Self).context("sh cannot be started, which kills the services if the lab is killed")
    }

    /// Ends it without harm to the service.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.0.kill().await.context("sh cannot be killed")
    }
}

/// What comes of it, if it comes in time. Time in which this process itself is held does not count, so that a machine
/// that sleeps breaks nothing.
pub async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    const TICK: Duration = Duration::from_millis(100);
    tokio::pin!(future);
    for _ in 0..patience.as_millis().div_ceil(TICK.as_millis()) {
        if let Ok(done) = timeout(TICK, &mut future).await {
            return Some(done);
        }
    }
    None
}

/// Starts the program and reads its log until it says where it listens.
async fn spawn(
    program: &Path,
    arguments: &[String],
    environment: &[(&str, &str)],
    log: &Path,
    listen: SocketAddr,
) -> anyhow::Result<(Child, Watch, SocketAddr)> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .arg("--listen")
        .arg(listen.to_string())
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let watch = Watch::over(&child)?;
    let output = child.stderr.take().context("its log cannot be read")?;
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("{} cannot be written", log.display()))?;
    let (listens, told) = oneshot::channel();
    tokio::spawn(copy_log(output, file.into(), listens));
    match within(PATIENCE, told).await {
        Some(Ok(address)) => Ok((child, watch, address)),
        Some(Err(_)) => {
            let logged = std::fs::read_to_string(log).unwrap_or_default();
            bail!("{name} ended at once: {}", logged.lines().last().unwrap_or("it said nothing"))
        }
        None => bail!("{name} does not say where it listens"),
    }
}

/// Copies the log, so that the pipe never fills, and tells the first address in it.
async fn copy_log(
    output: tokio::process::ChildStderr,
    mut file: tokio::fs::File,
    listens: oneshot::Sender<SocketAddr>,
) {
    let mut lines = BufReader::new(output).lines();
    let mut listens = Some(listens);
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = file.write_all(format!("{line}\n").as_bytes()).await;
        // One service says it in a field, another within its message; all log JSON.
        let parsed: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        let address = parsed.and_then(|line| line["address"].as_str()?.parse().ok());
        if let (Some(address), Some(listens)) = (address, listens.take_if(|_| address.is_some())) {
            let _ = listens.send(address);
        }
    }
    let _ = file.flush().await;
}
