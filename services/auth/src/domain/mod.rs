//! Cards, PINs, attempts and sessions as plain values and rules: no I/O, no time, no randomness.

mod attempt;
mod card;
mod ids;
mod lockout;
mod revocation;
mod secrets;
mod session;

pub use attempt::{Attempt, Outcome, REMEMBERED, Tag, replay};
pub use card::{Card, CardToIssue, HashCost, HashCostError, Issued, LastFour, PinHash, Verdict, issue};
pub use ids::{AtmId, AtmIdError, CardId, NumberKey, SessionId};
pub use lockout::{MAX_WRONG_PINS, WrongPins};
pub use revocation::{Revocation, RevocationTarget};
pub use secrets::{CardNumber, CardNumberError, Pin, PinError};
pub use session::{LONGEST_SESSION, Session};
