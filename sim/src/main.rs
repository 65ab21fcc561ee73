//! Runs the simulator and says what it found.

use std::io::Write as _;
use std::process::ExitCode;

use atm_sim::check::Violation;
use atm_sim::cli::Cli;
use atm_sim::evidence::LogLine;
use atm_sim::exhaustive::{self, Found};
use atm_sim::planted;
use atm_sim::run::{self, Report, Summary};
use atm_sim::situations;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prints a line. A reader who has seen enough, as `head` has, is no reason to panic.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

const VIOLATED: u8 = 1;
const TOO_FEW_SITUATIONS: u8 = 4;
/// So many runs reach everything, or the plans are not what they should be.
const ENOUGH_RUNS: u64 = 500;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.exhaustive {
        return exhaustive(&cli);
    }
    match cli.seed {
        _ if cli.planted_bugs => planted_bugs(&cli),
        Some(seed) => one(&cli, seed),
        None => many(&cli),
    }
}

fn one(cli: &Cli, seed: u64) -> ExitCode {
    let report = match run::one(seed, cli.plant) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(VIOLATED);
        }
    };
    if cli.json {
        say!("{}", report_as_json(&report));
    } else {
        for line in timeline(cli, &report) {
            say!("{line}");
        }
        say!("trace hash {}", report.outcome.hash);
        for (situation, count) in situations::reached(&report.outcome) {
            say!("  {count:>6}  {}", situation.name());
        }
        tell_violations(seed, &report.violations, cli);
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(VIOLATED) }
}

/// What happened, and with --log what was logged, each line at its time.
fn timeline(cli: &Cli, report: &Report) -> Vec<String> {
    let events = report.outcome.events.iter().map(|event| (event.at, event.to_string()));
    let logged = report.outcome.evidence.log.iter().filter(|_| cli.log).map(|line| {
        let LogLine { at, level, target, text } = line;
        (*at, format!("{:>9.3}s    {level} {target}: {text}", at.as_secs_f64()))
    });
    let mut lines: Vec<_> = events.chain(logged).collect();
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn exhaustive(cli: &Cli) -> ExitCode {
    let bar = if cli.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let tried = exhaustive::run(cli.pairs, cli.from, threads(cli), |all| {
        bar.set_length(all as u64);
        bar.inc(1);
    });
    bar.finish_and_clear();
    let found = match tried {
        Ok(found) => found,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(VIOLATED);
        }
    };
    if cli.json {
        say!("{}", found_as_json(&found));
    } else {
        tell_found(&found);
    }
    if !found.violations.is_empty() {
        ExitCode::from(VIOLATED)
    } else if !found.never_reached.is_empty() || !found.missed.is_empty() {
        ExitCode::from(TOO_FEW_SITUATIONS)
    } else {
        ExitCode::SUCCESS
    }
}

fn tell_found(found: &Found) {
    let points = run::FAULT_POINTS.len();
    say!(
        "{points} fault points in the sources; {} scenarios reach {} of them",
        found.scenarios,
        found.reached
    );
    for (point, where_then) in exhaustive::ELSEWHERE {
        say!("  {point}: {where_then}");
    }
    for point in &found.never_reached {
        say!("  never reached: {point}");
    }
    say!("{} single faults:", found.singles);
    for (blow, count) in &found.blows {
        say!("  {count:>6}  {blow:?}");
    }
    for label in &found.missed {
        say!("  did not strike: {label}");
    }
    say!("{} ordered pairs; in {} of them both struck", found.pairs, found.both);
    for (label, violations) in &found.violations {
        say!("{label}:");
        for Violation { invariant, what } in violations {
            say!("  invariant {invariant}: {what}");
        }
    }
    if found.violations.is_empty() {
        say!("Nothing was violated.");
    }
}

fn found_as_json(found: &Found) -> serde_json::Value {
    let violations = found.violations.iter().map(|(label, violations)| {
        json!({ "trial": label, "violations": violations.iter().map(violation_as_json).collect::<Vec<_>>() })
    });
    json!({
        "points": run::FAULT_POINTS.len(),
        "scenarios": found.scenarios,
        "reached": found.reached,
        "never_reached": found.never_reached,
        "singles": found.singles,
        "missed": found.missed,
        "pairs": found.pairs,
        "both": found.both,
        "violations": violations.collect::<Vec<_>>(),
    })
}

