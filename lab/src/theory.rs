//! What exactly-once should cost: expectations to lay measured curves beside. Derived in docs/FAULT_LAB.md.
//!
//! An attempt succeeds with probability s = (1 − p)(1 − q) and fails with f = 1 − s, independently of the others,
//! so the number of attempts N is geometric: P(N > k) = fᵏ. A failed attempt takes `failure`, then comes a pause
//! that is equally likely to be anything from 0 to m_k, then the next attempt; the last one takes `service`.

use fastrand::Rng;

/// How a client repeats, in milliseconds as they were run (already scaled).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resend {
    /// How long a silent attempt is waited for.
    pub attempt_timeout_ms: f64,
    /// The most that the first pause lasts; 0 for none.
    pub initial_backoff_ms: f64,
    /// The most that any pause lasts.
    pub max_backoff_ms: f64,
    /// How much longer the most grows from pause to pause.
    pub multiplier: f64,
}

impl Resend {
    /// The most that the pause after the failure number `k` (from 0) lasts.
    fn longest_pause(&self, k: i32) -> f64 {
        (self.initial_backoff_ms * self.multiplier.max(1.0).powi(k)).min(self.max_backoff_ms)
    }
}

/// How likely one attempt is answered.
pub fn success(lose_request: f64, lose_answer: f64) -> f64 {
    (1.0 - lose_request) * (1.0 - lose_answer)
}

/// The mean number of attempts: 1 / ((1 − p)(1 − q)).
pub fn attempts(success: f64) -> f64 {
    1.0 / success
}

/// The mean time to the answer: service + Σ fᵏ (failure + m₍ₖ₋₁₎ / 2) over k ≥ 1.
pub fn completion_ms(success: f64, resend: &Resend, failure_ms: f64, service_ms: f64) -> f64 {
    let failure = 1.0 - success;
    let (mut sum, mut reached) = (0.0, failure);
    // Terms fall like fᵏ; with f ≤ 0.999 what is cut off is below a millionth of the sum.
    for k in 0..20_000 {
        sum += reached * (failure_ms + resend.longest_pause(k) / 2.0);
        reached *= failure;
    }
    service_ms + sum
}

/// How far the waiting of single transactions lies from its mean, as a part of it (the coefficient of variation), taken
/// from drawn transactions. Without pauses it is 1 / √f; pauses that grow make rare long waits weigh more.
pub fn spread_of_waiting(success: f64, resend: &Resend, failure_ms: f64) -> f64 {
    let mut dice = Rng::with_seed(0);
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in 0..DRAWS {
        let (mut waited, mut failures) = (0.0, 0);
        while dice.f64() >= success {
            waited += failure_ms + resend.longest_pause(failures) * dice.f64();
            failures += 1;
        }
        sum += waited;
        squares += waited * waited;
    }
    let (mean, square) = (sum / f64::from(DRAWS), squares / f64::from(DRAWS));
    (square - mean * mean).sqrt() / mean
}

/// What is known when the deadline is over, as shares of all transactions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// An answer came in time.
    pub known: f64,
    /// None came, but a request had arrived: the money has moved.
    pub unknown_applied: f64,
    /// No request ever arrived.
    pub unknown_never: f64,
}

/// Draws over which means are taken; the standard error of a share is below 0.002.
const DRAWS: u32 = 100_000;

/// The shares at a deadline: an attempt counts if it begins at least `service_ms` before it.
///
/// The number of attempts K that fit depends on the pauses only, not on what is lost; so known = 1 − `E[fᴷ]`, and no
/// request arrived with probability `E[pᴷ]`. Without pauses K is a constant; with them the mean is taken over drawn
/// pauses, always the same ones.
pub fn shares(p: f64, q: f64, resend: &Resend, deadline_ms: f64, service_ms: f64) -> Shares {
    let failure = 1.0 - success(p, q);
    let unknown = expected_power(failure, resend, deadline_ms - service_ms);
    // What begins too late to be answered may still arrive.
    let unknown_never = expected_power(p, resend, deadline_ms);
    Shares { known: 1.0 - unknown, unknown_never, unknown_applied: (unknown - unknown_never).max(0.0) }
}

