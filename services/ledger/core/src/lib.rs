//! The ledger's decisions, and nothing else.
//!
//! [`decide`] is a pure and total function: from the [`State`] and a [`Command`], at a given [`Moment`], it
//! says what is recorded, what was recorded before, or why nothing is. [`State::apply`] folds a recorded
//! [`Step`] into the state; live decisions, start-up replay and verification all go through it, so they
//! cannot disagree. There is no I/O here, no clock, no randomness and no logging: whoever calls brings them.
//!
//! The words, in the order in which money meets them:
//!
//! - A [`Command`] asks for something under an id that its caller minted.
//! - A [`Step`] is what was recorded for it: at most five on one id (a hold, its release, its suspension,
//!   the resolution, a late capture). Steps never change, and each has the next number of the ledger's one
//!   total order.
//! - A [`Leg`] is one side of a step: what it changed on one account. Every step that moves or holds money
//!   has one debit leg, and credit legs that add up to it: one, or two where a suspense account takes part.
//! - A [`Refusal`] leaves no trace: the command contradicts what is recorded, or is not well formed. A
//!   *decline* is another thing: it is a step, recorded like any other, and replayed for ever.

mod account;
mod at_hand;
mod command;
mod decide;
mod evaluate;
mod refusal;
mod state;
mod step;
mod transaction;

pub use account::{Account, AccountKind, AccountTerms, Balance, Side, Totals, Withdrawn};
pub use command::{
    Authorization, Capture, Command, Hold, LIFETIME_DEFAULT, LIFETIME_MAX, LIFETIME_MIN, Resolve, Suspend,
    Transfer,
};
pub use decide::{Decision, Moment, decide};
pub use refusal::Refusal;
pub use state::{Inconsistency, State};
pub use step::{Action, Decline, DeclineReason, EntryRef, Leg, Resolution, Step, StepKind};
pub use transaction::{Transaction, TransactionState};
