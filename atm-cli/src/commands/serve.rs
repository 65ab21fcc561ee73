//! `serve`: the whole bank in one process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use atm_rpc::server::shutdown_on_signals;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::bank::{Bank, BankConfig, BankError};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  atm-cli serve --data ./bank
  atm-cli serve --data ./bank --listen 127.0.0.1:6000 --ledger-listen 127.0.0.1:6003

Then, in another terminal:
  atm-cli admin import examples/accounts.csv --operator-token-file ./bank/operator.token
  atm-cli balance --card 123456789

Stop it with Ctrl-C or SIGTERM: it finishes what it has begun.";

/// Run auth, ledger and gateway in this process.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The directory of the databases, tokens and pepper; made if it is missing.
    #[arg(long, value_name = "DIR", env = "ATM_DATA")]
    data: PathBuf,
    /// Where cash machines and operators call.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Where auth listens; a free port unless told otherwise.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    auth_listen: SocketAddr,
    /// Where the ledger listens; a free port unless told otherwise.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    ledger_listen: SocketAddr,
    /// Allow addresses that other machines can reach, although there is no TLS.
    #[arg(long)]
    insecure: bool,
}

#[derive(Serialize)]
struct Keys<'a> {
    gateway: &'a str,
    auth: &'a str,
    ledger: &'a str,
    operator_token_file: String,
}

pub(crate) async fn run(context: &Context, args: &ServeArgs) -> Result<Exit, Failure> {
    let shutdown = shutdown_on_signals();
    let config = BankConfig {
        gateway: args.listen,
        auth: args.auth_listen,
        ledger: args.ledger_listen,
        insecure: args.insecure,
        currency: context.global.currency,
        ..BankConfig::new(&args.data)
    };
    let starting = Bank::start(config, Arc::clone(&context.clock), Arc::clone(&context.ids));
    let mut bank = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(Exit::Done),
        started = starting => started.map_err(|error| failure(&error))?,
    };
    show(context, &bank);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        error = bank.failed() => return Err(failure(&error)),
    }
    bank.stop().await.map_err(|error| failure(&error))?;
    Ok(Exit::Done)
}

fn show(context: &Context, bank: &Bank) {
    let operator_token_file = bank.operator_token_file().display().to_string();
    context.screen.result(&format!("gateway         {}", bank.gateway_url()));
    context.screen.result(&format!("auth            {}", bank.auth_url()));
    context.screen.result(&format!("ledger          {}", bank.ledger_url()));
    context.screen.result(&format!("operator token  {operator_token_file}"));
    context.screen.good("The bank is open. Ctrl-C closes it.");
    context.screen.object(&Keys {
        gateway: bank.gateway_url(),
        auth: bank.auth_url(),
        ledger: bank.ledger_url(),
        operator_token_file,
    });
}

fn failure(error: &BankError) -> Failure {
    match error {
        BankError::Bind(atm_rpc::server::BindError::NotLoopback { .. }) => {
            Failure::invalid(error.to_string())
        }
        BankError::Bind(atm_rpc::server::BindError::Io { source, .. }) => {
            Failure::unavailable(format!("{error}: {source}"))
        }
        BankError::Secret(_) | BankError::Service { .. } | BankError::Ended { .. } => {
            Failure::unavailable(error.to_string())
        }
    }
}
