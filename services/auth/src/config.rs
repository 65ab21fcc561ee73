//! The only reader of flags and environment. In code a [`Config`] is made with [`Config::new`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::domain::{HashCost, HashCostError, LONGEST_SESSION};
use crate::hashing::HashingConfig;
use crate::storage::{MemoryStore, SqliteOptions};

/// Everything that decides how the service works.
#[derive(Clone)]
pub struct Config {
    /// The directory of the database and the session key. Made, with mode 0700, if it is missing.
    pub data: PathBuf,
    /// The token that every caller of `AuthService` has to carry.
    pub service_token_file: PathBuf,
    /// The pepper, which should not be kept where the database is.
    pub pepper_file: PathBuf,
    /// How long a session lasts: 1 s to [`LONGEST_SESSION`].
    pub session_lifetime: Duration,
    /// How PINs are hashed.
    pub hashing: HashingConfig,
    /// What is bounded by number.
    pub limits: Limits,
    /// Silence on a stream of revocations lasts no longer than this; gateways count on 5 s at most.
    pub heartbeat: Duration,
    /// Where cards are kept.
    pub storage: Storage,
}

/// What is bounded by number.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Numbers that are nobody's card and whose wrong PINs are counted; beyond it the oldest are forgotten.
    /// Telling a card from such a number by making it be forgotten takes that many hashed guesses.
    pub unknown_numbers: usize,
    /// Machines whose names are bound to a terminal; beyond it no new ones are served.
    pub machines: usize,
}

/// Where cards are kept.
#[derive(Clone)]
pub enum Storage {
    /// In a SQLite database in the data directory.
    Sqlite(SqliteOptions),
    /// In memory, for tests and simulations. The data directory then holds the session key only.
    Memory(MemoryStore),
}

impl Config {
    /// The defaults, at full hashing cost.
    pub fn new(
        data: impl Into<PathBuf>,
        service_token_file: impl Into<PathBuf>,
        pepper_file: impl Into<PathBuf>,
    ) -> Self {
        Self {
            data: data.into(),
            service_token_file: service_token_file.into(),
            pepper_file: pepper_file.into(),
            session_lifetime: Duration::from_secs(5 * 60),
            hashing: HashingConfig::default(),
            limits: Limits { unknown_numbers: 100_000, machines: 100_000 },
            heartbeat: Duration::from_secs(2),
            storage: Storage::Sqlite(SqliteOptions::default()),
        }
    }

    /// For tests, of other crates too: everything in `directory` (`auth/` for the data, `service.token`,
    /// `pepper`), and hashing as cheap as argon2 allows. No flag reaches this.
    pub fn for_tests(directory: &Path) -> Self {
        let mut config =
            Self::new(directory.join("auth"), directory.join("service.token"), directory.join("pepper"));
        config.hashing.cost = HashCost::CHEAPEST;
        config
    }
}

