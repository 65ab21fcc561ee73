//! What operators do to a device that they have opened: load, unload, set counters right. Each has an id, and
//! happens once.

use rusqlite::params;
use uuid::Uuid;

use super::simulated::Simulated;
use super::store::move_notes;
use super::{Bin, DeviceError, Notes, Place, denominations};
use crate::crash::crash_point;

/// More than any cassette holds, and little enough that no sum comes near its end.
pub(crate) const MOST_NOTES: u32 = 1_000_000;

impl Simulated {
    pub(super) fn exchange_load(&mut self, id: Uuid, notes: &Notes) -> Result<(), DeviceError> {
        self.check(notes)?;
        if self.store.exchange(id)?.is_some() {
            return Ok(());
        }
        let before = self.store.notes_in(Place::Cassettes)?;
        let mut after = before.clone();
        after.add_all(notes);
        self.check(&after)?;
        crash_point!("BEFORE_DEVICE_LOADED");
        self.store.write(|transaction| {
            move_notes(transaction, Place::Vault, Place::Cassettes, notes)?;
            let row = params![id.to_string(), "load", before.to_string(), after.to_string()];
            transaction.execute("INSERT INTO exchanges VALUES (?1, ?2, ?3, ?4)", row)
        })?;
        crash_point!("DEVICE_LOADED");
        Ok(())
    }

    /// Sets what is in a bin; what is missing went to the vault, and what is too much came from there.
    pub(super) fn exchange_count(
        &mut self,
        id: Uuid,
        what: &str,
        bin: Bin,
        counted: &Notes,
    ) -> Result<Notes, DeviceError> {
        self.check(counted)?;
        if let Some((_, before)) = self.store.exchange(id)? {
            return Ok(before);
        }
        let place = place(bin);
        let before = self.store.notes_in(place)?;
        crash_point!("BEFORE_DEVICE_COUNTED");
        self.store.write(|transaction| {
            move_notes(transaction, place, Place::Vault, &before)?;
            move_notes(transaction, Place::Vault, place, counted)?;
            let row = params![id.to_string(), what, before.to_string(), counted.to_string()];
            transaction.execute("INSERT INTO exchanges VALUES (?1, ?2, ?3, ?4)", row)
        })?;
        crash_point!("DEVICE_COUNTED");
        Ok(before)
    }

    fn check(&self, notes: &Notes) -> Result<(), DeviceError> {
        let known =
            |(denomination, _): (i64, u32)| denominations(self.currency()).any(|known| known == denomination);
        if !notes.iter().all(known) {
            return Err(DeviceError::Refused("it has no cassette for one of these denominations"));
        }
        if notes.iter().any(|(_, count)| count > MOST_NOTES) {
            return Err(DeviceError::Refused("a cassette does not hold so many notes"));
        }
        Ok(())
    }
}

fn place(bin: Bin) -> Place {
    match bin {
        Bin::Cassettes => Place::Cassettes,
        Bin::Reject => Place::Reject,
        Bin::Retract => Place::Retract,
        Bin::Deposit => Place::Deposit,
    }
}
