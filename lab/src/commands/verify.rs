//! `verify`: compares results with the theory.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::cli::Verdict as Exit;
use crate::row;
use crate::screen::{BAD, GOOD, QUIET, Screen};
use crate::verdict::{Outcome, Verdict, judge};

const EXAMPLES: &str = "\
A point agrees if attempts and time lie within 10 % of theory (shares: within 5 points), and if their 95 %
confidence is narrower than that. Otherwise its scenario has to state why, and even then nothing may be off by more
than half of theory (shares: 25 points). Rows that contradict themselves, and results that leave out points of their
scenario, are refused by row, the header being row 1, and column.

Examples:
  atm-lab verify results/*.csv
  atm-lab verify docs/plots/c3-resend.csv --json";

/// What is judged.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Results of `run`.
    #[arg(required = true, value_name = "FILE.csv")]
    files: Vec<PathBuf>,
}

/// Judges.
///
/// # Errors
/// When a file cannot be read, contradicts itself, or leaves points out.
pub fn run(arguments: &Arguments, screen: Screen) -> anyhow::Result<Exit> {
    let mut verdicts = Vec::new();
    for file in &arguments.files {
        let rows = row::read(file)?;
        row::grid::check(&rows).with_context(|| file.display().to_string())?;
        verdicts.extend(rows.iter().map(judge));
    }
    show(&verdicts, screen);
    screen.object(&verdicts);
    let differs = verdicts.iter().any(|verdict| verdict.result == Outcome::Differs);
    Ok(if differs { Exit::Bad } else { Exit::Good })
}

/// From here on a busy machine shows in the curves.
const WORTH_SAYING: f64 = 0.001;

/// Prints verdicts for people.
pub fn show(verdicts: &[Verdict], screen: Screen) {
    let mut before = "";
    for verdict in verdicts {
        if before != verdict.scenario {
            screen.line(format_args!("\n{}", verdict.scenario));
            before = &verdict.scenario;
        }
        let (style, word) = match verdict.result {
            Outcome::Agrees => (GOOD, "agrees"),
            Outcome::Explained => (QUIET, "explained"),
            Outcome::Differs => (BAD, "DIFFERS"),
        };
        let numbers: Vec<String> = verdict
            .findings
            .iter()
            .map(|it| {
                let (off, sure) = (100.0 * it.off, 100.0 * it.uncertainty);
                format!("{} {:.3} of {:.3} ({off:+.1} ± {sure:.1} %)", it.what, it.measured, it.theory)
            })
            .collect();
        let late = verdict
            .late
            .filter(|late| *late > WORTH_SAYING)
            .map(|late| format!("; {:.1} % of the attempts came back too late by themselves", 100.0 * late));
        let loss = format!("{:.0} %", verdict.loss * 100.0);
        screen.line(format_args!(
            "  {style}{word:9}{style:#} {:18} {loss:>5}  books {:4}  {}{}",
            verdict.series,
            verdict.books,
            numbers.join(", "),
            late.unwrap_or_default()
        ));
    }
    let mut reasons: Vec<_> =
        verdicts.iter().filter(|it| !it.reason.is_empty()).map(|it| (&it.scenario, &it.reason)).collect();
    reasons.dedup();
    for (scenario, reason) in reasons {
        screen.line(format_args!("\n{scenario} is explained: {reason}"));
    }
    let count = |outcome| verdicts.iter().filter(|verdict| verdict.result == outcome).count();
    screen.line(format_args!(
        "\n{} points: {} agree, {} explained, {} differ",
        verdicts.len(),
        count(Outcome::Agrees),
        count(Outcome::Explained),
        count(Outcome::Differs)
    ));
}
