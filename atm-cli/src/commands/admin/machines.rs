//! `admin forget-start` and `release-terminal`.

use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::{order_id, write_failure};
use crate::client::AdminClient;
use crate::exit::{Exit, Failure};

const FORGET_EXAMPLES: &str = "\
Examples:
  atm-cli admin forget-start ATM-0042
  atm-cli admin forget-start --all

For a machine that says STALE_BOOT although it is the one that shall go on, and with --all after auth was restored from \
a backup. The next start that signs on is let in, whichever it is: first switch every other copy of the machine off.";

/// Let the next start of a machine sign on, whichever it is.
#[derive(Debug, Args)]
#[command(after_help = FORGET_EXAMPLES)]
pub(super) struct ForgetStartArgs {
    /// The machine's name.
    #[arg(value_name = "ATM_ID", required_unless_present = "all", conflicts_with = "all")]
    atm_id: Option<String>,
    /// Every machine that the bank knows.
    #[arg(long)]
    all: bool,
}

const RELEASE_EXAMPLES: &str = "\
Example:
  atm-cli admin release-terminal ATM-0042

For a machine that got a new key and keeps its name. The next terminal that shows a right PIN under this name gets it. \
Where several gateways run, restart the others: they remember whose names they have seen.";

/// Take a machine's name from the key that it is bound to.
#[derive(Debug, Args)]
#[command(after_help = RELEASE_EXAMPLES)]
pub(super) struct ReleaseTerminalArgs {
    /// The machine's name.
    #[arg(value_name = "ATM_ID")]
    atm_id: String,
}

#[derive(Serialize)]
struct ForgetKeys {
    machines: u64,
}

#[derive(Serialize)]
struct ReleaseKeys {
    released: bool,
}

pub(super) async fn forget_start(
    context: &Context,
    client: &AdminClient,
    args: &ForgetStartArgs,
) -> Result<Exit, Failure> {
    let machines = client
        .forget_start(order_id(context), args.atm_id.clone())
        .await
        .map_err(|error| write_failure(&error))?;
    context.screen.object(&ForgetKeys { machines });
    context.screen.good(&match &args.atm_id {
        Some(atm_id) => format!("The start of {atm_id} is forgotten; the next one that signs on is let in"),
        None => {
            format!("The starts of {machines} machines are forgotten; the next ones that sign on are let in")
        }
    });
    Ok(Exit::Done)
}

pub(super) async fn release(
    context: &Context,
    client: &AdminClient,
    args: &ReleaseTerminalArgs,
) -> Result<Exit, Failure> {
    client
        .release_terminal(order_id(context), args.atm_id.clone())
        .await
        .map_err(|error| write_failure(&error))?;
    context.screen.object(&ReleaseKeys { released: true });
    context.screen.good(&format!("The name {} is nobody's now", args.atm_id));
    Ok(Exit::Done)
}
