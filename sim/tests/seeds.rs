//! Goal: nothing is violated in the seeds that fit into a minute, and they reach what matters. The long run is
//! `cargo run --release -p atm-sim -- --seeds 50000`.

use atm_sim::run;
use atm_sim::situations::Situation;

/// Few enough for a build that is not optimised.
const SEEDS: u64 = 24;
const FIRST: u64 = 1;

#[test]
fn nothing_is_violated_and_the_plans_reach_what_matters() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = run::many(FIRST, SEEDS, threads, None, |_| {});
    assert_eq!(summary.errors, Vec::<String>::new());
    assert!(summary.violations.is_empty(), "replay with `atm-sim --seed S`: {:#?}", summary.violations);
    assert_eq!(summary.runs, SEEDS);
    // What even so few runs cannot miss.
    for situation in [
        Situation::AnswerLost,
        Situation::AnsweredAgain,
        Situation::HoldCancelled,
        Situation::MachineDied,
        Situation::RejectBin,
        Situation::DepositStored,
        Situation::Checkpoint,
    ] {
        assert!(summary.situations.contains_key(&situation), "{} was never reached", situation.name());
    }
}
