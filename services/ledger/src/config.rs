//! What the ledger can be told. This is the only reader of flags and environment; everything else gets a
//! [`Config`], which can be made in code as well.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;

/// How a ledger runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The address to serve gRPC on. Beyond loopback it needs --insecure, since there is no TLS yet
    #[arg(long, env = "ATM_LEDGER_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:50053")]
    pub listen: SocketAddr,
    /// The directory of the books and of the ledger's own key; made if it is missing. Back both up together
    #[arg(long, env = "ATM_LEDGER_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// The file of the service token, which every call must carry; mode 0600, made if it is missing
    #[arg(long, env = "ATM_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: PathBuf,
    /// The time zone whose days the daily withdrawal limits count, by its IANA name
    #[arg(long, env = "ATM_TIME_ZONE", value_name = "NAME", default_value = "Asia/Dhaka", value_parser = time_zone)]
    pub time_zone: TimeZone,
    /// Listen where other machines can reach it, without TLS
    #[arg(long, env = "ATM_INSECURE", value_parser = BoolishValueParser::new())]
    pub insecure: bool,
    /// Calls that are served at once; more are told to come back
    #[arg(long, value_name = "CALLS", default_value_t = MAX_IN_FLIGHT)]
    pub max_in_flight: usize,
    /// Commands that may wait for the writer; more are told to come back
    #[arg(long, value_name = "COMMANDS", default_value_t = QUEUE_COMMANDS)]
    pub queue_commands: usize,
}

const MAX_IN_FLIGHT: usize = 4096;
/// Room for four full batches: one that is being committed and some that wait.
const QUEUE_COMMANDS: usize = 4 * 8190;
const PORT: u16 = 50053;

impl Config {
    /// The defaults, with the two places that have none.
    pub fn new(data: PathBuf, service_token_file: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            data,
            service_token_file,
            // The bundled time zones contain it.
            time_zone: TimeZone::get("Asia/Dhaka").unwrap_or(TimeZone::UTC),
            insecure: false,
            max_in_flight: MAX_IN_FLIGHT,
            queue_commands: QUEUE_COMMANDS,
        }
    }
}

/// The double-entry ledger: one writer, one order, one fsync for many transactions.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(flatten)]
    config: Option<Config>,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Exits 0 if the ledger at --url serves, otherwise 1; for health checks in images without a shell
    Health {
        /// Where the ledger listens
        #[arg(long, default_value = "http://127.0.0.1:50053")]
        url: String,
    },
}

/// What the process was started for.
#[derive(Debug)]
pub enum Task {
    /// To serve.
    Serve(Config),
    /// To ask the ledger at this URL whether it serves.
    Health(String),
}

impl Arguments {
    /// Reads flags and environment; ends the process with an explanation when they make no sense.
    pub fn read() -> Task {
        Self::parse().task()
    }

    fn task(self) -> Task {
        match (self.other, self.config) {
            (Some(Other::Health { url }), _) => Task::Health(url),
            (None, Some(config)) => Task::Serve(config),
            (None, None) => {
                let missing = clap::error::ErrorKind::MissingRequiredArgument;
                <Self as clap::CommandFactory>::command()
                    .error(missing, "--data and --service-token-file are required")
                    .exit()
            }
        }
    }
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "is not the IANA name of a time zone, such as Asia/Dhaka".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Task, clap::error::ErrorKind> {
        let line = std::iter::once(&"atm-ledger").chain(arguments);
        Arguments::try_parse_from(line).map(Arguments::task).map_err(|error| error.kind())
    }

    #[test]
    fn the_flags_are_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn two_flags_are_enough_to_serve_and_mean_the_same_as_the_defaults_in_code() {
        let Ok(Task::Serve(parsed)) = parse(&["--data", "d", "--service-token-file", "t"]) else { panic!() };
        let made = Config::new("d".into(), "t".into());
        assert_eq!(format!("{parsed:?}"), format!("{made:?}"));
        assert_eq!(made.time_zone.iana_name(), Some("Asia/Dhaka"));
    }

    #[test]
    fn a_health_check_needs_no_other_flag() {
        assert!(matches!(parse(&["health"]), Ok(Task::Health(url)) if url == "http://127.0.0.1:50053"));
        assert!(
            matches!(parse(&["health", "--url", "http://x:1"]), Ok(Task::Health(url)) if url == "http://x:1")
        );
    }

    #[test]
    fn an_unknown_time_zone_or_a_missing_directory_is_refused() {
        use clap::error::ErrorKind;
        let flags = ["--data", "d", "--service-token-file", "t", "--time-zone", "Asia/Atlantis"];
        assert_eq!(parse(&flags).err(), Some(ErrorKind::ValueValidation));
        assert_eq!(parse(&["--data", "d"]).err(), Some(ErrorKind::MissingRequiredArgument));
    }
}
