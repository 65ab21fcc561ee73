//! Amounts as people type them, refused with a sentence when they are none.

use atm_types::{Currency, Money};

use crate::exit::Failure;

/// An amount to move: decimal major units, more than zero.
pub(crate) fn positive(text: &str, currency: Currency) -> Result<Money, Failure> {
    let money = not_negative("amount", text, currency)?;
    if money.minor_units() == 0 {
        return Err(Failure::invalid("the amount must be more than 0"));
    }
    Ok(money)
}

/// A balance or limit: decimal major units, zero or more. `name` says which, in the error.
pub(crate) fn not_negative(name: &str, text: &str, currency: Currency) -> Result<Money, Failure> {
    let money = Money::parse(text, currency)
        .map_err(|error| Failure::invalid(format!("the {name} {text:?} {error}")))?;
    if money.minor_units() < 0 {
        return Err(Failure::invalid(format!("the {name} must not be negative")));
    }
    Ok(money)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_a_minor_unit_zero_negatives_and_garbage_are_refused_in_words() {
        for (text, words) in [
            ("10.005", "more than 2 decimals"),
            ("0", "more than 0"),
            ("0.00", "more than 0"),
            ("-5", "must not be negative"),
            ("ten", "must be a decimal amount"),
            ("1,000", "must be a decimal amount"),
            ("", "must be a decimal amount"),
            ("99999999999999999999", "too large"),
        ] {
            let failure = positive(text, Currency::BDT).unwrap_err();
            assert!(failure.message.contains(words), "{text}: {}", failure.message);
        }
        assert_eq!(positive("1000.50", Currency::BDT).unwrap().minor_units(), 100_050);
        assert_eq!(not_negative("limit", "0", Currency::BDT).unwrap().minor_units(), 0);
    }
}
