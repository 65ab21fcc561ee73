//! Testing the tester: every bug is planted in turn, and some checker must see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use atm_faults::Bug;

use crate::check::Violation;
use crate::run;
use crate::world::WorldError;

/// The first lines of the table that [`Hunt`]s are the rows of.
pub const HEADING: &str = "\
| bug                              | breaks | caught       | first seed | seen by invariant × runs |
| -------------------------------- | ------ | ------------ | ---------- | ------------------------ |";

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
    /// In how many runs each invariant was found broken; 23 also when not everything ended in time, 0 when a program
    /// or the world failed.
    pub by: BTreeMap<u8, u64>,
}

/// What is found in runs without any bug, by seed: that is no merit of a check.
#[derive(Debug, Default)]
pub struct Unplanted(Mutex<BTreeMap<u64, BTreeSet<u8>>>);

impl Unplanted {
    fn of(&self, seed: u64) -> Result<BTreeSet<u8>, WorldError> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&seed) {
            return Ok(known.clone());
        }
        let found = run::one(seed, None)?.violations.iter().map(|violation| violation.invariant).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, BTreeSet::clone(&found));
        Ok(found)
    }
}

/// Plants a bug and runs seeds until it is caught, and at least `enough` of them so that there is a rate to tell.
///
/// # Errors
/// What keeps a world from beginning.
pub fn hunt(
    bug: Bug,
    (first, most, enough): (u64, u64, u64),
    unplanted: &Unplanted,
) -> Result<Hunt, WorldError> {
    let mut hunt = Hunt { bug, seeds: 0, caught: 0, first: None, by: BTreeMap::new() };
    for seed in first..first.saturating_add(most) {
        if hunt.seeds >= enough && hunt.first.is_some() {
            break;
        }
        let mut found = run::one(seed, Some(bug))?.violations;
        if !found.is_empty() {
            let anyway = unplanted.of(seed)?;
            found.retain(|violation| !anyway.contains(&violation.invariant));
        }
        hunt.note(seed, &found);
    }
    Ok(hunt)
}

/// Hunts all bugs, some at the same time; `after_each` is told of each as it is over.
pub fn hunt_all(
    first: u64,
    most: u64,
    enough: u64,
    threads: usize,
    after_each: impl Fn(&Hunt) + Sync,
) -> Vec<Result<Hunt, WorldError>> {
    let next = AtomicUsize::new(0);
    let hunts = Mutex::new(Vec::new());
    let unplanted = Unplanted::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(*bug, (first, most, enough), &unplanted);
                    let mut hunts = hunts.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Ok(hunt) = &hunt {
                        after_each(hunt);
                    }
                    hunts.push(hunt);
                }
            });
        }
    });
    hunts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Hunt {
    fn note(&mut self, seed: u64, found: &[Violation]) {
        self.seeds += 1;
        if found.is_empty() {
            return;
        }
        self.caught += 1;
        let mut invariants: Vec<u8> = found.iter().map(|violation| violation.invariant).collect();
        invariants.sort_unstable();
        invariants.dedup();
        for invariant in invariants {
            *self.by.entry(invariant).or_default() += 1;
        }
        if self.first.is_none() {
            // What the bug is known to break says the most.
            let breaks = |violation: &&Violation| self.bug.breaks().contains(&violation.invariant);
            let best = found.iter().find(breaks).or(found.first());
            self.first = best.map(|violation| (seed, violation.what.clone()));
        }
    }
}

impl fmt::Display for Hunt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |words: Vec<String>| words.join(" ");
        let breaks = words(self.bug.breaks().iter().map(u8::to_string).collect());
        let by = words(self.by.iter().map(|(invariant, count)| format!("{invariant}×{count}")).collect());
        let first = self.first.as_ref().map_or("never".to_owned(), |(seed, _)| seed.to_string());
        let (name, caught) = (self.bug.name(), format!("{} of {}", self.caught, self.seeds));
        write!(formatter, "| {name:<32} | {breaks:<6} | {caught:<12} | {first:<10} | {by} |")
    }
}
