//! Goal: each scenario ends well when nothing is done to it, and together they reach every fault point that is not
//! tried elsewhere. Every point with every blow is `atm-sim --exhaustive`.

use std::collections::BTreeSet;

use atm_sim::exhaustive::{ELSEWHERE, scenarios};
use atm_sim::run::{self, FAULT_POINTS};

#[test]
fn the_scenarios_end_well_and_reach_every_point() {
    let mut missing: BTreeSet<&str> = FAULT_POINTS.iter().copied().collect();
    for (name, plan) in scenarios() {
        let report = run::planned(1, plan, None).unwrap();
        assert!(report.violations.is_empty(), "{name}: {:#?}", report.violations);
        missing.retain(|point| !report.outcome.points.contains_key(point));
    }
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(point, _)| *point).collect();
    assert_eq!(missing, elsewhere, "points that no scenario reaches, and those that none needs to reach");
}
