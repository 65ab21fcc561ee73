//! The cash device: what pays notes out, takes them in, and remembers by itself what it did.
//!
//! The terms are those of CEN/XFS (CWA 16926, parts CDM and CIM): cassettes are *cash units*; notes are *stacked*,
//! then *presented*; what cannot be presented is *rejected*, what nobody takes is *retracted*; what was paid in
//! waits in *escrow* until it is stored or rolled back. The flows speak to the trait [`CashDevice`] and to nothing
//! else about notes. Every command carries an id of the caller's. An id is obeyed once: a repeat finds what the
//! first one came to, and never pays again.
//!
//! [`Simulated`] is the device of this machine. Its memory is a file of its own, `dispenser.sqlite3`, which nobody
//! else writes: after a crash the journal asks and the device answers, and where they differ the device is right.

mod exchange;
mod fault;
mod notes;
mod plan;
mod simulated;
mod store;

use uuid::Uuid;

use crate::durable::DurableError;

pub(crate) use exchange::MOST_NOTES;
pub(crate) use fault::Fault;
pub(crate) use notes::{Notes, denominations, first_load};
pub(crate) use plan::{CannotPay, plan};
pub(crate) use simulated::Simulated;

/// Why the device did not obey.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// Its memory cannot be used.
    #[error(transparent)]
    Memory(#[from] DurableError),
    /// What it remembers does not add up.
    #[error("the cash device's memory makes no sense: {0}")]
    Damaged(String),
    /// The command cannot be obeyed now; nothing moved.
    #[error("the cash device cannot do that: {0}")]
    Refused(&'static str),
    /// Its power went; only in tests and simulations, since a real loss of power ends the process as well.
    #[error("the cash device lost its power")]
    PowerLost,
}

/// A place inside the device, or beside it, where notes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// What notes are paid out of.
    Cassettes,
    /// What was picked for the dispense that is under way.
    Stacker,
    /// In the moving shutter: nobody knows on which side until somebody looks.
    Shutter,
    /// Presented: the customer can take it.
    Exit,
    /// With customers. Negative when they brought more than they took.
    Customers,
    /// Picked and not presentable.
    Reject,
    /// Presented, not taken, and counted on the way back.
    Retract,
    /// Presented, not taken, and not counted on the way back.
    RetractUncounted,
    /// Paid in, counted, and not yet the bank's.
    Escrow,
    /// Paid in for good.
    Deposit,
    /// The bank's vault; negative, since everything came from there.
    Vault,
}

/// How far a dispense has come. Each step is in the device's memory before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The command was understood; no note has moved.
    Accepted,
    /// The notes left their cassettes.
    Picked,
    /// They are bundled behind the shutter.
    Stacked,
    /// The shutter began to move: until it has stopped nobody knows.
    Presenting,
    /// The customer has access to them.
    Presented,
    /// The customer took them all.
    Taken,
    /// Some or all were taken back.
    Retracted,
    /// All went to the reject bin; nothing was presented and nothing will be.
    Rejected,
}

/// What XFS calls the present status of the last dispense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresentStatus {
    Presented,
    NotPresented,
    Unknown,
}

/// A dispense as the device remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dispense {
    pub(crate) id: Uuid,
    pub(crate) step: Step,
    /// What it was told to pay out.
    pub(crate) planned: Notes,
    /// What it got together: less than planned after a short dispense.
    pub(crate) stacked: Notes,
    /// What went to the reject bin.
    pub(crate) rejected: Notes,
    /// What the customer had access to.
    pub(crate) presented: Notes,
    /// What was taken back and counted.
    pub(crate) retracted: Notes,
    /// Whether what was taken back could be counted.
    pub(crate) counted: bool,
}

impl Dispense {
    pub(crate) fn status(&self) -> PresentStatus {
        match self.step {
            Step::Accepted | Step::Picked | Step::Stacked | Step::Rejected => PresentStatus::NotPresented,
            Step::Presenting => PresentStatus::Unknown,
            Step::Presented | Step::Taken | Step::Retracted => PresentStatus::Presented,
        }
    }
}

