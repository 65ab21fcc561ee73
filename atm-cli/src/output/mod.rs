//! What the person, or the program, at the machine gets to see.
//!
//! Two modes. For people: results on standard output, everything else on standard error, colours only where
//! they are wanted (`NO_COLOR`, pipes). With `--json`: exactly one object on standard output, and the same
//! messages for people on standard error.

mod capture;
mod money;
mod story;
mod table;

use std::io::{self, Write};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

pub(crate) use capture::Capture;
pub(crate) use money::{Receipt, Status, When, show_failure, state_name};
pub(crate) use story::tell as tell_story;
pub(crate) use table::Table;

const ALARM: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const QUIET: Style = Style::new().dimmed();

/// Why a result could not be written to standard output, of the first that could not.
static LOST: OnceLock<String> = OnceLock::new();

/// Why this process could not write all of its results; nothing if it could, or if the reader had had enough.
pub(crate) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Both output streams. Failing to write to them changes nothing about what happened to the money, so a command goes on;
/// in the end its exit code says that somebody is without the result ([`lost`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    json: bool,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program is reading.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A result for people; nothing in JSON mode.
    pub(crate) fn result(self, line: &str) {
        if !self.json && !keep_line(line) {
            written(writeln!(anstream::stdout(), "{line}"));
        }
    }

    /// A result for people that went well; nothing in JSON mode.
    pub(crate) fn good(self, line: &str) {
        self.result(&format!("{GOOD}{line}{GOOD:#}"));
    }

    /// The one object of JSON mode; nothing for people.
    pub(crate) fn object(self, object: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(object)
            && !capture::keep(|shown| shown.object = Some(text.clone()))
        {
            written(writeln!(io::stdout(), "{text}"));
        }
    }

    /// A message beside the result.
    pub(crate) fn note(self, line: &str) {
        beside(&format!("{QUIET}{line}{QUIET:#}"));
    }

    /// What went wrong.
    pub(crate) fn error(self, line: &str) {
        beside(&format!("{ALARM}error:{ALARM:#} {line}"));
    }

    /// What a person has to look into.
    pub(crate) fn alarm(self, line: &str) {
        beside(&format!("{ALARM}ALARM:{ALARM:#} {line}"));
    }
}

fn written(done: io::Result<()>) {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            LOST.get_or_init(|| error.to_string());
        }
        Ok(()) | Err(_) => {}
    }
}

fn beside(line: &str) {
    if !keep_line(line) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}

fn keep_line(line: &str) -> bool {
    capture::keep(|shown| shown.lines.push(anstream::adapter::strip_str(line).to_string()))
}
