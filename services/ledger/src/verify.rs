//! Verification.
use tokio::sync::mpsc;

use crate::read::Reading;
use crate::storage::Hash;
use crate::writer::queue::QueueSender;

/// Where a verification stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// How many steps were checked so far.
    pub steps_checked: u64,
    /// How many there are.
    pub steps_total: u64,
    /// What does not agree, in plain words.
    pub findings: Vec<String>,
    /// Everything was read. The books are sound when no message had a finding.
    pub complete: bool,
    /// The chain's end, on the last message.
    pub chain_head: Option<Hash>,
}

pub(crate) fn start(_queue: QueueSender, _reading: Reading) -> mpsc::Receiver<VerifyProgress> {
    mpsc::channel(1).1
}
