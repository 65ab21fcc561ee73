//! The auth service: cards, PINs, lockout and sessions.
//!
//! [`run`] is the whole service. A request goes `grpc` → a use case (`attempts`, `cards`, `revocations`, `terminals`) →
//! `domain` for the rules and [`storage`] for what is kept; PINs are hashed in [`hashing`] and nowhere else, and what
//! operators order counts once by `orders`.
//! What one must know before changing anything: an outcome is committed before it is answered, a card number
//! is stored nowhere, and a stranger cannot tell an unknown card from a wrong PIN.

mod attempts;
mod auth;
mod card_locks;
mod cards;
pub mod config;
pub mod domain;
mod failure;
mod grpc;
pub mod hashing;
mod orders;
pub mod pepper;
mod revocations;
mod service;
pub mod session;
pub mod storage;
mod terminals;

use std::sync::Arc;

use atm_rpc::network::Listener;
use atm_types::{Clock, IdSource};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use service::{Error, Service};

/// Serves on `listener` until `shutdown` is cancelled and the calls in flight have ended.
///
/// # Errors
/// [`Error`]: why it did not start, or that its storage failed, after which it has to be started again.
pub async fn run(
    listener: impl Listener,
    config: Config,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    Service::open(config, clock, ids).await?.serve(listener, shutdown).await
}
