//! The attempt rule: one press of the enter key is verified and counted once, however often it is sent.
//!
//! An attempt is remembered for [`REMEMBERED`] with a [`Tag`] over machine, card, attempt id and PIN. The same
//! attempt id with the same tag gets the recorded outcome; with another tag it is a new attempt, which is
//! counted. Both are then remembered, so that retries of either stay free.

use std::time::Duration;

use atm_types::{AttemptId, Timestamp};
use subtle::ConstantTimeEq;

use super::{AtmId, NumberKey, Session};

/// How long an attempt is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// HMAC-SHA-256 over what an attempt consists of, the PIN included, under a key derived from the pepper.
/// Without the pepper it tells nothing about the PIN.
#[derive(Clone, Copy)]
pub struct Tag([u8; 32]);

impl Tag {
    /// Wraps the thirty-two bytes of the HMAC.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thirty-two bytes, for storage.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Tag {
    /// In constant time: how much of a tag is right is nobody's business.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Tag {}

/// What became of an attempt. Once recorded it does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The PIN was right, and this session was opened.
    Opened(Session),
    /// The old PIN was right, and the new one was set.
    Changed,
    /// The PIN was wrong, or there is no such card.
    Wrong,
    /// The PIN was wrong for the third time, which locked the card.
    Locked,
    /// The PIN was right, but an operator has blocked the card.
    Blocked,
}

/// An attempt whose outcome is committed.
#[derive(Clone)]
pub struct Attempt {
    /// The card, or the number that is nobody's card.
    pub number_key: NumberKey,
    /// The machine whose enter key was pressed.
    pub atm_id: AtmId,
    /// Made for this key press by the machine.
    pub attempt_id: AttemptId,
    /// Tells this PIN from another under the same attempt id.
    pub tag: Tag,
    /// When it was recorded.
    pub time: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// Whether the attempt is still to be remembered at `now`. A clock that was set back by more than the
    /// limit forgets it too, or it would be kept for as long as the clock was wrong.
    pub fn is_remembered(&self, now: Timestamp) -> bool {
        now.saturating_since(self.time) < REMEMBERED && self.time.saturating_since(now) < REMEMBERED
    }
}

/// The outcome that was recorded for the attempt with this tag, among all `attempts` under one attempt id.
pub fn replay(attempts: &[Attempt], tag: Tag, now: Timestamp) -> Option<&Outcome> {
    attempts
        .iter()
        .find(|attempt| attempt.tag == tag && attempt.is_remembered(now))
        .map(|attempt| &attempt.outcome)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(tag: u8, outcome: Outcome) -> Attempt {
        Attempt {
            number_key: NumberKey::from_bytes([1; 32]),
            atm_id: "ATM-1".parse().unwrap(),
            attempt_id: AttemptId::from_bytes([2; 16]),
            tag: Tag::from_bytes([tag; 32]),
            time: Timestamp::from_seconds(1000),
            outcome,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn the_same_tag_gets_its_own_outcome_and_another_tag_none() {
        let attempts = [attempt(1, Outcome::Wrong), attempt(2, Outcome::Changed)];
        let tag = |byte| Tag::from_bytes([byte; 32]);
        assert_eq!(replay(&attempts, tag(1), at(1001)), Some(&Outcome::Wrong));
        assert_eq!(replay(&attempts, tag(2), at(1001)), Some(&Outcome::Changed));
        assert_eq!(replay(&attempts, tag(3), at(1001)), None);
    }

    #[test]
    fn an_attempt_is_forgotten_after_sixty_seconds_whichever_way_the_clock_went() {
        let attempt = attempt(1, Outcome::Wrong);
        for (now, remembered) in [(1000, true), (1059, true), (1060, false), (941, true), (940, false)] {
            assert_eq!(attempt.is_remembered(at(now)), remembered, "{now}");
        }
    }

    proptest! {
        #[test]
        fn only_an_equal_tag_is_ever_replayed(stored: [u8; 32], asked: [u8; 32], now in 900_i64..1100) {
            let mut one = attempt(0, Outcome::Wrong);
            one.tag = Tag::from_bytes(stored);
            let found = replay(std::slice::from_ref(&one), Tag::from_bytes(asked), at(now)).is_some();
            prop_assert_eq!(found, stored == asked && (941..1060).contains(&now));
        }
    }
}
