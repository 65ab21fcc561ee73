//! A new machine's first load: once, after its first right PIN, whatever dies.
//!
//! The load is journaled first, together with the fact that the machine is enrolled; then the notes go into the
//! cassettes under the load's own id, which the device obeys once. The bank is told with the other cash movements, when
//! the customer does not wait any more, until it has said yes.

use super::Machine;
use crate::device::first_load;
use crate::journal::{Account, JournalError, Movement};

impl Machine {
    /// Enrols the machine if it is new.
    pub(crate) fn enrol(&mut self) -> Result<(), JournalError> {
        if self.journal.status()?.enrolled_as.is_some() {
            return Ok(());
        }
        self.journal.make_room()?;
        let load = Movement::new(
            self.ids.transaction_id(),
            (Account::Vault, Account::Cassettes),
            &first_load(self.currency),
            self.currency,
            None,
        );
        self.journal.enrol(self.bank.atm_id(), &load)?;
        self.finish_loads()?;
        self.screen.note(&format!("A new machine: {} went into its cassettes.", load.amount));
        Ok(())
    }

    /// Loads that are in the journal and may not be in the cassettes yet. Needs no bank.
    pub(crate) fn finish_loads(&mut self) -> Result<(), JournalError> {
        self.finish_exchanges()?;
        for movement in self.journal.pending_movements()? {
            if movement.is_load() && self.device_is_ours {
                self.device.load(movement.id.as_uuid(), &movement.notes)?;
            }
        }
        Ok(())
    }
}
