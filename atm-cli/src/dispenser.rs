//! The seam where the cash device will sit.
//!
//! The withdrawal flow speaks to a [`Dispenser`] and to nothing else about notes. It journals DISPENSING before it
//! calls [`Dispenser::dispense`] and PRESENTED after it, and after a crash in between it believes
//! [`Dispenser::status`], because only the device knows what came out.

use atm_types::Money;
use uuid::Uuid;

/// How a dispense ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dispensed {
    /// The customer had access to this much.
    Presented(Money),
    /// Nothing came out, and nothing will under this id.
    NotPresented,
    /// The device does not know.
    Unknown,
}

/// A device that pays out notes.
pub(crate) trait Dispenser {
    /// Pays out `amount` under `dispense_id`, which is used once only.
    fn dispense(&mut self, dispense_id: Uuid, amount: Money) -> Dispensed;

    /// What became of a dispense that a crash interrupted: `amount` is what was asked for.
    fn status(&self, dispense_id: Uuid, amount: Money) -> Dispensed;
}

/// No device: the cash counts as presented the moment it is asked for.
///
/// It has no memory of its own, so a dispense counts as having happened once PRESENTED is in the journal, and
/// not before: whatever a crash finds in DISPENSING was not presented. Since there are no notes, that is
/// the truth by definition; with a real device it would not be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CountsAsPresented;

impl Dispenser for CountsAsPresented {
    fn dispense(&mut self, _dispense_id: Uuid, amount: Money) -> Dispensed {
        Dispensed::Presented(amount)
    }

    fn status(&self, _dispense_id: Uuid, _amount: Money) -> Dispensed {
        Dispensed::NotPresented
    }
}
