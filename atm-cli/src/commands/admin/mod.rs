//! `admin`: the operators' commands, with their own credential.

mod cards;
mod cash;
mod compare;
mod count;
mod import;
mod init_secrets;
mod load;
mod machines;
mod open_account;
mod reconcile;
mod resolve;
mod suspect;
mod suspects;
mod trial_balance;
mod verify;

use std::path::{Path, PathBuf};

use atm_rpc::credentials::BearerToken;
use atm_rpc::retry::RetryError;
use clap::{Args, Subcommand};

use super::Context;
use crate::client::{AdminClient, attempts, read_failure};
use crate::exit::{Exit, Failure, with_causes};
use crate::flow::{self, Machine};

/// Operators' commands.
#[derive(Debug, Args)]
#[command(after_help = "\
Operators show a token, not a card: give --operator-token-file, or set ATM_OPERATOR_TOKEN_FILE. `atm-cli serve \
--data DIR` makes it as DIR/operator.token; it must be readable by its owner only.

Examples:
  export ATM_OPERATOR_TOKEN_FILE=bank/operator.token
  atm-cli admin import examples/accounts.csv
  atm-cli admin unblock-card --card 123456789
  atm-cli admin load 1000=50
  atm-cli admin reconcile
  atm-cli admin trial-balance")]
pub(crate) struct AdminArgs {
    /// The file with the operator's token, mode 0600.
    #[arg(long, global = true, env = "ATM_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    OpenAccount(open_account::OpenAccountArgs),
    IssueCard(cards::IssueCardArgs),
    BlockCard(cards::BlockCardArgs),
    UnblockCard(cards::UnblockCardArgs),
    Import(import::ImportArgs),
    InitSecrets(init_secrets::InitSecretsArgs),
    Load(load::LoadArgs),
    Unload(load::UnloadArgs),
    Count(count::CountArgs),
    Reconcile(reconcile::ReconcileArgs),
    Suspects(suspects::SuspectsArgs),
    Suspect(suspect::SuspectArgs),
    Resolve(resolve::ResolveArgs),
    ForgetStart(machines::ForgetStartArgs),
    ReleaseTerminal(machines::ReleaseTerminalArgs),
    TrialBalance(trial_balance::TrialBalanceArgs),
    Verify(verify::VerifyArgs),
}

impl AdminArgs {
    pub(super) fn only_reads(&self) -> bool {
        match self.command {
            AdminCommand::Suspects(_)
            | AdminCommand::Suspect(_)
            | AdminCommand::Reconcile(_)
            | AdminCommand::TrialBalance(_)
            | AdminCommand::Verify(_) => true,
            AdminCommand::OpenAccount(_)
            | AdminCommand::IssueCard(_)
            | AdminCommand::BlockCard(_)
            | AdminCommand::UnblockCard(_)
            | AdminCommand::Import(_)
            | AdminCommand::InitSecrets(_)
            | AdminCommand::Load(_)
            | AdminCommand::Unload(_)
            | AdminCommand::Count(_)
            | AdminCommand::Resolve(_)
            | AdminCommand::ForgetStart(_)
            | AdminCommand::ReleaseTerminal(_) => false,
        }
    }
}

pub(crate) async fn run(context: &Context, args: AdminArgs) -> Result<Exit, Failure> {
    let path = args.operator_token_file.ok_or_else(|| {
        Failure::invalid(
            "operators need a token: give --operator-token-file FILE or set ATM_OPERATOR_TOKEN_FILE",
        )
    })?;
    let client = || client(context, &path);
    match args.command {
        AdminCommand::OpenAccount(args) => open_account::run(context, &client()?, &args).await,
        AdminCommand::IssueCard(args) => cards::issue(context, &client()?, &args).await,
        AdminCommand::BlockCard(args) => cards::block(context, &client()?, &args).await,
        AdminCommand::UnblockCard(args) => cards::unblock(context, &client()?, &args).await,
        AdminCommand::Import(args) => import::run(context, &client()?, &args).await,
        // Comes before there is a gateway, and makes the token that the others show.
        AdminCommand::InitSecrets(args) => init_secrets::run(context, &args, &path),
        AdminCommand::Load(args) => load::load(context, &client()?, &args).await,
        AdminCommand::Unload(args) => load::unload(context, &client()?, &args).await,
        AdminCommand::Count(args) => count::run(context, &client()?, &args).await,
        AdminCommand::Reconcile(args) => reconcile::run(context, &client()?, &args).await,
        AdminCommand::Suspects(args) => suspects::run(context, &client()?, &args).await,
        AdminCommand::Suspect(args) => suspect::run(context, &client()?, &args).await,
        AdminCommand::Resolve(args) => resolve::run(context, &client()?, &args).await,
        AdminCommand::ForgetStart(args) => machines::forget_start(context, &client()?, &args).await,
        AdminCommand::ReleaseTerminal(args) => machines::release(context, &client()?, &args).await,
        AdminCommand::TrialBalance(args) => trial_balance::run(context, &client()?, &args).await,
        AdminCommand::Verify(args) => verify::run(context, &client()?, &args).await,
    }
}

/// Tells the bank of what operators moved and it does not know yet, if their token is there.
pub(crate) async fn finish_movements(
    context: &Context,
    machine: &mut Machine,
    token_file: Option<&Path>,
) -> Result<(), Failure> {
    let Some(path) = token_file else { return Ok(()) };
    let pending = machine.journal.operators_movements().map_err(|error| flow::journal_before(&error))?;
    if pending.is_empty() {
        return Ok(());
    }
    let client = client(context, path)?;
    cash::tell(context, machine, &client, &[]).await.map(drop)
}

fn client(context: &Context, token_file: &Path) -> Result<AdminClient, Failure> {
    let token = match &context.surroundings {
        Some(surroundings) => surroundings.operator_token.clone(),
        None => BearerToken::load(token_file)
            .map_err(|error| Failure::invalid(format!("--operator-token-file: {}", with_causes(&error))))?,
    };
    AdminClient::new(context.way(), token, context.global.deadline)
}

/// An id for an order: its retries are the same order, and the same command again is another one.
fn order_id(context: &Context) -> String {
    context.ids.attempt_id().to_string()
}

/// The failure of a call that changes something and may be repeated: what may have been sent may have worked.
fn write_failure(error: &RetryError) -> Failure {
    let failure = read_failure(error);
    if failure.exit == Exit::Unavailable && error.maybe_sent {
        let message = format!(
            "no answer ({}, {}); it may have been done. Run the same command again: it completes what is \
             missing and does nothing twice",
            error.status.code(),
            attempts(error)
        );
        return Failure::new(Exit::Unknown, "no_answer", message);
    }
    failure
}
