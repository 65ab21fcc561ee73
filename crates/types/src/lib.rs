//! Ids, money, clocks and id sources: the words every other crate speaks.
//!
//! Nothing here does I/O except [`SystemClock`] and [`SystemIds`], which are the only two places in the
//! whole workspace that read the real time and real randomness. Everything else takes a `&dyn Clock` or a
//! `&dyn IdSource`, so that a test or a simulation decides what they say.

mod clock;
mod id_source;
mod ids;
mod money;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use id_source::{IdSource, SeededIds, SystemIds};
pub use ids::{AccountId, AttemptId, IdError, TerminalId, TransactionId, TransactionIdKind};
pub use money::{Currency, Money, MoneyError};
