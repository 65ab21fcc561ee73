//! Tells primes from everything else, for integers of up to 4,096 bits.
//!
//! The test is Baillie–PSW in its extra strong form: division by small primes, a Miller–Rabin test to base 2,
//! and an extra strong Lucas test (Mo 1993; Grantham, Math. Comp. 70 (2001) 873–891) with Q = 1 and the first
//! P = 3, 4, 5, … for which the Jacobi symbol of P² − 4 is −1. No composite is known that passes, and below
//! 2⁶⁴ there is none (J. Feitsma's list of the base 2 pseudoprimes, checked by D. Jacobsen).
//!
//! The Lucas chain with Q = 1 needs two multiplications for each bit, a third of what the general one needs;
//! that, and stopping between slices of the work, keeps the largest numbers from holding a core for long. The
//! tests hold this module against `crypto-primes`, which implements the general form.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Limb, NonZero, Odd};

/// Primes up to this are divided by, and numbers below its square are decided by that.
const SMALL_PRIME_LIMIT: u32 = 1_000;

/// So many squarings or multiplications are done between two looks at whether anybody still wants the answer:
/// some 3 ms at 4,096 bits.
const SLICE: u32 = 512;

/// A look for a Lucas base that takes longer than this is either very unlucky or looking at a square, for
/// which there is none.
const SUSPICIOUS_TRIES: u32 = 24;

/// The caller no longer wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

/// Tells whether `number` is a prime. `is_wanted` is asked every few milliseconds of work.
///
/// # Errors
/// [`Abandoned`] when `is_wanted` answered false.
pub fn is_prime(number: &BoxedUint, mut is_wanted: impl FnMut() -> bool) -> Result<bool, Abandoned> {
    if let Some(small) = to_small(number) {
        return Ok(is_small_prime(small));
    }
    let Some(odd) = Odd::new(number.clone()).into_option() else { return Ok(false) };
    if small_primes().any(|prime| remainder(number, prime) == 0) {
        return Ok(false);
    }
    let params = BoxedMontyParams::new_vartime(odd);
    let mut worker = Worker { params: &params, done: 0, is_wanted: &mut is_wanted };
    Ok(worker.is_strong_probable_prime_to_base_two()? && worker.is_extra_strong_lucas_probable_prime()?)
}

struct Worker<'a, F> {
    params: &'a BoxedMontyParams,
    done: u32,
    is_wanted: &'a mut F,
}

