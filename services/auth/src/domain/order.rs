//! What operators order. Each order has an id and is carried out once, however often it arrives.

use atm_types::Timestamp;

use super::{AtmId, NumberKey, OrderId};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Block the card with this number.
    BlockCard(NumberKey),
    /// Unblock it.
    UnblockCard(NumberKey),
    /// Forget the recorded start of this machine, so that the next one to sign on is let in.
    ForgetStart(AtmId),
    /// The same for all machines.
    ForgetAllStarts,
    /// Take this machine's name from its terminal, so that it is nobody's.
    ReleaseTerminal(AtmId),
}

/// An order that was carried out, or of which it turned out that there is nothing to do it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneOrder {
    /// Made by the operator's program for this order.
    pub id: OrderId,
    /// What was to be done.
    pub order: Order,
    /// How many cards or machines it was done to; 0 when there was none.
    pub affected: u64,
    /// When. For a block: every session that was issued at or before is over.
    pub time: Timestamp,
}
