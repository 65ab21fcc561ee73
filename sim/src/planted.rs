//! Testing the tester: every bug is planted in turn, and some checker must see it.

use std::collections::BTreeMap;
use std::fmt;

use atm_faults::{Bug, plant};

use crate::plan::Plan;
use crate::{check, world};

/// What became of one bug.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// How many seeds were run.
    pub seeds: u64,
    /// In how many of them it was seen.
    pub caught: u64,
    /// The first of them, and what was found there.
    pub first: Option<(u64, String)>,
    /// How often each invariant was found broken; 23 also when not everything ended in time, 0 for a program that failed.
    pub by: BTreeMap<u8, u64>,
}

/// Plants a bug and runs these seeds; with `until_caught` only until it is seen.
///
/// # Errors
/// What keeps a world from beginning.
pub fn hunt(
    bug: Bug,
    seeds: impl Iterator<Item = u64>,
    until_caught: bool,
    points: &[&'static str],
) -> Result<Hunt, world::WorldError> {
    let mut hunt = Hunt { bug, seeds: 0, caught: 0, first: None, by: BTreeMap::new() };
    for seed in seeds {
        let found = {
            let _planted = plant(bug);
            findings(seed, points)?
        };
        hunt.seeds += 1;
        if found.is_empty() {
            continue;
        }
        hunt.caught += 1;
        let mut invariants: Vec<u8> = found.iter().map(|(invariant, _)| *invariant).collect();
        invariants.sort_unstable();
        invariants.dedup();
        for invariant in invariants {
            *hunt.by.entry(invariant).or_default() += 1;
        }
        if hunt.first.is_none() {
            // What the bug is known to break says the most.
            let best = found.iter().find(|(invariant, _)| bug.breaks().contains(invariant)).or(found.first());
            hunt.first = best.map(|(_, what)| (seed, what.clone()));
        }
        if until_caught {
            break;
        }
    }
    Ok(hunt)
}

/// What is wrong with the run of a seed: the number of the invariant, and what was found.
fn findings(seed: u64, points: &[&'static str]) -> Result<Vec<(u8, String)>, world::WorldError> {
    let outcome = world::run(seed, Plan::of(seed, points))?;
    let mut found: Vec<(u8, String)> = check::all(&outcome.evidence)
        .into_iter()
        .map(|violation| (violation.invariant, violation.what))
        .collect();
    let late = |failure: &String| if failure.starts_with("not everything ended") { 23 } else { 0 };
    found.extend(outcome.failures.iter().map(|failure| (late(failure), failure.clone())));
    Ok(found)
}

impl fmt::Display for Hunt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |numbers: &mut dyn Iterator<Item = String>| numbers.collect::<Vec<_>>().join(" ");
        let breaks = numbers(&mut self.bug.breaks().iter().map(u8::to_string));
        let by = numbers(&mut self.by.iter().map(|(invariant, count)| format!("{invariant}×{count}")));
        let first = self.first.as_ref().map_or("never".to_owned(), |(seed, _)| seed.to_string());
        let name = self.bug.name();
        write!(
            formatter,
            "| {name:<32} | {breaks:<6} | {:>4} of {:<4} | {first:>6} | {by} |",
            self.caught, self.seeds
        )
    }
}
