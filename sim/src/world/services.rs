//! The bank's three services and the wires between them, each on a host of its own.

use std::sync::Arc;
use std::time::Duration;

use atm_auth::domain::{HashCost, Pin};
use atm_auth::hashing::{HashingConfig, HashingError, PinHasher};
use atm_auth::pepper::Pepper;
use atm_auth::storage::MemoryStore;
use atm_fault_proxy::Proxy;
use atm_ledger::Books;
use atm_ledger::authorization::Authorizer;
use atm_ledger::handle::{Ledger, Options};
use atm_ledger::storage::memory::MemoryDisk;
use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Connect;
use atm_types::{Clock, IdSource};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::network::{PORT, SimulatedConnect, SimulatedListener};
use super::shared::{Host, HostClock, HostIds, Life, Shared};

/// What the programs must keep to themselves. It does not change with the seed, so that every log is searched for the
/// same texts.
#[derive(Clone)]
pub(super) struct Secrets {
    /// Between services.
    pub(super) service_token: BearerToken,
    /// Of operators.
    pub(super) operator_token: BearerToken,
    /// Of auth.
    pub(super) pepper: [u8; 32],
    /// Of auth.
    pub(super) session_seed: [u8; 32],
    /// Of the ledger.
    pub(super) ledger_key: [u8; 32],
}

/// The token of services, as text.
pub(super) const SERVICE_TOKEN: &str = "canary-service-token-3f1d8c";
/// The token of operators, as text.
pub(super) const OPERATOR_TOKEN: &str = "canary-operator-token-a77e02";

impl Secrets {
    /// The only ones there are; nothing when the texts cannot be tokens.
    pub(super) fn new() -> Option<Self> {
        Some(Self {
            service_token: BearerToken::new(SERVICE_TOKEN)?,
            operator_token: BearerToken::new(OPERATOR_TOKEN)?,
            pepper: [0x5a; 32],
            session_seed: [0x3c; 32],
            ledger_key: [0x69; 32],
        })
    }
}

/// What one start of a host works with.
#[derive(Clone)]
pub(super) struct Start {
    /// Which host.
    pub(super) host: Host,
    /// This start of it.
    pub(super) life: Arc<Life>,
    /// Everything shared.
    pub(super) shared: Arc<Shared>,
    /// Its clock.
    pub(super) clock: HostClock,
    /// Its ids.
    pub(super) ids: Arc<HostIds>,
    /// The seed of the run.
    pub(super) seed: u64,
    /// Which start it is.
    pub(super) number: u32,
}

impl Start {
    /// A new start of a host.
    pub(super) fn new(seed: u64, host: Host, shared: &Arc<Shared>, clock: &HostClock) -> Self {
        let (life, number) = shared.begin_life(host);
        Self {
            host,
            life,
            shared: Arc::clone(shared),
            clock: clock.clone(),
            ids: Arc::new(HostIds::new(seed, host, number, clock.clone())),
            seed,
            number,
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    fn ids(&self) -> Arc<dyn IdSource> {
        Arc::clone(&self.ids) as Arc<dyn IdSource>
    }

    /// How it opens connections.
    pub(super) fn network(&self) -> Arc<dyn Connect> {
        Arc::new(SimulatedConnect::new(self.host, Arc::clone(&self.shared)))
    }
}

/// Where a host listens.
pub(super) fn url_of(host: Host) -> String {
    format!("http://{}:{PORT}", host.name())
}

/// How the ledger is told to work.
#[derive(Clone, Copy, Debug)]
pub(super) struct LedgerOptions {
    /// What a commit takes.
    pub(super) pace: Duration,
    /// Steps between two checkpoints.
    pub(super) checkpoint_every: u64,
}

/// Serves the books of a disk until it fails.
pub(super) async fn ledger(
    start: Start,
    disk: MemoryDisk,
    secrets: Secrets,
    options: LedgerOptions,
) -> Result<(), String> {
    let listener = SimulatedListener::bind(Arc::clone(&start.life)).await.map_err(text)?;
    let how = Options {
        time_zone: TimeZone::fixed(jiff::tz::offset(6)),
        queue_commands: 256,
        checkpoint_every: options.checkpoint_every,
        ..Options::new("")
    };
    let opened = Ledger::start_as_task(Box::new(disk.open()), how, start.clock(), options.pace);
    let (ledger, writer) = opened.map_err(text)?;
    let books = Books {
        ledger,
        writer,
        authorizer: Authorizer::new(&secrets.ledger_key),
        token: secrets.service_token,
        max_in_flight: 256,
    };
    let ended = atm_ledger::serve_books(listener, books, start.ids(), CancellationToken::new()).await;
    ended.map_err(text)
}

/// Serves the cards of a disk until it fails.
pub(super) async fn auth(start: Start, disk: MemoryStore, secrets: Secrets) -> Result<(), String> {
    let listener = SimulatedListener::bind(Arc::clone(&start.life)).await.map_err(text)?;
    let mut config = atm_auth::Config::new("", "", "");
    let hasher = Arc::new(CountingHasher { shared: Arc::clone(&start.shared), disk: disk.clone() });
    config.hashing = HashingConfig { hasher, inline: true, ..HashingConfig::default() };
    config.storage = atm_auth::config::Storage::Memory(disk);
    let service = atm_auth::Service::open_with(
        config,
        secrets.service_token,
        secrets.pepper,
        secrets.session_seed,
        start.clock(),
        start.ids(),
    );
    let service = service.await.map_err(text)?;
    service.serve(listener, CancellationToken::new()).await.map_err(text)
}

/// Serves machines and operators.
pub(super) async fn gateway(start: Start, secrets: Secrets) -> Result<(), String> {
    let listener = SimulatedListener::bind(Arc::clone(&start.life)).await.map_err(text)?;
    let mut config = atm_gateway::Config::new(
        url_of(Host::WireToAuth),
        url_of(Host::WireToLedger),
        secrets.service_token,
        secrets.operator_token,
    );
    config.network = Some(start.network());
    let (clock, ids) = (start.clock(), start.ids());
    let ended = atm_gateway::run(listener, config, clock, ids, CancellationToken::new()).await;
    ended.map_err(text)
}

/// Passes calls on, more or less.
pub(super) async fn wire(start: Start, proxy: Proxy) -> Result<(), String> {
    let listener = SimulatedListener::bind(Arc::clone(&start.life)).await.map_err(text)?;
    proxy.serve(listener, CancellationToken::new()).await.map_err(text)
}

/// An error with its causes.
fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Hashes a PIN in no time, and counts that it did.
struct CountingHasher {
    shared: Arc<Shared>,
    disk: MemoryStore,
}

impl PinHasher for CountingHasher {
    fn hash(
        &self,
        pepper: &Pepper,
        pin: &Pin,
        salt: &[u8; 16],
        _: HashCost,
    ) -> Result<[u8; 32], HashingError> {
        let cards = self.disk.cards();
        let card = cards.iter().find(|card| card.pin.as_ref().is_some_and(|pin| pin.salt == *salt));
        let card = card.map_or_else(|| "unknown".to_owned(), |card| card.last_four.to_string());
        let now = self.shared.now();
        self.shared.lock().verifications.push((now, card));
        let mut hash = Sha256::new();
        hash.update(pepper.secret());
        hash.update(salt);
        hash.update(pin.digits());
        Ok(hash.finalize().into())
    }
}
