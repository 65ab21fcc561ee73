//! `admin import`: accounts with their opening balances and cards, from a file.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use atm_proto::gateway::ImportAccountsRequest;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::Context;
use super::write_failure;
use crate::client::AdminClient;
use crate::exit::{Exit, Failure};
use crate::import::{LARGEST_FILE, Line, Problems, read};

const EXAMPLES: &str = "\
Examples:
  atm-cli admin import examples/accounts.csv
  atm-cli admin import accounts.tsv --pin-later --json

The file is comma- or tab-separated with a header. Columns: account, name, opening_balance, and optionally card, \
pin, currency, overdraft_limit, daily_withdrawal_limit. Lines that begin with # are comments. The whole file is \
checked before anything is sent. A repeat completes what is missing and posts nothing twice, so after any \
interruption just run it again.

It goes out in calls of 500 rows, or of 8 where there are PINs. Each may take a minute, or the --deadline if that is \
longer; the whole takes as long as it takes.";

/// Open accounts and issue cards from a file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Issue the cards without PINs, which is fast: each PIN is hashed at full cost.
    #[arg(long)]
    pin_later: bool,
}

/// How many rows go into one call. Each PIN costs a hash of some hundred milliseconds, so few of them fill the
/// time that a call may take.
const ROWS: usize = 500;
const ROWS_WITH_PINS: usize = 8;
/// A chunk may take this long, retries included, or the `--deadline` if that is longer.
const CHUNK_TIME: Duration = Duration::from_secs(60);
const LISTED: usize = 20;

#[derive(Serialize)]
struct Keys {
    rows: usize,
    changed: usize,
    unchanged: usize,
    failed: usize,
    problems: Vec<String>,
}

#[derive(Default)]
struct Tally {
    changed: usize,
    unchanged: usize,
    failed: usize,
    problems: Vec<String>,
}

pub(super) async fn run(context: &Context, client: &AdminClient, args: &ImportArgs) -> Result<Exit, Failure> {
    let text = load(args)?;
    let lines = match read(&text, context.global.currency, args.pin_later) {
        Ok(lines) => lines,
        Err(problems) => return Err(refuse(context, args, &problems)),
    };
    let with_pins = lines.iter().any(|line| !line.row.pin.is_empty());
    let size = if with_pins { ROWS_WITH_PINS } else { ROWS };
    let patience = context.global.deadline.max(CHUNK_TIME);
    let bar = progress_bar(lines.len());
    let mut tally = Tally::default();
    for chunk in lines.chunks(size) {
        let request = ImportAccountsRequest { rows: chunk.iter().map(|line| line.row.clone()).collect() };
        let answer = client.import(request, patience).await.map_err(|error| {
            bar.abandon();
            let done = tally.changed + tally.unchanged;
            let failure = write_failure(&error);
            let message = format!("{done} of {} rows are done; then: {}", lines.len(), failure.message);
            // "Nothing happened" is for those of whom it is true.
            let (exit, assurance) =
                if done > 0 { (Exit::Unknown, "") } else { (failure.exit, failure.assurance) };
            Failure { exit, message, assurance, ..failure }
        })?;
        if answer.results.len() != chunk.len() {
            return Err(Failure::new(
                Exit::Unknown,
                "unexpected_answer",
                "the bank answered for another number of rows than were sent; run the import again",
            ));
        }
        for (line, result) in chunk.iter().zip(&answer.results) {
            tally.add(line, result);
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(show(context, lines.len(), tally))
}

impl Tally {
    fn add(&mut self, line: &Line, result: &atm_proto::gateway::ImportResult) {
        match &result.error {
            Some(error) => {
                self.failed += 1;
                if self.problems.len() < LISTED {
                    let column =
                        if error.field.is_empty() { String::new() } else { format!(" ({})", error.field) };
                    self.problems.push(format!("line {}{column}: {}", line.line, error.message));
                }
            }
            None if result.changed => self.changed += 1,
            None => self.unchanged += 1,
        }
    }
}

fn load(args: &ImportArgs) -> Result<String, Failure> {
    let name = args.file.display();
    let unreadable =
        |error: std::io::Error| Failure::invalid(format!("{name} cannot be read: {}", error.kind()));
    let mut bytes = Vec::new();
    let length = if args.file.as_os_str() == "-" {
        std::io::stdin().take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?
    } else {
        let file = std::fs::File::open(&args.file).map_err(unreadable)?;
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?
    };
    if length as u64 > LARGEST_FILE {
        return Err(Failure::invalid(format!("{name} is larger than 256 MiB; split it")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Failure::invalid(format!("{name}: line {line} is not UTF-8 text; nothing was sent"))
    })
}

fn refuse(context: &Context, args: &ImportArgs, problems: &Problems) -> Failure {
    for problem in &problems.listed {
        context.screen.error(&problem.to_string());
    }
    let count = problems.count;
    let first = problems.listed.first().map(ToString::to_string).unwrap_or_default();
    let noun = if count == 1 { "problem" } else { "problems" };
    Failure::invalid(format!(
        "{} has {count} {noun}, the first: {first}. Nothing was sent.",
        args.file.display()
    ))
}

fn show(context: &Context, rows: usize, tally: Tally) -> Exit {
    for problem in &tally.problems {
        context.screen.error(problem);
    }
    let Tally { changed, unchanged, failed, problems } = tally;
    let line = format!("{rows} rows: {changed} imported, {unchanged} were there already, {failed} refused");
    if failed == 0 {
        context.screen.good(&line);
    } else {
        context.screen.error(&line);
    }
    context.screen.object(&Keys { rows, changed, unchanged, failed, problems });
    if failed == 0 { Exit::Done } else { Exit::Declined }
}

/// On standard error, and only where that is a terminal.
fn progress_bar(rows: usize) -> ProgressBar {
    let bar = ProgressBar::new(rows as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {eta} left") {
        bar.set_style(style);
    }
    bar
}
