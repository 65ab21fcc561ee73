//! `pin change`: another PIN for the customer's own card.

use std::path::PathBuf;

use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use clap::{Args, Subcommand};
use serde::Serialize;
use tonic::Code;

use super::Context;
use crate::cli::CardArgs;
use crate::client::read_failure;
use crate::exit::{Exit, Failure};

const CHANGE_EXAMPLES: &str = "\
Examples:
  atm-cli pin change --card 123456789              asks for the old PIN, and twice for the new one
  ATM_PIN=1234 ATM_NEW_PIN=5678 atm-cli pin change --card 123456789 --json

Exit code 0: the new PIN is set. Exit code 3: the bank did not say so, and either PIN may be the right one; the new \
one is the better guess.";

const EXAMPLES: &str = "\
Example:
  atm-cli pin change --card 123456789";

/// Change the PIN of a card.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PinArgs {
    #[command(subcommand)]
    command: PinCommand,
}

#[derive(Debug, Subcommand)]
enum PinCommand {
    /// Set another PIN; the old one is checked first, and counts like any that is entered.
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(ChangeArgs),
}

#[derive(Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    card: CardArgs,
    /// Read the new PIN from this file instead of asking for it; ATM_NEW_PIN in the environment does the same.
    #[arg(long, value_name = "FILE")]
    new_pin_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Keys {
    status: &'static str,
}

pub(crate) async fn run(context: &Context, args: &PinArgs) -> Result<Exit, Failure> {
    match &args.command {
        PinCommand::Change(args) => change(context, args).await,
    }
}

async fn change(context: &Context, args: &ChangeArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let gateway = context.gateway(&terminal)?;
    let old = context.pin(args.card.pin_file.as_deref(), "Old PIN:")?;
    let new = context.new_pin(args.new_pin_file.as_deref())?;
    let deadline = Deadline::after(context.global.deadline);
    let session = gateway.log_in(&args.card.card, &old, context.ids.attempt_id(), None, deadline).await?;
    let changed = gateway.change_pin(&session, (&old, &new), context.ids.attempt_id(), deadline).await;
    gateway.log_out(&session).await;
    changed.map_err(|error| failure(&error))?;
    context.screen.object(&Keys { status: "changed" });
    context.screen.good("The new PIN is set.");
    Ok(Exit::Done)
}

/// Only what was never sent and what no copy could be let in with is definite. The old PIN was right a moment ago, at
/// the log-in, so even "wrong PIN" may only mean that another copy of this request has changed it already.
fn failure(error: &RetryError) -> Failure {
    if !error.maybe_sent || error.status.code() == Code::InvalidArgument {
        return read_failure(error);
    }
    let message = format!(
        "the bank did not say that the PIN is changed ({}): it may be changed or not; try the new one first, then the \
         old one",
        error.status.message()
    );
    Failure::new(Exit::Unknown, "unknown", message)
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn once_it_may_have_been_sent_only_bad_input_is_definite() {
        let exit = |code, maybe_sent| {
            let status = Status::new(code, "text");
            failure(&RetryError { status, attempts: 1, maybe_sent, deadline_over: false }).exit
        };
        assert_eq!(exit(Code::InvalidArgument, true), Exit::WrongUse);
        assert_eq!(exit(Code::Unavailable, false), Exit::Unavailable);
        for code in
            [Code::Unauthenticated, Code::FailedPrecondition, Code::PermissionDenied, Code::Unavailable]
        {
            assert_eq!(exit(code, true), Exit::Unknown, "{code:?}");
        }
    }
}
