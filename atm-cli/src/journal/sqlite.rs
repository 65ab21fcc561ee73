//! The journal's storage: what is read and written in one go, and nothing that decides.
//!
//! `transactions`, `movements` and `machine` hold where everything stands; `steps` holds every event ever written,
//! chained by checksums (`chain.rs`). A row and its step are written in one SQLite transaction, so they never
//! disagree unless the file is damaged, and then opening says so.

use std::io::ErrorKind;
use std::path::Path;

use atm_faults::{Bug, planted};
use atm_rpc::high_water::HighWater;
use atm_types::{TerminalId, Timestamp, TransactionId};
use rusqlite::{OptionalExtension, Transaction};

use super::JournalError;
use super::chain::{self, Subject, What};
use super::expected::Expected;
use super::machine::{self, Event, State};
use super::movement::{Movement, MovementState};
use super::record::{Intent, PaidIn, Record};
use super::status::Status;
use super::{compact, points, rows, schema};
use crate::crash::crash_point;
use crate::durable::{Database, DurableError, Shape, SimulatedDisk};
use crate::simulation::JournalStep;

const SHAPE: Shape = Shape {
    application_id: schema::APPLICATION_ID,
    version: schema::VERSION,
    oldest: schema::OLDEST,
    reserve: 1 << 20,
};

/// The event of an id that is cancelled without ever having had a record; the id stands as its reason.
const FENCED: &str = "FENCED";
/// The machine serves again, although the bank did not take all that it was told again.
pub(super) const BACK_WITH_ALARMS: &str = "BACK_WITH_ALARMS";
const CARRIED_DAMAGED: &str = "the sum of what was compacted is not what was written";

pub(super) struct Store {
    database: Database,
    /// The highest commit sequence that this machine has seen; every step carries it.
    seen: u64,
    /// The newest step that anything was done upon, outside the database; a simulated disk loses nothing that it synced.
    acknowledged: Option<HighWater>,
}

impl Store {
    pub(super) fn open(path: &Path, terminal: TerminalId, now: Timestamp) -> Result<Self, JournalError> {
        let mut store = Self::with(Database::open(path, &SHAPE)?, terminal, now)?;
        store.check_acknowledged()?;
        Ok(store)
    }

    /// Whether every step is there that was ever written to the end.
    fn check_acknowledged(&mut self) -> Result<(), JournalError> {
        let path = self.database.path().with_extension("acknowledged");
        let (acknowledged, mark) = HighWater::open(&path).map_err(|source| match source.kind() {
            ErrorKind::InvalidData => self.database.damaged("the note of its newest step is unreadable"),
            _ => DurableError::Io { path: path.clone(), source },
        })?;
        let newest = self.database.read(chain::newest)?;
        if let Some(mark) = mark.filter(|mark| *mark > newest) {
            let what = format!("it ends with step {newest}, and step {mark} was written");
            return Err(self.database.damaged(&what).into());
        }
        self.acknowledged = Some(acknowledged);
        Ok(self.note_newest()?)
    }

    /// Notes that everything up to the newest step is durable and about to be acted upon.
    fn note_newest(&self) -> Result<(), DurableError> {
        let Some(acknowledged) = &self.acknowledged else { return Ok(()) };
        let io = |source| DurableError::Io { path: self.database.path().to_path_buf(), source };
        acknowledged.reach(self.database.read(chain::newest)?).map_err(io)
    }

