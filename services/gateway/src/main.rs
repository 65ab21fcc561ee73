//! Starts the gateway service.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use atm_gateway::config::{Command, Flags, Serve};
use atm_rpc::server::{bind, check_health, shutdown_on_signals};
use atm_types::{SystemClock, SystemIds};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    match flags.command {
        Some(Command::Health { url }) => {
            if check_health(&url).await {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        None => match serve(&flags.serve).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

async fn serve(flags: &Serve) -> anyhow::Result<()> {
    atm_rpc::telemetry::init("gateway");
    let shutdown = shutdown_on_signals();
    let config = flags.config(&SystemIds).context("the gateway cannot start")?;
    let listener = bind(flags.listen, flags.insecure).await?;
    let address = listener.local_addr().context("the gateway cannot start")?;
    tracing::info!(%address, auth = %config.auth_url, ledger = %config.ledger_url, "serving");
    atm_gateway::run(listener, config, Arc::new(SystemClock), Arc::new(SystemIds), shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}
