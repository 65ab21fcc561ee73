//! Calls and steps, in memory and as lines of JSON.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::ask::Ask;
use crate::step::Step;

/// One call, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its number.
    pub call: u64,
    /// Who called.
    pub caller: u64,
    /// What was asked.
    pub ask: Ask,
    /// When it began, counted in beginnings and ends of calls.
    pub begun: u64,
    /// When it ended; `None` while nobody knows.
    pub ended: Option<u64>,
    /// How it ended.
    pub answer: Answer,
}

/// All that is known of a run, or of a part of it between two moments at which nothing was under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The calls, in the order in which they began.
    pub calls: Vec<Call>,
    /// The ledger's log, in commit order.
    pub steps: Vec<Step>,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file cannot be read.
    #[error("the history cannot be read")]
    File(#[from] io::Error),
    /// A line is not one of ours.
    #[error("line {number} is neither a call nor a step")]
    Line {
        /// The line, counted from 1.
        number: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum LineOut<'a> {
    Call(&'a Call),
    Step(&'a Step),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineIn {
    Call(Call),
    Step(Step),
}

impl History {
    /// Writes one line for each call and each step.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let calls = self.calls.iter().map(LineOut::Call);
        for line in calls.chain(self.steps.iter().map(LineOut::Step)) {
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Reads what [`History::write`] wrote.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(lines: impl BufRead) -> Result<Self, Unreadable> {
        let mut history = Self::default();
        for (line, number) in lines.lines().zip(1..) {
            match serde_json::from_str(&line?).map_err(|source| Unreadable::Line { number, source })? {
                LineIn::Call(call) => history.calls.push(call),
                LineIn::Step(step) => history.steps.push(step),
            }
        }
        Ok(history)
    }
}
