//! The ledger over real gRPC, method by method, and the rows of the table of bad inputs that concern it.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod audit;
mod batch;
mod deadlines;
mod limits;
mod reads;
mod restore;
mod security;
mod suspense;
mod transactions;
mod watch;
