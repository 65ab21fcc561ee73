//! Checks the fields of requests before anything is done with them. Each rule completes the sentence
//! "`field` …", and no value is ever repeated in an answer: it may be a PIN.

use std::str::FromStr;

use atm_proto::types::{Boot, Money as WireMoney};
use atm_types::{AccountId, AttemptId, Currency, Money, TransactionId};
use prost_types::Duration;

use crate::failure::Failure;

/// An account as customers and operators name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedAccount(pub AccountId);

/// The id of a transaction.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn transaction_id(text: &str) -> Result<TransactionId, Failure> {
    uuid(text, "transaction_id")
}

/// The id of one key press.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn attempt_id(text: &str) -> Result<AttemptId, Failure> {
    uuid(text, "attempt_id")
}

/// The id of an operator's order.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn order_id(text: &str) -> Result<AttemptId, Failure> {
    uuid(text, "order_id")
}

fn uuid<T: FromStr<Err = atm_types::IdError>>(text: &str, field: &'static str) -> Result<T, Failure> {
    text.parse().map_err(|error: atm_types::IdError| Failure::invalid(field, error.to_string()))
}

/// A start of a machine, which auth knows more about.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn boot(boot: &Boot) -> Result<(), Failure> {
    if !(1..=i64::MAX as u64).contains(&boot.epoch) {
        return Err(Failure::invalid("boot.epoch", "must be 1 to 9223372036854775807"));
    }
    let own: AttemptId = uuid(&boot.boot_id, "boot.boot_id")?;
    if boot.epoch == 1 && boot.previous_boot_id.is_empty() {
        return Ok(());
    }
    if boot.epoch == 1 {
        return Err(Failure::invalid("boot.previous_boot_id", "must be empty when epoch is 1"));
    }
    let previous: AttemptId = uuid(&boot.previous_boot_id, "boot.previous_boot_id")?;
    if previous == own {
        return Err(Failure::invalid("boot.previous_boot_id", "must be another id than boot_id"));
    }
    Ok(())
}

/// What a person says, on one line.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn words(text: &str, field: &'static str, most: usize) -> Result<(), Failure> {
    if (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Failure::invalid(field, format!("must be 1 to {most} characters and no control characters")))
}

/// A card number of 8 to 19 digits.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn card_number(text: &str) -> Result<(), Failure> {
    digits(text, 8, 19).then_some(()).ok_or_else(|| Failure::invalid("card_number", "must be 8 to 19 digits"))
}

/// A PIN of 4 to 12 digits.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn pin(text: &str, field: &'static str) -> Result<(), Failure> {
    digits(text, 4, 12).then_some(()).ok_or_else(|| Failure::invalid(field, "must be 4 to 12 digits"))
}

fn digits(text: &str, fewest: usize, most: usize) -> bool {
    (fewest..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An amount of more than 0 in the bank's currency.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn positive_amount(money: Option<&WireMoney>, currency: Currency) -> Result<Money, Failure> {
    let money = amount(money, currency)?;
    if money.minor_units() <= 0 {
        return Err(Failure::invalid("amount.minor_units", "must be more than 0"));
    }
    Ok(money)
}

/// An amount of 0 or more in the bank's currency.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn captured_amount(money: Option<&WireMoney>, currency: Currency) -> Result<Money, Failure> {
    let money = amount(money, currency)?;
    if money.minor_units() < 0 {
        return Err(Failure::invalid("amount.minor_units", "must be 0 or more"));
    }
    Ok(money)
}

fn amount(money: Option<&WireMoney>, currency: Currency) -> Result<Money, Failure> {
    let money = money.ok_or_else(|| Failure::invalid("amount", "is required"))?;
    if money.currency_code != currency.code() {
        return Err(Failure::invalid("amount.currency_code", format!("must be {currency}")));
    }
    Ok(Money::new(money.minor_units, currency))
}

/// The lifetime of a hold, 1 s to 30 days, if one is asked for.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn lifetime(lifetime: Option<&Duration>) -> Result<(), Failure> {
    const LONGEST: i64 = 30 * 24 * 60 * 60;
    let fits = lifetime.is_none_or(|lifetime| {
        let whole = (0..1_000_000_000).contains(&lifetime.nanos);
        whole && lifetime.seconds >= 1 && (lifetime.seconds, lifetime.nanos) <= (LONGEST, 0)
    });
    fits.then_some(()).ok_or_else(|| Failure::invalid("lifetime", "must be between 1 second and 30 days"))
}

/// The account of this number, or with this id.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn account(text: &str, field: &'static str) -> Result<NamedAccount, Failure> {
    if account_number_is_good(text) {
        return Ok(NamedAccount(AccountId::of_number(text)));
    }
    text.parse().map(NamedAccount).map_err(|_| {
        Failure::invalid(field, "must be an account number or an account id, a lowercase hyphenated UUID")
    })
}

/// A number that customers know an account by.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn account_number(text: &str) -> Result<AccountId, Failure> {
    account_number_is_good(text).then(|| AccountId::of_number(text)).ok_or_else(|| {
        Failure::invalid("account.account_number", "must be 1 to 34 characters of A-Z a-z 0-9 . _ -")
    })
}

/// No UUID is that short, so a number is never taken for an id.
fn account_number_is_good(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=34).contains(&text.len()) && text.bytes().all(allowed)
}

/// The number of lines on a page: 1 to 1,000, and 20 for 0.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn page_size(size: i32) -> Result<i32, Failure> {
    page_size_or(size, 20)
}

