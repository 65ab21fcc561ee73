//! Whether a result holds all points of its scenario: who may leave out the points that differ agrees with everything.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use super::{Row, number};
use crate::scenario::{Call, Scenario};

/// Insists on every point, and on nothing else.
///
/// A scenario of the repository is known by its name; its points, long or quick, have to be there. Of any other one
/// the curves have to be swept over the same losses.
///
/// # Errors
/// When a point is missing, there twice, or not the scenario's; or its file cannot be read.
pub fn check(rows: &[Row]) -> anyhow::Result<()> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.scenario.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let rows: Vec<Point> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.scenario == name)
            .map(|(place, row)| Point { number: number(place), row })
            .collect();
        once(&rows)?;
        even(name, &rows)?;
        swept_or_fixed(&rows)?;
        if let Some(file) = file(name) {
            as_stated(&Scenario::read(&file)?, &rows)?;
        }
    }
    Ok(())
}

/// A row and its number.
struct Point<'a> {
    number: usize,
    row: &'a Row,
}

fn once(rows: &[Point]) -> anyhow::Result<()> {
    for (place, Point { number, row }) in rows.iter().enumerate() {
        let same = |it: &&Point| it.row.series == row.series && it.row.loss == row.loss;
        if let Some(first) = rows[..place].iter().find(same) {
            bail!("row {number}, loss: {} of {:?} is in row {} already", row.loss, row.series, first.number);
        }
    }
    Ok(())
}

/// Every curve has a point wherever another one has.
fn even(name: &str, rows: &[Point]) -> anyhow::Result<()> {
    for Point { row: Row { series, .. }, .. } in rows {
        for Point { number, row: Row { series: other, loss, .. } } in rows {
            let there = rows.iter().any(|it| it.row.series == *series && it.row.loss == *loss);
            ensure!(
                there,
                "{name}: {series:?} has no point at loss {loss}, and {other:?} has one, row {number}"
            );
        }
    }
    Ok(())
}

/// On one curve each rate is that of the sweep, or the same everywhere; whichever more of its rows say.
fn swept_or_fixed(rows: &[Point]) -> anyhow::Result<()> {
    for column in ["lose_request", "lose_answer"] {
        let rate = |row: &Row| if column == "lose_request" { row.lose_request } else { row.lose_answer };
        for Point { number, row } in rows {
            let curve = || rows.iter().map(|it| it.row).filter(|it| it.series == row.series);
            let first = curve().next().map_or(row.loss, rate);
            let swept = curve().filter(|it| rate(it) == it.loss).count();
            let fixed = curve().filter(|it| rate(it) == first).count();
            let stated = if swept >= fixed { row.loss } else { first };
            let (is, series) = (rate(row), &row.series);
            ensure!(is == stated, "row {number}, {column}: {is}, and the rest of {series:?} says {stated}");
        }
    }
    Ok(())
}

/// The file of a scenario of the repository.
fn file(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.toml"));
    file.is_file().then_some(file)
}

fn as_stated(scenario: &Scenario, rows: &[Point]) -> anyhow::Result<()> {
    let name = &scenario.name;
    for Point { number, row } in rows {
        let call = match scenario.call {
            Call::Withdraw => "withdraw",
            Call::Lowercase => "lowercase",
        };
        ensure!(row.call == call, "row {number}, call: {}, and {name} calls {call}", row.call);
        let stated = scenario.explained.is_some() || row.explained.is_empty();
        ensure!(stated, "row {number}, explained: {name} states no reason");
        let Some(series) = scenario.series.iter().find(|it| it.name == row.series) else {
            bail!("row {number}, series: {name} has no {:?}", row.series)
        };
        for (column, rate, stated) in [
            ("lose_request", row.lose_request, series.lose_request.at(row.loss)),
            ("lose_answer", row.lose_answer, series.lose_answer.at(row.loss)),
        ] {
            ensure!(rate == stated, "row {number}, {column}: {rate}, and {name} says {stated}");
        }
    }
    let missing = |losses: &[f64]| {
        let points = scenario.series.iter().flat_map(|it| losses.iter().map(move |loss| (it, *loss)));
        let mut points = points.map(|(series, loss)| (series.name.clone(), loss));
        points.find(|(series, loss)| !rows.iter().any(|it| it.row.series == *series && it.row.loss == *loss))
    };
    if let (Some((series, loss)), Some(_)) = (missing(&scenario.losses), missing(&scenario.quick.losses)) {
        bail!("{name}: {series:?} has no point at loss {loss}");
    }
    Ok(())
}
