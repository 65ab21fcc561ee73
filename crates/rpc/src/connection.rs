//! One accepted connection: it has to introduce itself, to call something, and to stay alive.
//!
//! A peer that sends garbage is closed at once; one that says nothing, at the handshake timeout; one that never
//! makes a call, at the first-call timeout; one that stops answering pings, at the keepalive timeout; one that
//! begins calls only to reset them, after a thousand; one that has no calls for long is asked to go (GOAWAY),
//! which a client answers by connecting anew later.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use crate::network::{Gathering, Stream};
use crate::streams::StreamsLayer;

/// What every HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take, and how large its parts may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionConfig {
    pub(crate) handshake_timeout: Duration,
    pub(crate) first_call_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) max_streams: u32,
    pub(crate) max_local_error_resets: usize,
    pub(crate) max_header_list_bytes: u32,
}

/// Serves one connection until it ends, is asked to go and has gone, or is cut.
///
/// `going_away` asks it to finish its calls and close; `cut` closes it with its calls.
pub(crate) async fn serve<S>(
    mut stream: impl Stream,
    peer: SocketAddr,
    config: ConnectionConfig,
    service: S,
    streams: StreamsLayer,
    going_away: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let introduced = tokio::select! {
        biased;
        () = going_away.cancelled() => return,
        introduced = timeout(config.handshake_timeout, introduces_itself(&mut stream)) => introduced,
    };
    if !matches!(introduced, Ok(Ok(true))) {
        tracing::debug!(%peer, "closed a connection that does not speak HTTP/2");
        return;
    }
    let calls = Arc::new(Calls::default());
    let info = TcpConnectInfo { local_addr: None, remote_addr: Some(peer) };
    let service = PerConnection { service, peer: info, calls: Arc::clone(&calls) };
    let stream = Rewound { preface: &PREFACE, stream: Gathering::new(TokioIo::new(stream)) };
    let mut connection = pin!(builder(&config).serve_connection(stream, service));

    let mut asked_to_go = false;
    let mut idle = Idle::NoCallYet;
    let mut patience = pin!(tokio::time::sleep(config.first_call_timeout));
    loop {
        // Orders before work, and work before patience: a call that has just arrived is one.
        tokio::select! {
            biased;
            () = cut.cancelled() => return,
            () = calls.flooded.cancelled() => {
                tracing::debug!(%peer, "closed a connection that abandons its calls");
                return;
            }
            () = going_away.cancelled(), if !asked_to_go => {
                asked_to_go = true;
                connection.as_mut().graceful_shutdown();
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection ended badly");
                }
                return;
            }
            () = &mut patience => {
                idle = idle.next(&calls, streams.open());
                match idle {
                    Idle::NoCallYet | Idle::InUse { .. } => {}
                    Idle::AskedToGo if asked_to_go => {}
                    Idle::AskedToGo => {
                        asked_to_go = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Idle::Over => {
                        tracing::debug!(%peer, "closed an idle connection");
                        return;
                    }
                }
                patience.as_mut().reset(tokio::time::Instant::now() + config.idle_timeout);
            }
        }
    }
}

/// How a connection that nobody uses is let go, looked at once per idle timeout.
#[derive(Clone, Copy)]
enum Idle {
    NoCallYet,
    /// It was in use, and had begun so many calls.
    InUse {
        begun: usize,
    },
    /// It was told to finish and close.
    AskedToGo,
    /// It did neither: perhaps it does not even read its answers.
    Over,
}

impl Idle {
    fn next(self, calls: &Calls, open_streams: usize) -> Self {
        let begun = calls.begun.load(Ordering::Relaxed);
        let busy = open_streams > 0 || begun != calls.ended.load(Ordering::Relaxed);
        match self {
            Self::NoCallYet if begun == 0 => Self::Over,
            Self::InUse { begun: before } if !busy && begun == before => Self::AskedToGo,
            Self::AskedToGo if busy => Self::AskedToGo,
            Self::AskedToGo | Self::Over => Self::Over,
            Self::NoCallYet | Self::InUse { .. } => Self::InUse { begun },
        }
    }
}

/// Reads the client's preface; false as soon as it is something else.
async fn introduces_itself(stream: &mut impl Stream) -> io::Result<bool> {
    let mut read = 0;
    let mut buffer = [0; PREFACE.len()];
    while read < PREFACE.len() {
        let more = stream.read(&mut buffer[read..]).await?;
        if more == 0 || buffer[read..read + more] != PREFACE[read..read + more] {
            return Ok(false);
        }
        read += more;
    }
    Ok(true)
}

fn builder(config: &ConnectionConfig) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_local_error_reset_streams(config.max_local_error_resets)
        .max_header_list_size(config.max_header_list_bytes)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        // gRPC has no use for it.
        .auto_date_header(false);
    builder
}

/// Abandoned calls, less the answered ones, that end a connection: the flood of CVE-2023-44487, as far as it gets
/// past h2's own limit on resets of streams that were not accepted yet.
const MAX_ABANDONED: usize = 1000;

/// Calls of one connection, to see whether and how it is used. Touched by this connection only.
#[derive(Default)]
struct Calls {
    begun: AtomicUsize,
    ended: AtomicUsize,
    abandoned: AtomicUsize,
    flooded: CancellationToken,
}

impl Calls {
    fn end(&self, answered: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        // Two ends at once may lose one count, which does not matter in a thousand.
        if !answered {
            self.abandoned.store(abandoned + 1, Ordering::Relaxed);
            if abandoned + 1 >= MAX_ABANDONED {
                self.flooded.cancel();
            }
        } else if abandoned > 0 {
            self.abandoned.store(abandoned - 1, Ordering::Relaxed);
        }
    }
}

/// The service as one connection sees it: every call knows its peer and is counted.
struct PerConnection<S> {
    service: S,
    peer: TcpConnectInfo,
    calls: Arc<Calls>,
}

impl<S> hyper::service::Service<Request<Incoming>> for PerConnection<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.calls.begun.fetch_add(1, Ordering::Relaxed);
        let ended = Ended { calls: Arc::clone(&self.calls), answered: false };
        // Every layer is always ready, so a clone needs no `poll_ready` first.
        Counted { inner: self.service.clone().call(request), ended }
    }
}

/// Counts the end of a call on drop, since a call may also be dropped in the middle.
struct Ended {
    calls: Arc<Calls>,
    answered: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.calls.end(self.answered);
    }
}

pin_project! {
    struct Counted<F> {
        #[pin]
        inner: F,
        ended: Ended,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let poll = this.inner.poll(context);
        this.ended.answered = poll.is_ready();
        poll
    }
}

pin_project! {
    /// The connection with the preface that was read ahead put back in front.
    struct Rewound<T> {
        preface: &'static [u8],
        #[pin]
        stream: T,
    }
}

impl<T: Read> Read for Rewound<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.preface.is_empty() {
            return this.stream.poll_read(context, buffer);
        }
        let (now, later) = this.preface.split_at(this.preface.len().min(buffer.remaining()));
        buffer.put_slice(now);
        *this.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<T: Write> Write for Rewound<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(context)
    }
}
