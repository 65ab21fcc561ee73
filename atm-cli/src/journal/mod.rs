//! The machine's durable memory: what it was asked to do and how far each transaction has come.
//!
//! A directory with `lock` (one process at a time), `terminal.key` (who this machine is; see [`crate::terminal`]),
//! `journal.sqlite3`, the room that is kept for it (`journal.reserve`), how far it had come (`journal.acknowledged`), and the cash device's own files. Opening the
//! journal is a promise: the directory is locked, what a crash left in the write-ahead log is on disk before
//! anything is answered from it, and every record is whole, in its place, of this schema and of this terminal. Every
//! event is a transaction with `synchronous=FULL`: when a method returns, the event survives a power cut.
//!
//! Three kinds of things are kept: transactions ([`Record`]), cash that moved inside the machine ([`Movement`]), and
//! the machine itself ([`Status`]). What ended more than thirty days ago is forgotten, once the bank has shown that it
//! has not gone back.

mod chain;
mod compact;
mod expected;
mod machine;
mod movement;
mod points;
mod record;
mod rows;
mod schema;
mod sqlite;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::process::{DirectoryLock, LockError};
use atm_types::{Clock, TerminalId, Timestamp, TransactionId};
use uuid::Uuid;

use crate::crash::crash_point;
use crate::durable::{DurableError, SimulatedDisk};
use crate::simulation::{JournalEvidence, JournalMovement, JournalRecord, JournalStep};

pub(crate) use expected::{Counts, Effect, Expected};
pub(crate) use machine::{AccountBalance, Ending, Event, Kind, Plan, State};
pub(crate) use movement::{Account, Movement, MovementState};
pub(crate) use record::{CardTag, Intent, PaidIn, Record};
pub(crate) use status::{Boot, Outage, Status};

use sqlite::{BACK_WITH_ALARMS, Store};

/// How long what ended is kept: as long as a bank's older backup may need it to be told again.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most steps that are forgotten at one start.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// Why the journal cannot be used, in words for the person at the machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another process works with it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// It cannot be read or written, or belongs to another version.
    #[error("the journal {0}")]
    Unusable(DurableError),
    /// Its content makes no sense.
    #[error(
        "the journal {0}. The machine stays out of service: keep its whole directory as evidence, count the cash, \
         let the bank resolve what this machine left open, and start again with a new state directory"
    )]
    Damaged(DurableError),
    /// The disk is full, so nothing new may begin.
    #[error("the disk with the journal is full; free some room")]
    NoRoom,
    /// It belongs to another terminal key: captures and cancels would be refused by the bank.
    #[error("the journal {} was written with another terminal key; put its own terminal.key back", .path.display())]
    OtherTerminal { path: PathBuf },
    /// A defect of this program: the event must not happen in this state. Nothing was written.
    #[error("{id} is {state}: {event} must not happen now")]
    Illegal { id: TransactionId, state: State, event: &'static str },
    /// The id is in the journal already, or it is not there at all.
    #[error("transaction {id} is {}in the journal", if *.exists { "already " } else { "not " })]
    Presence { id: TransactionId, exists: bool },
    /// The cash device failed while its part was to be written down.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
}

impl From<DurableError> for JournalError {
    fn from(error: DurableError) -> Self {
        match error {
            DurableError::Damaged { .. } => Self::Damaged(error),
            DurableError::Storage { .. } | DurableError::OtherVersion { .. } | DurableError::Io { .. } => {
                Self::Unusable(error)
            }
        }
    }
}

/// The journal, locked for this process.
pub(crate) struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Nobody else can open a simulated disk while it is open, so it has no lock.
    _lock: Option<DirectoryLock>,
}

impl Journal {
    /// Locks the directory and opens the journal in it, or makes a new one for `terminal`.
    pub(crate) fn open(
        directory: &Path,
        terminal: TerminalId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let lock = DirectoryLock::acquire(directory)?;
        let store = Store::open(&directory.join(FILE_NAME), terminal, clock.now())?;
        Ok(Self { store, clock, _lock: Some(lock) })
    }

    /// The same on a simulated disk.
    pub(crate) fn open_on(
        disk: &SimulatedDisk,
        terminal: TerminalId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let store = Store::open_on(disk, terminal, clock.now())?;
        Ok(Self { store, clock, _lock: None })
    }

    /// What a simulated machine's journal says, whoever has it open.
    pub(crate) fn evidence(disk: &SimulatedDisk) -> Result<JournalEvidence, JournalError> {
        let store = Store::look_at(disk);
        if !store.is_made()? {
            return Ok(JournalEvidence::default());
        }
        let status = store.status()?;
        Ok(JournalEvidence {
            records: store.transactions(false)?.iter().map(JournalRecord::of).collect(),
            movements: store.movements(false)?.iter().map(JournalMovement::of).collect(),
            steps: store.steps_after(0)?,
            outage: status.outage.map(Outage::name),
            enrolled_as: status.enrolled_as,
        })
    }

