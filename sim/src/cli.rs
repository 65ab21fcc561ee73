//! What the simulator can be asked for.

use atm_faults::Bug;
use clap::Parser;

/// Simulates cash machines, gateway, auth and ledger on one thread, with everything going wrong that can.
#[derive(Debug, Parser)]
#[command(
    name = "atm-sim",
    version,
    after_help = "\
Examples:
  atm-sim --seed 42                  replays one run with its timeline
  atm-sim --seeds 500                runs many and sums them up
  atm-sim --seeds 100 --plant CaptureAgain
  atm-sim --planted-bugs --seeds 10000
  atm-sim --exhaustive --pairs 5     every fault point, every blow, and a part of all ordered pairs

Exit codes:
  0  nothing was violated
  1  something was; the seeds are printed. With --planted-bugs: a bug was caught in no run
  2  wrong use
  4  too few situations were reached, although at least 500 runs were made"
)]
pub struct Cli {
    /// Run this seed and print what happened.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// With --seed: also print what the programs logged.
    #[arg(long, requires = "seed", conflicts_with = "json")]
    pub log: bool,
    /// Run so many seeds.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub from: u64,
    /// On so many threads; as many as there are cores when absent.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Plant each bug in turn and run the seeds until it is caught, and then so many more as tell how often; at most
    /// --seeds each. A table says which check saw it.
    #[arg(long, conflicts_with_all = ["seed", "plant", "json"])]
    pub planted_bugs: bool,
    /// Of --planted-bugs: how many runs tell how often a bug is caught.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub rate_runs: u64,
    /// Plant a bug first.
    #[arg(long, value_name = "BUG", value_parser = bug)]
    pub plant: Option<Bug>,
    /// Try every fault point with every blow that makes sense there.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "plant"])]
    pub exhaustive: bool,
    /// With --exhaustive: also this percentage of all ordered pairs of points.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "exhaustive")]
    pub pairs: f64,
    /// Print one JSON object instead of words.
    #[arg(long)]
    pub json: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("there is no such bug; there are {}", names.join(", "))
    })
}
