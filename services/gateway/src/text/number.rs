//! Decimal integers of any sign, and which of them are palindromes or primes.

use std::sync::LazyLock;

use crypto_bigint::BoxedUint;

use super::prime::{Abandoned, is_prime};

/// The most bits that an integer's magnitude may have.
pub const MAX_BITS: u32 = 4_096;

/// The decimal digits of the largest magnitude.
static LARGEST: LazyLock<String> = LazyLock::new(|| BoxedUint::max(MAX_BITS).to_string_radix_vartime(10));

/// Why a text is refused as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text is not `-?[0-9]+`.
    #[error("must be a decimal integer such as 13 or -7: an optional minus and the digits 0 to 9")]
    NotAnInteger,
    /// The magnitude has more than [`MAX_BITS`] bits.
    #[error("must have at most 4096 bits: all of 1233 digits have, and those of 1234 digits below 2^4096")]
    TooLarge,
}

/// A decimal integer of at most [`MAX_BITS`] bits, still as digits. There is one spelling of each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer<'a> {
    negative: bool,
    digits: &'a str,
}

impl<'a> Integer<'a> {
    /// Reads `-?[0-9]+`; leading zeros count for nothing, and `-0` is 0. Costs one look at each byte, however
    /// long the text is.
    ///
    /// # Errors
    /// [`NumberError::NotAnInteger`], [`NumberError::TooLarge`].
    pub fn parse(text: &'a str) -> Result<Self, NumberError> {
        let (minus, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NumberError::NotAnInteger);
        }
        let significant = digits.trim_start_matches('0');
        let digits = if significant.is_empty() { "0" } else { significant };
        // Digits of one length compare like the numbers that they stand for.
        if (digits.len(), digits) > (LARGEST.len(), LARGEST.as_str()) {
            return Err(NumberError::TooLarge);
        }
        Ok(Self { negative: minus && digits != "0", digits })
    }

    /// How many decimal digits there are, without sign and leading zeros.
    pub fn digits(&self) -> usize {
        self.digits.len()
    }

    /// Whether the decimal digits read the same from both ends. A negative number's minus stands at one end
    /// only.
    pub fn is_palindrome(&self) -> bool {
        let digits = self.digits.as_bytes();
        !self.negative && digits.iter().eq(digits.iter().rev())
    }

    /// Whether the integer is a prime; takes up to some 100 ms of one core at 4,096 bits, in slices, between
    /// which `is_wanted` is asked whether to go on.
    ///
    /// # Errors
    /// [`Abandoned`] when `is_wanted` answered false.
    pub fn is_prime(&self, is_wanted: impl FnMut() -> bool) -> Result<bool, Abandoned> {
        if self.negative {
            return Ok(false);
        }
        // Digits of a checked length always parse.
        BoxedUint::from_str_radix_vartime(self.digits, 10)
            .map_or(Ok(false), |magnitude| is_prime(&magnitude, is_wanted))
    }
}

#[cfg(test)]
mod tests {
    use crypto_primes::Flavor;
    use proptest::prelude::*;

    use super::*;

    fn prime(text: &str) -> bool {
        Integer::parse(text).unwrap().is_prime(|| true).unwrap()
    }

    fn palindrome(text: &str) -> bool {
        Integer::parse(text).unwrap().is_palindrome()
    }

    fn is_prime_by_trial_division(number: u64) -> bool {
        number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
    }

    fn two_to_the(exponent: u32) -> BoxedUint {
        BoxedUint::one_with_precision(MAX_BITS + 64).shl(exponent)
    }

    fn less(number: &BoxedUint, small: u64) -> String {
        number.wrapping_sub(BoxedUint::from(small)).to_string_radix_vartime(10)
    }

    #[test]
    fn only_an_optional_minus_and_ascii_digits_are_an_integer() {
        for text in [
            "", "-", "+5", "--5", "5-", " 5", "5 ", "5.0", "1e3", "0x10", "1_000", "৪২", "٣", "５", "Ⅷ",
            "5\0",
        ] {
            assert_eq!(Integer::parse(text), Err(NumberError::NotAnInteger), "{text:?}");
        }
    }

    #[test]
    fn leading_zeros_and_the_minus_of_zero_count_for_nothing() {
        assert_eq!(Integer::parse("007"), Integer::parse("7"));
        assert_eq!(Integer::parse("-007"), Integer::parse("-7"));
        assert_eq!(Integer::parse("-0"), Integer::parse("0"));
        assert_eq!(Integer::parse(&"0".repeat(10_000)), Integer::parse("0"));
        assert!(prime("007") && !prime("-7"));
    }

    #[test]
    fn the_limit_is_exactly_4096_bits_for_either_sign() {
        let largest = less(&two_to_the(MAX_BITS), 1);
        assert_eq!(largest.len(), 1234, "the number of digits that the error names");
        let above = two_to_the(MAX_BITS).to_string_radix_vartime(10);
        for sign in ["", "-", "-000"] {
            assert!(Integer::parse(&format!("{sign}{largest}")).is_ok());
            assert_eq!(Integer::parse(&format!("{sign}{above}")), Err(NumberError::TooLarge));
        }
    }

    #[test]
    fn row_23_ten_thousand_digits_are_refused_before_any_arithmetic() {
        assert_eq!(Integer::parse(&"9".repeat(10_000)), Err(NumberError::TooLarge));
        assert_eq!(Integer::parse(&format!("-1{}", "0".repeat(9_999))), Err(NumberError::TooLarge));
    }

    #[test]
    fn palindromes_are_judged_by_their_decimal_digits() {
        for yes in ["0", "-0", "7", "11", "121", "1221", "00121", "12345678987654321", &"9".repeat(1_233)] {
            assert!(palindrome(yes), "{yes}");
        }
        for no in ["10", "0110", "12", "-1", "-121", "-11", "1231"] {
            assert!(!palindrome(no), "{no}");
        }
    }