    /// One durable write of one or more steps.
    fn commit(
        &mut self,
        work: impl FnMut(&Transaction<'_>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), DurableError> {
        self.database.write(work)?;
        self.note_newest()
    }

    /// The same on a simulated disk.
    pub(super) fn open_on(
        disk: &SimulatedDisk,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        if planted(Bug::JournalIsNotSynced) {
            disk.stop_syncing();
        }
        Self::with(Database::open_on(disk, &SHAPE)?, terminal, now)
    }

    /// What is on a simulated disk, unchecked; for whoever watches a simulation.
    pub(super) fn look_at(disk: &SimulatedDisk) -> Self {
        Self { database: Database::look_at(disk), seen: 0, acknowledged: None }
    }

    fn with(
        (mut database, version): (Database, i64),
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        match version {
            0 => {
                crash_point!("BEFORE_JOURNAL_MADE");
                let owner = terminal.to_string();
                database.write(|transaction| schema::create(transaction, &owner, now.as_nanos()))?;
                crash_point!("JOURNAL_MADE");
            }
            1 => {
                crash_point!("BEFORE_JOURNAL_MIGRATED");
                database.write(|transaction| schema::migrate(transaction, now.as_nanos()))?;
                crash_point!("JOURNAL_MIGRATED");
            }
            _ => {}
        }
        if database.read(schema::terminal)? != terminal.to_string() {
            return Err(JournalError::OtherTerminal { path: database.path().to_path_buf() });
        }
        if database.read(rows::carried)?.is_none() {
            return Err(database.damaged(CARRIED_DAMAGED).into());
        }
        let seen = database.read(chain::verify)?.map_err(|what| database.damaged(&what))?;
        Ok(Self { database, seen, acknowledged: None })
    }

    /// Whether there is room on the disk for a whole transaction.
    pub(super) fn has_room(&mut self) -> bool {
        self.database.has_room()
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// The next step will say that this much was seen.
    pub(super) fn set_seen(&mut self, seen: u64) {
        self.seen = seen;
    }

    pub(super) fn find(&self, id: TransactionId) -> Result<Option<Record>, JournalError> {
        let raw = self.database.read(|connection| rows::find_transaction(connection, &id.to_string()))?;
        Ok(raw.map(|raw| raw.into_record(self.database.path())).transpose()?)
    }

    /// The transactions that are not over, or all of them; oldest first.
    pub(super) fn transactions(&self, open_only: bool) -> Result<Vec<Record>, JournalError> {
        let which = if open_only { "WHERE state NOT IN ('DONE', 'VOIDED')" } else { "" };
        // A transaction whose first steps were compacted away is older than all that have them.
        let order = "ORDER BY coalesce((SELECT min(sequence) FROM steps WHERE subject = id), 0), id";
        let raw =
            self.database.read(|connection| rows::transactions(connection, &format!("{which} {order}")))?;
        raw.into_iter().map(|raw| Ok(raw.into_record(self.database.path())?)).collect()
    }

    /// The movements that the bank does not know yet, or all of them; oldest first.
    pub(super) fn movements(&self, pending_only: bool) -> Result<Vec<Movement>, JournalError> {
        let which = if pending_only { "WHERE state = 'PENDING'" } else { "" };
        let raw =
            self.database.read(|connection| rows::movements(connection, &format!("{which} ORDER BY id")))?;
        raw.into_iter().map(|raw| Ok(raw.into_movement(self.database.path())?)).collect()
    }

    pub(super) fn status(&self) -> Result<Status, JournalError> {
        let raw = self.database.read(rows::machine)?;
        Ok(raw.into_status(self.database.path())?)
    }

    /// Writes the machine's own row, and a movement that belongs to the change.
    pub(super) fn set_status(
        &mut self,
        status: &Status,
        event: &str,
        movement: Option<&Movement>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let seen = self.seen;
        let what = What { event, state: "", reason: None };
        Ok(self.commit(|transaction| {
            rows::write_machine(transaction, status)?;
            chain::append(transaction, &Subject::Machine, what, now.as_nanos(), seen)?;
            movement.map_or(Ok(()), |movement| write_movement(transaction, movement, now, seen))
        })?)
    }

    /// Writes that an id without a record is about to be cancelled.
    pub(super) fn fence(&mut self, id: TransactionId, now: Timestamp) -> Result<(), JournalError> {
        let (seen, id) = (self.seen, id.to_string());
        let what = What { event: FENCED, state: "", reason: Some(&id) };
        Ok(self.commit(|transaction| {
            chain::append(transaction, &Subject::Machine, what, now.as_nanos(), seen)
        })?)
    }

    pub(super) fn is_fenced(&self, id: TransactionId) -> Result<bool, JournalError> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM steps WHERE subject = 'machine' AND event = ?1 AND reason = ?2)";
        Ok(self.database.read(|connection| {
            connection.prepare_cached(sql)?.query_row([FENCED, &id.to_string()], |row| row.get(0))
        })?)
    }

