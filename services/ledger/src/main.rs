//! Starts the ledger service.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use atm_ledger::config::{Arguments, Config, Task};
use atm_rpc::{server, telemetry};
use atm_types::{SystemClock, SystemIds};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let task = Arguments::read();
    telemetry::init("ledger");
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(async {
        match task {
            Task::Serve(config) => serve(config).await.map(|()| true),
            Task::Health(url) => Ok(server::check_health(&url).await),
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = server::shutdown_on_signals();
    let listener = server::bind(config.listen, config.insecure).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, data = %config.data.display(), "the ledger starts");
    atm_ledger::run(listener, config, Arc::new(SystemClock), Arc::new(SystemIds), shutdown).await?;
    tracing::info!("the ledger has ended in good order");
    Ok(())
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
