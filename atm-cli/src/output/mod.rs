//! What the person, or the program, at the machine gets to see.
//!
//! Two modes. For people: results on standard output, everything else on standard error, colours only where
//! they are wanted (`NO_COLOR`, pipes). With `--json`: exactly one object on standard output, and the same
//! messages for people on standard error.

mod capture;
mod money;
mod story;
mod table;

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

pub(crate) use capture::Capture;
pub(crate) use money::{Receipt, Status, When, show_failure, state_name};
pub(crate) use story::tell as tell_story;
pub(crate) use table::Table;

const ALARM: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const QUIET: Style = Style::new().dimmed();

/// Both output streams. Failing to write to them changes nothing about what happened to the money, so such
/// failures are ignored: the exit code still tells.
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
            let _ = writeln!(anstream::stdout(), "{line}");
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
            let _ = writeln!(std::io::stdout(), "{text}");
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

fn beside(line: &str) {
    if !keep_line(line) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}

fn keep_line(line: &str) -> bool {
    capture::keep(|shown| shown.lines.push(anstream::adapter::strip_str(line).to_string()))
}
