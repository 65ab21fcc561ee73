//! Two ways to speak: lines for people, or one JSON object.

use std::fmt::Display;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What did not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is only said.
pub const QUIET: Style = Style::new().dimmed();

/// Where results go. Colours appear only where they are wanted (`NO_COLOR`, pipes).
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    json: bool,
}

impl Screen {
    /// For people, or for a program.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// A line for people; nothing in JSON mode.
    pub fn line(self, line: impl Display) {
        if !self.json {
            // A closed pipe changes nothing about the results.
            let _ = writeln!(anstream::stdout(), "{line}");
        }
    }

    /// The result for a program; nothing for people.
    pub fn object(self, object: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(object)
        {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// A line for people on standard error, in either mode.
    pub fn remark(self, line: impl Display) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}

/// A bar for work that takes long; invisible unless a person is watching.
pub fn progress(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len} {elapsed} (left: {eta})");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
