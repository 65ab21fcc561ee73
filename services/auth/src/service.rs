//! From a [`Config`] to a running service, and back to nothing in good order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Listener;
use atm_rpc::process::{SecretFile, SecretFileError};
use atm_rpc::server::{HealthHandle, ServeError, ServerConfig, base_routes, serve};
use atm_types::{Clock, IdSource};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use zeroize::Zeroizing;

use crate::auth::{Auth, Parts};
use crate::config::{Config, Storage};
use crate::grpc;
use crate::hashing::HashingPool;
use crate::pepper::{Pepper, PepperError};
use crate::revocations::SWEEP_INTERVAL;
use crate::session::{SessionKey, SignError};
use crate::storage::{OpenError, SqliteBackend, Store};

/// The session key's name inside the data directory.
const SESSION_KEY_FILE: &str = "session.key";

/// How long verifications that have begun may take to end after the last connection is gone.
const LAST_WORK: Duration = Duration::from_secs(10);

/// Why the service did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The pepper is not the one that belongs to the database.
    #[error(transparent)]
    Pepper(#[from] PepperError),
    /// The service token cannot be read.
    #[error("the service token cannot be used")]
    ServiceToken(#[source] SecretFileError),
    /// The session key cannot be read or made.
    #[error("the session key cannot be used")]
    SessionKey(#[source] SecretFileError),
    /// The session key's file holds something else.
    #[error("the session key file does not hold 64 hexadecimal digits of a key")]
    NotASessionKey,
    /// No thread for storage.
    #[error("cannot start the storage thread")]
    Thread(#[source] io::Error),
    /// The listener failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A commit failed. What is in memory may not be what is on disk: only a new start makes sure.
    #[error("storage failed; the service must be started again")]
    StorageFailed,
}

impl From<SignError> for Error {
    fn from(SignError: SignError) -> Self {
        Self::NotASessionKey
    }
}

/// What nobody else may know.
struct Secrets {
    token: BearerToken,
    pepper: Pepper,
    session_seed: Zeroizing<[u8; 32]>,
}

/// A service that is ready to serve.
pub struct Service {
    auth: Arc<Auth>,
    routes: Routes,
    health: HealthHandle,
}

impl Service {
    /// Opens everything and checks it. Nothing is answered before this has succeeded.
    ///
    /// # Errors
    /// [`Error`] says what the operator has to do.
    pub async fn open(config: Config, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Result<Self, Error> {
        let token = BearerToken::load(&config.service_token_file).map_err(Error::ServiceToken)?;
        let store = open_store(&config).await?;
        let opened = async {
            let pepper = Pepper::open(&config.pepper_file, &store, &*ids).await?;
            let seed = SecretFile::create_or_load(&config.data.join(SESSION_KEY_FILE), &*ids);
            let seed = seed.map_err(Error::SessionKey)?.key().ok_or(Error::NotASessionKey)?;
            let secrets = Secrets { token, pepper, session_seed: seed };
            Self::with(config, secrets, store.clone(), clock, ids)
        };
        let opened = opened.await;
        if opened.is_err() {
            // Who is told that it did not start may start it again at once.
            store.close().await;
        }
        opened
    }

    /// The same with secrets that are in no file, for simulations.
    ///
    /// # Errors
    /// As [`Service::open`].
    pub async fn open_with(
        config: Config,
        token: BearerToken,
        pepper: [u8; 32],
        session_seed: [u8; 32],
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, Error> {
        let store = open_store(&config).await?;
        let pepper = Pepper::known(pepper, &store).await?;
        let secrets = Secrets { token, pepper, session_seed: Zeroizing::new(session_seed) };
        Self::with(config, secrets, store, clock, ids)
    }

    fn with(
        config: Config,
        secrets: Secrets,
        store: Store,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, Error> {
        let Secrets { token, pepper, session_seed } = secrets;
        let auth = Arc::new(Auth::new(Parts {
            session_key: SessionKey::from_seed(&session_seed)?,
            keys: pepper.keys(),
            pool: HashingPool::new(config.hashing, pepper),
            store,
            session_lifetime: config.session_lifetime,
            limits: config.limits,
            clock,
            ids,
        }));
        let (mut routes, health) = base_routes(&[grpc::NAME], &[atm_proto::FILE_DESCRIPTOR_SET]);
        routes.add_service(grpc::service(Arc::clone(&auth), token, config.heartbeat));
        Ok(Self { auth, routes: routes.routes(), health })
    }

    /// The routes alone, for simulations that bring their own network.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Serves until `shutdown` is cancelled and the calls in flight have ended, or until storage fails.
    ///
    /// # Errors
    /// [`Error::Serve`], [`Error::StorageFailed`].
    pub async fn serve(self, listener: impl Listener, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { auth, routes, health } = self;
        let stop = shutdown.child_token();
        let _stop_on_drop = stop.clone().drop_guard();
        tokio::spawn(sweep(Arc::clone(&auth), stop.clone()));
        let failed = (auth.store.clone(), stop.clone());
        tokio::spawn(async move {
            let (store, stop) = failed;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = store.failed() => stop.cancel(),
            }
        });
        let config = ServerConfig {
            streaming: grpc::STREAMING,
            admission: grpc::admission(),
            ids: Arc::clone(&auth.ids),
            ..ServerConfig::default()
        };
        let served = serve(listener, config, routes, health, stop).await;
        auth.begun.close();
        if timeout(LAST_WORK, auth.begun.wait()).await.is_err() {
            tracing::warn!(left = auth.begun.len(), "verifications did not end in time");
        }
        // Asked first: closing is no failure, and what failed stays failed.
        let failed = auth.store.has_failed();
        auth.store.close().await;
        served?;
        if failed { Err(Error::StorageFailed) } else { Ok(()) }
    }
}

async fn open_store(config: &Config) -> Result<Store, Error> {
    match &config.storage {
        Storage::Memory(memory) => Ok(Store::inline(memory.clone())),
        Storage::Sqlite(options) => {
            let (directory, options) = (config.data.clone(), *options);
            let opening = tokio::task::spawn_blocking(move || SqliteBackend::open(&directory, options));
            let backend = opening.await.map_err(|error| Error::Thread(io::Error::other(error)))??;
            Store::on_a_thread(backend).map_err(Error::Thread)
        }
    }
}

/// Erases what is over, every few seconds.
async fn sweep(auth: Arc<Auth>, stop: CancellationToken) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = auth.sweep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not erase what is over");
        }
    }
}