/// What the command line asks for.
pub enum Invocation {
    /// Serve until told to stop.
    Serve {
        /// Where to listen.
        listen: SocketAddr,
        /// Whether other machines may be listened to without TLS.
        insecure: bool,
        /// How to work.
        config: Box<Config>,
    },
    /// Ask a running service whether it serves.
    Health {
        /// The service.
        url: String,
    },
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Hashing would be too cheap.
    #[error(transparent)]
    HashCost(#[from] HashCostError),
    /// A number is out of its range.
    #[error("--{flag} must be {range}")]
    OutOfRange {
        /// The flag.
        flag: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

impl Invocation {
    /// Reads the process's own command line and environment. Prints help or what is wrong and ends the process
    /// where clap does.
    ///
    /// # Errors
    /// [`ConfigError`] for values that can be read but not be used.
    pub fn from_command_line() -> Result<Self, ConfigError> {
        CommandLine::parse().try_into()
    }
}

/// The auth service: cards, PINs, lockout and sessions.
#[derive(Parser)]
#[command(name = "atm-auth", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Subcommand)]
enum Command {
    /// Exits 0 if the service at URL serves, 1 if not; for images that hold nothing but this program.
    Health {
        /// The service to ask.
        #[arg(long, default_value = "http://127.0.0.1:50052")]
        url: String,
    },
}

#[derive(Args)]
struct Serve {
    /// Address to listen on; not a loopback address only with --insecure.
    #[arg(long, env = "ATM_AUTH_LISTEN", default_value = "127.0.0.1:50052")]
    listen: SocketAddr,
    /// Listen beyond this machine without TLS.
    #[arg(long, env = "ATM_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    insecure: bool,
    /// Directory of the database and the session key.
    #[arg(long, env = "ATM_AUTH_DATA")]
    data: PathBuf,
    /// File with the token that gateways and operators' tools carry, mode 0600.
    #[arg(long, env = "ATM_SERVICE_TOKEN_FILE")]
    service_token_file: PathBuf,
    /// File with the pepper, mode 0600, better not beside the database; made at the first start.
    #[arg(long, env = "ATM_PEPPER_FILE")]
    pepper_file: PathBuf,
    /// How long a session lasts, 1 to 900 seconds.
    #[arg(long, env = "ATM_AUTH_SESSION_SECONDS", default_value_t = 300, value_name = "SECONDS")]
    session_seconds: u64,
    /// Memory of one hash in KiB, at least 19456. The process needs it once for each permit.
    #[arg(long, env = "ATM_AUTH_HASH_MEMORY_KIB", default_value_t = HashCost::FLOOR.memory_kib(), value_name = "KIB")]
    hash_memory_kib: u32,
    /// Passes over that memory, at least 2.
    #[arg(long, env = "ATM_AUTH_HASH_PASSES", default_value_t = HashCost::FLOOR.passes(), value_name = "N")]
    hash_passes: u32,
    /// PINs that are hashed at once, 2 to 64.
    #[arg(long, env = "ATM_AUTH_HASH_PERMITS", default_value_t = HashingConfig::default().permits, value_name = "N")]
    hash_permits: usize,
    /// Log-ins that may wait for a permit, 0 to 1024.
    #[arg(long, env = "ATM_AUTH_HASH_QUEUE", default_value_t = HashingConfig::default().queue, value_name = "N")]
    hash_queue: usize,
}

impl TryFrom<CommandLine> for Invocation {
    type Error = ConfigError;

    fn try_from(line: CommandLine) -> Result<Self, ConfigError> {
        let serve = match (line.command, line.serve) {
            (Some(Command::Health { url }), _) => return Ok(Self::Health { url }),
            (None, Some(serve)) => serve,
            // clap has asked for the required flags already.
            (None, None) => return Err(ConfigError::OutOfRange { flag: "data", range: "given" }),
        };
        let within = |flag, inside: bool, range| {
            if inside { Ok(()) } else { Err(ConfigError::OutOfRange { flag, range }) }
        };
        let longest = LONGEST_SESSION.as_secs();
        within("session-seconds", (1..=longest).contains(&serve.session_seconds), "1 to 900")?;
        within("hash-permits", (2..=64).contains(&serve.hash_permits), "2 to 64")?;
        within("hash-queue", serve.hash_queue <= 1024, "0 to 1024")?;
        let mut config = Config::new(serve.data, serve.service_token_file, serve.pepper_file);
        config.session_lifetime = Duration::from_secs(serve.session_seconds);
        config.hashing.cost = HashCost::new(serve.hash_memory_kib, serve.hash_passes, 1)?;
        config.hashing.permits = serve.hash_permits;
        config.hashing.queue = serve.hash_queue;
        Ok(Self::Serve { listen: serve.listen, insecure: serve.insecure, config: Box::new(config) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 7] = ["atm-auth", "--data", "d", "--service-token-file", "t", "--pepper-file", "p"];

    fn invoke(more: &[&str]) -> Result<Invocation, String> {
        let line =
            CommandLine::try_parse_from(FILES.iter().chain(more)).map_err(|error| error.to_string())?;
        Invocation::try_from(line).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_full_cost_and_loopback() {
        let Ok(Invocation::Serve { listen, insecure, config }) = invoke(&[]) else { panic!("refused") };
        assert_eq!((listen.to_string().as_str(), insecure), ("127.0.0.1:50052", false));
        assert_eq!(config.hashing.cost, HashCost::FLOOR);
        assert_eq!(config.session_lifetime, Duration::from_secs(300));
        assert!(config.heartbeat <= Duration::from_secs(5));
    }

    #[test]
    fn no_flag_makes_hashing_cheaper_than_the_floor_or_sessions_longer_than_the_longest() {
        for (flags, word) in [
            (["--hash-memory-kib", "8"], "19456 KiB"),
            (["--hash-passes", "1"], "2 passes"),
            (["--hash-permits", "1"], "hash-permits"),
            (["--hash-queue", "100000"], "hash-queue"),
            (["--session-seconds", "901"], "session-seconds"),
            (["--session-seconds", "0"], "session-seconds"),
        ] {
            let refused = invoke(&flags).err().unwrap();
            assert!(refused.contains(word), "{flags:?}: {refused}");
        }
    }

    #[test]
    fn health_needs_no_other_flag() {
        let line = CommandLine::try_parse_from(["atm-auth", "health", "--url", "http://127.0.0.1:1"]);
        let Ok(Ok(Invocation::Health { url })) = line.map(Invocation::try_from) else { panic!("refused") };
        assert_eq!(url, "http://127.0.0.1:1");
    }

    #[test]
    fn without_its_files_the_service_does_not_start() {
        let refused = CommandLine::try_parse_from(["atm-auth"]).err().unwrap().to_string();
        for flag in ["--data", "--service-token-file", "--pepper-file"] {
            assert!(refused.contains(flag), "{refused}");
        }
    }
}
