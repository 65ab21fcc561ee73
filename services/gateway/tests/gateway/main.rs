//! The gateway over real gRPC, with fake auth and ledger behind it: who gets in, what is handed on, and what
//! comes back. The names of tests that prove a row of security.md begin with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so where it stands")]

mod admin;
mod money;
mod sessions;
mod support;
mod text;
mod upstream;
mod wire;
