//! Single faults, exhaustively: every fault point × every blow that makes sense there, each in the shortest of a few
//! fixed scenarios that reaches the point; then ordered pairs of points.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use atm_fault_proxy::{Calls, Delay, DelayLength, Glob, Rule, Span};
use fastrand::Rng;

use crate::check::Violation;
use crate::plan::{Action, Blow, PATIENCE, Plan, Strike, Trouble, Wire};
use crate::run::{self, FAULT_POINTS, Report};
use crate::world::{Host, WorldError};

/// Points that no simulated machine can reach, and where they are tried instead.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("BEFORE_JOURNAL_MIGRATED", "needs a journal of an older version: atm-cli's tests/crash.rs"),
    ("BEFORE_BACK_IN_SERVICE", "needs a bank that went back to an older backup: atm-cli's tests/crash.rs"),
    ("BACK_IN_SERVICE", "needs a bank that went back to an older backup: atm-cli's tests/crash.rs"),
    ("JOURNAL_MIGRATED", "needs a journal of an older version: atm-cli's tests/crash.rs"),
];

/// What was tried, and what was found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many scenarios there are.
    pub scenarios: usize,
    /// How many points were reached.
    pub reached: usize,
    /// Points that no scenario reaches and that are not [`ELSEWHERE`].
    pub never_reached: Vec<&'static str>,
    /// Single faults that were tried.
    pub singles: usize,
    /// How often each blow struck among them.
    pub blows: BTreeMap<Blow, usize>,
    /// Single faults that did not strike, although the point is reached without them.
    pub missed: Vec<String>,
    /// Ordered pairs that were tried.
    pub pairs: usize,
    /// Pairs of which the second fault struck, too.
    pub both: usize,
    /// What must not be, and the plan that shows it.
    pub violations: Vec<(String, Vec<Violation>)>,
}

/// One thing to try.
#[derive(Clone, Debug)]
struct Trial {
    scenario: usize,
    strikes: Vec<Strike>,
}

/// Runs everything; `percent` of the ordered pairs, chosen by `seed`. `after_each` is told of each run and of how many
/// there are in all.
///
/// # Errors
/// [`WorldError`].
pub fn run(
    percent: f64,
    seed: u64,
    threads: usize,
    after_each: impl Fn(usize) + Sync,
) -> Result<Found, WorldError> {
    let scenarios = scenarios();
    let mut found = Found { scenarios: scenarios.len(), ..Found::default() };
    let mut reached: Vec<Vec<&'static str>> = Vec::new();
    let mut shortest: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for (index, (name, plan)) in scenarios.iter().enumerate() {
        let report = run::planned(seed, plan.clone(), None)?;
        if !report.violations.is_empty() {
            found.violations.push((format!("{name}, undisturbed"), report.violations.clone()));
        }
        let points = points_of(&report);
        let length = report.outcome.events.len();
        for point in &points {
            let known = shortest.entry(point).or_insert((length, index));
            *known = (*known).min((length, index));
        }
        reached.push(points);
    }
    found.reached = shortest.len();
    let elsewhere = |point: &str| ELSEWHERE.iter().any(|(name, _)| *name == point);
    found.never_reached = FAULT_POINTS
        .iter()
        .copied()
        .filter(|point| !shortest.contains_key(point) && !elsewhere(point))
        .collect();
    let mut trials: Vec<Trial> = Vec::new();
    for (point, (_, scenario)) in &shortest {
        for blow in Blow::ALL.into_iter().filter(|blow| blow.befalls(point)) {
            trials.push(Trial { scenario: *scenario, strikes: vec![Strike { point, nth: 1, blow }] });
        }
    }
    found.singles = trials.len();
    trials.extend(pairs(&reached, percent, seed));
    found.pairs = trials.len() - found.singles;
    let found = Mutex::new(found);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, plan) = &scenarios[trial.scenario];
                    let plan = Plan { strikes: trial.strikes.clone(), ..plan.clone() };
                    let result = run::planned(seed, plan, None);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.note(name, trial, result);
                    after_each(trials.len());
                }
            });
        }
    });
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Found {
    fn note(&mut self, name: &str, trial: &Trial, result: Result<Report, WorldError>) {
        let struck: Vec<String> =
            trial.strikes.iter().map(|strike| format!("{:?} at {}", strike.blow, strike.point)).collect();
        let label = format!("{name}: {}", struck.join(", then "));
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                let violation = Violation::new(run::NO_INVARIANT, error.to_string());
                return self.violations.push((label, vec![violation]));
            }
        };
        let hits = report.outcome.struck.len();
        match trial.strikes.as_slice() {
            [single] if hits == 1 => *self.blows.entry(single.blow).or_default() += 1,
            [_] => self.missed.push(label.clone()),
            _ => self.both += usize::from(hits > 1),
        }
        if !report.violations.is_empty() {
            self.violations.push((label, report.violations));
        }
    }
}

