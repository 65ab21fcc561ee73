//! Sessions that end before their time.

use atm_types::Timestamp;

use super::{CardId, SessionId};

/// Which sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationTarget {
    /// This one.
    Session(SessionId),
    /// Every session of this card that was issued at or before the revocation's time.
    Card(CardId),
}

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which sessions end.
    pub target: RevocationTarget,
    /// When they were ended.
    pub revoke_time: Timestamp,
    /// From then on every session that it could concern has expired.
    pub relevant_until: Timestamp,
}
