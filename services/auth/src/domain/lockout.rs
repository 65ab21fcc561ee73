//! The lockout rule: three wrong PINs in a row lock a card until an operator unblocks it.

use atm_faults::{Bug, planted};

/// So many wrong PINs lock a card.
pub const MAX_WRONG_PINS: u8 = 3;

/// Wrong PINs since the last right one: 0 to [`MAX_WRONG_PINS`], where the card is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrongPins(u8);

impl WrongPins {
    /// None.
    pub const ZERO: Self = Self(0);

    /// A count read from storage; a number that cannot be counts as locked.
    pub fn from_count(count: u8) -> Self {
        Self(count.min(MAX_WRONG_PINS))
    }

    /// The count.
    pub const fn count(self) -> u8 {
        self.0
    }

    /// Whether no further PIN may be tried.
    pub fn is_locked(self) -> bool {
        self.0 >= MAX_WRONG_PINS + u8::from(planted(Bug::FourWrongPins))
    }

    /// One more.
    #[must_use]
    pub fn and_one(self) -> Self {
        if self.is_locked() { self } else { Self(self.0 + 1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_third_wrong_pin_locks() {
        let second = WrongPins::ZERO.and_one().and_one();
        assert!(!second.is_locked());
        assert!(second.and_one().is_locked());
        assert_eq!(second.and_one().and_one().count(), MAX_WRONG_PINS, "the count stops there");
    }

    proptest! {
        #[test]
        fn whatever_was_stored_counts_at_most_to_locked(count: u8) {
            let wrong = WrongPins::from_count(count);
            prop_assert!(wrong.count() <= MAX_WRONG_PINS);
            prop_assert!(wrong.and_one() >= wrong);
            prop_assert_eq!(wrong.is_locked(), count >= MAX_WRONG_PINS);
        }
    }
}
