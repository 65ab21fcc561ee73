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
  atm-sim --seeds 100 --plant DropTheDedupe

Exit codes:
  0  nothing was violated
  1  something was; the seeds are printed
  2  wrong use
  4  too few situations were reached, although at least 100 runs were made"
)]
pub struct Cli {
    /// Run this seed and print what happened.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub from: u64,
    /// On so many threads; as many as there are cores when absent.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Plant a bug first.
    #[arg(long, value_name = "BUG", value_parser = bug)]
    pub plant: Option<Bug>,
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
