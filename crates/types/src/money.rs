//! Money: whole minor units and a currency. No floating point, no silent rounding, no silent overflow.

use std::fmt;
use std::str::FromStr;

/// Why an amount or a currency is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not an active ISO 4217 currency with a minor unit.
    #[error("must be an ISO 4217 currency code such as BDT")]
    UnknownCurrency,
    /// The text is not a plain decimal number.
    #[error("must be a decimal amount such as 1000 or 1000.50")]
    NotANumber,
    /// The amount has more decimals than the currency.
    #[error("has more than {decimals} decimals, a fraction of the smallest unit of {currency}")]
    FractionOfMinorUnit {
        /// The currency that has no such fraction.
        currency: Currency,
        /// How many decimals it has.
        decimals: u32,
    },
    /// The amount does not fit into 64 bits of minor units.
    #[error("is too large")]
    Overflow,
    /// Two amounts of different currencies were brought together.
    #[error("mixes {left} and {right}")]
    CurrencyMismatch {
        /// The currency of the first amount.
        left: Currency,
        /// The currency of the second amount.
        right: Currency,
    },
}

/// An ISO 4217 currency, kept as its three letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The Bangladeshi taka, the default of this bank.
    pub const BDT: Self = Self(*b"BDT");

    /// The three capital letters.
    pub fn code(&self) -> &str {
        // Only ASCII letters are ever stored.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// How many decimals the minor unit has: 2 for BDT, 0 for JPY, 3 for KWD.
    pub fn decimals(&self) -> u32 {
        iso_currency::Currency::from_code(self.code())
            .and_then(iso_currency::Currency::exponent)
            .map_or(0, u32::from)
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        let known = iso_currency::Currency::from_code(code)
            .filter(|currency| currency.code() == code && currency.exponent().is_some());
        match (known, <[u8; 3]>::try_from(code.as_bytes())) {
            (Some(_), Ok(letters)) => Ok(Self(letters)),
            _ => Err(MoneyError::UnknownCurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// An amount of one currency in minor units (for BDT: poisha, hundredths of a taka). May be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    minor_units: i64,
    currency: Currency,
}

impl Money {
    /// `minor_units` of `currency`.
    pub const fn new(minor_units: i64, currency: Currency) -> Self {
        Self { minor_units, currency }
    }

    /// Nothing of `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Reads a decimal amount of major units: `1000`, `1000.5`, `-0.01`.
    ///
    /// # Errors
    /// [`MoneyError::NotANumber`] for anything but digits with an optional leading minus and one point that
    /// has digits on both sides; [`MoneyError::FractionOfMinorUnit`] where a digit would be lost, even a
    /// zero; [`MoneyError::Overflow`] beyond 64 bits.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (major, fraction) = match digits.split_once('.') {
            Some((major, fraction)) if !fraction.is_empty() => (major, fraction),
            Some(_) => return Err(MoneyError::NotANumber),
            None => (digits, ""),
        };
        if major.is_empty() || !major.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(MoneyError::NotANumber);
        }
        let decimals = currency.decimals();
        let missing = usize::try_from(decimals)
            .ok()
            .and_then(|decimals| decimals.checked_sub(fraction.len()))
            .ok_or(MoneyError::FractionOfMinorUnit { currency, decimals })?;
        let mut minor_units: i64 = 0;
        for byte in major.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
            let digit = i64::from(byte - b'0');
            // Built on the negative side, which reaches one further than the positive.
            minor_units = minor_units
                .checked_mul(10)
                .and_then(|units| units.checked_sub(digit))
                .ok_or(MoneyError::Overflow)?;
        }
        if !negative {
            minor_units = minor_units.checked_neg().ok_or(MoneyError::Overflow)?;
        }
        Ok(Self { minor_units, currency })
    }

    /// The amount in minor units.
    pub const fn minor_units(self) -> i64 {
        self.minor_units
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], [`MoneyError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency });
        }
        let minor_units = self.minor_units.checked_add(other.minor_units).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor_units, currency: self.currency })
    }

    /// The decimal text of the amount in major units without the currency: `1000.50`. [`Money::parse`]
    /// reads it back.
    pub fn to_decimal(self) -> String {
        let decimals = self.currency.decimals();
        let scale = 10_u64.pow(decimals);
        let sign = if self.minor_units < 0 { "-" } else { "" };
        let units = self.minor_units.unsigned_abs();
        match usize::try_from(decimals) {
            Ok(width) if width > 0 => format!("{sign}{}.{:0width$}", units / scale, units % scale),
            _ => format!("{sign}{units}"),
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.to_decimal(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bdt(text: &str) -> Result<i64, MoneyError> {
        Money::parse(text, Currency::BDT).map(Money::minor_units)
    }

    #[test]
    fn decimal_amounts_become_minor_units() {
        assert_eq!(bdt("1000"), Ok(100_000));
        assert_eq!(bdt("1000.5"), Ok(100_050));
        assert_eq!(bdt("0.01"), Ok(1));
        assert_eq!(bdt("-0.01"), Ok(-1));
        assert_eq!(bdt("92233720368547758.07"), Ok(i64::MAX));
        assert_eq!(bdt("-92233720368547758.08"), Ok(i64::MIN));
    }

    #[test]
    fn what_would_lose_a_digit_or_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.", ".5", "1,000", "1e3", " 1", "1 ", "+1", "--1", "٣", "0x10", "1.2.3"]
        {
            assert_eq!(bdt(text), Err(MoneyError::NotANumber), "{text:?}");
        }
        assert!(matches!(bdt("1.005"), Err(MoneyError::FractionOfMinorUnit { decimals: 2, .. })));
        assert_eq!(bdt("92233720368547758.08"), Err(MoneyError::Overflow));
        let yen = "JPY".parse().unwrap();
        assert!(matches!(Money::parse("1.0", yen), Err(MoneyError::FractionOfMinorUnit { decimals: 0, .. })));
    }

    #[test]
    fn only_iso_codes_in_capitals_are_currencies() {
        assert_eq!("BDT".parse(), Ok(Currency::BDT));
        for code in ["bdt", "XYZ", "", "BD", "BDTT", "XAU"] {
            assert_eq!(code.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{code:?}");
        }
    }

    #[test]
    fn different_currencies_never_add_up() {
        let taka = Money::new(1, Currency::BDT);
        let dollar = Money::new(1, "USD".parse().unwrap());
        assert!(matches!(taka.checked_add(dollar), Err(MoneyError::CurrencyMismatch { .. })));
        assert_eq!(taka.checked_add(Money::new(i64::MAX, Currency::BDT)), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(minor_units: i64, code in prop::sample::select(vec!["BDT", "JPY", "KWD"])) {
            let money = Money::new(minor_units, code.parse().unwrap());
            prop_assert_eq!(Money::parse(&money.to_decimal(), money.currency()), Ok(money));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = Money::parse(&text, Currency::BDT);
        }
    }
}
