//! Flags and environment; nothing else reads them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::admission::{self, AdmissionConfig, Priority};
use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Connect;
use atm_rpc::process::{SecretFile, SecretFileError};
use atm_rpc::server::ServerConfig;
use atm_types::{Currency, IdSource, MoneyError};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

/// What the gateway needs to run.
#[derive(Clone)]
pub struct Config {
    /// Where auth listens, such as `http://127.0.0.1:50052`.
    pub auth_url: String,
    /// Where the ledger listens, such as `http://127.0.0.1:50053`.
    pub ledger_url: String,
    /// What the gateway shows to auth and ledger.
    pub service_token: BearerToken,
    /// What operators show to the gateway.
    pub operator_token: BearerToken,
    /// The bank's currency.
    pub currency: Currency,
    /// By how much the deadline that is handed on is earlier than the caller's.
    pub deadline_margin: Duration,
    /// PINs that may be under way to auth at once.
    pub max_pin_checks: usize,
    /// Prime tests that run at once; each keeps a core busy for up to some 100 ms.
    pub prime_workers: usize,
    /// Prime tests that may wait for their turn.
    pub prime_queue: usize,
    /// How the gateway is served.
    pub server: ServerConfig,
    /// How auth and the ledger are reached; `None` is TCP.
    pub network: Option<Arc<dyn Connect>>,
}

impl Config {
    /// The defaults, for upstreams at these URLs.
    pub fn new(
        auth_url: impl Into<String>,
        ledger_url: impl Into<String>,
        service_token: BearerToken,
        operator_token: BearerToken,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            auth_url: auth_url.into(),
            ledger_url: ledger_url.into(),
            service_token,
            operator_token,
            currency: Currency::BDT,
            deadline_margin: Duration::from_millis(50),
            max_pin_checks: 64,
            prime_workers: (cores / 2).max(1),
            prime_queue: 16,
            server: ServerConfig {
                streaming: &["/atm.gateway.v1.AdminService/VerifyLedger"],
                admission: AdmissionConfig { classify, ..AdmissionConfig::default() },
                ..ServerConfig::default()
            },
            network: None,
        }
    }
}

/// Which calls go first when it is crowded. The text utility has bounds of its own and is left out of the
/// count, so that it cannot take the room of money.
pub fn classify(path: &str) -> Priority {
    if admission::is_exempt(path) || path.starts_with("/atm.text.v1.TextService/") {
        return Priority::Exempt;
    }
    match path {
        "/atm.gateway.v1.AtmService/CaptureWithdrawal"
        | "/atm.gateway.v1.AtmService/SuspendWithdrawal"
        | "/atm.gateway.v1.AtmService/CancelTransaction" => Priority::Critical,
        "/atm.gateway.v1.AtmService/AuthorizeWithdrawal"
        | "/atm.gateway.v1.AtmService/Withdraw"
        | "/atm.gateway.v1.AtmService/Deposit"
        | "/atm.gateway.v1.AtmService/SignOn"
        | "/atm.gateway.v1.AtmService/RecordCashMovement"
        | "/atm.gateway.v1.AdminService/MoveCash"
        | "/atm.gateway.v1.AdminService/ResolveSuspect"
        | "/atm.gateway.v1.AtmService/Transfer" => Priority::Normal,
        _ => Priority::Low,
    }
}

/// The gateway of the bank: what cash machines and operators call. It stores nothing.
#[derive(Parser)]
#[command(name = "atm-gateway", version, about, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

const EXAMPLES: &str = "Examples:
  atm-gateway --service-token-file service.token --operator-token-file operator.token
  atm-gateway --listen 0.0.0.0:50051 --insecure --auth http://auth:50052 --ledger http://ledger:50053
  atm-gateway health --url http://127.0.0.1:50051";

/// What to do instead of serving.
#[derive(Subcommand)]
pub enum Command {
    /// Asks a running gateway whether it serves; exits with 0 if it does and 1 if not.
    Health {
        /// Where the gateway listens.
        #[arg(long, default_value = "http://127.0.0.1:50051")]
        url: String,
    },
}

/// How to serve.
#[derive(Args)]
pub struct Serve {
    /// The address to listen on.
    #[arg(long, env = "ATM_GATEWAY_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where auth listens.
    #[arg(long, env = "ATM_AUTH_URL", default_value = "http://127.0.0.1:50052", value_name = "URL")]
    pub auth: String,
    /// Where the ledger listens.
    #[arg(long, env = "ATM_LEDGER_URL", default_value = "http://127.0.0.1:50053", value_name = "URL")]
    pub ledger: String,
    /// A file that only its owner can read, with the token that auth and ledger require.
    #[arg(long, env = "ATM_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,
    /// A file that only its owner can read, with the token that operators show.
    #[arg(long, env = "ATM_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// The bank's currency, an ISO 4217 code.
    #[arg(long, env = "ATM_CURRENCY", default_value = "BDT", value_name = "CODE")]
    pub currency: String,
    /// Listen beyond this machine although there is no TLS.
    #[arg(long, env = "ATM_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// Why the flags make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag without a default was not given.
    #[error("{flag} is required")]
    Missing {
        /// The flag.
        flag: &'static str,
    },
    /// A token file cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The currency is none.
    #[error("--currency {code:?} {source}")]
    Currency {
        /// What was given.
        code: String,
        /// What it must be.
        source: MoneyError,
    },
}

impl Serve {
    /// Reads the token files, or makes them, and checks the rest.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn config(&self, ids: &dyn IdSource) -> Result<Config, ConfigError> {
        let currency = self
            .currency
            .parse()
            .map_err(|source| ConfigError::Currency { code: self.currency.clone(), source })?;
        let service_token = token(self.service_token_file.as_deref(), "--service-token-file", ids)?;
        let operator_token = token(self.operator_token_file.as_deref(), "--operator-token-file", ids)?;
        Ok(Config { currency, ..Config::new(&self.auth, &self.ledger, service_token, operator_token) })
    }
}

/// Made when it is missing, as every service does: whoever starts first makes it.
fn token(path: Option<&Path>, flag: &'static str, ids: &dyn IdSource) -> Result<BearerToken, ConfigError> {
    let path = path.ok_or(ConfigError::Missing { flag })?;
    Ok(BearerToken::from_secret(&SecretFile::create_or_load(path, ids)?)?)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_flags_make_sense() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
        assert!(Flags::try_parse_from(["atm-gateway", "health", "--url", "http://127.0.0.1:1"]).is_ok());
    }

    #[test]
    fn what_ends_a_hold_goes_first_then_money_then_the_rest() {
        let set = prost_types::FileDescriptorSet::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut by_priority = std::collections::HashMap::<_, Vec<String>>::new();
        for file in set.file.iter().filter(|file| ["atm.gateway.v1", "atm.text.v1"].contains(&file.package()))
        {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    by_priority.entry(classify(&path)).or_default().push(method.name().to_owned());
                }
            }
        }
        assert_eq!(
            by_priority[&Priority::Critical],
            ["CaptureWithdrawal", "SuspendWithdrawal", "CancelTransaction"]
        );
        assert_eq!(
            by_priority[&Priority::Normal],
            [
                "SignOn",
                "AuthorizeWithdrawal",
                "RecordCashMovement",
                "Withdraw",
                "Deposit",
                "Transfer",
                "MoveCash",
                "ResolveSuspect"
            ]
        );
        assert_eq!(by_priority[&Priority::Exempt].len(), 4, "the text utility is bounded apart");
        assert_eq!(by_priority[&Priority::Low].len(), 6 + 13);
    }
}
