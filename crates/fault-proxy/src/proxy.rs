//! The proxy itself: accepts connections and gives each call to its fate.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atm_rpc::network::{Connect, Listener, Stream};
use fastrand::Rng;
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::Wire;
use crate::counters::Counters;
use crate::policy::{Fate, Policy};
use crate::rules::{Rule, RuleError};
use crate::stream::{Darkable, Switch};
use crate::upstream::{Keepalive, Upstream};
use crate::witness::Witness;

/// A proxy in front of one server. Clones are the same proxy.
#[derive(Clone)]
pub struct Proxy {
    upstream: Uri,
    network: Arc<dyn Connect>,
    keepalive: Option<Keepalive>,
    shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    policy: Mutex<(Policy, Instant)>,
    calls: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) overtaking: Overtaking,
    /// Calls that live on without their clients, too.
    pub(crate) late: TaskTracker,
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

/// Why a proxy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The upstream is not a URL of a server without TLS.
    #[error("{url:?} is not a URL such as http://127.0.0.1:50051; gRPC in TLS cannot be looked into")]
    NotAnHttpUrl {
        /// What was given.
        url: String,
    },
    /// A rule makes no sense.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// HTTP/2 streams of one connection. Calls that wait in silence need room.
const MAX_STREAMS: u32 = 100_000;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// After so many failures in a row the listener is taken for broken.
const ACCEPT_FAILURES: u32 = 100;

impl Proxy {
    /// A proxy to the server at `upstream`, which `network` connects to. All chance comes from `dice`.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn new(
        upstream: &str,
        network: Arc<dyn Connect>,
        rules: Vec<Rule>,
        dice: Rng,
    ) -> Result<Self, ProxyError> {
        Self::watched(upstream, network, (rules, dice), None)
    }

    /// [`Proxy::new`] with somebody who looks at the calls.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn watched(
        upstream: &str,
        network: Arc<dyn Connect>,
        (rules, dice): (Vec<Rule>, Rng),
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, ProxyError> {
        let uri: Option<Uri> = upstream.parse().ok();
        let uri =
            uri.filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some_and(|it| !it.is_empty()));
        let upstream = uri.ok_or_else(|| ProxyError::NotAnHttpUrl { url: upstream.to_owned() })?;
        let late = TaskTracker::new();
        // So that waiting for it ends as soon as it is empty; it takes new tasks all the same.
        late.close();
        let shared = Arc::new(Shared {
            policy: Mutex::new((Policy::new(rules, dice)?, Instant::now())),
            calls: AtomicU64::new(0),
            counters: Counters::default(),
            overtaking: Overtaking::default(),
            late,
            witness,
        });
        Ok(Self { upstream, network, keepalive: None, shared })
    }

    /// Gives up connections to an upstream that does not answer pings. Without it none are sent: many servers close a
    /// connection whose client pings more often than every five minutes.
    #[must_use]
    pub fn keeping_alive(self, keepalive: Keepalive) -> Self {
        Self { keepalive: Some(keepalive), ..self }
    }

    /// Goes on with other rules. Their calls and their time are counted from now.
    ///
    /// # Errors
    /// [`RuleError`] names the first rule that makes no sense; the old ones stay.
    pub fn set_rules(&self, rules: Vec<Rule>) -> Result<(), RuleError> {
        let mut policy = self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy.0.set_rules(rules)?;
        policy.1 = Instant::now();
        Ok(())
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.shared.counters.clone()
    }

    /// Waits until nothing is under way that outlives its client: late requests and second copies.
    pub async fn quiet(&self) {
        self.shared.late.wait().await;
    }

    /// Serves until `shutdown`, which cuts all connections.
    ///
    /// # Errors
    /// When the listener is broken beyond waiting.
    pub async fn serve(&self, listener: impl Listener, shutdown: CancellationToken) -> io::Result<()> {
        let shutdown = shutdown.child_token();
        // Whoever drops this future cuts the connections as well.
        let _cut = shutdown.clone().drop_guard();
        let mut failures = 0;
        loop {
            // Here and below the order is fixed, so that a simulation runs the same way again.
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    tracing::debug!(%peer, "a connection");
                    tokio::spawn(self.connection(stream, shutdown.child_token()));
                }
                Err(error) if failures < ACCEPT_FAILURES => {
                    failures += 1;
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn connection<S: Stream>(
        &self,
        stream: S,
        cut: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<S> {
        let switch = Switch::default();
        let stream = TokioIo::new(Darkable { inner: stream, switch: switch.clone() });
        let upstream = Upstream::new(self.upstream.clone(), Arc::clone(&self.network), self.keepalive);
        let wire = Arc::new(Wire { shared: Arc::clone(&self.shared), upstream, cut: cut.clone(), switch });
        let service = service_fn(move |request: Request<Incoming>| Arc::clone(&wire).carry(request));
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            // Impatient clients are what a proxy that loses answers is for.
            .max_pending_accept_reset_streams(usize::MAX)
            .max_local_error_reset_streams(None)
            .auto_date_header(false);
        let connection = builder.serve_connection(stream, service);
        async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                },
            }
        }
    }
}

impl Shared {
    /// The call's number among all calls, and what is to happen to it.
    pub(crate) fn decide(&self, path: &str) -> (u64, Fate) {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        // Within the lock, so that numbers follow the order of the decisions.
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let elapsed = policy.1.elapsed();
        let fate = policy.0.decide(path, elapsed);
        drop(policy);
        self.counters.decided(path, &fate);
        (number, fate)
    }
}

/// Calls that wait for later ones to overtake them.
#[derive(Default)]
pub(crate) struct Overtaking(Mutex<Vec<Waiting>>);

struct Waiting {
    number: u64,
    left: u64,
    enough: oneshot::Sender<Infallible>,
}

impl Overtaking {
    /// Waits until `calls` calls with higher numbers have been answered.
    pub(crate) async fn wait(&self, number: u64, calls: u64) {
        if calls == 0 {
            return;
        }
        let (enough, overtaken) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { number, left: calls, enough });
        // Its other end says nothing: it is dropped.
        let _ = overtaken.await;
    }

    /// A call was answered.
    pub(crate) fn answered(&self, number: u64) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain_mut(|held| {
            if held.number < number {
                held.left -= 1;
            }
            held.left > 0 && !held.enough.is_closed()
        });
    }
}