/// The points that were reached while a fault could strike: after the world was set up, and until the faults ended.
fn points_of(report: &Report) -> Vec<&'static str> {
    let before = &report.outcome.points_before;
    let reached =
        report.outcome.points_busy.iter().filter(|(point, count)| before.get(*point).unwrap_or(&0) < *count);
    reached.map(|(point, _)| *point).filter(|point| FAULT_POINTS.contains(point)).collect()
}

/// Ordered pairs of points that one scenario reaches, each with blows drawn for it.
fn pairs(reached: &[Vec<&'static str>], percent: f64, seed: u64) -> Vec<Trial> {
    let mut dice = Rng::with_seed(seed);
    let mut trials = BTreeMap::new();
    for (scenario, points) in reached.iter().enumerate() {
        for first in points {
            for second in points {
                let mut strike = |point: &&'static str, nth| {
                    let blows: Vec<Blow> = Blow::ALL.into_iter().filter(|blow| blow.befalls(point)).collect();
                    Strike { point, nth, blow: blows[dice.usize(..blows.len())] }
                };
                // Twice the same point means twice in a row.
                let strikes = vec![strike(first, 1), strike(second, 1 + u64::from(first == second))];
                trials.entry((*first, *second)).or_insert(Trial { scenario, strikes });
            }
        }
    }
    trials.into_values().filter(|_| dice.f64() * 100.0 < percent).collect()
}

fn quietly(troubles: Vec<(Duration, Trouble)>) -> (Wire, Vec<(Duration, Trouble)>) {
    (Wire::default(), troubles)
}

/// A misbehaving wire, from the beginning.
fn badly(wire: Wire) -> (Wire, Vec<(Duration, Trouble)>) {
    (wire, vec![(Duration::ZERO, Trouble::Wires(true))])
}

/// The second request of this kind takes longer than anybody waits for it.
fn late(method: &str) -> (Wire, Vec<(Duration, Trouble)>) {
    let length = DelayLength::Fixed(Span(PATIENCE + Duration::from_secs(2)));
    let rule = Rule {
        method: Glob::new(method),
        calls: Some(Calls { from: if method.ends_with("Deposit") { 1 } else { 2 }, ..Calls::default() }),
        delay_request: Some(Delay { probability: 1.0, length }),
        ..Rule::default()
    };
    badly(Wire { first: vec![rule], ..Wire::default() })
}

/// Every call arrives twice.
fn twice() -> (Wire, Vec<(Duration, Trouble)>) {
    badly(Wire { duplicate: 1.0, ..Wire::default() })
}

