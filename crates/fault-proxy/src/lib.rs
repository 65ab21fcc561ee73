//! A proxy for gRPC over HTTP/2 that makes a network fail on purpose, and the same way again from the same seed.
//!
//! It stands between any gRPC client and any gRPC server, knows nothing of their messages, and decides about each
//! call: lose the request, lose the answer after the call took effect, forward it twice, delay either way, hold it
//! back until later calls have overtaken it, cut the connection, or let the connection go dark. [`Rule`]s say which
//! calls are meant and how often; [`Policy`] draws from the seed; [`Counters`] tell what was done.
//!
//! Connections come in through any [`Listener`](atm_rpc::network::Listener) and go out through any
//! [`Connect`](atm_rpc::network::Connect), and all waiting is done with tokio's clock, so the same proxy stands in a
//! simulated network and in a real one ([`Tcp`]).
//!
//! # What a fault does to a call
//! A call that no fault strikes is passed on frame by frame, streams in both directions included, and its
//! cancellation by the client reaches the server. A call that a fault strikes is read to the end of its request
//! first and then lives on without its client, as a packet does on a network: a request that was delayed beyond its
//! caller's patience still arrives. A call whose request never ends, as in a conversation of two streams, is
//! therefore not for rules with faults.

mod call;
mod counters;
mod glob;
mod policy;
mod proxy;
mod rules;
mod span;
mod stream;
mod tcp;
mod upstream;
mod witness;

pub use counters::{Counters, Fault, MethodCounters};
pub use glob::Glob;
pub use policy::{End, Fate, Policy};
pub use proxy::{Proxy, ProxyError};
pub use rules::{Break, Calls, Delay, DelayLength, Heard, Moment, Reorder, Rule, RuleError, Rules, Window};
pub use span::Span;
pub use tcp::Tcp;
pub use upstream::Keepalive;
pub use witness::{Answered, Witness};
