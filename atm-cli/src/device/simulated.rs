//! The simulated device: what each command does, one durable step after the other.
//!
//! What its memory says is what happened: a note moves in the same write that records the step. Between any two
//! writes the power may go. One case is not decided by memory alone, as in a real device: while the shutter moves
//! (`presenting`) the notes may be on either side, and the device says `unknown` until somebody has looked.

use std::path::Path;

use atm_types::{Currency, IdSource};
use rusqlite::params;
use uuid::Uuid;

use super::store::{self, Remembered, Store, move_notes, write_dispense};
use super::{
    Bin, CashDevice, CashUnits, DeviceError, Dispense, Escrow, Fault, Found, Notes, Place, PresentStatus,
    Step,
};
use crate::crash::{self, crash_point};
use crate::durable::SimulatedDisk;
use crate::simulation::DeviceEvidence;

pub(crate) struct Simulated {
    pub(super) store: Store,
    /// What happens when the power goes.
    power_lost: fn() -> DeviceError,
}

impl Simulated {
    /// The device whose memory is in this directory, which is locked; a new one, empty, if there is none. When its
    /// power goes, the process ends.
    pub(crate) fn open(
        directory: &Path,
        currency: Currency,
        ids: &dyn IdSource,
    ) -> Result<Self, DeviceError> {
        Ok(Self { store: Store::open(directory, currency, ids)?, power_lost: || crash::die() })
    }

    /// The same on a simulated disk. When its power goes, `power_lost` is called.
    pub(crate) fn open_on(
        disk: &SimulatedDisk,
        currency: Currency,
        ids: &dyn IdSource,
        power_lost: fn() -> DeviceError,
    ) -> Result<Self, DeviceError> {
        Ok(Self { store: Store::open_on(disk, currency, ids)?, power_lost })
    }

    /// What a simulated device remembers, whoever has it open.
    pub(crate) fn evidence(disk: &SimulatedDisk) -> Result<DeviceEvidence, DeviceError> {
        store::evidence(disk)
    }

    /// The same, but when its power goes its command fails and the process lives.
    #[cfg(test)]
    pub(crate) fn open_for_tests(directory: &Path) -> Self {
        let ids = atm_types::SeededIds::new(5);
        let store = Store::open(directory, Currency::BDT, &ids).unwrap();
        Self { store, power_lost: || DeviceError::PowerLost }
    }

    pub(crate) fn currency(&self) -> Currency {
        self.store.currency
    }

    /// What is to go wrong next.
    pub(crate) fn fault(&self) -> Result<Fault, DeviceError> {
        self.store.next_fault()
    }

    fn remembered(&self, id: Uuid) -> Result<Remembered, DeviceError> {
        self.store.dispense(id)?.ok_or(DeviceError::Refused("it was never told of this dispense"))
    }

    /// Writes one step with the movement of notes that it is, and loses its power after it if it was told to.
    fn step(
        &mut self,
        remembered: &Remembered,
        movements: &[(Place, Place, &Notes)],
    ) -> Result<(), DeviceError> {
        let step = remembered.dispense.step;
        before(step);
        self.store.write(|transaction| {
            for (from, to, notes) in movements {
                move_notes(transaction, *from, *to, notes)?;
            }
            write_dispense(transaction, remembered)
        })?;
        after(step);
        if remembered.fault.takes_the_power_after(step) { Err((self.power_lost)()) } else { Ok(()) }
    }

    /// All that was picked goes to the reject bin.
    fn give_up(&mut self, mut remembered: Remembered, picked: &Notes) -> Result<Dispense, DeviceError> {
        remembered.dispense.step = Step::Rejected;
        remembered.dispense.stacked = Notes::none();
        remembered.dispense.rejected.add_all(picked);
        self.step(&remembered, &[(Place::Stacker, Place::Reject, picked)])?;
        Ok(remembered.dispense)
    }

