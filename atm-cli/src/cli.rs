//! The command line: every command, flag and example. What is written here is what `--help` shows.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    admin, balance, demo, dispenser, pin, recover, serve, statement, text, transaction, transfer,
};
use crate::commands::{crash_points, deposit, withdraw, wrong_use};
use crate::crash;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  declined or cancelled: definite, and nothing was moved
  2  wrong use or invalid input (also an id used again with other content: reason id_reused)
  3  outcome unknown: the id and what to do next are printed
  4  not authenticated, or the card is locked
  5  not available, and provably nothing happened
A result that cannot be written to standard output is 5 of a command that only reads, and 3 of any other.

Examples:
  atm-cli demo                                  the whole story in one process
  atm-cli serve --data ./bank                   a bank for yourself, on 127.0.0.1:50051
  atm-cli balance --card 123456789              asks for the PIN without echo
  ATM_PIN=1234 atm-cli withdraw 1000 --card 123456789 --json
  atm-cli recover                               settles whatever was left open
  atm-cli text lower HELLOW";

/// A cash machine. Money moves exactly once, whatever gets lost or dies on the way.
#[derive(Debug, Parser)]
#[command(name = "atm-cli", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The gateway to call.
    #[arg(
        long,
        global = true,
        env = "ATM_GATEWAY",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) gateway: String,
    /// The machine's directory: its journal and its terminal key [default: ~/.local/state/atm, or atm under
    /// XDG_STATE_HOME].
    #[arg(long, global = true, env = "ATM_STATE_DIR", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The machine's name, 1 to 32 characters of A-Z a-z 0-9 . _ - [default: made from the terminal key].
    #[arg(long, global = true, env = "ATM_ID", value_name = "NAME")]
    pub(crate) atm_id: Option<String>,
    /// The longest that one key press may take, retries included: 100ms to 1h, such as 10s, 500ms or 1m. `admin import`
    /// may take a minute for each call, or this if it is longer.
    #[arg(
        long, global = true, env = "ATM_DEADLINE", value_name = "TIME", default_value = "10s",
        value_parser = parse_duration
    )]
    pub(crate) deadline: Duration,
    /// The bank's currency, an ISO 4217 code; it decides how many decimals an amount may have.
    #[arg(long, global = true, env = "ATM_CURRENCY", value_name = "CODE", default_value = "BDT",
        value_parser = parse_currency)]
    pub(crate) currency: atm_types::Currency,
    /// Print one JSON object on standard output instead of words.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// For developers: die, as by `kill -9`, at this point; `atm-cli crash-points` lists them.
    #[arg(long, global = true, hide = true, value_name = "POINT", value_parser = parse_crash_point)]
    pub(crate) crash_at: Option<String>,
    /// For developers: the machine's clock is so many days ahead.
    #[arg(long, global = true, hide = true, value_name = "DAYS")]
    pub(crate) days_ahead: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Balance(balance::BalanceArgs),
    Withdraw(withdraw::WithdrawArgs),
    Deposit(deposit::DepositArgs),
    Transfer(transfer::TransferArgs),
    Statement(statement::StatementArgs),
    Pin(pin::PinArgs),
    Transaction(transaction::TransactionArgs),
    Recover(recover::RecoverArgs),
    Dispenser(dispenser::DispenserArgs),
    Text(text::TextArgs),
    Admin(admin::AdminArgs),
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    CrashPoints(crash_points::CrashPointsArgs),
}

/// Whose card, and where its PIN comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct CardArgs {
    /// The card's number, 8 to 19 digits.
    #[arg(long, value_name = "NUMBER", value_parser = parse_card)]
    pub(crate) card: String,
    /// Read the PIN from this file instead of asking for it; ATM_PIN in the environment does the same.
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
}

/// The id of a money command.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdArgs {
    /// Use this id instead of a new one. The same command with the same id is carried out once, and answered
    /// the same every time.
    #[arg(long, value_name = "UUID", value_parser = parse_transaction_id)]
    pub(crate) transaction_id: Option<atm_types::TransactionId>,
}

/// Reads the command line; on `--help`, `--version` and mistakes clap's own exit code comes back.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).map_err(|error| {
        let _ = error.print();
        wrong_use::show(&arguments, &error);
        // Help and version are no mistakes: 0. Mistakes: 2, as documented.
        u8::try_from(error.exit_code()).unwrap_or(2)
    })
}

/// `10s`, `500ms`, `1m 30s`; a bare number means seconds. 100 ms to one hour.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bare = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let duration = match bare {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => {
            text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
        }
    };
    let duration = duration.ok_or("must be a time such as 10s, 500ms or 1m")?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&duration) {
        Ok(duration)
    } else {
        Err("must be between 100ms and 1h".to_owned())
    }
}

pub(crate) fn parse_card(text: &str) -> Result<String, String> {
    let valid = (8..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    // Never echoed: what was typed in the wrong place may be a PIN.
    if valid { Ok(text.to_owned()) } else { Err("a card number has 8 to 19 digits".to_owned()) }
}

pub(crate) fn parse_transaction_id(text: &str) -> Result<atm_types::TransactionId, String> {
    text.to_ascii_lowercase().parse().map_err(|error: atm_types::IdError| error.to_string())
}

fn parse_crash_point(text: &str) -> Result<String, String> {
    if crash::ALL.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("there is no such crash point; there are: {}", crash::ALL.join(" ")))
    }
}

fn parse_currency(text: &str) -> Result<atm_types::Currency, String> {
    text.parse().map_err(|error: atm_types::MoneyError| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("\n  atm-cli "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in
            [("10s", 10_000), ("500ms", 500), ("1m", 60_000), ("1m 30s", 90_000), ("2", 2000), ("0.5", 500)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(parse_crash_point("PRESENTED").is_ok() && parse_crash_point("NO_SUCH_POINT").is_err());
        for text in ["", "soon", "-1s", "0", "99ms", "2h", "1e300", "nan"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mistyped_card_number_is_never_repeated_to_the_screen() {
        let error = parse_card("1234").unwrap_err();
        assert!(!error.contains("1234"));
    }
}
