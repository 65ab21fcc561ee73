//! What a program is told of arguments that are none: one object, as of every other failure.

use std::ffi::OsString;

use atm_types::Currency;
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory};
use serde::Serialize;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output::{Screen, Status, show_failure};

#[derive(Serialize)]
struct Keys<'a> {
    reason: &'a str,
    message: &'a str,
}

/// Prints the object of a mistake if `--json` is among the arguments; nothing for `--help` and `--version`.
pub(crate) fn show(arguments: &[OsString], error: &clap::Error) {
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    if !json || !error.use_stderr() {
        return;
    }
    let screen = Screen::new(true);
    let failure = Failure::new(Exit::WrongUse, "invalid_argument", sentence(error));
    // As far as the arguments can be understood: which command they are for decides which keys are expected.
    let meant = Cli::command().ignore_errors(true).try_get_matches_from(arguments).ok();
    match meant.as_ref().and_then(status) {
        Some(status) => show_failure(&failure, status, None, screen, currency(meant.as_ref())),
        None => screen.object(&Keys { reason: failure.reason, message: &failure.message }),
    }
}

/// What a money command, or a cancel, has to say of its transaction when it did not even begin.
fn status(meant: &ArgMatches) -> Option<Status> {
    match meant.subcommand()? {
        ("withdraw" | "deposit" | "transfer", _) => Some(Status::Declined),
        ("transaction", which) if which.subcommand_name() == Some("cancel") => Some(Status::Unknown),
        _ => None,
    }
}

fn currency(meant: Option<&ArgMatches>) -> Currency {
    let given = meant.and_then(|meant| meant.try_get_one::<Currency>("currency").ok().flatten());
    given.copied().unwrap_or(Currency::BDT)
}

/// The words of the error itself, without the usage that clap prints below them.
fn sentence(error: &clap::Error) -> String {
    if [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand]
        .contains(&error.kind())
    {
        return "a command is missing; `--help` lists them".to_owned();
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