/// What is paid in and not yet stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Escrow {
    /// The id under which it was counted in.
    pub(crate) id: Uuid,
    pub(crate) notes: Notes,
}

/// What the device counts in each of its places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CashUnits {
    pub(crate) cassettes: Notes,
    pub(crate) reject: Notes,
    pub(crate) retract: Notes,
    pub(crate) deposit: Notes,
    pub(crate) escrow: Notes,
    /// Notes of dispenses of which the device does not know where they are.
    pub(crate) unknown: Notes,
}

/// What somebody found who opened the device to look for notes that it had lost track of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Found at the shutter, now in the reject bin.
    pub(crate) rejected: Notes,
    /// Found uncounted in the retract bin, now counted there.
    pub(crate) retracted: Notes,
}

/// A dispense, and what was found by whoever looked for its notes; nothing before somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) dispense: Dispense,
    pub(crate) found: Option<Found>,
}

/// A bin that operators empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bin {
    Cassettes,
    Reject,
    Retract,
    Deposit,
}

/// A device that pays notes out and takes them in.
pub(crate) trait CashDevice: Send {
    /// The number that tells this device from every other.
    fn serial(&self) -> Uuid;

    /// Makes sure that it has the room on its disk which it needs until the end of a transaction.
    fn has_room(&mut self) -> bool;

    /// What it counts.
    fn cash_units(&self) -> Result<CashUnits, DeviceError>;

    /// Brings the notes of `plan` together behind the shutter (XFS: DISPENSE). What jams or is short goes to the
    /// reject bin; the answer says what became of it.
    fn dispense(&mut self, id: Uuid, plan: &Notes) -> Result<Dispense, DeviceError>;

    /// Gives the customer access to what is stacked (PRESENT).
    fn present(&mut self, id: Uuid) -> Result<Dispense, DeviceError>;

    /// Waits until the customer took what was presented, and takes back what is left (RETRACT).
    fn collect(&mut self, id: Uuid) -> Result<Dispense, DeviceError>;

    /// Puts what was not presented into the reject bin (REJECT). Nothing of this dispense comes out any more.
    fn reject(&mut self, id: Uuid) -> Result<Dispense, DeviceError>;

    /// What became of a dispense, or nothing if the device was never told of it.
    fn recall(&self, id: Uuid) -> Result<Option<Dispense>, DeviceError>;

    /// Everything that it was ever told to pay out.
    fn history(&self) -> Result<Vec<Remembered>, DeviceError>;

    /// Somebody looks for the notes of a dispense that the device lost track of (RESET): what is found goes to a bin
    /// and is counted. What the device said of the dispense before, it goes on saying.
    fn look(&mut self, id: Uuid) -> Result<Found, DeviceError>;

    /// Counts what a customer pays in, into escrow (CASH IN).
    fn cash_in(&mut self, id: Uuid, notes: &Notes) -> Result<(), DeviceError>;

    /// What is in escrow.
    fn escrow(&self) -> Result<Option<Escrow>, DeviceError>;

    /// Stores what is in escrow under this id in the deposit box (CASH IN END); nothing happens when it is not there.
    fn store(&mut self, id: Uuid) -> Result<(), DeviceError>;

    /// Hands what is in escrow under this id back (CASH IN ROLLBACK); nothing happens when it is not there.
    fn roll_back(&mut self, id: Uuid) -> Result<(), DeviceError>;

    /// Operators put notes into the cassettes.
    fn load(&mut self, id: Uuid, notes: &Notes) -> Result<(), DeviceError>;

    /// Operators take everything out of a bin; says what it was.
    fn unload(&mut self, id: Uuid, bin: Bin) -> Result<Notes, DeviceError>;

    /// Operators set the counter of a bin to what they counted by hand; says what it was before.
    fn recount(&mut self, id: Uuid, bin: Bin, counted: &Notes) -> Result<Notes, DeviceError>;

    /// What is to go wrong with the next dispense; [`Fault::None`] takes it back.
    fn set_fault(&mut self, fault: Fault) -> Result<(), DeviceError>;
}

#[cfg(test)]
mod tests;
