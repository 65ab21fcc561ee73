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
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
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
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.connect(&uri);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