    /// The steps that a simulated machine wrote after this one.
    pub(crate) fn steps_after(disk: &SimulatedDisk, sequence: i64) -> Result<Vec<JournalStep>, JournalError> {
        let store = Store::look_at(disk);
        if store.is_made()? { store.steps_after(sequence) } else { Ok(Vec::new()) }
    }

    /// Forgets what ended long ago, a bounded piece of it. Only for a machine whose bank has just shown that it has
    /// not gone back: until then all that is kept may have to be told again, however old it is.
    pub(crate) fn forget(&mut self) -> Result<(), JournalError> {
        let kept = i64::try_from(KEPT.as_nanos()).unwrap_or(i64::MAX);
        let cutoff = self.clock.now().as_nanos().saturating_sub(kept);
        self.store.compact(Timestamp::from_nanos(cutoff), FORGOTTEN_AT_ONCE)?;
        Ok(())
    }

    /// The transaction with this id, if it was begun here.
    pub(crate) fn find(&self, id: TransactionId) -> Result<Option<Record>, JournalError> {
        self.store.find(id)
    }

    /// All transactions that are not over, oldest first, those that need a person included.
    pub(crate) fn open_transactions(&self) -> Result<Vec<Record>, JournalError> {
        self.store.transactions(true)
    }

    /// All transactions that are kept, oldest first.
    pub(crate) fn all_transactions(&self) -> Result<Vec<Record>, JournalError> {
        self.store.transactions(false)
    }

    /// What was ever written about a transaction, and when.
    pub(crate) fn story(&self, id: TransactionId) -> Result<Vec<(String, Timestamp)>, JournalError> {
        self.store.story(id)
    }

    /// Whether a whole transaction can be written down, whatever happens to the disk meanwhile.
    pub(crate) fn make_room(&mut self) -> Result<(), JournalError> {
        if self.store.has_room() { Ok(()) } else { Err(JournalError::NoRoom) }
    }

    /// Writes down that a transaction is about to be sent. The id must be new, or must never have left this
    /// machine.
    pub(crate) fn begin(
        &mut self,
        intent: &Intent,
        paid_in: Option<&PaidIn>,
    ) -> Result<Record, JournalError> {
        self.store.begin(intent, paid_in, self.clock.now())
    }

    /// Writes down that an id which has no record here is about to be cancelled: it must never begin afterwards, since
    /// the cancel may arrive at any time.
    pub(crate) fn fence(&mut self, id: TransactionId) -> Result<(), JournalError> {
        if self.is_fenced(id)? {
            return Ok(());
        }
        crash_point!("BEFORE_FENCED");
        self.store.fence(id, self.clock.now())?;
        crash_point!("FENCED");
        Ok(())
    }

    /// Whether an id was cancelled without ever having begun.
    pub(crate) fn is_fenced(&self, id: TransactionId) -> Result<bool, JournalError> {
        self.store.is_fenced(id)
    }

    /// The last thing that the bank acknowledged to this machine, and the event that says how.
    pub(crate) fn last_acknowledged(&self) -> Result<Option<(TransactionId, String)>, JournalError> {
        self.store.last_acknowledged()
    }

    /// Writes down what happened to a transaction, and gives it back as it is now.
    pub(crate) fn apply(&mut self, id: TransactionId, event: &Event) -> Result<Record, JournalError> {
        self.apply_with(id, event, &[])
    }

    /// The same, together with the cash that moved inside the machine by it: both or neither.
    pub(crate) fn apply_with(
        &mut self,
        id: TransactionId,
        event: &Event,
        movements: &[Movement],
    ) -> Result<Record, JournalError> {
        let record = self.store.apply(id, event, movements, self.clock.now())?;
        tracing::info!(transaction_id = %id, event = event.name(), state = %record.state, "journaled");
        Ok(record)
    }

    /// Cash movements that the bank does not know yet, oldest first.
    pub(crate) fn pending_movements(&self) -> Result<Vec<Movement>, JournalError> {
        self.store.movements(true)
    }

    /// All cash movements that are kept, oldest first.
    pub(crate) fn all_movements(&self) -> Result<Vec<Movement>, JournalError> {
        self.store.movements(false)
    }

    /// Writes down a movement that belongs to no transaction, such as a load by operators.
    pub(crate) fn move_cash(&mut self, movement: &Movement) -> Result<(), JournalError> {
        let status = self.store.status()?;
        crash_point!("BEFORE_CASH_MOVED");
        self.store.set_status(&status, "CASH_MOVED", Some(movement), self.clock.now())?;
        crash_point!("CASH_MOVED");
        Ok(())
    }

    /// Movements of which operators have to tell the bank, oldest first.
    pub(crate) fn operators_movements(&self) -> Result<Vec<Movement>, JournalError> {
        let mut movements = self.store.movements(false)?;
        movements.retain(|movement| movement.state == MovementState::OperatorPending);
        Ok(movements)
    }

    /// Operators have to tell the bank of this movement once more, since it went back to an older backup.
    pub(crate) fn tell_again(&mut self, movement: &Movement) -> Result<(), JournalError> {
        self.store.end_movement(movement, MovementState::OperatorPending, None, self.clock.now())
    }