    fn accept(&mut self, id: Uuid, plan: &Notes) -> Result<Remembered, DeviceError> {
        if plan.is_empty() || self.store.notes_in(Place::Cassettes)?.less(plan).is_none() {
            return Err(DeviceError::Refused("these notes are not in the cassettes"));
        }
        // The way must be free: what an earlier dispense left at the shutter goes to a bin first.
        for earlier in self.store.unfinished()? {
            match earlier.dispense.status() {
                PresentStatus::NotPresented => drop(self.reject(earlier.dispense.id)?),
                PresentStatus::Presented if earlier.dispense.step == Step::Presented => {
                    drop(self.collect(earlier.dispense.id)?);
                }
                PresentStatus::Presented => {}
                PresentStatus::Unknown => drop(self.look(earlier.dispense.id)?),
            }
        }
        let remembered = Remembered {
            dispense: Dispense {
                id,
                step: Step::Accepted,
                planned: plan.clone(),
                stacked: Notes::none(),
                rejected: Notes::none(),
                presented: Notes::none(),
                retracted: Notes::none(),
                counted: true,
            },
            fault: self.store.next_fault()?,
            found: None,
        };
        before(Step::Accepted);
        self.store.write(|transaction| {
            transaction.execute("UPDATE device SET next_fault = 'none'", [])?;
            write_dispense(transaction, &remembered)
        })?;
        after(Step::Accepted);
        if remembered.fault.takes_the_power_after(Step::Accepted) {
            return Err((self.power_lost)());
        }
        Ok(remembered)
    }
}

impl CashDevice for Simulated {
    fn serial(&self) -> Uuid {
        self.store.serial
    }

    fn has_room(&mut self) -> bool {
        self.store.has_room()
    }

    fn cash_units(&self) -> Result<CashUnits, DeviceError> {
        let mut unknown = Notes::none();
        for remembered in self.store.unfinished()? {
            match remembered.dispense.status() {
                PresentStatus::Unknown => unknown.add_all(&remembered.dispense.stacked),
                PresentStatus::Presented if !remembered.dispense.counted => {
                    unknown.add_all(&remembered.dispense.presented);
                }
                PresentStatus::Presented | PresentStatus::NotPresented => {}
            }
        }
        Ok(CashUnits {
            cassettes: self.store.notes_in(Place::Cassettes)?,
            reject: self.store.notes_in(Place::Reject)?,
            retract: self.store.notes_in(Place::Retract)?,
            deposit: self.store.notes_in(Place::Deposit)?,
            escrow: self.store.notes_in(Place::Escrow)?,
            unknown,
        })
    }

    fn dispense(&mut self, id: Uuid, plan: &Notes) -> Result<Dispense, DeviceError> {
        if let Some(remembered) = self.store.dispense(id)? {
            return Ok(remembered.dispense);
        }
        let mut remembered = self.accept(id, plan)?;
        let picked = match remembered.fault {
            Fault::JamPick => plan.split(plan.count().div_ceil(2)).0,
            _ => plan.clone(),
        };
        remembered.dispense.step = Step::Picked;
        self.step(&remembered, &[(Place::Cassettes, Place::Stacker, &picked)])?;
        if matches!(remembered.fault, Fault::JamPick | Fault::JamStack) {
            return self.give_up(remembered, &picked);
        }
        let (rejected, stacked) = match remembered.fault {
            Fault::Short => picked.split(picked.count().div_ceil(2)),
            _ => (Notes::none(), picked.clone()),
        };
        if stacked.is_empty() {
            return self.give_up(remembered, &picked);
        }
        remembered.dispense.step = Step::Stacked;
        remembered.dispense.rejected = rejected.clone();
        remembered.dispense.stacked = stacked;
        self.step(&remembered, &[(Place::Stacker, Place::Reject, &rejected)])?;
        Ok(remembered.dispense)
    }

    fn present(&mut self, id: Uuid) -> Result<Dispense, DeviceError> {
        let mut remembered = self.remembered(id)?;
        if remembered.dispense.step != Step::Stacked {
            return Ok(remembered.dispense);
        }
        let stacked = remembered.dispense.stacked.clone();
        if remembered.fault == Fault::JamPresent {
            return self.give_up(remembered, &stacked);
        }
        remembered.dispense.step = Step::Presenting;
        self.step(&remembered, &[(Place::Stacker, Place::Shutter, &stacked)])?;
        if remembered.fault == Fault::StatusUnknown {
            // They do come out; what the device remembers is that it does not know.
            crash_point!("BEFORE_DEVICE_BLIND");
            self.store
                .write(|transaction| move_notes(transaction, Place::Shutter, Place::Customers, &stacked))?;
            crash_point!("DEVICE_BLIND");
            return Ok(remembered.dispense);
        }
        remembered.dispense.step = Step::Presented;
        remembered.dispense.presented = stacked.clone();
        self.step(&remembered, &[(Place::Shutter, Place::Exit, &stacked)])?;
        Ok(remembered.dispense)
    }

