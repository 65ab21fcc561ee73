//! What all use cases share. Each of them has a file of its own: [`crate::attempts`], [`crate::cards`],
//! [`crate::revocations`], [`crate::terminals`].

use std::sync::Arc;
use std::time::Duration;

use atm_rpc::telemetry;
use atm_types::{Clock, IdSource};
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use crate::card_locks::CardLocks;
use crate::config::Limits;
use crate::domain::Revocation;
use crate::failure::Failure;
use crate::hashing::HashingPool;
use crate::pepper::Keys;
use crate::session::SessionKey;
use crate::storage::Store;

/// Revocations that a watcher may lag behind before it is told to subscribe again.
const REVOCATIONS_IN_FLIGHT: usize = 1024;

/// The auth service, apart from gRPC.
pub(crate) struct Auth {
    pub(crate) store: Store,
    pub(crate) pool: HashingPool,
    pub(crate) keys: Keys,
    pub(crate) session_key: SessionKey,
    pub(crate) session_lifetime: Duration,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) locks: CardLocks,
    pub(crate) news: broadcast::Sender<Revocation>,
    /// Work that has begun and must end, whoever still waits for it.
    pub(crate) begun: TaskTracker,
}

/// What [`Auth::new`] cannot make up by itself.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) pool: HashingPool,
    pub(crate) keys: Keys,
    pub(crate) session_key: SessionKey,
    pub(crate) session_lifetime: Duration,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

impl Auth {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            pool: parts.pool,
            keys: parts.keys,
            session_key: parts.session_key,
            session_lifetime: parts.session_lifetime,
            limits: parts.limits,
            clock: parts.clock,
            ids: parts.ids,
            locks: CardLocks::default(),
            news: broadcast::Sender::new(REVOCATIONS_IN_FLIGHT),
            begun: TaskTracker::new(),
        }
    }

    /// Runs `work` to its end even if the caller goes away meanwhile. Otherwise a client could begin
    /// something, such as a verification, and undo its cost by hanging up.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let task = match telemetry::current() {
            Some(trace) => self.begun.spawn(telemetry::scope(trace, work)),
            None => self.begun.spawn(work),
        };
        task.await.map_err(|_| Failure::Panicked)?
    }
}
