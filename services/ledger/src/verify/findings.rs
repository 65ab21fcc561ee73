//! What a verification has to say, on its way to whoever asked.

use tokio::sync::mpsc;

use super::VerifyProgress;
use crate::storage::{Hash, StoreError};

/// How many steps lie between two messages.
const STEPS_PER_MESSAGE: u64 = 50_000;
/// How many findings are named; more would not tell more.
const MOST_FINDINGS: usize = 1_000;

/// Nobody listens any more.
pub(super) struct Gone;

/// The findings that were not sent yet, and where they go.
pub(super) struct Findings {
    sender: mpsc::Sender<VerifyProgress>,
    waiting: Vec<String>,
    named: usize,
    checked: u64,
    sent_at: u64,
    total: u64,
}

impl Findings {
    pub(super) fn new(sender: mpsc::Sender<VerifyProgress>) -> Self {
        Self { sender, waiting: Vec::new(), named: 0, checked: 0, sent_at: 0, total: 0 }
    }

    pub(super) fn set_total(&mut self, total: u64) {
        self.total = self.total.max(total);
    }

    /// Something does not agree.
    pub(super) fn add(&mut self, finding: impl Into<String>) -> Result<(), Gone> {
        self.named += 1;
        match self.named {
            ..=MOST_FINDINGS => self.waiting.push(finding.into()),
            n if n == MOST_FINDINGS + 1 => self.waiting.push("more findings are not named".to_owned()),
            _ => {}
        }
        if self.waiting.len() >= 100 { self.send() } else { Ok(()) }
    }

    /// The steps up to `sequence` were checked.
    pub(super) fn checked(&mut self, sequence: u64) -> Result<(), Gone> {
        self.checked = sequence;
        if self.checked - self.sent_at < STEPS_PER_MESSAGE { Ok(()) } else { self.send() }
    }

    fn progress(&mut self) -> VerifyProgress {
        self.sent_at = self.checked;
        VerifyProgress {
            steps_checked: self.checked,
            steps_total: self.total.max(self.checked),
            findings: std::mem::take(&mut self.waiting),
            complete: false,
            chain_head: None,
        }
    }

    fn send(&mut self) -> Result<(), Gone> {
        let progress = self.progress();
        self.sender.blocking_send(progress).map_err(|_| Gone)
    }

    /// The last message of a verification that read everything.
    pub(super) fn complete(&mut self, chain_head: Hash) {
        let progress = VerifyProgress { complete: true, chain_head: Some(chain_head), ..self.progress() };
        let _ = self.sender.blocking_send(progress);
    }

    /// The last message of a verification that could not go on.
    pub(super) fn give_up(&mut self, error: &StoreError) {
        // Without the library's words: this goes out of the process.
        self.waiting.push(error.to_string());
        let _ = self.send();
    }
}
