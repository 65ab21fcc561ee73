//! The auth service over real gRPC, RPC by RPC and row by row of the security table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may stop where it is")]

mod bank;
mod boots;
mod cards;
mod guessing;
mod log_in;
mod restart;
mod revocations;
mod strangers;
