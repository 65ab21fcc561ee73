//! `crash-points`: the places at which `--crash-at` can end the machine.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::crash;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Example:
  atm-cli crash-points
  atm-cli withdraw 500 --card 123456789 --crash-at PRESENTED";

/// List the points at which the machine can be told to die.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CrashPointsArgs {}

#[derive(Serialize)]
struct Keys {
    count: usize,
    points: &'static [&'static str],
}

#[expect(clippy::unnecessary_wraps, reason = "every command is run alike")]
pub(crate) fn run(context: &Context, _args: &CrashPointsArgs) -> Result<Exit, Failure> {
    for point in crash::ALL {
        context.screen.result(point);
    }
    context.screen.good(&format!("{} crash points", crash::ALL.len()));
    context.screen.object(&Keys { count: crash::ALL.len(), points: crash::ALL });
    Ok(Exit::Done)
}
