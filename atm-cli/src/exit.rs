//! What a command tells the program that started it: the exit code, and why.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use atm_types::TransactionId;

/// The exit codes. They are a contract: scripts decide on them whether money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The bank refused, or the transaction was cancelled: definite, and nothing was moved. Of a cancel: it came too late,
    /// and what was moved stays.
    Declined = 1,
    /// Wrong use or invalid input, an id used again with other content included.
    WrongUse = 2,
    /// The outcome is not known; the id and what to do next were printed.
    Unknown = 3,
    /// Not authenticated, or the card is locked; no money command took effect.
    NotAuthenticated = 4,
    /// Not available, and provably nothing happened.
    Unavailable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended without a result. `message` is a sentence for the person at the machine.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// For programs: snake_case, stable.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// What provably did not happen, said behind the message; empty where nothing is sure.
    pub(crate) assurance: &'static str,
    /// The transaction that it is about, once it has been given an id that matters.
    pub(crate) transaction_id: Option<TransactionId>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, reason: &'static str, message: impl Into<String>) -> Self {
        Self { exit, reason, message: message.into(), assurance: "", transaction_id: None }
    }

    /// Input that no server needs to see.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::WrongUse, "invalid_input", message)
    }

    /// Something could not be reached or used, and provably nothing happened.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "unavailable", message)
    }

    /// Adds what provably did not happen.
    pub(crate) fn assuring(mut self, assurance: &'static str) -> Self {
        self.assurance = assurance;
        self
    }

    /// The same where the transaction may have taken place before. That nothing was sent just now is no word about it:
    /// whoever reads "nothing happened" does it again under another id.
    pub(crate) fn in_doubt(self, id: TransactionId) -> Self {
        match self.exit {
            Exit::NotAuthenticated | Exit::Unavailable => {
                let message = format!(
                    "{}. Whether transaction {id} took place before is not known. What to do next: run the same \
                     command again, or look it up with `atm-cli transaction show {id} --card N`",
                    self.message
                );
                Self { exit: Exit::Unknown, message, assurance: "", ..self }.about(id)
            }
            Exit::Done | Exit::Declined | Exit::WrongUse | Exit::Unknown => self,
        }
    }

    pub(crate) fn about(mut self, id: TransactionId) -> Self {
        self.transaction_id = Some(id);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        if self.assurance.is_empty() { Ok(()) } else { write!(formatter, "; {}", self.assurance) }
    }
}

/// An error and all that it says was its cause, for a person who has to mend it.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors say their cause themselves.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
