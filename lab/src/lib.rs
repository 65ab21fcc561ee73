//! The fault lab: real processes behind a network that fails on purpose, curves beside the theory, and a conformance
//! suite for anybody's ledger. Read docs/FAULT_LAB.md for what it is good for.
//!
//! - An experiment is a [`scenario`]; [`experiment`] runs it against a [`bank`] of real processes through
//!   `atm-fault-proxy`, with the real retry loop as the [`client`], and then looks at the [`books`].
//! - A point of it is a [`row`] of CSV. [`plot`] draws rows, and [`verdict`] compares them with [`theory`].
//! - [`conform`] asks any server that speaks the ledger's proto what it does about repeated, changed, late and lost
//!   calls.

pub mod bank;
pub mod binaries;
pub mod books;
pub mod cli;
pub mod client;
pub mod commands;
pub mod conform;
pub mod experiment;
pub mod plot;
pub mod process;
pub mod row;
pub mod scenario;
pub mod screen;
pub mod stats;
pub mod theory;
pub mod verdict;
