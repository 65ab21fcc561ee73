//! Operators' orders count once: the network may deliver a copy of one much later, when the contrary was ordered.

use atm_types::Timestamp;

use crate::domain::{DoneOrder, Order, OrderId};
use crate::failure::Failure;
use crate::storage::{Rows, StorageError};

/// What an order came to.
pub(crate) enum Given<T> {
    /// It was carried out now.
    Now(DoneOrder, T),
    /// It was carried out before; nothing changed.
    Before(DoneOrder),
    /// The id belongs to another order; nothing changed.
    Reused,
}

/// What carrying out an order did: to how many cards or machines, when, and what else the caller has to know.
pub(crate) struct Effect<T> {
    pub(crate) affected: u64,
    pub(crate) time: Timestamp,
    pub(crate) more: T,
}

/// Carries an order out unless that was done before, and records it in the same transaction.
pub(crate) fn once<T>(
    rows: &mut dyn Rows,
    id: OrderId,
    order: Order,
    carry_out: impl FnOnce(&mut dyn Rows) -> Result<Effect<T>, StorageError>,
) -> Result<Given<T>, StorageError> {
    if let Some(done) = rows.order(id)? {
        return Ok(if done.order == order { Given::Before(done) } else { Given::Reused });
    }
    let Effect { affected, time, more } = carry_out(rows)?;
    let done = DoneOrder { id, order, affected, time };
    rows.put_order(&done)?;
    Ok(Given::Now(done, more))
}

impl<T> Given<T> {
    /// The order, with what the caller has to do about it if it was carried out now.
    ///
    /// # Errors
    /// [`Failure::OrderIdReused`].
    pub(crate) fn done(self) -> Result<(DoneOrder, Option<T>), Failure> {
        match self {
            Self::Now(done, more) => Ok((done, Some(more))),
            Self::Before(done) => Ok((done, None)),
            Self::Reused => Err(Failure::OrderIdReused),
        }
    }
}
