//! Serving: bind, let calls in through the layers, and leave in good order.
//!
//! The accept loop is our own, on hyper, because tonic's has no cap on connections, no limit on the time of a
//! handshake or of a shutdown. Leaving goes: NOT_SERVING → a short delay in which balancers notice → no new
//! connections, streams ended, GOAWAY → calls in flight may finish → whatever is left at the drain timeout
//! is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atm_types::{IdSource, SystemIds};
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::ServiceBuilder;

use crate::admission::{AdmissionConfig, AdmissionLayer};
use crate::channel::{ChannelConfig, lazy_channel};
use crate::connection::{self, ConnectionConfig};
use crate::deadline::DeadlineLayer;
use crate::limits;
use crate::network::{Listener, Stream};
use crate::panics::CatchPanicLayer;
use crate::streams::{StreamingMethods, StreamsLayer};
use crate::trace::TraceLayer;

/// How a service is served.
#[derive(Clone)]
pub struct ServerConfig {
    /// The deadline of unary callers who set none.
    pub default_deadline: Duration,
    /// The most that any unary caller gets, whatever it asks for.
    pub max_deadline: Duration,
    /// Paths of methods that answer with a stream, such as `/atm.ledger.v1.LedgerService/WatchEntries`.
    /// Health watches and reflection need not be listed.
    pub streaming: &'static [&'static str],
    /// Who gets in when it is crowded.
    pub admission: AdmissionConfig,
    /// Connections at once; one more is closed as soon as it is accepted. Stay below the limit on open files,
    /// which is often 1024.
    pub max_connections: usize,
    /// HTTP/2 streams per connection, unary calls included.
    pub max_streams_per_connection: u32,
    /// Streaming calls per connection.
    pub max_streaming_calls_per_connection: usize,
    /// How long a peer may take to send the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// How long a connection may live without having made a call.
    pub first_call_timeout: Duration,
    /// After this long without calls (up to twice, in fact) a connection is asked to go.
    pub idle_timeout: Duration,
    /// How often a connection is pinged, while idle too.
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered before the connection is closed.
    pub keepalive_timeout: Duration,
    /// How long the server goes on accepting calls after it has said NOT_SERVING.
    pub drain_delay: Duration,
    /// How long calls in flight may take to finish after that, before they are cut.
    pub drain_timeout: Duration,
    /// Where error ids, and the ids of traces that begin here, come from.
    pub ids: Arc<dyn IdSource>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            default_deadline: Duration::from_secs(10),
            max_deadline: Duration::from_secs(60),
            streaming: &[],
            admission: AdmissionConfig::default(),
            max_connections: 1000,
            max_streams_per_connection: limits::CONCURRENT_STREAMS,
            max_streaming_calls_per_connection: 16,
            handshake_timeout: Duration::from_secs(4),
            first_call_timeout: Duration::from_secs(8),
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(4),
            drain_delay: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(10),
            ids: Arc::new(SystemIds),
        }
    }
}

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener accepts no more connections.
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
}

/// Serves `routes` on `listener` until `shutdown` is cancelled and the calls in flight have ended, or were
/// cut at the drain timeout.
///
/// # Errors
/// [`ServeError::Accept`] when the listener is broken beyond waiting.
pub async fn serve(
    listener: impl Listener,
    config: ServerConfig,
    routes: Routes,
    health: HealthHandle,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Server::new(config, routes);
    // What ends the waiting comes first: a flood of connections must not put it off.
    let accepted = tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            health.set_serving(false);
            tracing::info!("leaving: no longer serving");
            // Those who have not noticed yet are still answered.
            tokio::select! {
                biased;
                () = tokio::time::sleep(server.config.drain_delay) => Ok(()),
                result = server.accept(&listener) => result,
            }
        }
        result = server.accept(&listener) => result,
    };
    health.set_serving(false);
    drop(listener);
    server.drain().await;
    accepted
}

struct Server {
    config: ServerConfig,
    routes: Routes,
    admission: AdmissionLayer,
    connections: TaskTracker,
    places: Arc<Semaphore>,
    going_away: CancellationToken,
    cut: CancellationToken,
}

/// After so many failures in a row the listener is taken for broken.
const ACCEPT_FAILURES: u32 = 100;

impl Server {
    fn new(config: ServerConfig, routes: Routes) -> Self {
        Self {
            admission: AdmissionLayer::new(config.admission),
            places: Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            routes: routes.prepare(),
            connections: TaskTracker::new(),
            going_away: CancellationToken::new(),
            cut: CancellationToken::new(),
            config,
        }
    }

    /// Accepts connections until the listener breaks.
    async fn accept(&self, listener: &impl Listener) -> Result<(), ServeError> {
        let mut failures = 0;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failures = 0;
                    // Over the cap the stream is dropped, and so closed: the peer learns it at once.
                    if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                        let connection = self.connection(stream, peer);
                        self.connections.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                }
                Err(error) if failures < ACCEPT_FAILURES || is_shortage(&error) => {
                    failures += 1;
                    tracing::warn!(%error, "cannot accept a connection");
                    // Connections will end and free what is lacking.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(ServeError::Accept(error)),
            }
        }
    }

    /// The layers, outermost first, around the routes. Only the cap on streams is the connection's own.
    fn connection<S: Stream>(
        &self,
        stream: S,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let config = &self.config;
        let streaming = StreamingMethods::new(config.streaming);
        let streams = StreamsLayer::new(
            streaming,
            config.max_streaming_calls_per_connection,
            self.going_away.clone(),
            Arc::clone(&config.ids),
        );
        let service = ServiceBuilder::new()
            .layer(TraceLayer::new(Arc::clone(&config.ids)))
            .layer(CatchPanicLayer::new(Arc::clone(&config.ids)))
            .layer(DeadlineLayer::new(config.default_deadline, config.max_deadline, streaming))
            .layer(streams.clone())
            .layer(self.admission.clone())
            .service(self.routes.clone());
        connection::serve(
            stream,
            peer,
            connection_config(config),
            service,
            streams,
            self.going_away.clone(),
            self.cut.clone(),
        )
    }

    async fn drain(self) {
        self.connections.close();
        self.going_away.cancel();
        if timeout(self.config.drain_timeout, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "drain timeout: cutting what is left");
            self.cut.cancel();
            self.connections.wait().await;
        }
    }
}

