//! `run`: experiments against a bank of real processes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use super::verify;
use crate::bank::Bank;
use crate::binaries::Binaries;
use crate::cli::Verdict as Exit;
use crate::experiment::{self, Run};
use crate::scenario::Scenario;
use crate::screen::{Screen, progress};
use crate::verdict::{Outcome, judge};
use crate::{plot, row};

const EXAMPLES: &str = "\
For each scenario NAME.csv and its pictures are written. After each point the books have to show every applied
transaction exactly once, and every other never; otherwise the run fails at once.

Examples:
  atm-lab run lab/scenarios/*.toml --out results
  atm-lab run lab/scenarios/c3-resend.toml --quick --seed 7";

/// What is run, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Experiments.
    #[arg(required = true, value_name = "SCENARIO.toml")]
    scenarios: Vec<PathBuf>,
    /// The directory for results.
    #[arg(long, value_name = "DIR", default_value = "lab-results")]
    out: PathBuf,
    /// What all chance follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The short form of each scenario: fewer points, fewer transactions.
    #[arg(long)]
    quick: bool,
}

/// Runs.
///
/// # Errors
/// When something is missing, or the books are not right.
pub async fn run(arguments: Arguments, screen: Screen) -> anyhow::Result<Exit> {
    let mut scenarios = Vec::new();
    for path in &arguments.scenarios {
        let scenario = Scenario::read(path)?;
        scenarios.push(if arguments.quick { scenario.quick() } else { scenario });
    }
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let binaries = Binaries::find()?;
    let commit = commit();
    let stopped = atm_rpc::server::shutdown_on_signals();
    let mut verdicts = Vec::new();
    for scenario in &scenarios {
        let points =
            scenario.losses.iter().flat_map(|loss| scenario.series.iter().map(move |it| (it, *loss)));
        let transactions =
            points.map(|(series, loss)| u64::from(scenario.transactions_at(series, loss))).sum();
        let bar = progress(transactions, &scenario.name);
        let watched = bar.clone();
        let run = Run {
            // Sessions last 15 minutes and books grow; new ones for each scenario.
            bank: Bank::start(&binaries).await?,
            seed: arguments.seed,
            commit: commit.clone(),
            progress: Box::new(move |ended| watched.inc(ended)),
        };
        let rows = tokio::select! {
            rows = experiment::run(&run, scenario) => rows?,
            // Returning drops the bank, and with it its processes and its directory.
            () = stopped.cancelled() => bail!("stopped; {} has no result", scenario.name),
        };
        bar.finish_and_clear();
        row::write(&arguments.out.join(format!("{}.csv", scenario.name)), &rows)?;
        plot::draw_all(&rows, &arguments.out)?;
        verdicts.extend(rows.iter().map(judge));
    }
    verify::show(&verdicts, screen);
    screen.object(&verdicts);
    let differs = verdicts.iter().any(|verdict| verdict.result == Outcome::Differs);
    Ok(if differs { Exit::Bad } else { Exit::Good })
}

/// The commit that runs, with a mark if files were changed since; empty outside a work tree.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&["describe", "--always", "--dirty", "--exclude", "*"]).unwrap_or_default()
}