impl<F: FnMut() -> bool> Worker<'_, F> {
    /// Counts one multiplication, and at the end of a slice lets others run and asks whether to go on.
    fn count(&mut self) -> Result<(), Abandoned> {
        self.done += 1;
        if self.done.is_multiple_of(SLICE) {
            std::thread::yield_now();
            if !(self.is_wanted)() {
                return Err(Abandoned);
            }
        }
        Ok(())
    }

    /// Miller–Rabin to base 2: with n − 1 = d · 2^s, either 2^d = 1 or 2^(d · 2^r) = −1 for an r < s.
    fn is_strong_probable_prime_to_base_two(&mut self) -> Result<bool, Abandoned> {
        let modulus: &BoxedUint = self.params.modulus().as_ref();
        let one = BoxedMontyForm::one(self.params);
        let minus_one = one.neg();
        let less_one = modulus.wrapping_sub(BoxedUint::one_with_precision(modulus.bits_precision()));
        let twos = less_one.trailing_zeros_vartime();
        let exponent = less_one.wrapping_shr_vartime(twos);
        // The leading bit is the first 2; from there on each bit squares, and a set bit doubles.
        let mut power = one.double();
        for index in (0..exponent.bits_vartime() - 1).rev() {
            self.count()?;
            power = power.square();
            if exponent.bit_vartime(index) {
                power = power.double();
            }
        }
        if power == one || power == minus_one {
            return Ok(true);
        }
        for _ in 1..twos {
            self.count()?;
            power = power.square();
            if power == minus_one {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Extra strong Lucas: with n + 1 = d · 2^s, either U(d) = 0 and V(d) = ±2, or V(d · 2^r) = 0 for an
    /// r < s − 1.
    fn is_extra_strong_lucas_probable_prime(&mut self) -> Result<bool, Abandoned> {
        let modulus: &BoxedUint = self.params.modulus().as_ref();
        let Some(p) = lucas_base(modulus) else { return Ok(false) };
        let one = BoxedMontyForm::one(self.params);
        let two = one.double();
        let minus_two = two.neg();
        let p = BoxedMontyForm::new(small(p, modulus.bits_precision()), self.params);

        // n + 1 does not fit when n is all ones; (n − 1) / 2 + 1 is its half and does.
        let half = modulus
            .wrapping_shr_vartime(1)
            .wrapping_add(BoxedUint::one_with_precision(modulus.bits_precision()));
        let twos = half.trailing_zeros_vartime();
        let index = half.wrapping_shr_vartime(twos);

        // V(k) and V(k + 1), from k = 1 down the bits of d.
        let mut low = p.clone();
        let mut high = p.square().sub(&two);
        for bit in (0..index.bits_vartime() - 1).rev() {
            self.count()?;
            self.count()?;
            let middle = low.mul(&high).sub(&p);
            if index.bit_vartime(bit) {
                low = middle;
                high = high.square().sub(&two);
            } else {
                low = low.square().sub(&two);
                high = middle;
            }
        }
        // (P² − 4) · U(d) = 2 · V(d + 1) − P · V(d), and the factor has an inverse.
        if (low == two || low == minus_two) && high.double() == p.mul(&low) {
            return Ok(true);
        }
        for _ in 0..twos {
            if bool::from(low.is_zero()) {
                return Ok(true);
            }
            self.count()?;
            low = low.square().sub(&two);
        }
        Ok(false)
    }
}

/// The first P from 3 on whose P² − 4 is no square modulo `number`; none when that shows a composite.
///
/// `number` is odd and has no small factor.
fn lucas_base(number: &BoxedUint) -> Option<u32> {
    let mut p = 3;
    loop {
        match jacobi(p * p - 4, number) {
            -1 => return Some(p),
            // A factor in common with P² − 4, which is smaller than `number`.
            0 => return None,
            _ => p += 1,
        }
        if p == SUSPICIOUS_TRIES && number.checked_sqrt_vartime().is_some() {
            return None;
        }
    }
}

/// The Jacobi symbol of a small positive number over a large odd one.
fn jacobi(mut top: u32, bottom: &BoxedUint) -> i32 {
    let mut sign = 1;
    let bottom_mod_8 = remainder(bottom, 8);
    let twos = top.trailing_zeros();
    top >>= twos;
    if twos % 2 == 1 && (bottom_mod_8 == 3 || bottom_mod_8 == 5) {
        sign = -sign;
    }
    if top == 1 {
        return sign;
    }
    if top % 4 == 3 && bottom_mod_8 % 4 == 3 {
        sign = -sign;
    }
    sign * small_jacobi(remainder(bottom, top), top)
}

/// The Jacobi symbol by reciprocity; `bottom` is odd.
fn small_jacobi(mut top: u32, mut bottom: u32) -> i32 {
    let mut sign = 1;
    top %= bottom;
    while top != 0 {
        let twos = top.trailing_zeros();
        top >>= twos;
        if twos % 2 == 1 && (bottom % 8 == 3 || bottom % 8 == 5) {
            sign = -sign;
        }
        if top % 4 == 3 && bottom % 4 == 3 {
            sign = -sign;
        }
        (top, bottom) = (bottom % top, top);
    }
    if bottom == 1 { sign } else { 0 }
}

fn small_primes() -> impl Iterator<Item = u32> {
    (2..SMALL_PRIME_LIMIT).filter(|candidate| is_small_prime(*candidate))
}

/// Trial division; for numbers below the square of [`SMALL_PRIME_LIMIT`].
fn is_small_prime(number: u32) -> bool {
    number >= 2
        && (2..SMALL_PRIME_LIMIT)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// The number as 32 bits, when it is below the square of [`SMALL_PRIME_LIMIT`].
fn to_small(number: &BoxedUint) -> Option<u32> {
    // Zero may come with no words at all.
    let (low, high) = number.as_words().split_first().unwrap_or((&0, &[]));
    let low = u32::try_from(*low).ok().filter(|low| *low < SMALL_PRIME_LIMIT * SMALL_PRIME_LIMIT)?;
    high.iter().all(|word| *word == 0).then_some(low)
}

fn small(value: u32, bits_precision: u32) -> BoxedUint {
    let mut number = BoxedUint::zero_with_precision(bits_precision);
    if let Some(low) = number.as_mut_limbs().first_mut() {
        *low = Limb::from(value);
    }
    number
}

/// `number` modulo a small `divisor` that is not 0.
fn remainder(number: &BoxedUint, divisor: u32) -> u32 {
    let Some(divisor) = NonZero::new(Limb::from(divisor)).into_option() else { return 0 };
    u32::try_from(number.rem_limb(divisor).0).unwrap_or(0)
}
