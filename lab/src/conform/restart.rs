//! Restarting the server, and making sure that it was.
//!
//! A command that returns proves nothing: it may have restarted something else, or nothing, and a supervisor may kill
//! later than that. A connection that is held open meanwhile breaks when its process dies, and not before.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use atm_fault_proxy::Tcp;
use atm_proto::ledger::GetAccountRequest;
use atm_rpc::network::{Connect, Connecting, Stream};
use atm_rpc::retry::{is_retryable, normalized};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tonic::transport::Uri;

use super::NotTried;
use super::scene::{Client, Scene, new_id};

/// What the restarts would need.
const NO_COMMAND: &str = "no --restart-command was given";
/// How often the connection is used, lest the server lets it go for being idle.
const IN_USE: Duration = Duration::from_millis(500);

/// Opens TCP connections and cancels the token when one of them has ended.
#[derive(Debug)]
struct Watched(CancellationToken);

impl Connect for Watched {
    fn connect(&self, uri: &Uri) -> Connecting {
        let (connecting, ended) = (Tcp.connect(uri), self.0.clone().drop_guard());
        Box::pin(async move {
            // Whoever drops the connection drops the guard with it.
            let stream = InspectReader::new(connecting.await?, move |_: &[u8]| {
                let _held = &ended;
            });
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Scene {
    /// Insists that a restart may be tried: there is a command, and it did not fail to restart the server before.
    pub(super) fn may_restart(&self) -> Result<(), NotTried> {
        let known = self.not_restarted.get().map(String::as_str);
        let reason = if self.target.restart.is_none() { Some(NO_COMMAND) } else { known };
        reason.map_or(Ok(()), |reason| Err(NotTried(reason.to_owned())))
    }

    /// Runs the restart command, waits until the server has ended, and then until it answers.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        self.may_restart()?;
        let patience = self.target.patience * 10;
        let until = Instant::now() + patience;
        let broken = CancellationToken::new();
        let network: Arc<dyn Connect> = Arc::new(Watched(broken.clone()));
        let mut held = self.client_over(&network)?;
        ensure!(answers(&mut held).await, "the server does not answer before its restart");
        ensure!(!broken.is_cancelled(), "the server ends connections by itself");

        let command = self.target.restart.as_deref().unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let breaks = async {
            while timeout(IN_USE, broken.cancelled()).await.is_err() {
                answers(&mut held).await;
            }
        };
        let (ended, broke) = tokio::join!(timeout_at(until, shell.status()), timeout_at(until, breaks));
        let reason = match ended.ok().transpose()? {
            None => Some("the restart command does not end".to_owned()),
            Some(ended) if !ended.success() => Some(format!("the restart command failed: {ended}")),
            Some(_) if broke.is_err() => {
                Some(format!("the server was not restarted: its connection stayed open for {patience:?}"))
            }
            Some(_) => None,
        };
        if let Some(reason) = reason {
            return Err(NotTried(self.not_restarted.get_or_init(|| reason).clone()).into());
        }
        let mut client = self.client()?;
        let back = async {
            while !answers(&mut client).await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout_at(until, back).await.context("the server does not answer after its restart")
    }
}

/// Asks for an account that there is not; whatever the server itself says about it is an answer.
async fn answers(client: &mut Client) -> bool {
    let answer = client.get_account(GetAccountRequest { account_id: new_id() }).await;
    answer.map_or_else(|status| !is_retryable(&normalized(status)), |_| true)
}