    /// What the bank acknowledged last, and the event that says so. Operators' movements are not this machine's own,
    /// and what the bank was found to have lost for good says nothing any more.
    pub(super) fn last_acknowledged(&self) -> Result<Option<(TransactionId, String)>, JournalError> {
        let sql = "SELECT subject, event FROM steps AS s WHERE subject <> 'machine' AND event IN ('CAPTURED', \
                   'POSTED', 'CANCELLED', 'DECLINED', 'SUSPENDED', 'RESOLVED') AND NOT EXISTS (SELECT 1 FROM steps \
                   AS later WHERE later.subject = s.subject AND later.event = 'LOST') AND sequence > COALESCE( \
                   (SELECT MAX(sequence) FROM steps WHERE subject = 'machine' AND event = ?1), 0) \
                   ORDER BY sequence DESC LIMIT 1";
        let found: Option<(String, String)> = self.database.read(|connection| {
            connection
                .prepare_cached(sql)?
                .query_row([BACK_WITH_ALARMS], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        let Some((key, event)) = found else { return Ok(None) };
        let (Subject::Transaction(id) | Subject::Movement(id)) = Subject::of_key(&key) else {
            return Ok(None);
        };
        let id = id.parse().map_err(|_| self.database.damaged("a step is about no id"))?;
        Ok(Some((id, event)))
    }

    pub(super) fn begin(
        &mut self,
        intent: &Intent,
        paid_in: Option<&PaidIn>,
        now: Timestamp,
    ) -> Result<Record, JournalError> {
        if let Some(existing) = self.find(intent.id)?
            && !(existing.may_begin_again() && intent.difference(&existing.intent).is_none())
        {
            return Err(JournalError::Presence { id: intent.id, exists: true });
        }
        let record = Record::begun(intent, paid_in, self.seen);
        self.write(&record, "INTENT", &[], now)?;
        Ok(record)
    }

    /// Writes what happened to a transaction together with the cash that moved by it.
    pub(super) fn apply(
        &mut self,
        id: TransactionId,
        event: &Event,
        movements: &[Movement],
        now: Timestamp,
    ) -> Result<Record, JournalError> {
        let record = self.find(id)?.ok_or(JournalError::Presence { id, exists: false })?;
        let state = machine::next(record.intent.kind, record.state, event).ok_or(JournalError::Illegal {
            id,
            state: record.state,
            event: event.name(),
        })?;
        let record = record.after(state, event, now);
        self.write(&record, event.name(), movements, now)?;
        Ok(record)
    }

    fn write(
        &mut self,
        record: &Record,
        event: &str,
        movements: &[Movement],
        now: Timestamp,
    ) -> Result<(), DurableError> {
        let seen = self.seen;
        let subject = Subject::Transaction(record.id().to_string());
        let what = What { event, state: record.state.name(), reason: record.reason.as_deref() };
        points::before(record.state);
        self.commit(|transaction| {
            rows::write_transaction(transaction, record)?;
            chain::append(transaction, &subject, what, now.as_nanos(), seen)?;
            movements.iter().try_for_each(|movement| write_movement(transaction, movement, now, seen))
        })?;
        points::after(record.state);
        Ok(())
    }

    /// Writes what the bank said to a movement.
    pub(super) fn end_movement(
        &mut self,
        movement: &Movement,
        state: MovementState,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let ended = Movement {
            state,
            reason: reason.map(str::to_owned),
            ended: matches!(state, MovementState::Posted | MovementState::OperatorPosted).then_some(now),
            ..movement.clone()
        };
        let seen = self.seen;
        crash_point!("BEFORE_MOVEMENT_POSTED");
        self.commit(|transaction| write_movement(transaction, &ended, now, seen))?;
        crash_point!("MOVEMENT_POSTED");
        Ok(())
    }

    /// Forgets what ended long ago, a bounded piece of it.
    pub(super) fn compact(&mut self, cutoff: Timestamp, most: usize) -> Result<usize, JournalError> {
        let prefix = self.database.read(|connection| compact::prefix(connection, cutoff, most))?;
        let Some(prefix) = prefix else { return Ok(0) };
        let carried = self.expected()?.carried_without(&prefix.gone_ids());
        crash_point!("BEFORE_COMPACTED");
        self.commit(|transaction| {
            compact::cut(transaction, &prefix)?;
            rows::write_carried(transaction, &carried)
        })?;
        crash_point!("COMPACTED");
        Ok(prefix.steps)
    }

    /// What must be in each place.
    pub(super) fn expected(&self) -> Result<Expected, JournalError> {
        let carried =
            self.database.read(rows::carried)?.ok_or_else(|| self.database.damaged(CARRIED_DAMAGED))?;
        Ok(Expected::new(carried, self.transactions(false)?, self.movements(false)?))
    }

    /// Everything that was ever written about a transaction, for people.
    pub(super) fn story(&self, id: TransactionId) -> Result<Vec<(String, Timestamp)>, JournalError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT event, time_nanos FROM steps WHERE subject = ?1 ORDER BY sequence")?
                .query_map([id.to_string()], |row| Ok((row.get(0)?, Timestamp::from_nanos(row.get(1)?))))?
                .collect()
        })?)
    }
}

impl Store {
    /// Every step after this one, in order; for whoever watches a simulation.
    pub(super) fn steps_after(&self, sequence: i64) -> Result<Vec<JournalStep>, JournalError> {
        let sql = "SELECT sequence, subject, event, state, reason, time_nanos FROM steps WHERE sequence > ?1 \
                   ORDER BY sequence";
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached(sql)?
                .query_map([sequence], |row| {
                    Ok(JournalStep {
                        sequence: row.get(0)?,
                        subject: row.get(1)?,
                        event: row.get(2)?,
                        state: row.get(3)?,
                        reason: row.get(4)?,
                        time: Timestamp::from_nanos(row.get(5)?),
                    })
                })?
                .collect()
        })?)
    }

    /// Whether anything was ever written.
    pub(super) fn is_made(&self) -> Result<bool, JournalError> {
        let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'steps'";
        Ok(self.database.read(|connection| connection.query_row(sql, [], |row| row.get(0)))?)
    }
}

fn write_movement(
    transaction: &Transaction<'_>,
    movement: &Movement,
    now: Timestamp,
    seen: u64,
) -> Result<(), rusqlite::Error> {
    rows::write_movement(transaction, movement)?;
    let subject = Subject::Movement(movement.id.to_string());
    let state = movement.state.name();
    let what = What { event: state, state, reason: movement.reason.as_deref() };
    chain::append(transaction, &subject, what, now.as_nanos(), seen)
}

/// Whether a state needs no more attention.
pub(super) fn is_over(state: &str) -> bool {
    [State::Done, State::Voided].iter().any(|over| over.name() == state)
}
