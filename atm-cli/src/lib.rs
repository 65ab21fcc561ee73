//! The cash machine: screen, commands, journal.
//!
//! A command goes this way: `cli.rs` reads the flags; `commands/` has one file for each command; `flow/` carries
//! a transaction from its INTENT to its end, writing each step into `journal/` before the act that it announces;
//! `client/` speaks to the gateway, with retries under one deadline; `output/` shows the result to a
//! person or as one JSON object; `exit.rs` says which exit code that is. [`bank`] starts the bank's three
//! services in this process, for `serve`, for `demo` and for tests.

mod amount;
pub mod bank;
mod cli;
mod client;
mod commands;
mod crash;
mod device;
mod durable;
mod exit;
mod flow;
mod import;
mod journal;
mod output;
mod pin;
pub mod simulation;
mod terminal;
mod text_pieces;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command and says with which code to exit. `arguments` begin with the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    commands::run(cli).into()
}