    /// What must be in each place by everything that was ever written here.
    pub(crate) fn expected(&self) -> Result<Expected, JournalError> {
        self.store.expected()
    }

    /// Writes down that the bank posted a movement, or why it will not.
    pub(crate) fn end_movement(
        &mut self,
        movement: &Movement,
        refused: Option<&str>,
    ) -> Result<(), JournalError> {
        let state = match refused {
            Some(_) => MovementState::Refused,
            None if movement.is_operators() => MovementState::OperatorPosted,
            None => MovementState::Posted,
        };
        self.store.end_movement(movement, state, refused, self.clock.now())
    }

    /// What the machine knows of itself.
    pub(crate) fn status(&self) -> Result<Status, JournalError> {
        self.store.status()
    }

    /// The start that is to be signed on: one that failed to before is tried again, else a new one with this id.
    pub(crate) fn boot(&mut self, new_id: Uuid) -> Result<Boot, JournalError> {
        let mut status = self.store.status()?;
        if let Some(pending) = status.pending {
            return Ok(pending);
        }
        let boot = Boot {
            epoch: status.current.map_or(1, |current| current.epoch.saturating_add(1)),
            id: new_id,
            previous: status.current.map(|current| current.id),
        };
        status.pending = Some(boot);
        crash_point!("BEFORE_BOOT_PENDING");
        self.store.set_status(&status, "BOOT_PENDING", None, self.clock.now())?;
        crash_point!("BOOT_PENDING");
        Ok(boot)
    }

    /// The bank knows the pending start.
    pub(crate) fn booted(&mut self) -> Result<(), JournalError> {
        let mut status = self.store.status()?;
        if let Some(pending) = status.pending.take() {
            status.current = Some(pending);
            crash_point!("BEFORE_BOOTED");
            self.store.set_status(&status, "BOOTED", None, self.clock.now())?;
            crash_point!("BOOTED");
        }
        Ok(())
    }

    /// Takes the machine out of service.
    pub(crate) fn go_out_of_service(&mut self, outage: Outage) -> Result<(), JournalError> {
        let status = self.store.status()?;
        if status.outage == Some(outage) {
            return Ok(());
        }
        crash_point!("BEFORE_OUT_OF_SERVICE");
        let status = Status { outage: Some(outage), ..status };
        self.store.set_status(&status, "OUT_OF_SERVICE", None, self.clock.now())?;
        crash_point!("OUT_OF_SERVICE");
        Ok(())
    }

    /// Puts the machine back into service with a bank whose newest commit sequence is `seen`. After alarms the bank is
    /// not asked any more for what it acknowledged before: persons look into what it does not have.
    pub(crate) fn serve_again(&mut self, seen: u64, alarms: usize) -> Result<(), JournalError> {
        let status = Status { outage: None, ..self.store.status()? };
        crash_point!("BEFORE_BACK_IN_SERVICE");
        self.store.set_seen(seen);
        let event = if alarms > 0 { BACK_WITH_ALARMS } else { "BACK_IN_SERVICE" };
        self.store.set_status(&status, event, None, self.clock.now())?;
        crash_point!("BACK_IN_SERVICE");
        Ok(())
    }

    /// Remembers the device whose dispenses this journal speaks of. False when it is another one than before.
    pub(crate) fn pair(&mut self, device: Uuid) -> Result<bool, JournalError> {
        let status = self.store.status()?;
        if let Some(known) = status.device {
            return Ok(known == device);
        }
        crash_point!("BEFORE_PAIRED");
        let status = Status { device: Some(device), ..status };
        self.store.set_status(&status, "PAIRED", None, self.clock.now())?;
        crash_point!("PAIRED");
        Ok(true)
    }

    /// Enrols the machine under its name with its first load, which goes into the cassettes next.
    pub(crate) fn enrol(&mut self, atm_id: &str, first_load: &Movement) -> Result<(), JournalError> {
        let status = Status { enrolled_as: Some(atm_id.to_owned()), ..self.store.status()? };
        crash_point!("BEFORE_ENROLLED");
        self.store.set_status(&status, "ENROLLED", Some(first_load), self.clock.now())?;
        crash_point!("ENROLLED");
        Ok(())
    }

    /// The highest commit sequence that was seen.
    pub(crate) fn seen(&self) -> u64 {
        self.store.seen()
    }

    /// Notes a commit sequence; it is written with the next event.
    pub(crate) fn saw(&mut self, commit_sequence: u64) {
        if commit_sequence > self.store.seen() {
            self.store.set_seen(commit_sequence);
        }
    }
}

/// The journal's file in the state directory.
const FILE_NAME: &str = "journal.sqlite3";

/// Whether there is a journal in this directory.
pub(crate) fn exists_in(directory: &Path) -> bool {
    std::fs::metadata(directory.join(FILE_NAME)).is_ok_and(|metadata| metadata.len() > 0)
}

#[cfg(test)]
mod damage_cases;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
