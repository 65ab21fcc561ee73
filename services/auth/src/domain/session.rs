//! What a session says of itself.

use std::time::Duration;

use atm_types::{AccountId, TerminalId, Timestamp};

use super::{AtmId, CardId, SessionId};

/// No session is opened for longer than this. Whoever keeps revocations can rely on it.
pub const LONGEST_SESSION: Duration = Duration::from_secs(15 * 60);

/// A session: who may act on which account, at which machine, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's own id, by which it is ended.
    pub session_id: SessionId,
    /// The card that opened it.
    pub card_id: CardId,
    /// The ledger account behind the card.
    pub account_id: AccountId,
    /// The machine that it works at.
    pub atm_id: AtmId,
    /// The terminal that it works at.
    pub terminal_id: TerminalId,
    /// When it was opened.
    pub issue_time: Timestamp,
    /// When it ends by itself.
    pub expire_time: Timestamp,
}
