//! Cards, PINs, attempts, sessions and machines as plain values and rules: no I/O, no time, no randomness.

mod attempt;
mod boot;
mod card;
mod ids;
mod lockout;
mod order;
mod revocation;
mod secrets;
mod session;
mod terminal;

pub use attempt::{Attempt, Outcome, REMEMBERED, Tag, replay};
pub use boot::{Boot, BootError, BootMark, SignOn, may_serve, sign_on};
pub use card::{Card, CardToIssue, HashCost, HashCostError, Issued, LastFour, PinHash, Verdict, issue};
pub use ids::{AtmId, AtmIdError, BootId, CardId, NumberKey, OrderId, SessionId};
pub use lockout::{MAX_WRONG_PINS, WrongPins};
pub use order::{DoneOrder, Order};
pub use revocation::{Revocation, RevocationTarget};
pub use secrets::{CardNumber, CardNumberError, Pin, PinError};
pub use session::{LONGEST_SESSION, Session};
pub use terminal::Terminal;
