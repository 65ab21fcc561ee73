//! Reads a file of accounts: comma- or tab-separated, with a header.
//!
//! The whole file is checked before anything is sent, and every problem names its line and column, so that one
//! run is enough to know all that is wrong.

mod row;

use std::collections::HashMap;
use std::fmt;

use atm_proto::gateway::ImportRow;
use atm_types::Currency;

use row::Columns;

/// How many problems are listed; the rest are only counted.
const LISTED: usize = 20;
/// Far more than any import, and little enough to be held in memory.
pub(crate) const LARGEST_FILE: u64 = 256 * 1024 * 1024;

/// What is wrong, and where: lines count from 1, the header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: u64,
    /// The column's name, or empty when it is the line as a whole.
    pub(crate) column: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if !self.column.is_empty() {
            write!(formatter, ", column {}", self.column)?;
        }
        write!(formatter, ": {}", self.what)
    }
}

/// All that is wrong with a file: the first problems, and how many there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    pub(crate) listed: Vec<Problem>,
    pub(crate) count: usize,
}

impl Problems {
    fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(problem);
        }
    }
}

/// A row that may be sent, and the line it came from.
pub(crate) struct Line {
    pub(crate) line: u64,
    pub(crate) row: ImportRow,
}

/// Reads the whole file. `pin_later` drops the PINs.
pub(crate) fn read(text: &str, currency: Currency, pin_later: bool) -> Result<Vec<Line>, Problems> {
    let mut problems = Problems::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut place = Place::new(text);
    let columns = match reader.headers() {
        Ok(header) => Columns::find(header, place.line_of(header.position())),
        Err(error) => Err(vec![unreadable(&error, &mut place)]),
    };
    let columns = match columns {
        Ok(columns) => columns,
        Err(found) => {
            found.into_iter().for_each(|problem| problems.add(problem));
            return Err(problems);
        }
    };
    let mut lines = Vec::new();
    let mut seen = Seen::default();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = place.line_of(record.position());
                match columns.row(&record, line, currency, pin_later) {
                    Ok(row) => {
                        seen.check(&row, line).into_iter().for_each(|problem| problems.add(problem));
                        lines.push(Line { line, row });
                    }
                    Err(found) => found.into_iter().for_each(|problem| problems.add(problem)),
                }
            }
            Err(error) => problems.add(unreadable(&error, &mut place)),
        }
    }
    if lines.is_empty() && problems.count == 0 {
        problems.add(Problem { line: 1, column: "", what: "there are no accounts below the header".into() });
    }
    if problems.count == 0 { Ok(lines) } else { Err(problems) }
}

/// A tab in the header means tabs, for no column's name has one.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    if header.is_some_and(|header| header.contains('\t')) { b'\t' } else { b',' }
}

fn unreadable(error: &csv::Error, place: &mut Place<'_>) -> Problem {
    let line = place.line_of(error.position());
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8 text",
        _ => "it cannot be read",
    };
    Problem { line, column: "", what: what.to_owned() }
}

/// Finds the line that a record stands on. The reader's own count is of where it began to look, before blank lines
/// and comments. Records come in order, so this walks through the text once.
struct Place<'a> {
    rest: &'a str,
    byte: usize,
    line: u64,
}

impl<'a> Place<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, byte: 0, line: 1 }
    }

    fn line_of(&mut self, position: Option<&csv::Position>) -> u64 {
        let target = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
        // Whole lines up to the record's beginning, then those that hold no record.
        while let Some(end) = self.rest.find('\n') {
            let line = &self.rest[..end];
            let skipped = line.trim().is_empty() || line.starts_with('#');
            // A reader that stopped between \r and \n has not begun the next line.
            if self.byte + line.trim_end_matches('\r').len() >= target && !skipped {
                break;
            }
            self.rest = &self.rest[end + 1..];
            self.byte += end + 1;
            self.line += 1;
        }
        self.line
    }
}

/// What was on earlier lines: an account may have several cards, but only one description, and a card only one
/// account.
#[derive(Default)]
struct Seen {
    accounts: HashMap<String, (u64, atm_proto::gateway::NewAccount)>,
    cards: HashMap<String, u64>,
}

impl Seen {
    fn check(&mut self, row: &ImportRow, line: u64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let account = row.account.clone().unwrap_or_default();
        match self.accounts.get(&account.account_number) {
            Some((first, other)) if *other != account => problems.push(Problem {
                line,
                column: "account",
                what: format!("this account stands on line {first} with other values"),
            }),
            Some((first, _)) if row.card_number.is_empty() => problems.push(Problem {
                line,
                column: "account",
                what: format!("this account stands on line {first} already"),
            }),
            Some(_) => {}
            None => {
                self.accounts.insert(account.account_number.clone(), (line, account));
            }
        }
        if !row.card_number.is_empty()
            && let Some(first) = self.cards.insert(row.card_number.clone(), line)
        {
            problems.push(Problem {
                line,
                column: "card",
                what: format!("this card stands on line {first} already"),
            });
        }
        problems
    }
}

#[cfg(test)]
mod tests;
