//! Where ids and random bytes come from.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::{AttemptId, Clock, SystemClock, Timestamp, TransactionId};

/// Mints ids and random bytes.
pub trait IdSource: Send + Sync + 'static {
    /// Fills `buffer` with bytes that nobody can predict (save in simulations).
    fn fill(&self, buffer: &mut [u8]);

    /// The wall-clock time that goes into time-ordered ids.
    fn time(&self) -> Timestamp;

    /// A new transaction id: a UUIDv7 (RFC 9562 §5.7), so that ids minted later sort later.
    fn transaction_id(&self) -> TransactionId {
        TransactionId::from_uuid(self.uuid_v7())
    }

    /// A new id for one key press of the PIN's enter key.
    fn attempt_id(&self) -> AttemptId {
        AttemptId::from_uuid(self.uuid_v7())
    }

    /// A new UUIDv7: 48 bits of milliseconds, 74 random bits.
    fn uuid_v7(&self) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(self.time().as_nanos() / 1_000_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Thirty-two random bytes: a key or a token.
    fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }
}

/// The operating system's randomness and clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads real randomness")]
    #[expect(clippy::expect_used, reason = "without randomness every id would be a guess: stop")]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }

    fn time(&self) -> Timestamp {
        SystemClock.now()
    }
}

/// Ids that follow from a seed, for tests and simulations. Never use it where a stranger could guess.
#[derive(Debug)]
pub struct SeededIds {
    state: Mutex<u64>,
}

impl SeededIds {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): small, and every seed gives another sequence.
    fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl IdSource for SeededIds {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_ids_are_version_7_and_differ() {
        let first = SystemIds.transaction_id();
        let second = SystemIds.transaction_id();
        assert_ne!(first, second);
        assert_eq!(first.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (a, b) = (SeededIds::new(7), SeededIds::new(7));
        assert_eq!(a.transaction_id(), b.transaction_id());
        assert_ne!(a.transaction_id(), SeededIds::new(8).transaction_id());
    }
}
