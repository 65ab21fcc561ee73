//! Runs the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    let seed: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let plan = atm_sim::plan::Plan::of(seed, &[]);
    match atm_sim::world::run(seed, plan) {
        Ok(outcome) => {
            for event in &outcome.events {
                println!("{event}");
            }
            println!("{:?}\n{}", outcome.failures, outcome.hash);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