/// The number of lines on a page: 1 to 1,000, and `default` for 0.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn page_size_or(size: i32, default: i32) -> Result<i32, Failure> {
    match size {
        0 => Ok(default),
        1..=1_000 => Ok(size),
        _ => Err(Failure::invalid("page_size", "must be 0 to 1000")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(failure: Failure) -> String {
        match failure {
            Failure::Invalid { field, .. } => field.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn wire(code: &str, minor_units: i64) -> Option<WireMoney> {
        Some(WireMoney { currency_code: code.to_owned(), minor_units })
    }

    #[test]
    fn row_14_an_amount_names_the_part_at_fault() {
        let positive = |money: Option<WireMoney>| positive_amount(money.as_ref(), Currency::BDT);
        assert_eq!(positive(wire("BDT", 1)), Ok(Money::new(1, Currency::BDT)));
        assert_eq!(field(positive(None).unwrap_err()), "amount");
        for minor_units in [0, -1, i64::MIN] {
            assert_eq!(field(positive(wire("BDT", minor_units)).unwrap_err()), "amount.minor_units");
        }
        for code in ["USD", "bdt", "", "BDT "] {
            assert_eq!(field(positive(wire(code, 1)).unwrap_err()), "amount.currency_code");
        }
        assert!(captured_amount(wire("BDT", 0).as_ref(), Currency::BDT).is_ok());
        assert!(captured_amount(wire("BDT", -1).as_ref(), Currency::BDT).is_err());
    }

    #[test]
    fn row_16_a_malformed_id_is_refused_by_name() {
        for id in ["", "1", "018F4E9A-5B2C-7DEF-8123-456789ABCDEF", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(field(transaction_id(id).unwrap_err()), "transaction_id", "{id:?}");
            assert_eq!(field(attempt_id(id).unwrap_err()), "attempt_id", "{id:?}");
        }
    }

    #[test]
    fn row_11_card_numbers_and_pins_are_digits_of_the_right_number() {
        for good in ["1234", "123456789012"] {
            assert_eq!(pin(good, "pin"), Ok(()));
        }
        for bad in ["", "123", "1234567890123", "12 4", "12a4", "১২৩৪", "-123", "1234\n"] {
            assert_eq!(field(pin(bad, "old_pin").unwrap_err()), "old_pin", "{bad:?}");
        }
        assert!(card_number("12345678").is_ok() && card_number(&"9".repeat(19)).is_ok());
        for bad in ["1234567", &"9".repeat(20), "12345678x", "1234 5678"] {
            assert_eq!(field(card_number(bad).unwrap_err()), "card_number", "{bad:?}");
        }
    }

    #[test]
    fn row_24_control_characters_have_no_place_in_an_account() {
        for bad in ["a\nb", "a\u{1b}[2J", "", "a b", "ঢাকা", &"x".repeat(35)] {
            assert_eq!(field(account(bad, "to_account").unwrap_err()), "to_account", "{bad:?}");
            assert!(account_number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_account_is_named_by_number_or_id() {
        assert_eq!(account("Farhan", "x").unwrap().0, AccountId::of_number("Farhan"));
        let id = AccountId::of_number("Farhan");
        assert_eq!(account(&id.to_string(), "x").unwrap().0, id);
    }

    #[test]
    fn each_part_of_a_boot_at_fault_is_named() {
        let (one, two) = ("018f4e9a-5b2c-7def-8123-456789abcdef", "018f4e9a-5b2c-7def-8123-456789abcdee");
        let of = |epoch, boot_id: &str, previous: &str| {
            let (boot_id, previous_boot_id) = (boot_id.to_owned(), previous.to_owned());
            boot(&Boot { epoch, boot_id, previous_boot_id })
        };
        assert!(of(1, one, "").is_ok() && of(2, one, two).is_ok());
        for (refused, name) in [
            (of(0, one, ""), "boot.epoch"),
            (of(u64::MAX, one, two), "boot.epoch"),
            (of(1, "", ""), "boot.boot_id"),
            (of(2, &one.to_uppercase(), two), "boot.boot_id"),
            (of(1, one, two), "boot.previous_boot_id"),
            (of(2, one, ""), "boot.previous_boot_id"),
            (of(2, one, one), "boot.previous_boot_id"),
        ] {
            assert_eq!(field(refused.unwrap_err()), name);
        }
    }

    #[test]
    fn row_24_what_a_person_says_is_on_one_line() {
        assert_eq!(words("ফারহান saw the notes on the tray", "reason", 500), Ok(()));
        for bad in ["", "a\nb", "\u{1b}[31m", &"x".repeat(101)] {
            assert_eq!(field(words(bad, "operator", 100).unwrap_err()), "operator", "{bad:?}");
        }
    }

    #[test]
    fn a_lifetime_is_a_second_to_thirty_days() {
        let of = |seconds, nanos| lifetime(Some(&Duration { seconds, nanos }));
        assert!(lifetime(None).is_ok() && of(1, 0).is_ok() && of(2_592_000, 0).is_ok());
        for (seconds, nanos) in
            [(0, 999_999_999), (-1, 0), (2_592_000, 1), (5, -1), (5, 1_000_000_000), (i64::MAX, 0)]
        {
            assert!(of(seconds, nanos).is_err(), "{seconds} s {nanos} ns");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_makes_a_check_panic(text in "\\PC{0,50}", number: i64, size: i32) {
            let _ = (transaction_id(&text), account(&text, "x"), card_number(&text), pin(&text, "pin"));
            let _ = positive_amount(wire(&text, number).as_ref(), Currency::BDT);
            prop_assert_eq!(page_size(size).is_ok(), (0..=1_000).contains(&size));
        }
    }
}
