//! The bank in this process: auth, ledger and gateway with embedded storage, each on its own address and talking
//! to each other over real gRPC, exactly as three processes would. This is the one place where they meet.
//!
//! Everything is kept below one directory: `auth/` and `ledger/` for the databases, `service.token` and
//! `operator.token` (mode 0600), and `secrets/pepper`, apart from the database that it protects.

use std::error::Error as StdError;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::credentials::BearerToken;
use atm_rpc::process::{SecretFile, SecretFileError};
use atm_rpc::server::{BindError, bind, check_health};
use atm_types::{Clock, Currency, IdSource};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long the services may take until they are healthy. Opening a ledger replays what follows its last
/// checkpoint, which takes a second at most; a slow disk gets more.
const START_TIME: Duration = Duration::from_secs(60);
/// Between two looks at a service's health while it starts.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where the bank lives and listens.
#[derive(Clone, Debug)]
pub struct BankConfig {
    /// The directory of everything; made if it is missing.
    pub data: PathBuf,
    /// The gateway's address; port 0 for a free one.
    pub gateway: SocketAddr,
    /// Auth's address; port 0 for a free one.
    pub auth: SocketAddr,
    /// The ledger's address; port 0 for a free one.
    pub ledger: SocketAddr,
    /// Whether addresses beyond this machine are allowed although there is no TLS.
    pub insecure: bool,
    /// The bank's currency.
    pub currency: Currency,
    /// For tests only: hash PINs as cheaply as argon2 allows. No flag reaches it.
    pub cheap_pins: bool,
}

impl BankConfig {
    /// Free loopback ports, BDT, PINs hashed at full cost.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            data: data.into(),
            gateway: free,
            auth: free,
            ledger: free,
            insecure: false,
            currency: Currency::BDT,
            cheap_pins: false,
        }
    }
}

/// Why the bank did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// A token or the pepper cannot be made or read.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A service ended with an error.
    #[error("{service}: {message}")]
    Service {
        /// Which one.
        service: &'static str,
        /// What it said, with all its causes.
        message: String,
    },
    /// A service ended although nobody told it to, or was not healthy in time.
    #[error("{service} {what}")]
    Ended {
        /// Which one.
        service: &'static str,
        /// What happened.
        what: &'static str,
    },
}

/// A bank that is running. Dropping it stops it without waiting.
pub struct Bank {
    services: JoinSet<Result<&'static str, BankError>>,
    stop_gateway: CancellationToken,
    stop_rest: CancellationToken,
    gateway_url: String,
    auth_url: String,
    ledger_url: String,
    operator_token_file: PathBuf,
}

