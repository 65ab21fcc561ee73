//! The whole system on one thread: the real cash machine, gateway, auth and ledger and their gRPC, under a seeded
//! clock, network, disks and cash device.
//!
//! A seed means a [`plan::Plan`]; [`world::run`] carries it out; what is found afterwards is [`evidence::Evidence`], and
//! [`check`] says what of it must not be.

pub mod check;
pub mod cli;
pub mod evidence;
pub mod exhaustive;
pub mod plan;
pub mod planted;
pub mod run;
pub mod situations;
pub mod trace;
pub mod world;
