//! The way to the server: one HTTP/2 connection for each client's connection, opened when it is first needed and
//! again when it broke.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::network::Connect;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// A message on its way, either way.
pub(crate) type Carried = UnsyncBoxBody<Bytes, hyper::Error>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// Nothing was sent.
    #[error("the upstream cannot be reached")]
    NotSent(#[source] io::Error),
    /// The connection broke after the request may have been sent.
    #[error("the connection to the upstream broke; the call may have had its effect")]
    Broken(#[source] hyper::Error),
}

/// After how long a silence of the upstream, while a call waits for it, a ping asks whether it is there, and how long
/// that may take before the connection is given up (RFC 9113 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long nothing has to come first.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

pub(crate) struct Upstream {
    uri: Uri,
    network: Arc<dyn Connect>,
    keepalive: Option<Keepalive>,
    sender: Mutex<Option<SendRequest<Carried>>>,
}

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

impl Upstream {
    pub(crate) fn new(uri: Uri, network: Arc<dyn Connect>, keepalive: Option<Keepalive>) -> Self {
        Self { uri, network, keepalive, sender: Mutex::new(None) }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        mut request: Request<Carried>,
    ) -> Result<Response<Incoming>, Unreachable> {
        *request.uri_mut() = self.address(request.uri());
        // A connection that the server gave up while it was idle is only noticed in use: then, once, a new one.
        for _ in 0..2 {
            let mut sender = self.sender().await.map_err(Unreachable::NotSent)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Unreachable::Broken(failed.into_error())),
                },
            }
        }
        Err(Unreachable::NotSent(io::ErrorKind::ConnectionAborted.into()))
    }

    async fn sender(&self) -> io::Result<SendRequest<Carried>> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let opened =
            timeout(CONNECT, self.open()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        *kept = Some(opened.clone());
        Ok(opened)
    }

    async fn open(&self) -> io::Result<SendRequest<Carried>> {
        let stream = self.network.connect(&self.uri).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if let Some(Keepalive { interval, timeout }) = self.keepalive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the upstream ended badly");
            }
        });
        Ok(sender)
    }

    /// The same method at the upstream's host.
    fn address(&self, asked: &Uri) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        let path = asked.path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // Scheme and host were checked when the proxy was made.
        Uri::from_parts(parts).unwrap_or_else(|_| asked.clone())
    }
}