    fn collect(&mut self, id: Uuid) -> Result<Dispense, DeviceError> {
        let mut remembered = self.remembered(id)?;
        if remembered.dispense.step != Step::Presented {
            return Ok(remembered.dispense);
        }
        let (taken, left) = not_taken(&remembered);
        remembered.dispense.counted = remembered.fault != Fault::NotTakenUncounted;
        let bin = if remembered.dispense.counted { Place::Retract } else { Place::RetractUncounted };
        remembered.dispense.step = if left.is_empty() { Step::Taken } else { Step::Retracted };
        if remembered.dispense.counted {
            remembered.dispense.retracted = left.clone();
        }
        self.step(&remembered, &[(Place::Exit, Place::Customers, &taken), (Place::Exit, bin, &left)])?;
        Ok(remembered.dispense)
    }

    fn reject(&mut self, id: Uuid) -> Result<Dispense, DeviceError> {
        let remembered = self.remembered(id)?;
        match remembered.dispense.step {
            Step::Accepted | Step::Picked | Step::Stacked => {
                // Only one dispense is ever under way, so what lies there belongs to it.
                let picked = self.store.notes_in(Place::Stacker)?;
                self.give_up(remembered, &picked)
            }
            Step::Presenting | Step::Presented | Step::Taken | Step::Retracted | Step::Rejected => {
                Ok(remembered.dispense)
            }
        }
    }

    fn recall(&self, id: Uuid) -> Result<Option<Dispense>, DeviceError> {
        Ok(self.store.dispense(id)?.map(|remembered| remembered.dispense))
    }

    fn history(&self) -> Result<Vec<super::Remembered>, DeviceError> {
        let all = self.store.dispenses()?.into_iter();
        Ok(all.map(|Remembered { dispense, found, .. }| super::Remembered { dispense, found }).collect())
    }

    fn look(&mut self, id: Uuid) -> Result<Found, DeviceError> {
        let mut remembered = self.remembered(id)?;
        if let Some(found) = remembered.found {
            return Ok(found);
        }
        let lost = remembered.dispense.status() == PresentStatus::Unknown
            || remembered.dispense.step == Step::Retracted && !remembered.dispense.counted;
        if !lost {
            return Ok(Found::default());
        }
        let found = if remembered.dispense.status() == PresentStatus::Unknown {
            Found { rejected: self.store.notes_in(Place::Shutter)?, retracted: Notes::none() }
        } else {
            Found { rejected: Notes::none(), retracted: not_taken(&remembered).1 }
        };
        remembered.found = Some(found.clone());
        crash_point!("BEFORE_DEVICE_LOOKED");
        self.store.write(|transaction| {
            move_notes(transaction, Place::Shutter, Place::Reject, &found.rejected)?;
            move_notes(transaction, Place::RetractUncounted, Place::Retract, &found.retracted)?;
            write_dispense(transaction, &remembered)
        })?;
        crash_point!("DEVICE_LOOKED");
        Ok(found)
    }

    fn cash_in(&mut self, id: Uuid, notes: &Notes) -> Result<(), DeviceError> {
        if self.store.escrow_ended(id)?.is_some() {
            return Ok(());
        }
        if self.store.escrow()?.is_some() {
            return Err(DeviceError::Refused("its escrow is not empty"));
        }
        crash_point!("BEFORE_DEVICE_ESCROW");
        self.store.write(|transaction| {
            move_notes(transaction, Place::Customers, Place::Escrow, notes)?;
            transaction.execute(
                "INSERT INTO escrow VALUES (?1, ?2, NULL)",
                params![id.to_string(), notes.to_string()],
            )
        })?;
        crash_point!("DEVICE_ESCROW");
        Ok(())
    }

