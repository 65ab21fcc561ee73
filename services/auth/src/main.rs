//! Starts the auth service, or asks a running one whether it serves.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use atm_auth::Service;
use atm_auth::config::Invocation;
use atm_rpc::server::{bind, check_health, shutdown_on_signals};
use atm_rpc::telemetry;
use atm_types::{SystemClock, SystemIds};

#[tokio::main]
async fn main() -> ExitCode {
    match start().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atm-auth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start() -> anyhow::Result<ExitCode> {
    let (listen, insecure, config) = match Invocation::from_command_line()? {
        Invocation::Serve { listen, insecure, config } => (listen, insecure, *config),
        Invocation::Health { url } => {
            return Ok(if check_health(&url).await { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    telemetry::init("auth");
    let shutdown = shutdown_on_signals();
    let listener = bind(listen, insecure).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    let service = Service::open(config, Arc::new(SystemClock), Arc::new(SystemIds)).await?;
    tracing::info!(%address, "listening");
    service.serve(listener, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
