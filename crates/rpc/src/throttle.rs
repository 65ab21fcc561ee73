//! The retry budget of one server, after gRPC A6 ("Throttling Retry Attempts and Hedged RPCs"): when a
//! server fails, everybody stops retrying before their retries are what keeps it down.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much retrying a server's failures allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottleConfig {
    /// Tokens in a full bucket, 1 to 1000. A retryable failure costs one; below half there are no retries.
    pub max_tokens: u32,
    /// Thousandths of a token that a success gives back, so 100 allows one retry in ten calls in the long run.
    pub milli_tokens_per_success: u32,
    /// What the jitter of backoffs follows from; `None` for one that nobody knows.
    pub seed: Option<u64>,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self { max_tokens: 10, milli_tokens_per_success: 100, seed: None }
    }
}

/// The tokens of one server, shared by everybody in this process who calls it. Starts full.
pub struct Throttle {
    milli_tokens: AtomicU32,
    full: u32,
    milli_tokens_per_success: u32,
    jitter: Mutex<fastrand::Rng>,
}

const FAILURE_COST: u32 = 1000;

impl Throttle {
    /// A full bucket.
    pub fn new(config: ThrottleConfig) -> Self {
        let full = config.max_tokens.clamp(1, 1000) * 1000;
        Self {
            milli_tokens: AtomicU32::new(full),
            full,
            milli_tokens_per_success: config.milli_tokens_per_success,
            jitter: Mutex::new(config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
        }
    }

    /// Gives back part of a token.
    pub fn on_success(&self) {
        // Nearly always full: look before writing to a line that other cores share.
        if self.milli_tokens.load(Ordering::Relaxed) < self.full {
            self.change(|tokens| tokens.saturating_add(self.milli_tokens_per_success).min(self.full));
        }
    }

    /// Takes a token for a failure that could be retried.
    pub fn on_failure(&self) {
        self.change(|tokens| tokens.saturating_sub(FAILURE_COST));
    }

    /// Whether more than half of the tokens are left.
    pub fn allows_retry(&self) -> bool {
        self.milli_tokens.load(Ordering::Relaxed) > self.full / 2
    }

    /// A duration between zero and `most`, all equally likely ("full jitter").
    pub(crate) fn jitter(&self, most: Duration) -> Duration {
        let fraction = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).f64();
        most.mul_f64(fraction)
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        let mut tokens = self.milli_tokens.load(Ordering::Relaxed);
        while let Err(now) = self.milli_tokens.compare_exchange_weak(
            tokens,
            change(tokens),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            tokens = now;
        }
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(ThrottleConfig::default())
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milli_tokens = self.milli_tokens.load(Ordering::Relaxed);
        formatter.debug_struct("Throttle").field("milli_tokens", &milli_tokens).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket() -> Throttle {
        Throttle::new(ThrottleConfig { max_tokens: 10, milli_tokens_per_success: 100, seed: Some(1) })
    }

    #[test]
    fn retries_stop_when_half_of_the_tokens_are_gone() {
        let throttle = bucket();
        for failures in 0..5 {
            assert!(throttle.allows_retry(), "after {failures} failures");
            throttle.on_failure();
        }
        assert!(!throttle.allows_retry(), "exactly half is not above half");
    }

    #[test]
    fn successes_bring_retries_back_slowly() {
        let throttle = bucket();
        (0..1000).for_each(|_| throttle.on_failure());
        (0..50).for_each(|_| throttle.on_success());
        assert!(!throttle.allows_retry());
        throttle.on_success();
        assert!(throttle.allows_retry());
    }

    #[test]
    fn successes_never_overfill_the_bucket() {
        let throttle = bucket();
        (0..1000).for_each(|_| throttle.on_success());
        (0..5).for_each(|_| throttle.on_failure());
        assert!(!throttle.allows_retry());
    }

    #[test]
    fn concurrent_failures_are_all_counted() {
        let throttle = Throttle::new(ThrottleConfig { max_tokens: 1000, ..ThrottleConfig::default() });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..125).for_each(|_| throttle.on_failure()));
            }
        });
        assert!(!throttle.allows_retry(), "500 of 1000 tokens are gone");
        (0..10).for_each(|_| throttle.on_success());
        assert!(throttle.allows_retry(), "not one more than 500 are gone");
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bound(seed: u64, millis in 0_u64..100_000) {
            let most = Duration::from_millis(millis);
            let throttle = Throttle::new(ThrottleConfig { seed: Some(seed), ..ThrottleConfig::default() });
            prop_assert!(throttle.jitter(most) <= most);
        }

        #[test]
        fn in_an_outage_the_retries_are_bounded_whatever_the_history(successes in prop::collection::vec(any::<bool>(), 0..500)) {
            let throttle = bucket();
            for success in successes {
                if success { throttle.on_success() } else { throttle.on_failure() }
            }
            let mut retries = 0;
            while throttle.allows_retry() {
                throttle.on_failure();
                retries += 1;
            }
            prop_assert!(retries <= 5);
        }
    }
}