    fn escrow(&self) -> Result<Option<Escrow>, DeviceError> {
        self.store.escrow()
    }

    fn store(&mut self, id: Uuid) -> Result<(), DeviceError> {
        crash_point!("BEFORE_DEVICE_STORED");
        self.end_escrow(id, Place::Deposit, "stored")?;
        crash_point!("DEVICE_STORED");
        Ok(())
    }

    fn roll_back(&mut self, id: Uuid) -> Result<(), DeviceError> {
        crash_point!("BEFORE_DEVICE_ROLLED_BACK");
        self.end_escrow(id, Place::Customers, "rolled back")?;
        crash_point!("DEVICE_ROLLED_BACK");
        Ok(())
    }

    fn load(&mut self, id: Uuid, notes: &Notes) -> Result<(), DeviceError> {
        self.exchange_load(id, notes)
    }

    fn unload(&mut self, id: Uuid, bin: Bin) -> Result<Notes, DeviceError> {
        self.exchange_count(id, "unload", bin, &Notes::none())
    }

    fn recount(&mut self, id: Uuid, bin: Bin, counted: &Notes) -> Result<Notes, DeviceError> {
        self.exchange_count(id, "recount", bin, counted)
    }

    fn set_fault(&mut self, fault: Fault) -> Result<(), DeviceError> {
        self.store.write(|transaction| {
            transaction.execute("UPDATE device SET next_fault = ?1", [fault.name()]).map(|_| ())
        })
    }
}

impl Simulated {
    fn end_escrow(&mut self, id: Uuid, to: Place, how: &str) -> Result<(), DeviceError> {
        let Some(escrow) = self.store.escrow()?.filter(|escrow| escrow.id == id) else { return Ok(()) };
        self.store.write(|transaction| {
            move_notes(transaction, Place::Escrow, to, &escrow.notes)?;
            transaction
                .execute("UPDATE escrow SET ended = ?2 WHERE id = ?1", params![id.to_string(), how])
                .map(|_| ())
        })
    }
}

/// What the customer takes of what is presented, and what not.
fn not_taken(remembered: &Remembered) -> (Notes, Notes) {
    let presented = remembered.dispense.presented.clone();
    match remembered.fault {
        Fault::NotTaken => (Notes::none(), presented),
        Fault::PartlyTaken | Fault::NotTakenUncounted => presented.split(presented.count() / 2),
        Fault::None
        | Fault::JamPick
        | Fault::JamStack
        | Fault::JamPresent
        | Fault::Short
        | Fault::PowerAfterAccept
        | Fault::PowerAfterPick
        | Fault::PowerAfterStack
        | Fault::PowerWhilePresenting
        | Fault::PowerAfterPresent
        | Fault::PowerAfterTake
        | Fault::StatusUnknown => (presented, Notes::none()),
    }
}

fn before(step: Step) {
    match step {
        Step::Accepted => crash_point!("BEFORE_DEVICE_ACCEPTED"),
        Step::Picked => crash_point!("BEFORE_DEVICE_PICKED"),
        Step::Stacked => crash_point!("BEFORE_DEVICE_STACKED"),
        Step::Presenting => crash_point!("BEFORE_DEVICE_PRESENTING"),
        Step::Presented => crash_point!("BEFORE_DEVICE_PRESENTED"),
        Step::Taken => crash_point!("BEFORE_DEVICE_TAKEN"),
        Step::Retracted => crash_point!("BEFORE_DEVICE_RETRACTED"),
        Step::Rejected => crash_point!("BEFORE_DEVICE_REJECTED"),
    }
}

fn after(step: Step) {
    match step {
        Step::Accepted => crash_point!("DEVICE_ACCEPTED"),
        Step::Picked => crash_point!("DEVICE_PICKED"),
        Step::Stacked => crash_point!("DEVICE_STACKED"),
        Step::Presenting => crash_point!("DEVICE_PRESENTING"),
        Step::Presented => crash_point!("DEVICE_PRESENTED"),
        Step::Taken => crash_point!("DEVICE_TAKEN"),
        Step::Retracted => crash_point!("DEVICE_RETRACTED"),
        Step::Rejected => crash_point!("DEVICE_REJECTED"),
    }
}
