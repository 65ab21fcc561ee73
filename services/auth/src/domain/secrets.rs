//! What the customer brings: a card number and a PIN. Both are wiped on drop and neither can be printed: they
//! have no `Debug` and no `Display`, so that a log line with one of them in it does not compile.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::LastFour;

/// Why a text is not a card number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 8 to 19 digits")]
pub struct CardNumberError;

/// A card number: 8 to 19 ASCII digits (ISO/IEC 7812 allows up to 19).
///
/// No check digit is asked for: the bank's older cards have none.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CardNumber(String);

impl CardNumber {
    /// Takes the text over, so that no copy of it stays behind.
    ///
    /// # Errors
    /// [`CardNumberError`] unless it is 8 to 19 ASCII digits.
    pub fn parse(text: String) -> Result<Self, CardNumberError> {
        // Wrapped first: a refused text is wiped as well.
        let number = Self(text);
        if is_digits(&number.0, 8, 19) { Ok(number) } else { Err(CardNumberError) }
    }

    /// The digits, for the one function that derives a [`super::NumberKey`] from them.
    pub fn digits(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// All that may be shown of it.
    pub fn last_four(&self) -> LastFour {
        let mut digits = [0; 4];
        digits.copy_from_slice(&self.0.as_bytes()[self.0.len() - 4..]);
        LastFour::from_digits(digits)
    }
}

/// Why a text is not a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 4 to 12 digits")]
pub struct PinError;

/// A PIN: 4 to 12 ASCII digits (ISO 9564-1 §8.1).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Pin(String);

impl Pin {
    /// Takes the text over, so that no copy of it stays behind.
    ///
    /// # Errors
    /// [`PinError`] unless it is 4 to 12 ASCII digits.
    pub fn parse(text: String) -> Result<Self, PinError> {
        let pin = Self(text);
        if is_digits(&pin.0, 4, 12) { Ok(pin) } else { Err(PinError) }
    }

    /// The digits, for hashing.
    pub fn digits(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn is_digits(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ascii_digits_of_the_right_count_are_pins_and_card_numbers() {
        for good in ["1234", "123456789012"] {
            assert!(Pin::parse(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "123", "1234567890123", "12a4", "１２３４", "12 4", "-123", "1234\n"] {
            assert!(Pin::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["12345678", "1234567890123456789"] {
            assert!(CardNumber::parse(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "1234567", "12345678901234567890", "1234-5678", "١٢٣٤٥٦٧٨", "12345678 "] {
            assert!(CardNumber::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_last_four_digits_of_a_card_number_are_shown() {
        let number = CardNumber::parse("4000123456789010".to_owned()).unwrap();
        assert_eq!(number.last_four().to_string(), "…9010");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = Pin::parse(text.clone());
            let _ = CardNumber::parse(text);
        }
    }
}
