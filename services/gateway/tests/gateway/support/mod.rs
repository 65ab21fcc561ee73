//! A gateway on a free port with fake upstreams behind it, and machines that call it.

pub(crate) mod fake_auth;
pub(crate) mod fake_ledger;
pub(crate) mod log;
pub(crate) mod real;

use std::sync::Arc;
use std::time::Duration;

use atm_gateway::Config;
use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::{LogInRequest, LogInResponse};
use atm_proto::text::text_service_client::TextServiceClient;
use atm_proto::types::Money;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::BearerToken;
use atm_types::{IdSource, ManualClock, SystemIds, Timestamp};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};

pub(crate) use fake_auth::{CARD, FakeAuth, OTHER_CARD, PIN};
pub(crate) use fake_ledger::FakeLedger;
pub(crate) use log::Fault;

pub(crate) const SERVICE_HEADER: &str = "Bearer service-canary";
pub(crate) const OPERATOR: &str = "operator-canary";

/// The gateway and what stands behind it.
pub(crate) struct World {
    pub(crate) auth: Arc<FakeAuth>,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) clock: ManualClock,
    pub(crate) url: String,
    shutdown: CancellationToken,
    gateway: Option<JoinHandle<Result<(), atm_gateway::Error>>>,
}

/// The id of a new order.
pub(crate) fn order_id() -> String {
    SystemIds.attempt_id().to_string()
}

/// A listener on a free port of this machine, and its URL.
pub(crate) async fn free_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

pub(crate) fn channel(url: &str) -> Channel {
    lazy_channel(url, &ChannelConfig::default()).unwrap()
}

pub(crate) fn token(text: &str) -> BearerToken {
    BearerToken::new(text).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose gateway is configured by `change`.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let clock = ManualClock::new(Timestamp::from_seconds(1_800_000_000));
        let (auth, ledger) = (FakeAuth::new(clock.clone()), Arc::new(FakeLedger::default()));
        let shutdown = CancellationToken::new();
        let (listener, auth_url) = free_port().await;
        let server = Server::builder().add_service(FakeAuth::service(&auth));
        let stop = shutdown.clone().cancelled_owned();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, stop).await.unwrap();
        });
        let (listener, ledger_url) = free_port().await;
        let server = Server::builder().add_service(FakeLedger::service(&ledger));
        let stop = shutdown.clone().cancelled_owned();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, stop).await.unwrap();
        });
        let mut config = Config::new(auth_url, ledger_url, token("service-canary"), token(OPERATOR));
        config.server.drain_delay = Duration::ZERO;
        config.server.drain_timeout = Duration::from_millis(200);
        change(&mut config);
        let (listener, url) = free_port().await;
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let run = atm_gateway::run(listener, config, Arc::new(clock.clone()), ids, shutdown.clone());
        let gateway = Some(tokio::spawn(run));
        Self { auth, ledger, clock, url, shutdown, gateway }
    }

    /// A machine with a key of its own.
    pub(crate) fn machine(&self, atm_id: &str) -> Machine {
        let key = SystemIds.secret();
        Machine {
            client: AtmServiceClient::new(channel(&self.url)).max_decoding_message_size(2 << 20),
            key,
            atm_id: Some(atm_id.to_owned()),
            session: None,
            deadline: Duration::from_secs(10),
        }
    }

    /// A machine at which the holder of `card` has logged in.
    pub(crate) async fn customer(&self, atm_id: &str, card: &str) -> Machine {
        let mut machine = self.machine(atm_id);
        let answer = machine.log_in(card, PIN).await.unwrap();
        machine.session = Some(answer.session_token);
        machine
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(channel(&self.url))
    }

    pub(crate) fn text(&self) -> TextServiceClient<Channel> {
        TextServiceClient::new(channel(&self.url))
    }

    /// Tells the gateway to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.gateway.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A cash machine, and the customer before it.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) client: AtmServiceClient<Channel>,
    pub(crate) key: [u8; 32],
    pub(crate) atm_id: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) deadline: Duration,
}

impl Machine {
    /// The terminal id: the hash of the key.
    pub(crate) fn terminal(&self) -> String {
        hex::encode(Sha256::digest(self.key))
    }

    /// A request as this machine sends it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("atm-terminal-key", hex::encode(self.key).parse().unwrap());
        if let Some(atm_id) = &self.atm_id {
            metadata.insert("atm-id", atm_id.parse().unwrap());
        }
        if let Some(session) = &self.session {
            metadata.insert("authorization", format!("Bearer {session}").parse().unwrap());
        }
        request.set_timeout(self.deadline);
        request
    }

    pub(crate) fn log_in_request(&self, card: &str, pin: &str) -> LogInRequest {
        LogInRequest {
            card_number: card.to_owned(),
            pin: pin.to_owned(),
            attempt_id: SystemIds.attempt_id().to_string(),
            atm_id: self.atm_id.clone().unwrap(),
            boot: None,
        }
    }

    pub(crate) async fn log_in(&self, card: &str, pin: &str) -> Result<LogInResponse, Status> {
        let request = self.request(self.log_in_request(card, pin));
        self.client.clone().log_in(request).await.map(tonic::Response::into_inner)
    }
}

/// A request of an operator.
pub(crate) fn as_operator<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {OPERATOR}").parse().unwrap());
    request
}

/// A transaction id that nobody used before.
pub(crate) fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

pub(crate) fn bdt(minor_units: i64) -> Option<Money> {
    Some(Money { currency_code: "BDT".to_owned(), minor_units })
}

/// Waits until `condition` holds; gives up loudly.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

/// The message of a refusal without its random error id.
pub(crate) fn without_id(status: &Status) -> String {
    use tonic_types::StatusExt;
    let id = status.get_details_error_info().and_then(|info| info.metadata.get("error_id").cloned());
    status.message().replace(&id.unwrap_or_else(|| "no id".to_owned()), "ID")
}
