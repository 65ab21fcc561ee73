//! A server on a free port with an echo that can be told to hang or to panic, and clients for it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atm_proto::bench::echo_service_client::EchoServiceClient;
use atm_proto::bench::echo_service_server::{EchoService, EchoServiceServer};
use atm_proto::bench::{EchoRequest, EchoResponse};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::limits;
use atm_rpc::server::{HealthHandle, ServeError, ServerConfig, base_routes, bind, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Longer than any test takes: what is set to this does not happen in it.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);
/// Short enough not to bore, and nothing is asserted on it.
pub(crate) const SOON: Duration = Duration::from_millis(50);

/// The echo, counting what is inside it.
#[derive(Clone, Default)]
pub(crate) struct Echo {
    pub(crate) begun: Arc<AtomicUsize>,
    pub(crate) inside: Arc<AtomicUsize>,
    /// Calls that hang are let go by this.
    pub(crate) release: CancellationToken,
}

struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(Arc::clone(&self.inside));
        let payload = request.into_inner().payload;
        match &*payload {
            b"hang" => self.release.cancelled().await,
            b"panic" => panic!("as told"),
            _ => {}
        }
        Ok(Response::new(EchoResponse { payload }))
    }
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) echo: Echo,
    pub(crate) health: HealthHandle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

impl TestServer {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let echo = Echo::default();
        let service = EchoServiceServer::new(echo.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        let (mut routes, health) = routes();
        routes.add_service(service);
        Self::start_with(config, routes, health, echo).await
    }

    pub(crate) async fn start_with(
        config: ServerConfig,
        routes: RoutesBuilder,
        health: HealthHandle,
        echo: Echo,
    ) -> Self {
        let listener = bind(([127, 0, 0, 1], 0).into(), false).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving =
            tokio::spawn(serve(listener, config, routes.routes(), health.clone(), shutdown.clone()));
        Self { address, echo, health, shutdown, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn channel(&self) -> Channel {
        lazy_channel(&self.url(), &ChannelConfig::default()).unwrap()
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self) -> EchoServiceClient<Channel> {
        EchoServiceClient::new(self.channel())
    }

    /// Cancels and waits until the server is gone.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

pub(crate) fn routes() -> (RoutesBuilder, HealthHandle) {
    base_routes(&["atm.bench.v1.EchoService"], &[atm_proto::FILE_DESCRIPTOR_SET])
}

pub(crate) fn say(text: &str) -> EchoRequest {
    EchoRequest { payload: text.as_bytes().to_vec() }
}

/// Waits until `condition` holds; whoever waits for ever is stopped by the test runner.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