/// The scenarios, each with its name. Together they reach every point that can be reached.
pub fn scenarios() -> Vec<(&'static str, Plan)> {
    let withdraw = |amount, fault| Action::Withdraw { customer: 0, amount, right_pin: true, fault };
    let one = |actions: &[Action]| {
        Plan::quiet(vec![actions.iter().map(|action| (Duration::from_millis(100), action.clone())).collect()])
    };
    let with =
        |plan: Plan, (wire, troubles): (Wire, Vec<(Duration, Trouble)>)| Plan { wire, troubles, ..plan };
    let again = withdraw(20, None);
    vec![
        ("withdrawal", one(&[withdraw(480, None)])),
        ("withdrawal twice", one(&[withdraw(20, None), Action::Repeat, again.clone()])),
        ("declined twice", one(&[withdraw(20, None), withdraw(9_000, None), Action::Repeat])),
        ("jam", one(&[withdraw(20, None), withdraw(300, Some("jam-stack")), again.clone()])),
        ("jam at the shutter", one(&[withdraw(300, Some("jam-present")), again.clone()])),
        ("short", one(&[withdraw(20, None), withdraw(480, Some("short")), again.clone()])),
        ("partly taken", one(&[withdraw(20, None), withdraw(480, Some("partly-taken")), again.clone()])),
        ("not taken", one(&[withdraw(20, None), withdraw(480, Some("not-taken")), again.clone()])),
        (
            "suspect, paid",
            one(&[
                withdraw(20, None),
                withdraw(480, Some("status-unknown")),
                Action::Resolve { presented: true },
                again.clone(),
            ]),
        ),
        (
            "suspect, not paid",
            one(&[
                withdraw(480, Some("power-while-presenting")),
                Action::Recover,
                Action::Resolve { presented: false },
                again.clone(),
            ]),
        ),
        (
            "uncounted",
            one(&[
                withdraw(480, Some("not-taken-uncounted")),
                Action::Resolve { presented: true },
                again.clone(),
            ]),
        ),
        ("power lost", one(&[withdraw(480, Some("power-after-stack")), again.clone()])),
        ("deposit", one(&[Action::Deposit { customer: 1, amount: 123 }])),
        (
            "deposit nobody heard of",
            with(
                one(&[withdraw(20, None), Action::Deposit { customer: 1, amount: 123 }, again.clone()]),
                late("/atm.gateway.v1.AtmService/Deposit"),
            ),
        ),
        (
            "hold that comes too late",
            with(
                one(&[again.clone(), withdraw(50, None), again.clone(), again.clone()]),
                late("/atm.ledger.v1.LedgerService/HoldTransaction"),
            ),
        ),
        ("everything twice", with(one(&[again.clone(), withdraw(9_000, None), again.clone()]), twice())),
        (
            "wire away",
            with(
                one(&[again.clone(), again.clone(), again.clone()]),
                quietly(vec![(
                    Duration::from_millis(600),
                    Trouble::Crash(Host::WireToLedger, Duration::from_millis(1_500)),
                )]),
            ),
        ),
        ("transfer", one(&[Action::Transfer { customer: 0, amount: 77, to: 1 }])),
        (
            "operators",
            one(&[
                withdraw(300, Some("jam-stack")),
                Action::Load,
                Action::Unload("reject"),
                Action::Unload("deposit"),
            ]),
        ),
        ("cancel of nothing", one(&[withdraw(20, None), Action::CancelNothing { customer: 0 }])),
        (
            "wrong PINs",
            one(&[
                Action::Balance { customer: 1, right_pin: false },
                Action::Balance { customer: 1, right_pin: false },
                Action::Balance { customer: 1, right_pin: false },
                Action::Unblock { customer: 1 },
                Action::Balance { customer: 1, right_pin: true },
            ]),
        ),
        (
            "ledger away",
            with(
                one(&[withdraw(20, None), again.clone(), again.clone()]),
                quietly(vec![(
                    Duration::from_millis(600),
                    Trouble::Crash(Host::Ledger, Duration::from_millis(1_500)),
                )]),
            ),
        ),
        (
            "months later",
            with(
                one(&[withdraw(20, None), again.clone(), again.clone()]),
                quietly(vec![(
                    Duration::from_millis(600),
                    Trouble::Clock(Host::Machine(0), 40 * 24 * 3_600),
                )]),
            ),
        ),
        (
            "twin",
            with(
                one(&[withdraw(20, None), again.clone(), again.clone(), again.clone(), again]),
                quietly(vec![(Duration::from_millis(1_200), Trouble::Twin)]),
            ),
        ),
    ]
}
