//! Hashing PINs: argon2id, on blocking threads, a few at a time.
//!
//! A hash is made slow and large on purpose, so their number is bounded: `permits` run at once, a short queue
//! waits, and beyond it a log-in is refused immediately. **The process needs `permits × memory` for them on
//! top of everything else** (38 MiB by default: 2 × 19 MiB), and a container's memory limit has to cover it.
//! Hashing for operators never takes the last permit, so that issuing a thousand cards keeps nobody from
//! logging in.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{HashCost, Pin, PinHash};
use crate::pepper::Pepper;

/// Why a PIN was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashingError {
    /// All permits and the whole queue are taken.
    #[error("too many PINs are being hashed")]
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// Argon2 refused, for lack of memory or a cost that cannot be.
    #[error("argon2 failed")]
    Argon2(#[source] argon2::Error),
    /// The hasher panicked.
    #[error("hashing a PIN panicked")]
    Panicked,
}

/// How a PIN becomes a hash: a seam, so that tests can count, hold up or break it.
pub trait PinHasher: Send + Sync + 'static {
    /// Hashes `pin` under `pepper` and `salt` at this cost. Takes its time; never called on an async thread,
    /// except in a simulation.
    ///
    /// # Errors
    /// [`HashingError::Argon2`].
    fn hash(
        &self,
        pepper: &Pepper,
        pin: &Pin,
        salt: &[u8; 16],
        cost: HashCost,
    ) -> Result<[u8; 32], HashingError>;
}

/// The real one: argon2id, version 1.3 (RFC 9106), the pepper as its secret value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Argon2id;

impl PinHasher for Argon2id {
    fn hash(
        &self,
        pepper: &Pepper,
        pin: &Pin,
        salt: &[u8; 16],
        cost: HashCost,
    ) -> Result<[u8; 32], HashingError> {
        let mut hash = [0; 32];
        let params = Params::new(cost.memory_kib(), cost.passes(), cost.lanes(), Some(hash.len()))
            .map_err(HashingError::Argon2)?;
        let mut memory = memory(params.block_count())?;
        Argon2::new_with_secret(pepper.secret(), Algorithm::Argon2id, Version::V0x13, params)
            .and_then(|argon2| {
                argon2.hash_password_into_with_memory(pin.digits(), salt, &mut hash, &mut memory)
            })
            .map_err(HashingError::Argon2)?;
        Ok(hash)
    }
}

/// Blocks of which this many fill the 32 MiB up to which glibc may keep freed memory for its own use, once for
/// each of many threads: fifty hashes, two at a time, left a gigabyte behind. What is larger it maps and unmaps
/// (mallopt(3), `M_MMAP_THRESHOLD`). So that much is reserved, and only what is used becomes memory.
const ALWAYS_MAPPED: usize = 33 * 1024;

/// Hashes that use less than this, as in tests, leave nothing behind that matters.
const SMALL: usize = 1024;

/// Memory for one hash, which goes back to the operating system when it is dropped.
fn memory(blocks: usize) -> Result<Vec<Block>, HashingError> {
    let reserved = if blocks < SMALL { blocks } else { blocks.max(ALWAYS_MAPPED) };
    let mut memory = Vec::new();
    memory.try_reserve_exact(reserved).map_err(|_| HashingError::Argon2(argon2::Error::OutOfMemory))?;
    // In pieces, which are copied at once; `resize` writes block by block, slowly where it is not optimised.
    let zeros = [Block::default(); 64];
    while memory.len() < blocks {
        memory.extend_from_slice(&zeros[..zeros.len().min(blocks - memory.len())]);
    }
    Ok(memory)
}

/// How much is hashed at once.
#[derive(Clone)]
pub struct HashingConfig {
    /// What each hash of a new PIN costs.
    pub cost: HashCost,
    /// Hashes at once, at least 2: one of them is always left to log-ins.
    pub permits: usize,
    /// Log-ins that may wait for a permit.
    pub queue: usize,
    /// How it is done.
    pub hasher: Arc<dyn PinHasher>,
    /// Hash on the calling thread: only for simulations, whose time stands still while another thread works.
    pub inline: bool,
}

impl Default for HashingConfig {
    fn default() -> Self {
        Self { cost: HashCost::FLOOR, permits: 2, queue: 16, hasher: Arc::new(Argon2id), inline: false }
    }
}

/// When a refused log-in may come back: long enough for a full queue to be worked off at the default cost.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The only way to hash a PIN.
pub struct HashingPool {
    hashes: Arc<Hashes>,
    inline: bool,
    running: Arc<Semaphore>,
    /// One place for each log-in that runs or waits.
    log_ins: Arc<Semaphore>,
    operators: Arc<Semaphore>,
}

/// What a job on the pool hashes with.
pub struct Hashes {
    hasher: Arc<dyn PinHasher>,
    pepper: Pepper,
    cost: HashCost,
}

impl Hashes {
    /// Whether `pin` is the one behind `stored`. Without one it works just as hard and says no.
    ///
    /// # Errors
    /// [`HashingError`].
    pub fn verify(&self, pin: &Pin, stored: Option<&PinHash>) -> Result<bool, HashingError> {
        let (salt, cost) = stored.map_or((&[0; 16], self.cost), |stored| (&stored.salt, stored.cost));
        let hash = self.hasher.hash(&self.pepper, pin, salt, cost)?;
        Ok(stored.is_some_and(|stored| stored.equals(&hash)))
    }

    /// Hashes a new PIN.
    ///
    /// # Errors
    /// [`HashingError`].
    pub fn hash(&self, pin: &Pin, salt: [u8; 16]) -> Result<PinHash, HashingError> {
        let hash = self.hasher.hash(&self.pepper, pin, &salt, self.cost)?;
        Ok(PinHash { salt, hash, cost: self.cost })
    }
}

