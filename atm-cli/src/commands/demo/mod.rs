//! `demo`: the whole story in one process, over real gRPC, every number checked.

mod story;
mod wire;

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use story::Story;

const EXAMPLES: &str = "\
Example:
  atm-cli demo

Starts auth, ledger and gateway on free loopback ports with their data in a directory that is thrown away, and \
plays a customer's day. Exit code 0 only if every number is right.";

/// Play the whole story in a throw-away bank.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {}

#[derive(Serialize)]
struct Keys {
    right: bool,
    steps: Vec<StepKeys>,
}

#[derive(Serialize)]
struct StepKeys {
    what: String,
    expected: String,
    found: String,
    right: bool,
}

pub(crate) async fn run(context: &Context, _args: &DemoArgs) -> Result<Exit, Failure> {
    let home = tempfile::tempdir()
        .map_err(|error| Failure::unavailable(format!("no temporary directory: {error}")))?;
    let mut story = Story::new(context, home.path());
    story.play().await?;
    let steps = story.into_steps();
    let wrong = steps.iter().filter(|step| !step.right).count();
    let right = wrong == 0;
    if right {
        context.screen.good(&format!("All {} numbers are right.", steps.len()));
    } else {
        context.screen.error(&format!("{wrong} of {} numbers are WRONG.", steps.len()));
    }
    context.screen.object(&Keys { right, steps });
    Ok(if right { Exit::Done } else { Exit::Declined })
}
