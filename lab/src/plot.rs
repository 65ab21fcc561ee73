//! Pictures of measured curves beside the theory: points with their confidence, lines for what was expected.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::row::Row;
use crate::theory::Shares;

const SIZE: (u32, u32) = (900, 560);
/// Dark enough for a white ground, which the picture brings along for dark pages.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 181),
    RGBColor(200, 60, 20),
    RGBColor(20, 130, 60),
    RGBColor(130, 60, 160),
    RGBColor(160, 110, 0),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(30, 30, 30);
const GRID: RGBColor = RGBColor(222, 222, 222);

/// Draws everything that the rows tell, one or two pictures for each scenario, into a directory; their paths.
///
/// # Errors
/// When a picture cannot be drawn or written.
pub fn draw_all(rows: &[Row], directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut drawn = Vec::new();
    let mut names: Vec<&str> = rows.iter().map(|row| row.scenario.as_str()).collect();
    names.dedup();
    for name in names {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.scenario == name).collect();
        let pictures = if rows[0].deadline_ms.is_some() {
            vec![("shares", shares(&rows)?)]
        } else {
            vec![("time", curves(&rows, &TIME)?), ("attempts", curves(&rows, &ATTEMPTS)?)]
        };
        for (what, picture) in pictures {
            let path = directory.join(format!("{name}-{what}.svg"));
            std::fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
            drawn.push(path);
        }
    }
    Ok(drawn)
}

/// A quantity over the loss.
struct Quantity {
    name: &'static str,
    /// Mean, lower and upper end of its confidence.
    measured: fn(&Row) -> (f64, f64, f64),
    theory: fn(&Row) -> f64,
}

const TIME: Quantity = Quantity {
    name: "mean time to the answer, s",
    measured: |row| {
        (seconds(row, row.time_ms), seconds(row, row.time_low_ms), seconds(row, row.time_high_ms))
    },
    theory: |row| seconds(row, row.time_theory_ms()),
};

const ATTEMPTS: Quantity = Quantity {
    name: "mean number of attempts",
    measured: |row| (row.attempts, row.attempts_low, row.attempts_high),
    theory: Row::attempts_theory,
};

/// The seconds that a time stands for: waiting was run faster, and the bank was not. Where nothing is lost, nobody
/// waits.
fn seconds(row: &Row, time_ms: f64) -> f64 {
    let lossless = row.lose_request == 0.0 && row.lose_answer == 0.0;
    let scale = if lossless { 1.0 } else { f64::from(row.time_scale) };
    ((time_ms - row.service_ms) * scale + row.service_ms) / 1000.0
}

/// The names of the curves, in the order of the file.
fn series<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.series.as_str()) {
            names.push(&row.series);
        }
    }
    names
}

fn curves(rows: &[&Row], quantity: &Quantity) -> anyhow::Result<String> {
    let values = || rows.iter().flat_map(|row| [(quantity.measured)(row).1, (quantity.theory)(row)]);
    let highest = rows.iter().map(|row| (quantity.measured)(row).2).chain(values()).fold(f64::MIN, f64::max);
    let lowest = values().fold(f64::MAX, f64::min).max(highest / 1e6);
    let range = (lowest / 1.5..highest * 2.0).log_scale();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = frame(&root, rows, quantity.name, range)?;
        for (name, colour) in series(rows).into_iter().zip(COLOURS.into_iter().cycle()) {
            let points = || rows.iter().filter(|row| row.series == name);
            let theory = points().map(|row| (row.loss, (quantity.theory)(row)));
            chart.draw_series(LineSeries::new(theory, colour.stroke_width(2))).map_err(failed)?;
            let bars = points().map(|row| {
                let (mean, low, high) = (quantity.measured)(row);
                ErrorBar::new_vertical(
                    row.loss,
                    low.max(lowest),
                    mean.max(lowest),
                    high.max(lowest),
                    colour.filled(),
                    8,
                )
            });
            chart
                .draw_series(bars)
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 10, y), 5, colour.filled()));
        }
        finish(&mut chart, SeriesLabelPosition::UpperLeft)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

/// A share of all transactions.
type Share = (&'static str, fn(&Shares) -> f64);

fn shares(rows: &[&Row]) -> anyhow::Result<String> {
    const SHARES: [Share; 3] = [
        ("known at the deadline", |shares| shares.known),
        ("unknown, later found applied", |shares| shares.unknown_applied),
        ("unknown, later fenced off", |shares| shares.unknown_never),
    ];
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = frame(&root, rows, "share of all transactions, %", 0.0..105.0)?;
        let mut colours = COLOURS.into_iter().cycle();
        let alone = series(rows).len() == 1;
        for name in series(rows) {
            let points: Vec<_> = rows
                .iter()
                .filter(|row| row.series == name)
                .filter_map(|row| Some((row.loss, row.shares(), row.shares_theory()?)))
                .collect();
            for (share, value) in SHARES {
                let Some(colour) = colours.next() else { break };
                let theory = points.iter().map(|(loss, _, theory)| (*loss, 100.0 * value(theory)));
                chart.draw_series(LineSeries::new(theory, colour.stroke_width(2))).map_err(failed)?;
                let dots = points.iter().map(|(loss, measured, _)| {
                    Circle::new((*loss, 100.0 * value(measured)), 5, colour.filled())
                });
                let legend = if alone { share.to_owned() } else { format!("{name}: {share}") };
                chart
                    .draw_series(dots)
                    .map_err(failed)?
                    .label(legend)
                    .legend(move |(x, y)| Circle::new((x + 10, y), 5, colour.filled()));
            }
        }
        finish(&mut chart, SeriesLabelPosition::MiddleLeft)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

/// Title, axes and grid.
fn frame<'a, 'b, Y>(
    root: &'a Area<'b>,
    rows: &[&Row],
    y_name: &str,
    y: Y,
) -> anyhow::Result<Chart<'a, 'b, Y::CoordDescType>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    root.fill(&WHITE).map_err(failed)?;
    let first = rows[0];
    let title = ("sans-serif", 28).into_font().color(&INK);
    let speed = match first.time_scale {
        1 => "run in real time".to_owned(),
        scale => format!("run {scale} times faster than stated"),
    };
    let small = ("sans-serif", 19).into_font().color(&INK);
    let root = root.titled(&first.title, title).map_err(failed)?;
    let (least, most) =
        rows.iter().fold((u32::MAX, 0), |(least, most), row| (row.n.min(least), row.n.max(most)));
    let count = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let note = format!("{count} transactions a point, {speed}, seed {}; lines: theory", first.seed);
    let root = root.titled(&note, small.clone()).map_err(failed)?;
    let highest = rows.iter().map(|row| row.loss).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(14)
        .x_label_area_size(52)
        .y_label_area_size(84)
        .build_cartesian_2d(-0.02..highest + 0.04, y)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_labels(10)
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(small.clone())
        .axis_desc_style(small)
        .x_desc("loss, %")
        .y_desc(y_name)
        .x_label_formatter(&|loss| format!("{:.0}", loss * 100.0))
        .y_label_formatter(&|value| if *value >= 1.0 { format!("{value:.0}") } else { format!("{value}") })
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

fn finish<'a, 'b: 'a, Y>(chart: &mut Chart<'a, 'b, Y>, place: SeriesLabelPosition) -> anyhow::Result<()>
where
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .label_font(("sans-serif", 19).into_font().color(&INK))
        .draw()
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture cannot be drawn: {error}")
}
