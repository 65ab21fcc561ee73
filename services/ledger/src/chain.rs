//! The hash chain: one SHA-256 for each batch, over the hash before it and everything the batch recorded.
//!
//! Who changes, removes, adds or reorders a committed step, or moves a batch in time, breaks every hash
//! after it. The hashed bytes are, numbers big-endian: the previous hash, the first commit sequence (8), the
//! commit time in nanoseconds (8), the number of steps (8); then for each step its transaction id (16), its
//! ordinal (1), the length of its bytes (4) and its bytes.

use atm_faults::{Bug, planted};
use atm_types::Timestamp;
use sha2::{Digest, Sha256};

use crate::storage::{Hash, Head, StepKey};

/// The hash of one batch in the making.
pub(crate) struct Link(Sha256);

impl Link {
    /// Begins the batch that follows `previous`, with `count` steps.
    pub(crate) fn new(previous: &Head, commit_time: Timestamp, count: usize) -> Self {
        let mut hash = Sha256::new();
        if !planted(Bug::ChainForgetsItsPast) {
            hash.update(previous.hash);
        }
        hash.update((previous.sequence + 1).to_be_bytes());
        hash.update(commit_time.as_nanos().to_be_bytes());
        hash.update((count as u64).to_be_bytes());
        Self(hash)
    }

    /// Adds the next step.
    pub(crate) fn add(&mut self, key: StepKey, data: &[u8]) {
        let mut place = [0; 21];
        place[..16].copy_from_slice(key.id.as_bytes());
        place[16] = key.ordinal;
        // No step comes near 4 GiB; one that did would only spoil the chain, and be found.
        place[17..].copy_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.update(place);
        self.0.update(data);
    }

    /// The chain's hash after the batch.
    pub(crate) fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use atm_types::TransactionId;

    use super::*;

    fn key(byte: u8, ordinal: u8) -> StepKey {
        StepKey { id: TransactionId::from_bytes([byte; 16]), ordinal }
    }

    fn link(previous: &Head, time: i64, steps: &[(StepKey, &[u8])]) -> Hash {
        let mut link = Link::new(previous, Timestamp::from_nanos(time), steps.len());
        steps.iter().for_each(|(key, data)| link.add(*key, data));
        link.finish()
    }

    #[test]
    fn whatever_changes_in_a_batch_changes_its_hash() {
        let steps: [(StepKey, &[u8]); 2] = [(key(1, 0), b"ab"), (key(2, 0), b"c")];
        let hash = link(&Head::EMPTY, 5, &steps);
        assert_eq!(hash, link(&Head::EMPTY, 5, &steps));
        let others = [
            link(&Head { hash: [1; 32], ..Head::EMPTY }, 5, &steps),
            link(&Head { sequence: 1, ..Head::EMPTY }, 5, &steps),
            link(&Head::EMPTY, 6, &steps),
            link(&Head::EMPTY, 5, &steps[..1]),
            link(&Head::EMPTY, 5, &[steps[1], steps[0]]),
            link(&Head::EMPTY, 5, &[(key(1, 1), b"ab"), steps[1]]),
            link(&Head::EMPTY, 5, &[(key(1, 0), b"a"), (key(2, 0), b"bc")]),
            link(&Head::EMPTY, 5, &[(key(1, 0), b"aB"), steps[1]]),
        ];
        assert!(others.iter().all(|other| *other != hash));
    }
}
