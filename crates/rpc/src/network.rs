//! The network as servers and clients see it: TCP, or one that a simulation makes up.
//!
//! A server takes any [`Listener`]; a client that is given a [`Connect`] opens its connections through it. Everything
//! above, HTTP/2 included, is the same code in both worlds.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection: bytes in order, both ways, until one side ends it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Where connections come in.
pub trait Listener: Send + Sync + 'static {
    /// What an accepted connection is.
    type Stream: Stream;

    /// The next connection and its peer's address.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Small answers must not wait for the peer's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

pin_project! {
    /// A connection on which small messages travel together, since each call into the kernel costs as much as the
    /// work for a small message.
    ///
    /// Before it writes, the tasks that are ready go first, once: they may be about to add their messages. And it
    /// says that it takes one buffer at a time: the crate h2 gathers frames below 1 KiB for such a connection, and
    /// below 256 bytes otherwise (`CHAIN_THRESHOLD`); nearly all messages of a bank lie between the two.
    pub(crate) struct Gathering<T> {
        #[pin]
        stream: T,
        others_went_first: bool,
    }
}

impl<T> Gathering<T> {
    pub(crate) fn new(stream: T) -> Self {
        Self { stream, others_went_first: false }
    }
}

impl<T: Read> Read for Gathering<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(context, buffer)
    }
}

impl<T: Write> Write for Gathering<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        if !*this.others_went_first {
            *this.others_went_first = true;
            // A task that wakes itself goes to the end of the queue.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = ready!(this.stream.poll_write(context, bytes));
        *this.others_went_first = false;
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(context)
    }
}

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How connections are opened.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Opens a connection to the host and port of `uri`.
    fn connect(&self, uri: &Uri) -> Connecting;
}

/// [`Connect`] in the form that tonic wants.
#[derive(Clone)]
pub(crate) struct Connector(pub(crate) Arc<dyn Connect>);

impl tower::Service<Uri> for Connector {
    type Response = Gathering<TokioIo<Box<dyn Stream>>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.connect(&uri);
        Box::pin(async move { connecting.await.map(|stream| Gathering::new(TokioIo::new(stream))) })
    }
}
