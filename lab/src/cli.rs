//! The command line: every command, flag and example. What is written here is what `--help` shows.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{conform, plot, proxy, run, verify};
use crate::screen::{BAD, Screen};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and everything was as it should be
  1  a verdict against what was tried: books not right, curves off, a failed check
  2  wrong use, or something that is needed is missing

Examples:
  atm-lab run lab/scenarios/*.toml --out results
  atm-lab verify results/*.csv
  atm-lab proxy --upstream http://127.0.0.1:50051 --lose-answer 0.3
  atm-lab conform --target http://127.0.0.1:50053 --service-token-file service.token";

/// Makes a bank, or anything else that speaks gRPC, fail on purpose, and tells what came of it.
#[derive(Debug, Parser)]
#[command(name = "atm-lab", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// Print one JSON object instead of lines for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stands in front of any gRPC service and loses, repeats, delays and reorders its calls.
    Proxy(proxy::Arguments),
    /// Runs experiments against a bank of real processes; writes CSV and SVG.
    Run(run::Arguments),
    /// Draws results again.
    Plot(plot::Arguments),
    /// Compares results with the theory, point by point.
    Verify(verify::Arguments),
    /// Tries what a ledger does about repeated, changed, late and lost calls.
    Conform(conform::Arguments),
}

/// Whether what was tried turned out well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Good,
    /// It did not, and the reasons were printed.
    Bad,
}

/// Reads the command line and does what it says.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::new(cli.json);
    let done = match cli.command {
        Command::Proxy(arguments) => proxy::run(arguments, screen).await,
        Command::Run(arguments) => run::run(arguments, screen).await,
        Command::Plot(arguments) => plot::run(&arguments, screen),
        Command::Verify(arguments) => verify::run(&arguments, screen),
        Command::Conform(arguments) => conform::run(arguments, screen).await,
    };
    match done {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => {
            screen.remark(format_args!("{BAD}atm-lab: {error:#}{BAD:#}"));
            // Money that moved twice is a verdict, not a mishap.
            let wrong_books =
                error.chain().any(|cause| cause.to_string().contains(crate::experiment::WRONG_BOOKS));
            ExitCode::from(if wrong_books { 1 } else { 2 })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("atm-lab {}", command.get_name());
            assert!(help.contains(&example), "{} has no example", command.get_name());
        }
    }
}