fn threads(cli: &Cli) -> usize {
    cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn many(cli: &Cli) -> ExitCode {
    let bar = if cli.json { ProgressBar::hidden() } else { ProgressBar::new(cli.seeds) };
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {msg} [{elapsed} of {duration}]")
    {
        bar.set_style(style);
    }
    bar.set_message("nothing violated");
    let violated = std::sync::atomic::AtomicU64::new(0);
    let summary = run::many(cli.from, cli.seeds, threads(cli), cli.plant, |report| {
        if !report.violations.is_empty() {
            let so_far = violated.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            bar.set_message(format!("{so_far} with violations"));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    let too_few = summary.runs >= ENOUGH_RUNS && cli.plant.is_none() && !summary.missing().is_empty();
    if cli.json {
        say!("{}", summary_as_json(cli, &summary));
    } else {
        tell(cli, &summary);
    }
    if !summary.violations.is_empty() || !summary.errors.is_empty() {
        ExitCode::from(VIOLATED)
    } else if too_few {
        ExitCode::from(TOO_FEW_SITUATIONS)
    } else {
        ExitCode::SUCCESS
    }
}

/// Tests the tester: a bug that survives is a hole in the checks.
fn planted_bugs(cli: &Cli) -> ExitCode {
    say!("{}", planted::HEADING);
    let threads = cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let hunts = planted::hunt_all(cli.from, cli.seeds, cli.rate_runs, threads, |hunt| say!("{hunt}"));
    let mut code = ExitCode::SUCCESS;
    for hunt in hunts {
        match hunt {
            Ok(hunt) if hunt.first.is_some() => {}
            Ok(hunt) => {
                say!("{} survived {} runs: {}", hunt.bug.name(), hunt.seeds, hunt.bug.what());
                code = ExitCode::from(VIOLATED);
            }
            Err(error) => {
                eprintln!("{error}");
                code = ExitCode::from(VIOLATED);
            }
        }
    }
    code
}

fn tell(cli: &Cli, summary: &Summary) {
    let Summary { runs, transactions, steps, .. } = summary;
    say!("{runs} runs, {transactions} transactions, {steps} steps in the books");
    let points = run::FAULT_POINTS;
    let reached = points.iter().filter(|point| summary.points.contains_key(*point)).count();
    say!("{reached} of {} fault points reached", points.len());
    for point in points.iter().filter(|point| !summary.points.contains_key(*point)) {
        say!("  never reached: {point}");
    }
    say!("Situations reached:");
    for (situation, count) in &summary.situations {
        say!("  {count:>8}  {}", situation.name());
    }
    for situation in summary.missing() {
        say!("  {:>8}  {}", "never", situation.name());
    }
    say!("The hash of all their traces: {}", summary.hash());
    for error in &summary.errors {
        say!("{error}");
    }
    for (seed, violations) in &summary.violations {
        tell_violations(*seed, violations, cli);
    }
    if summary.violations.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let most = 3.0 / summary.runs.max(1) as f64;
        say!("No violation in {runs} runs: at most {most:.2e} a run, at 95 %");
    }
}

fn tell_violations(seed: u64, violations: &[Violation], cli: &Cli) {
    if violations.is_empty() {
        return;
    }
    say!("Seed {seed}:");
    for Violation { invariant, what } in violations {
        say!("  invariant {invariant}: {what}");
    }
    let plant = cli.plant.map(|bug| format!(" --plant {}", bug.name())).unwrap_or_default();
    say!("  replay: cargo run -p atm-sim -- --seed {seed}{plant}");
}

fn report_as_json(report: &Report) -> serde_json::Value {
    let situations: serde_json::Map<_, _> = situations::reached(&report.outcome)
        .into_iter()
        .map(|(situation, count)| (situation.name().to_owned(), count.into()))
        .collect();
    json!({
        "seed": report.seed,
        "hash": report.outcome.hash,
        "events": report.outcome.events.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "situations": situations,
        "violations": report.violations.iter().map(violation_as_json).collect::<Vec<_>>(),
    })
}

fn violation_as_json(violation: &Violation) -> serde_json::Value {
    json!({ "invariant": violation.invariant, "what": violation.what })
}

fn summary_as_json(cli: &Cli, summary: &Summary) -> serde_json::Value {
    let situations: serde_json::Map<_, _> = summary
        .situations
        .iter()
        .map(|(situation, count)| (situation.name().to_owned(), (*count).into()))
        .collect();
    let violations = summary.violations.iter().map(|(seed, violations)| {
        json!({ "seed": seed, "violations": violations.iter().map(violation_as_json).collect::<Vec<_>>() })
    });
    json!({
        "from": cli.from,
        "runs": summary.runs,
        "transactions": summary.transactions,
        "steps": summary.steps,
        "hash": summary.hash(),
        "situations": situations,
        "missing": summary.missing().iter().map(|situation| situation.name()).collect::<Vec<_>>(),
        "points_reached": summary.points.len(),
        "points": run::FAULT_POINTS.len(),
        "violations": violations.collect::<Vec<_>>(),
        "errors": summary.errors,
    })
}