/// The right to hash on the pool; given back when the job is done, or when it is dropped unused.
pub struct Permit {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl HashingPool {
    /// A pool that hashes under `pepper`.
    pub fn new(config: HashingConfig, pepper: Pepper) -> Self {
        let permits = config.permits.max(2);
        Self {
            running: Arc::new(Semaphore::new(permits)),
            log_ins: Arc::new(Semaphore::new(permits.saturating_add(config.queue))),
            operators: Arc::new(Semaphore::new(permits - 1)),
            inline: config.inline,
            hashes: Arc::new(Hashes { hasher: config.hasher, pepper, cost: config.cost }),
        }
    }

    /// Waits in the short queue for a permit to verify a PIN.
    ///
    /// # Errors
    /// [`HashingError::Busy`] at once when the queue is full.
    pub async fn permit_for_log_in(&self) -> Result<Permit, HashingError> {
        let place = Arc::clone(&self.log_ins)
            .try_acquire_owned()
            .map_err(|_| HashingError::Busy { retry_after: RETRY_AFTER })?;
        self.permit(place).await
    }

    /// Waits for a permit to hash on behalf of an operator, of which there is one less.
    ///
    /// # Errors
    /// None in practice: the pool is never closed.
    pub async fn permit_for_operator(&self) -> Result<Permit, HashingError> {
        let place = Arc::clone(&self.operators).acquire_owned().await.map_err(|_| HashingError::Panicked)?;
        self.permit(place).await
    }

    async fn permit(&self, place: OwnedSemaphorePermit) -> Result<Permit, HashingError> {
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| HashingError::Panicked)?;
        Ok(Permit { _running: running, _place: place })
    }

    /// Runs `work` on a blocking thread. Once begun it is not stopped by dropping the future, and the permit
    /// is held until it has ended.
    ///
    /// # Errors
    /// What `work` answers, or [`HashingError::Panicked`].
    pub async fn run<T: Send + 'static>(
        &self,
        permit: Permit,
        work: impl FnOnce(&Hashes) -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        if self.inline {
            return work(&self.hashes);
        }
        let hashes = Arc::clone(&self.hashes);
        let job = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&hashes)
        });
        job.await.map_err(|_| HashingError::Panicked)?
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn pin(text: &str) -> Pin {
        Pin::parse(text.to_owned()).unwrap()
    }

    fn pool(permits: usize, queue: usize) -> HashingPool {
        let config = HashingConfig { cost: HashCost::CHEAPEST, permits, queue, ..HashingConfig::default() };
        HashingPool::new(config, Pepper::from_secret([7; 32]))
    }

    #[test]
    fn pepper_salt_and_pin_all_go_into_the_hash() {
        let hash = |pepper, text, salt| {
            let pepper = Pepper::from_secret([pepper; 32]);
            Argon2id.hash(&pepper, &pin(text), &[salt; 16], HashCost::CHEAPEST).unwrap()
        };
        let first = hash(1, "1234", 1);
        assert_eq!(first, hash(1, "1234", 1));
        for other in [hash(2, "1234", 1), hash(1, "1235", 1), hash(1, "1234", 2)] {
            assert_ne!(first, other);
        }
    }

    #[tokio::test]
    async fn only_the_right_pin_verifies_and_no_pin_verifies_where_there_is_none() {
        let pool = pool(2, 0);
        let permit = pool.permit_for_log_in().await.unwrap();
        let answers = pool
            .run(permit, |hashes| {
                let stored = hashes.hash(&pin("1234"), [3; 16])?;
                Ok([
                    hashes.verify(&pin("1234"), Some(&stored))?,
                    hashes.verify(&pin("4321"), Some(&stored))?,
                    hashes.verify(&pin("1234"), None)?,
                ])
            })
            .await;
        assert_eq!(answers.unwrap(), [true, false, false]);
    }

    #[tokio::test]
    async fn row_12_beyond_permits_and_queue_a_log_in_is_refused_without_waiting() {
        let pool = pool(2, 1);
        let first = pool.permit_for_log_in().await.unwrap();
        let _second = pool.permit_for_log_in().await.unwrap();
        let mut third = std::pin::pin!(pool.permit_for_log_in());
        assert!(poll!(&mut third).is_pending(), "one may wait");
        let mut fourth = std::pin::pin!(pool.permit_for_log_in());
        let refused = poll!(&mut fourth);
        assert!(matches!(refused, std::task::Poll::Ready(Err(HashingError::Busy { .. }))));
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn operators_leave_one_permit_to_log_ins() {
        let pool = pool(2, 0);
        let _operator = pool.permit_for_operator().await.unwrap();
        let mut another = std::pin::pin!(pool.permit_for_operator());
        assert!(poll!(&mut another).is_pending());
        assert!(pool.permit_for_log_in().await.is_ok());
    }

    #[tokio::test]
    async fn a_permit_comes_back_from_a_job_that_panics() {
        let pool = pool(2, 0);
        for _ in 0..5 {
            let permit = pool.permit_for_log_in().await.unwrap();
            let panicked = pool.run(permit, |_| -> Result<(), _> { panic!("planted") }).await;
            assert!(matches!(panicked, Err(HashingError::Panicked)));
        }
    }

    #[tokio::test]
    async fn a_cost_that_cannot_be_is_an_error_and_no_panic() {
        let pepper = Pepper::from_secret([1; 32]);
        let cost = HashCost::from_stored(1, 0, 0);
        assert!(matches!(Argon2id.hash(&pepper, &pin("1234"), &[0; 16], cost), Err(HashingError::Argon2(_))));
    }
}
