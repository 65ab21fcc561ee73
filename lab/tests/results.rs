//! `verify` judges numbers that were measured; those that cannot have been are refused by row and column.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

use std::path::Path;

use tempfile::TempDir;

/// A published result as a table of text, the header first.
struct Table(Vec<Vec<String>>);

impl Table {
    fn published(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/plots/{name}.csv"));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
        Self(reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect())
    }

    /// Changes one field; rows are counted as in what `verify` says.
    fn set(mut self, row: usize, column: &str, value: &str) -> Self {
        let column = self.0[0].iter().position(|name| name == column).unwrap();
        value.clone_into(&mut self.0[row - 1][column]);
        self
    }

    fn without(mut self, row: usize) -> Self {
        self.0.remove(row - 1);
        self
    }

    /// Its exit code and everything that `verify` says.
    fn verified(&self) -> (Option<i32>, String) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("x.csv");
        let mut writer = csv::Writer::from_path(&path).unwrap();
        self.0.iter().for_each(|row| writer.write_record(row).unwrap());
        writer.flush().unwrap();
        let mut verify = assert_cmd::Command::cargo_bin("atm-lab").unwrap();
        let output = verify.arg("verify").arg(&path).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn is_refused(&self, reason: &str) {
        let (code, said) = self.verified();
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(code == Some(2) && said.contains("x.csv: "), "{reason}: {code:?}, {said}");
    }
}

#[test]
fn numbers_that_contradict_each_other_are_refused() {
    for (row, column, value, reason) in [
        (5, "books", "none", "row 5, books: \"none\" cannot be of the call withdraw"),
        (6, "known", "999999", "row 6, known: 999999 with unknown_applied and unknown_never make 999999"),
        (6, "unknown_never", "1", "row 6, known: 3900 with unknown_applied and unknown_never make 3901"),
        (5, "n", "0", "row 5, n: 0 transactions"),
        (3, "requests_lost", "0", "row 3, requests_lost: 0, where the rates make about 1700"),
        (2, "requests_lost", "1", "row 2, attempts: 400 in all, of which 401 were lost or answered"),
        (2, "answers_lost", "77", "row 2, attempts: 400 in all"),
        (5, "loss", "0.9", "row 5, loss: 0.9 is neither lose_request, 0.3, nor lose_answer, 0"),
        (5, "lose_request", "1.5", "row 5, lose_request: 1.5 is not from 0 to below 1"),
        (7, "attempts_low", "2.5", "row 7, attempts_low: 2.5 is above its mean"),
        (7, "attempts_high", "1.5", "row 7, attempts_high: 1.5 is below its mean"),
        (7, "time_low_ms", "9999", "row 7, time_low_ms: 9999 is above its mean"),
        (7, "time_median_ms", "9999", "row 7, time_median_ms: 9999 is above time_p95_ms"),
        (7, "attempts", "NaN", "row 7, attempts: NaN cannot be measured"),
        (7, "service_ms", "0", "row 7, service_ms: 0 is no part of time_ms"),
        (7, "time_scale", "0", "row 7, time_scale: 0 is not 1 or more"),
        (7, "attempt_timeout_ms", "0", "row 7, attempt_timeout_ms: 0 is not more than 0"),
        (7, "heard", "perhaps", "row 7, heard: \"perhaps\" is neither"),
        (7, "call", "uppercase", "row 7, call: \"uppercase\" is neither"),
    ] {
        Table::published("c3-resend").set(row, column, value).is_refused(reason);
    }
    let of_text = Table::published("text-control").set(4, "books", "ok");
    of_text.is_refused("row 4, books: \"ok\" cannot be of the call lowercase");
    let with_deadline = Table::published("deadline").set(7, "known", "2000");
    with_deadline.is_refused("row 7, known: 2000 with unknown_applied");
}

#[test]
fn points_that_are_missing_doubled_or_of_something_else_are_refused() {
    let whole = || Table::published("c3-resend");
    assert_eq!(whole().verified().0, Some(0));
    whole().without(9).is_refused("c3-resend: \"requests lost\" has no point at loss 0.7");
    // Nine points of each curve, evenly.
    whole().without(28).without(18).without(8).is_refused("has no point at loss 0.6");
    let mut one_curve = whole();
    one_curve.0.truncate(11);
    one_curve.is_refused("c3-resend: \"answers lost\" has no point at loss 0");
    let mut twice = whole();
    twice.0.push(twice.0[4].clone());
    twice.is_refused("row 32, loss: 0.3 of \"requests lost\" is in row 5 already");
    whole().set(5, "series", "x").is_refused("c3-resend: ");
    // What no file is known of has to be even in itself.
    let unknown = |mut table: Table| {
        table.0.iter_mut().skip(1).for_each(|row| "mine".clone_into(&mut row[0]));
        table
    };
    assert_eq!(unknown(whole()).verified().0, Some(0));
    unknown(whole().without(9)).is_refused("mine: \"requests lost\" has no point at loss 0.7");
    let bent = unknown(whole()).set(15, "lose_request", "0.001");
    bent.is_refused("row 15, lose_request: 0.001, and the rest of \"answers lost\" says 0");
}

#[test]
fn a_scenario_without_a_reason_excuses_nothing_and_a_reason_not_everything() {
    let excused = Table::published("c3-resend").set(9, "explained", "because");
    excused.is_refused("row 9, explained: c3-resend states no reason");
    // Twice as long as theory says.
    let slow = Table::published("kills").set(5, "time_ms", "2300").set(5, "time_high_ms", "2400");
    let (code, said) = slow.verified();
    assert!(code == Some(1) && said.contains("1 differ"), "{said}");
}
