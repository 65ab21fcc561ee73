//! Measured against theory, point by point.

use serde::Serialize;

use crate::row::Row;

/// How far a measurement may lie from its theory, as a part of it.
pub const TOLERANCE: f64 = 0.10;
/// How far a share may lie from its theory.
pub const SHARE_TOLERANCE: f64 = 0.05;
/// How many times as far it may lie, and be as unsure, when the scenario states a reason. A reason excuses a side
/// effect; from half of the theory on, what it names would be the main thing that was measured.
pub const EXCUSE: f64 = 5.0;

/// What is to be said about one point.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The scenario.
    pub scenario: String,
    /// The curve.
    pub series: String,
    /// The loss rate.
    pub loss: f64,
    /// Transactions.
    pub n: u32,
    /// What was compared.
    pub findings: Vec<Finding>,
    /// Attempts that were not answered in time although nothing was lost, as a part of all; see [`Row::late`].
    pub late: Option<f64>,
    /// Whether money moved exactly once.
    pub books: String,
    /// What to make of it.
    pub result: Outcome,
    /// Why theory says something else, if it does.
    pub reason: String,
}

/// One quantity.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// As measured.
    pub measured: f64,
    /// As expected.
    pub theory: f64,
    /// How far the measurement is off: as a part of the theory, or for a share as a difference.
    pub off: f64,
    /// How wide the confidence interval is to either side, in the same measure.
    pub uncertainty: f64,
    /// Whether that is near enough, and sure enough.
    pub near: bool,
    /// Whether it is for whoever has a reason; see [`EXCUSE`].
    pub excusable: bool,
}

/// What to make of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Measurement and theory agree.
    Agrees,
    /// They do not, for the reason that the scenario states, and within what a reason may excuse.
    Explained,
    /// They do not, or the books were wrong.
    Differs,
}

/// Judges one point.
pub fn judge(row: &Row) -> Verdict {
    let mut findings = Vec::new();
    if let Some(theory) = row.shares_theory() {
        let measured = row.shares();
        for (what, measured, theory) in [
            ("known", measured.known, theory.known),
            ("unknown, applied", measured.unknown_applied, theory.unknown_applied),
            ("unknown, never", measured.unknown_never, theory.unknown_never),
        ] {
            // Half the width of the normal 95 % interval of a share.
            let uncertainty = 1.96 * (measured * (1.0 - measured) / f64::from(row.n)).sqrt();
            let off = measured - theory;
            findings.push(Finding::new(what, (measured, theory), (off, uncertainty), SHARE_TOLERANCE));
        }
    } else {
        let attempts = row.attempts_theory();
        findings.push(relative("attempts", row.attempts, (row.attempts_low, row.attempts_high), attempts));
        // Where nothing is lost nobody waits: the time is the bank's own, of which the theory knows nothing.
        if attempts > 1.0 {
            let time = row.time_theory_ms();
            findings.push(relative("time, ms", row.time_ms, (row.time_low_ms, row.time_high_ms), time));
        }
    }
    let books_right = matches!(row.books.as_str(), "ok" | "none");
    let result = if !books_right {
        Outcome::Differs
    } else if findings.iter().all(|finding| finding.near) {
        Outcome::Agrees
    } else if !row.explained.is_empty() && findings.iter().all(|finding| finding.excusable) {
        Outcome::Explained
    } else {
        Outcome::Differs
    };
    Verdict {
        scenario: row.scenario.clone(),
        series: row.series.clone(),
        loss: row.loss,
        n: row.n,
        findings,
        late: row.late(),
        books: row.books.clone(),
        result,
        reason: if result == Outcome::Explained { row.explained.clone() } else { String::new() },
    }
}

fn relative(what: &'static str, measured: f64, (low, high): (f64, f64), theory: f64) -> Finding {
    let off = measured / theory - 1.0;
    let uncertainty = (high - low) / 2.0 / theory;
    Finding::new(what, (measured, theory), (off, uncertainty), TOLERANCE)
}

impl Finding {
    fn new(
        what: &'static str,
        (measured, theory): (f64, f64),
        (off, uncertainty): (f64, f64),
        tolerance: f64,
    ) -> Self {
        let within = |tolerance| off.abs() <= tolerance && uncertainty <= tolerance;
        let (near, excusable) = (within(tolerance), within(EXCUSE * tolerance));
        Self { what, measured, theory, off, uncertainty, near, excusable }
    }
}
