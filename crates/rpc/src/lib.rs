//! What gRPC leaves to its users, and nothing about banking.
//!
//! On the way in, [`server::serve`] puts each call through the same layers: the trace it belongs to
//! ([`trace`]), a net for panics ([`panics`]), the caller's deadline ([`deadline`]), the cap on open
//! streams ([`streams`]) and admission by priority ([`admission`]). On the way out, [`retry::retry`] spends what is
//! left of the deadline on attempts over a [`channel`], within the budget of a [`throttle`].
//!
//! Time is `tokio::time`, which tests can pause; ids and randomness come from an `atm_types::IdSource`.

pub mod admission;
pub mod channel;
mod connection;
pub mod credentials;
pub mod deadline;
pub mod high_water;
pub mod limits;
pub mod network;
pub mod panics;
pub mod process;
pub mod reserve;
pub mod retry;
pub mod server;
pub mod status;
pub mod streams;
pub mod telemetry;
pub mod throttle;
pub mod trace;
