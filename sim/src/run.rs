//! One seed, and many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use atm_faults::Bug;
use sha2::{Digest, Sha256};

use crate::check::{self, Violation};
use crate::plan::Plan;
use crate::situations::{self, Situation};
use crate::world::{self, Outcome, WorldError};

/// Every fault point of the programs that are simulated; the list is made from their sources.
pub const FAULT_POINTS: &[&str] = include!(concat!(env!("OUT_DIR"), "/fault_points.rs"));

/// What was found in one run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub outcome: Outcome,
    /// What must not be.
    pub violations: Vec<Violation>,
}

/// The number of a violation that is none of the invariants': a panic, or a world that did not work.
pub const NO_INVARIANT: u8 = 0;

/// Runs the plan of a seed, and checks it; with a bug planted, if one is given.
///
/// # Errors
/// [`WorldError`].
pub fn one(seed: u64, bug: Option<Bug>) -> Result<Report, WorldError> {
    planned(seed, Plan::of(seed, FAULT_POINTS), bug)
}

/// Runs a plan, and checks it.
///
/// # Errors
/// [`WorldError`].
pub fn planned(seed: u64, plan: Plan, bug: Option<Bug>) -> Result<Report, WorldError> {
    let _planted = bug.map(atm_faults::plant);
    let outcome = world::run(seed, plan)?;
    let mut violations = outcome.violations.clone();
    for violation in check::all(&outcome.evidence) {
        if !violations.contains(&violation) {
            violations.push(violation);
        }
    }
    let late = "not everything ended";
    violations.extend(outcome.failures.iter().map(|failure| {
        let invariant = if failure.starts_with(late) { 23 } else { NO_INVARIANT };
        Violation::new(invariant, failure.clone())
    }));
    Ok(Report { seed, outcome, violations })
}

/// What was found in many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many runs there were.
    pub runs: u64,
    /// Transactions that customers began.
    pub transactions: u64,
    /// Steps that ledgers recorded.
    pub steps: u64,
    /// How often each situation was reached.
    pub situations: BTreeMap<Situation, u64>,
    /// How often each fault point was reached.
    pub points: BTreeMap<&'static str, u64>,
    /// Seeds with violations.
    pub violations: BTreeMap<u64, Vec<Violation>>,
    /// The hash of the trace of each seed.
    pub hashes: BTreeMap<u64, String>,
    /// Runs that could not be made.
    pub errors: Vec<String>,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        let evidence = &report.outcome.evidence;
        self.transactions +=
            evidence.machines.iter().map(|machine| machine.journal.records.len() as u64).sum::<u64>();
        self.steps += evidence.ledger.steps.len() as u64;
        for (situation, count) in situations::reached(&report.outcome) {
            *self.situations.entry(situation).or_default() += count;
        }
        for (point, count) in &report.outcome.points {
            *self.points.entry(point).or_default() += count;
        }
        self.hashes.insert(report.seed, report.outcome.hash.clone());
        if !report.violations.is_empty() {
            self.violations.insert(report.seed, report.violations.clone());
        }
    }

    /// The hash of all traces, in the order of their seeds: the same for the same seeds, on however many threads.
    pub fn hash(&self) -> String {
        let all = self
            .hashes
            .iter()
            .fold(Sha256::new(), |all, (seed, hash)| all.chain_update(seed.to_le_bytes()).chain_update(hash));
        hex::encode(all.finalize())
    }

    /// Situations that no run reached.
    pub fn missing(&self) -> Vec<Situation> {
        let missing = |situation: &&Situation| !self.situations.contains_key(situation);
        Situation::ALL.iter().filter(missing).copied().collect()
    }
}

/// Runs `count` seeds from `first` on, on so many threads; `after_each` is told of each run.
pub fn many(
    first: u64,
    count: u64,
    threads: usize,
    bug: Option<Bug>,
    after_each: impl Fn(&Report) + Sync,
) -> Summary {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    // After the greatest seed comes the smallest.
                    let seed = first.wrapping_add(index);
                    let result = one(seed, bug);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(report) => {
                            summary.add(&report);
                            after_each(&report);
                        }
                        Err(error) => summary.errors.push(format!("seed {seed}: {error}")),
                    }
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}