/// Whether the process or the machine has run out of files or memory: no reason to give up a listener, or a
/// crowd of strangers could end the service.
fn is_shortage(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

fn connection_config(config: &ServerConfig) -> ConnectionConfig {
    ConnectionConfig {
        handshake_timeout: config.handshake_timeout,
        first_call_timeout: config.first_call_timeout,
        idle_timeout: config.idle_timeout,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        max_streams: config.max_streams_per_connection,
        max_local_error_resets: limits::LOCAL_ERROR_RESETS,
        max_header_list_bytes: limits::HEADER_LIST_BYTES,
    }
}

/// Says to the world whether the services serve. Clones speak for the same server.
#[derive(Clone, Debug)]
pub struct HealthHandle {
    reporter: HealthReporter,
    names: Arc<[&'static str]>,
}

impl HealthHandle {
    /// Sets the status of the whole server and of each of its services.
    pub fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in self.names.iter() {
            // Its lock is held for a map look-up only, so this is ready at the first or second look. It must
            // not count against the caller's cooperative budget, which could keep it pending for ever.
            let setting = tokio::task::unconstrained(self.reporter.set_service_status(name, status));
            let mut setting = std::pin::pin!(setting);
            while (&mut setting).now_or_never().is_none() {
                std::thread::yield_now();
            }
        }
    }
}

/// Routes with health (serving, for `""` and each name of `served`) and reflection v1 and v1alpha, which knows all
/// that the descriptor sets describe and lists what is served: those, health and itself. Add the services themselves
/// to the builder.
///
/// # Panics
/// If a descriptor set is not one; they are compiled in, so a test of the service sees it.
pub fn base_routes(
    served: &[&'static str],
    descriptor_sets: &[&'static [u8]],
) -> (RoutesBuilder, HealthHandle) {
    let reporter = HealthReporter::new();
    let names = std::iter::once("").chain(served.iter().copied()).collect();
    let health = HealthHandle { reporter: reporter.clone(), names };
    health.set_serving(true);

    let reflection = |itself| {
        let described = descriptor_sets
            .iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, set| {
                builder.register_encoded_file_descriptor_set(set)
            })
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let served = served.iter().copied().chain(["grpc.health.v1.Health", itself]);
        served.fold(described, tonic_reflection::server::Builder::with_service_name)
    };
    let mut routes = Routes::builder();
    routes.add_service(
        HealthServer::new(HealthService::from_health_reporter(reporter))
            .max_decoding_message_size(limits::MESSAGE_BYTES),
    );
    #[expect(clippy::expect_used, reason = "descriptor sets are compiled in: a wrong one is a broken build")]
    {
        let v1 =
            reflection("grpc.reflection.v1.ServerReflection").build_v1().expect("descriptor sets are valid");
        let v1alpha = reflection("grpc.reflection.v1alpha.ServerReflection")
            .build_v1alpha()
            .expect("descriptor sets are valid");
        routes.add_service(v1.max_decoding_message_size(limits::MESSAGE_BYTES));
        routes.add_service(v1alpha.max_decoding_message_size(limits::MESSAGE_BYTES));
    }
    (routes, health)
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS, only this machine may be listened to unless somebody takes the risk by name.
    #[error(
        "refusing to listen on {address}: it is reachable from other machines without TLS; use a loopback address or --insecure"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The operating system refuses.
    #[error("cannot listen on {address}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Listens on `address`. What is not a loopback address needs `insecure`, as long as there is no TLS.
///
/// # Errors
/// [`BindError`] says which of the two stood in the way.
pub async fn bind(address: SocketAddr, insecure: bool) -> Result<TcpListener, BindError> {
    if !address.ip().to_canonical().is_loopback() && !insecure {
        return Err(BindError::NotLoopback { address });
    }
    listen(address).map_err(|source| BindError::Io { address, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted service must get its port back while old connections still linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Whether the server at `url` says within two seconds that it serves.
pub async fn check_health(url: &str) -> bool {
    let Ok(channel) = lazy_channel(url, &ChannelConfig::default()) else { return false };
    let mut client = HealthClient::new(channel);
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    let time = Duration::from_secs(2);
    request.set_timeout(time);
    match timeout(time, client.check(request)).await {
        Ok(Ok(response)) => response.get_ref().status() == Answer::Serving,
        Ok(Err(_)) | Err(_) => false,
    }
}

/// A token that is cancelled by SIGTERM or SIGINT. Call it once, inside the runtime.
///
/// If the handlers cannot be installed the signals keep ending the process at once, as they do by default.
pub fn shutdown_on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("cannot listen to signals");
        return token;
    };
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
        cancelled.cancel();
    });
    token
}
