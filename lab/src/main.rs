//! Starts the lab.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    atm_lab::cli::main().await
}