    #[test]
    fn every_number_up_to_20_000_and_around_the_edge_of_trial_division_agrees_with_trial_division() {
        for number in (0..20_000).chain(990_000..1_010_000) {
            assert_eq!(prime(&number.to_string()), is_prime_by_trial_division(number), "{number}");
        }
    }

    #[test]
    fn nothing_below_two_is_a_prime() {
        for text in ["0", "1", "-1", "-2", "-3", "-13", "-0", "-2147483647"] {
            assert!(!prime(text), "{text}");
        }
        assert!(prime("2"));
    }

    #[test]
    fn mersenne_numbers_are_told_apart_up_to_the_limit() {
        // OEIS A000043 and some exponents that are prime but give no Mersenne prime.
        for exponent in [2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217] {
            assert!(prime(&less(&two_to_the(exponent), 1)), "2^{exponent} - 1");
        }
        for exponent in [11, 23, 29, 37, 67, 257, 1277, 2207, 4093, 4096] {
            assert!(!prime(&less(&two_to_the(exponent), 1)), "2^{exponent} - 1");
        }
    }

    #[test]
    fn the_largest_prime_of_4096_bits_and_its_neighbours() {
        // OEIS A013603 lists 2^n - prevprime(2^n); found here by two implementations.
        assert!(prime(&less(&two_to_the(4096), 2549)));
        assert!(!prime(&less(&two_to_the(4096), 2547)));
        assert!(!prime(&less(&two_to_the(4096), 2551)));
    }

    #[test]
    fn carmichael_numbers_are_composite() {
        // OEIS A002997, and Chernick's 18k+1 form with a prime k for larger ones.
        for number in ["561", "1105", "1729", "2465", "2821", "6601", "8911", "10585", "15841", "29341"] {
            assert!(!prime(number), "{number}");
        }
        for number in
            ["1590231231043178376951698401", "9746347772161", "1436697831295441", "60977817398996785"]
        {
            assert!(!prime(number), "{number}");
        }
    }

    #[test]
    fn pseudoprimes_of_either_half_of_the_test_are_caught_by_the_other() {
        // Strong pseudoprimes to base 2 (OEIS A001262) and to many bases (Jaeschke 1993; Arnault 1995).
        for number in [
            "2047",
            "3277",
            "4033",
            "4681",
            "8321",
            "15841",
            "1194649",
            "12327121",
            "3215031751",
            "3825123056546413051",
            "318665857834031151167461",
            "3317044064679887385961981",
        ] {
            assert!(!prime(number), "{number}");
        }
        // Extra strong Lucas pseudoprimes (OEIS A217719).
        for number in ["989", "3239", "5777", "10877", "27971", "389", "1010303819"] {
            assert_eq!(prime(number), is_prime_by_trial_division(number.parse().unwrap()), "{number}");
        }
        // Squares of the two Wieferich primes pass Miller-Rabin to base 2 and have no Lucas base.
        assert!(!prime(&(1093_u64 * 1093).to_string()) && !prime(&(3511_u64 * 3511).to_string()));
    }

    #[test]
    fn an_answer_that_nobody_wants_any_more_is_not_computed() {
        let number = less(&two_to_the(4096), 2549);
        let mut looks = 0;
        let result = Integer::parse(&number).unwrap().is_prime(|| {
            looks += 1;
            looks < 3
        });
        assert_eq!((result, looks), (Err(Abandoned), 3));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_accepts_exactly_the_grammar(text in "[-+]{0,2}[0-9٣ ]{0,40}") {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            let grammar = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(Integer::parse(&text).is_ok(), grammar);
        }

        #[test]
        fn small_numbers_agree_with_trial_division(number in 0_u64..1_000_000_000_000) {
            prop_assert_eq!(prime(&number.to_string()), is_prime_by_trial_division(number));
        }

        #[test]
        fn sixty_four_bits_agree_with_the_general_form_of_another_implementation(number: u64) {
            let other = crypto_primes::is_prime(Flavor::Any, &BoxedUint::from(number | 1));
            prop_assert_eq!(prime(&(number | 1).to_string()), other);
        }

        #[test]
        fn a_number_agrees_with_its_reversed_text(digits in "[1-9][0-9]{0,60}") {
            let reversed: String = digits.chars().rev().collect();
            prop_assert_eq!(palindrome(&digits), digits == reversed);
            let both = format!("{digits}{reversed}");
            prop_assert!(palindrome(&both));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn large_numbers_agree_with_another_implementation(words in prop::collection::vec(any::<u64>(), 2..12)) {
            let bits = u32::try_from(words.len() * 64).unwrap();
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            *bytes.last_mut().unwrap() |= 1;
            let mut number = BoxedUint::from_be_slice(&bytes, bits).unwrap();
            // Walk to the next prime, so that both answers are seen.
            let two = BoxedUint::from(2_u64);
            for _ in 0..400 {
                let text = number.to_string_radix_vartime(10);
                let other = crypto_primes::is_prime(Flavor::Any, &number);
                prop_assert_eq!(prime(&text), other, "{}", text);
                if other {
                    break;
                }
                number = number.wrapping_add(&two);
            }
        }

        #[test]
        fn products_of_two_primes_are_composite(a in 1_000_u64..1 << 31, b in 1_000_u64..1 << 31) {
            let next_prime = |from: u64| (from..).find(|n| is_prime_by_trial_division(*n)).unwrap();
            let product = u128::from(next_prime(a)) * u128::from(next_prime(b));
            prop_assert!(!prime(&product.to_string()));
        }
    }
}