impl Bank {
    /// Starts all three services and waits until they are healthy.
    ///
    /// # Errors
    /// [`BankError`] with the first thing that went wrong; whatever was started is stopped again.
    pub async fn start(
        config: BankConfig,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, BankError> {
        let service_token_file = config.data.join("service.token");
        let operator_token_file = config.data.join("operator.token");
        let pepper_file = config.data.join("secrets").join("pepper");
        let service_token = token(&service_token_file, &*ids)?;
        let operator_token = token(&operator_token_file, &*ids)?;

        let auth_listener = bind(config.auth, config.insecure).await?;
        let ledger_listener = bind(config.ledger, config.insecure).await?;
        let gateway_listener = bind(config.gateway, config.insecure).await?;
        let mut bank = Self {
            services: JoinSet::new(),
            stop_gateway: CancellationToken::new(),
            stop_rest: CancellationToken::new(),
            gateway_url: url(&gateway_listener, config.gateway),
            auth_url: url(&auth_listener, config.auth),
            ledger_url: url(&ledger_listener, config.ledger),
            operator_token_file,
        };

        let mut auth =
            atm_auth::Config::new(config.data.join("auth"), service_token_file.clone(), pepper_file);
        if config.cheap_pins {
            auth.hashing.cost = atm_auth::domain::HashCost::CHEAPEST;
        }
        let served =
            atm_auth::run(auth_listener, auth, Arc::clone(&clock), Arc::clone(&ids), bank.stop_rest.clone());
        bank.services
            .spawn(async move { served.await.map(|()| "auth").map_err(|error| failed("auth", &error)) });

        let ledger = atm_ledger::config::Config::new(config.data.join("ledger"), service_token_file);
        let served = atm_ledger::run(
            ledger_listener,
            ledger,
            Arc::clone(&clock),
            Arc::clone(&ids),
            bank.stop_rest.clone(),
        );
        bank.services
            .spawn(async move { served.await.map(|()| "ledger").map_err(|error| failed("ledger", &error)) });
        bank.healthy("auth", &bank.auth_url.clone()).await?;
        bank.healthy("ledger", &bank.ledger_url.clone()).await?;

        let mut gateway =
            atm_gateway::Config::new(&*bank.auth_url, &*bank.ledger_url, service_token, operator_token);
        gateway.currency = config.currency;
        let served = atm_gateway::run(gateway_listener, gateway, clock, ids, bank.stop_gateway.clone());
        bank.services.spawn(async move {
            served.await.map(|()| "gateway").map_err(|error| failed("gateway", &error))
        });
        bank.healthy("gateway", &bank.gateway_url.clone()).await?;
        Ok(bank)
    }

    /// Where cash machines and operators call, such as `http://127.0.0.1:50051`.
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// Where auth listens.
    pub fn auth_url(&self) -> &str {
        &self.auth_url
    }

    /// Where the ledger listens.
    pub fn ledger_url(&self) -> &str {
        &self.ledger_url
    }

    /// The file with the operators' token.
    pub fn operator_token_file(&self) -> &Path {
        &self.operator_token_file
    }

    /// Waits until a service ends by itself, which none should.
    pub async fn failed(&mut self) -> BankError {
        match self.services.join_next().await {
            Some(ended) => unasked(ended),
            None => BankError::Ended { service: "the bank", what: "has ended" },
        }
    }

    /// Stops the gateway first, so that nobody new comes in, then the others, and lets each finish what it
    /// has begun.
    ///
    /// # Errors
    /// [`BankError`] when a service did not end in good order.
    pub async fn stop(mut self) -> Result<(), BankError> {
        self.stop_gateway.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.services.join_next().await {
            match ended {
                Ok(Ok(_)) => {}
                other => result = Err(unasked(other)),
            }
            self.stop_rest.cancel();
        }
        result
    }

    /// Waits until a service is healthy, or one of them has ended.
    async fn healthy(&mut self, service: &'static str, url: &str) -> Result<(), BankError> {
        let looking = async {
            while !check_health(url).await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.services.join_next() => Err(unasked(ended)),
            looked = tokio::time::timeout(START_TIME, looking) => {
                looked.map_err(|_| BankError::Ended { service, what: "was not healthy in time" })
            }
        }
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.stop_gateway.cancel();
        self.stop_rest.cancel();
    }
}

fn token(path: &Path, ids: &dyn IdSource) -> Result<BearerToken, SecretFileError> {
    BearerToken::from_secret(&SecretFile::create_or_load(path, ids)?)
}

fn url(listener: &tokio::net::TcpListener, asked: SocketAddr) -> String {
    format!("http://{}", listener.local_addr().unwrap_or(asked))
}

fn unasked(ended: Result<Result<&'static str, BankError>, JoinError>) -> BankError {
    match ended {
        Ok(Ok(service)) => BankError::Ended { service, what: "ended by itself" },
        Ok(Err(error)) => error,
        Err(_) => BankError::Ended { service: "a service", what: "panicked" },
    }
}

fn failed(service: &'static str, error: &dyn StdError) -> BankError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Transparent errors repeat their cause's words.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    BankError::Service { service, message }
}
