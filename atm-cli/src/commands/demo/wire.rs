//! A wire between the cash machine and the gateway that can lose an answer.
//!
//! It forwards bytes both ways and looks only at the nine-byte headers of HTTP/2 frames (RFC 9113 §4.1) that come
//! from the gateway. A DATA frame is the body of an answer: when it appears, the bank has done what it was asked,
//! and whatever it did is committed. To lose that answer the wire is cut right there, before the frame has passed.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What happens to the next answers, in order; when the plan is empty, all pass.
#[derive(Default)]
struct Plan {
    lose: VecDeque<bool>,
    lost: u32,
}

/// The wire; it is gone when this is dropped.
pub(super) struct Wire {
    plan: Arc<Mutex<Plan>>,
    address: SocketAddr,
    task: AbortHandle,
}

impl Wire {
    /// Lays a wire to the server at `target`.
    pub(super) async fn lay(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = Arc::clone(&shared);
                tokio::spawn(async move {
                    // However it ends, both sides see a closed connection, as on a real wire.
                    let _ = carry(client, target, &plan).await;
                });
            }
        });
        Ok(Self { plan, address, task: task.abort_handle() })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Decides about the next answers: true loses one.
    pub(super) fn lose(&self, answers: &[bool]) {
        self.lock().lose = answers.iter().copied().collect();
    }

    /// How many answers were lost so far.
    pub(super) fn lost(&self) -> u32 {
        self.lock().lost
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, plan: &Mutex<Plan>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        up = tokio::io::copy(&mut from_client, &mut to_server) => up.map(|_| ()),
        down = answers(from_server, to_client, plan) => down,
    }
}

/// Forwards the server's frames until one is to be lost.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Mutex<Plan>) -> io::Result<()> {
    const DATA: u8 = 0;
    loop {
        let mut frame = vec![0; 9];
        from.read_exact(&mut frame).await?;
        let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
        let kind = frame[3];
        frame.resize(9 + length, 0);
        from.read_exact(&mut frame[9..]).await?;
        if kind == DATA && length > 0 {
            let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
            if plan.lose.pop_front() == Some(true) {
                plan.lost += 1;
                return Ok(());
            }
        }
        to.write_all(&frame).await?;
    }
}
