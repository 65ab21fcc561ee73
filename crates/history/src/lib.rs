//! What was asked of a ledger and what it answered, and whether that can be true.
//!
//! A [`Recorder`] takes down every call with its place in time; with the ledger's own log ([`Step`], in commit order)
//! this is a [`History`]. Two judges hold it against the same plain [`Model`], which shares no code with the ledger:
//!
//! - [`Audit`] replays the log in the ledger's own order and then asks of every answer whether it is the one that the
//!   model gives at some moment between the call's beginning and its end. It takes millions of calls.
//! - [`linear::linearize`] knows nothing of the log and looks for *any* order that explains the answers. It takes
//!   small histories and any sequential specification; [`LedgerSpecification`] is ours.

mod answer;
mod ask;
mod audit;
mod history;
pub mod linear;
mod model;
mod recorder;
mod specification;
mod step;
mod text;
mod wire;

pub use answer::{AccountView, Answer, BalanceLine, Refused};
pub use ask::{Ask, Terms, Transfer};
pub use audit::{Audit, Finding, Rule};
pub use history::{Call, History, Unreadable};
pub use model::{Account, Effect, Expected, Leg, Model, Recorded, Totals};
pub use recorder::{Recorder, Ticket};
pub use specification::LedgerSpecification;
pub use step::{Balance, Decline, Entry, Kind, Outcome, State, Step};
pub use wire::{Malformed, Told, account_read, opened, refused, told, trial_balance};
