//! One point of an experiment as a line of CSV: everything that was set and everything that was measured.

mod check;
pub mod grid;

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::theory::{self, Resend, Shares};

/// A point. Times are in milliseconds as they were run: multiply by `time_scale` for what they stand for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// What the plot is called.
    pub title: String,
    /// The curve.
    pub series: String,
    /// What was called.
    pub call: String,
    /// How many times faster than stated it was run.
    pub time_scale: u32,
    /// The loss rate of the sweep.
    pub loss: f64,
    /// How often a request was to be lost.
    pub lose_request: f64,
    /// How often an answer was to be lost.
    pub lose_answer: f64,
    /// What the client hears of a loss: `never` or `reset`.
    pub heard: String,
    /// How long an attempt is waited for.
    pub attempt_timeout_ms: f64,
    /// The most that the first pause lasts.
    pub initial_backoff_ms: f64,
    /// The most that any pause lasts.
    pub max_backoff_ms: f64,
    /// How much longer the most grows from pause to pause.
    pub multiplier: f64,
    /// When the client gives up; absent for never.
    pub deadline_ms: Option<f64>,
    /// The seed of the run.
    pub seed: u64,
    /// The commit that ran.
    pub commit: String,
    /// Transactions.
    pub n: u32,
    /// Requests that the proxy lost.
    pub requests_lost: u64,
    /// Answers that the proxy lost.
    pub answers_lost: u64,
    /// Times a process was killed meanwhile.
    pub kills: u32,
    /// Mean number of attempts.
    pub attempts: f64,
    /// Its 95 % confidence interval.
    pub attempts_low: f64,
    /// Its upper end.
    pub attempts_high: f64,
    /// Mean time to the answer.
    pub time_ms: f64,
    /// Its 95 % confidence interval.
    pub time_low_ms: f64,
    /// Its upper end.
    pub time_high_ms: f64,
    /// Half of the transactions took no longer.
    pub time_median_ms: f64,
    /// 95 of 100 took no longer.
    pub time_p95_ms: f64,
    /// What an attempt takes that succeeds, measured here.
    pub service_ms: f64,
    /// What an attempt takes that is told of its failure, measured here.
    pub failure_ms: f64,
    /// Transactions with an answer.
    pub known: u32,
    /// Without one, and applied as it turned out.
    pub unknown_applied: u32,
    /// Without one, and never to be applied.
    pub unknown_never: u32,
    /// `ok` if every transaction was posted exactly once or never, and the ledger verified; `none` without money.
    pub books: String,
    /// Why theory does not say what was measured, if it does not.
    pub explained: String,
}

impl Row {
    fn resend(&self) -> Resend {
        Resend {
            attempt_timeout_ms: self.attempt_timeout_ms,
            initial_backoff_ms: self.initial_backoff_ms,
            max_backoff_ms: self.max_backoff_ms,
            multiplier: self.multiplier,
        }
    }

    fn success(&self) -> f64 {
        theory::success(self.lose_request, self.lose_answer)
    }

    /// The number of attempts that theory expects.
    pub fn attempts_theory(&self) -> f64 {
        theory::attempts(self.success())
    }

    /// The time that theory expects.
    pub fn time_theory_ms(&self) -> f64 {
        let failure = if self.heard == "reset" { self.failure_ms } else { self.attempt_timeout_ms };
        theory::completion_ms(self.success(), &self.resend(), failure, self.service_ms)
    }

    /// Attempts that were not answered although nothing of them was lost, as a part of all: the bank was too busy, or
    /// dead. The theory knows nothing of them. `None` with a deadline, at which the last attempt may be cut off.
    pub fn late(&self) -> Option<f64> {
        let begun = self.attempts * f64::from(self.n);
        let lost: f64 = [self.requests_lost, self.answers_lost].map(count).iter().sum();
        self.deadline_ms.is_none().then(|| (begun - lost - f64::from(self.known)) / begun)
    }

    /// What theory expects to be known at the deadline; `None` without one.
    pub fn shares_theory(&self) -> Option<Shares> {
        let deadline = self.deadline_ms?;
        Some(theory::shares(self.lose_request, self.lose_answer, &self.resend(), deadline, self.service_ms))
    }

    /// What was known at the deadline.
    pub fn shares(&self) -> Shares {
        let n = f64::from(self.n);
        Shares {
            known: f64::from(self.known) / n,
            unknown_applied: f64::from(self.unknown_applied) / n,
            unknown_never: f64::from(self.unknown_never) / n,
        }
    }
}

/// A count far below 2³².
fn count(calls: u64) -> f64 {
    f64::from(u32::try_from(calls).unwrap_or(u32::MAX))
}

/// The number of a row in its file, counted as a spreadsheet does: the header is row 1.
fn number(place: usize) -> usize {
    place + 2
}

/// Reads all rows of a file.
///
/// # Errors
/// When it cannot be read, is not such a file, or a row contradicts itself, with its number and column.
pub fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let mut reader =
        csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows: Result<Vec<Row>, _> = reader.deserialize().collect();
    let rows = rows.with_context(|| format!("{} is not a result of `lab run`", path.display()))?;
    anyhow::ensure!(!rows.is_empty(), "{} holds no point", path.display());
    for (place, row) in rows.iter().enumerate() {
        if let Err(check::Wrong { column, problem }) = check::check(row) {
            anyhow::bail!("{}: row {}, {column}: {problem}", path.display(), number(place));
        }
    }
    Ok(rows)
}

/// Writes all rows of an experiment.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut writer = csv::Writer::from_path(path).with_context(failed)?;
    for row in rows {
        writer.serialize(row).with_context(failed)?;
    }
    writer.flush().with_context(failed)
}