/// `E[xᴷ]`, where K is the number of attempts that begin before `limit_ms`.
fn expected_power(x: f64, resend: &Resend, limit_ms: f64) -> f64 {
    let mut dice = Rng::with_seed(0);
    let draws = if resend.initial_backoff_ms > 0.0 { DRAWS } else { 1 };
    let mut sum = 0.0;
    for _ in 0..draws {
        let (mut time, mut attempts) = (0.0, 0);
        while time < limit_ms {
            let pause = resend.longest_pause(attempts) * dice.f64();
            time += resend.attempt_timeout_ms + pause;
            attempts += 1;
        }
        sum += x.powi(attempts);
    }
    sum / f64::from(draws)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: Resend =
        Resend { attempt_timeout_ms: 1000.0, initial_backoff_ms: 0.0, max_backoff_ms: 0.0, multiplier: 1.0 };
    const BACKOFF: Resend = Resend {
        attempt_timeout_ms: 2000.0,
        initial_backoff_ms: 50.0,
        max_backoff_ms: 1000.0,
        multiplier: 2.0,
    };

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() <= 1e-6 * right.abs().max(1.0), "{left} is not {right}");
    }

    #[test]
    fn without_loss_one_attempt_is_enough_and_takes_as_long_as_the_service() {
        close(attempts(success(0.0, 0.0)), 1.0);
        close(completion_ms(1.0, &BACKOFF, 2000.0, 3.0), 3.0);
        assert_eq!(shares(0.0, 0.0, &BACKOFF, 10_000.0, 3.0).known, 1.0);
    }

    #[test]
    fn a_fixed_resend_costs_one_interval_for_each_attempt_but_the_last() {
        for (p, q) in [(0.3, 0.0), (0.3, 0.3), (0.9, 0.9)] {
            let success = success(p, q);
            close(completion_ms(success, &FIXED, 1000.0, 5.0), (attempts(success) - 1.0) * 1000.0 + 5.0);
        }
        close(attempts(success(0.9, 0.9)), 100.0);
    }

    #[test]
    fn a_backoff_costs_half_of_its_longest_pauses_which_grow_and_then_stay() {
        // By hand, for f = 1/2: pauses 25, 50, 100, 200, 400, then 500 for ever.
        let by_hand = 25.0 / 2.0 + 50.0 / 4.0 + 100.0 / 8.0 + 200.0 / 16.0 + 400.0 / 32.0 + 500.0 / 32.0;
        close(completion_ms(0.5, &BACKOFF, 0.0, 0.0), by_hand);
    }

    #[test]
    fn the_expectations_are_those_of_a_simulated_client() {
        let mut dice = Rng::with_seed(7);
        let (p, q, runs) = (0.5, 0.4, 200_000);
        let (mut time, mut count) = (0.0, 0.0);
        for _ in 0..runs {
            let mut k = 0;
            loop {
                count += 1.0;
                if dice.f64() >= p && dice.f64() >= q {
                    break;
                }
                time += 2000.0 + BACKOFF.longest_pause(k) * dice.f64();
                k += 1;
            }
        }
        let (time, count) = (time / f64::from(runs), count / f64::from(runs));
        let success = success(p, q);
        assert!((count / attempts(success) - 1.0).abs() < 0.01);
        assert!((time / completion_ms(success, &BACKOFF, 2000.0, 0.0) - 1.0).abs() < 0.01);
    }

    #[test]
    fn waits_spread_by_one_over_the_root_of_f_and_more_when_pauses_grow() {
        for failure in [0.3_f64, 0.9] {
            let spread = spread_of_waiting(1.0 - failure, &FIXED, 1000.0);
            assert!((spread * failure.sqrt() - 1.0).abs() < 0.03, "{spread} at {failure}");
            assert!(spread_of_waiting(1.0 - failure, &BACKOFF, 0.0) > 1.2 * spread);
        }
    }

    #[test]
    fn at_a_deadline_everything_is_known_moved_or_never_arrived() {
        // Five attempts of 1 s fit into 5 s, the last of which is too late to be answered if the service takes 1.5 s.
        let shares = shares(0.5, 0.5, &FIXED, 5000.0, 1500.0);
        close(shares.known, 1.0 - 0.75_f64.powi(4));
        close(shares.unknown_never, 0.5_f64.powi(5));
        close(shares.known + shares.unknown_never + shares.unknown_applied, 1.0);
    }
}
