//! The auth service over real gRPC, RPC by RPC and row by row of the security table.

mod bank;
mod cards;
mod guessing;
mod log_in;
mod restart;
mod revocations;
mod strangers;
