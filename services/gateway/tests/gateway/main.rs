//! The gateway over real gRPC, first with fake auth and ledger behind it — who gets in, what is handed on,
//! what comes back, and what happens when they fail — and then with the real ones (`bank`, `operators`, `places`,
//! `suspects`). The names of tests that prove a row of security.md begin with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so where it stands")]

mod admin;
mod bank;
mod boots;
mod cash;
mod money;
mod operators;
mod places;
mod sessions;
mod support;
mod suspects;
mod text;
mod upstream;
mod wire;
