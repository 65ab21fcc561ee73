//! Whether a row can have been measured at all. A verdict on numbers that contradict each other means nothing, however
//! near they are to the theory.

use std::fmt::Display;

use super::{Row, count};

/// What is wrong, and in which column.
pub(super) struct Wrong {
    pub(super) column: &'static str,
    pub(super) problem: String,
}

type Checked = Result<(), Wrong>;

pub(super) fn check(row: &Row) -> Checked {
    settings(row)?;
    transactions(row)?;
    means(row)?;
    losses(row)
}

/// What was set.
fn settings(row: &Row) -> Checked {
    let Row { call, heard, books, loss, lose_request, lose_answer, .. } = row;
    for (column, rate) in [("loss", loss), ("lose_request", lose_request), ("lose_answer", lose_answer)] {
        insist((0.0..1.0).contains(rate), column, format_args!("{rate} is not from 0 to below 1"))?;
    }
    let swept = [lose_request, lose_answer].contains(&loss);
    let rates =
        format_args!("{loss} is neither lose_request, {lose_request}, nor lose_answer, {lose_answer}");
    insist(swept, "loss", rates)?;
    let known = ["never", "reset"].contains(&heard.as_str());
    insist(known, "heard", format_args!("{heard:?} is neither never nor reset"))?;
    let known = ["withdraw", "lowercase"].contains(&call.as_str());
    insist(known, "call", format_args!("{call:?} is neither withdraw nor lowercase"))?;
    // A text has no books to look at, and money that nobody looked at proves nothing.
    let looked_at = (books == "none") == (call == "lowercase");
    insist(looked_at, "books", format_args!("{books:?} cannot be of the call {call}"))?;
    insist(row.time_scale >= 1, "time_scale", "0 is not 1 or more")?;
    for (column, time) in [
        ("attempt_timeout_ms", row.attempt_timeout_ms),
        ("deadline_ms", row.deadline_ms.unwrap_or(1.0)),
        ("multiplier", row.multiplier),
    ] {
        insist(time.is_finite() && time > 0.0, column, format_args!("{time} is not more than 0"))?;
    }
    let (initial, max) = (row.initial_backoff_ms, row.max_backoff_ms);
    let grows = 0.0 <= initial && initial <= max && max.is_finite();
    insist(grows, "max_backoff_ms", format_args!("{max} is below initial_backoff_ms, {initial}"))
}

/// How many there were, and what became of them.
fn transactions(row: &Row) -> Checked {
    let Row { n, known, unknown_applied, unknown_never, .. } = row;
    insist(*n >= 1, "n", "0 transactions say nothing")?;
    let sum = [known, unknown_applied, unknown_never].into_iter().map(|it| u64::from(*it)).sum::<u64>();
    let parts = format_args!("{known} with unknown_applied and unknown_never make {sum}, and n is {n}");
    insist(sum == u64::from(*n), "known", parts)?;
    // Who has no deadline does not give up.
    let given_up = format_args!("{known} of {n}, without a deadline");
    insist(row.deadline_ms.is_some() || known == n, "known", given_up)
}

/// What was measured.
fn means(row: &Row) -> Checked {
    let (attempts, time) = (row.attempts, row.time_ms);
    for (column, measured) in [
        ("attempts", attempts),
        ("time_ms", time),
        ("time_median_ms", row.time_median_ms),
        ("time_p95_ms", row.time_p95_ms),
        ("service_ms", row.service_ms),
        ("failure_ms", row.failure_ms),
    ] {
        let possible = measured.is_finite() && measured >= 0.0;
        insist(possible, column, format_args!("{measured} cannot be measured"))?;
    }
    for (columns, low, mean, high) in [
        (["attempts_low", "attempts_high"], row.attempts_low, attempts, row.attempts_high),
        (["time_low_ms", "time_high_ms"], row.time_low_ms, time, row.time_high_ms),
    ] {
        // Equal samples may differ in the last digit of their sums.
        let least = mean * (1.0 - ROUNDING);
        insist(low * (1.0 - ROUNDING) <= mean, columns[0], format_args!("{low} is above its mean, {mean}"))?;
        insist(high >= least, columns[1], format_args!("{high} is below its mean, {mean}"))?;
    }
    let (median, p95) = (row.time_median_ms, row.time_p95_ms);
    insist(median <= p95, "time_median_ms", format_args!("{median} is above time_p95_ms, {p95}"))?;
    // The last attempt is a part of the time.
    let service = row.service_ms;
    let part = service <= time * (1.0 + ROUNDING) && (service > 0.0 || row.known == 0);
    insist(part, "service_ms", format_args!("{service} is no part of time_ms, {time}"))
}

const ROUNDING: f64 = 1e-9;

/// What the proxy counted, beside what it was told to lose.
fn losses(row: &Row) -> Checked {
    let n = f64::from(row.n);
    let begun = row.attempts * n;
    insist(row.attempts >= 1.0, "attempts", format_args!("{} is less than one for each", row.attempts))?;
    let whole = (begun - begun.round()).abs() <= ROUNDING * begun;
    insist(whole, "attempts", format_args!("{} is not the mean of {n} whole numbers", row.attempts))?;
    let (requests, answers) = (count(row.requests_lost), count(row.answers_lost));
    let ended = requests + answers + f64::from(row.known);
    let enough = format_args!("{begun} in all, of which {ended} were lost or answered");
    insist(ended <= begun * (1.0 + ROUNDING), "attempts", enough)?;
    near("requests_lost", requests, begun * row.lose_request, false)?;
    let arrived = begun * (1.0 - row.lose_request);
    // A dead process gives no answers that could be lost.
    near("answers_lost", answers, arrived * row.lose_answer, row.kills > 0)
}

/// Counts of rare events spread by the root of their mean; six of that never happen. Attempts that were cut off
/// before the proxy saw them may make a tenth.
fn near(column: &'static str, counted: f64, expected: f64, may_be_fewer: bool) -> Checked {
    let slack = 6.0 * expected.sqrt() + 0.1 * expected;
    let right = counted <= expected + slack && (may_be_fewer || counted >= expected - slack);
    insist(right, column, format_args!("{counted}, where the rates make about {expected:.0}"))
}

fn insist(right: bool, column: &'static str, problem: impl Display) -> Checked {
    if right { Ok(()) } else { Err(Wrong { column, problem: problem.to_string() }) }
}
