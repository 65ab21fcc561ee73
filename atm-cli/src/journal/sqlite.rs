//! The journal's storage: two small tables in SQLite, and nothing but SQL and its conversions.
//!
//! `transactions` holds where each one stands; `steps` holds every event ever written, for people who want to
//! know how it came there. Both are written in one SQLite transaction, so they never disagree.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use atm_types::{Money, TerminalId, Timestamp, TransactionId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params, params};
use uuid::Uuid;

use super::JournalError;
use super::machine::{self, AccountBalance, Ending, Event, Kind, State};
use super::record::{CardTag, Intent, Record};

/// The schema that this program reads and writes, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;
/// "ATMj" in `PRAGMA application_id`: what tells a journal from somebody else's database.
const APPLICATION_ID: i64 = 0x4154_4d6a;

const SCHEMA: &str = "
CREATE TABLE terminal (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    terminal_id TEXT NOT NULL
) STRICT;
CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor_units INTEGER NOT NULL,
    card_tag BLOB NOT NULL,
    card_last_four TEXT NOT NULL,
    to_account TEXT,
    trace_id TEXT NOT NULL,
    authorization BLOB NOT NULL DEFAULT x'',
    dispense_id TEXT,
    presented_minor_units INTEGER,
    ending TEXT,
    reason TEXT,
    balance_minor_units INTEGER,
    available_minor_units INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX open_transactions ON transactions (id) WHERE state NOT IN ('DONE', 'VOIDED');
CREATE TABLE steps (
    sequence INTEGER PRIMARY KEY,
    transaction_id TEXT NOT NULL REFERENCES transactions (id),
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    time_nanos INTEGER NOT NULL
) STRICT;
";

const COLUMNS: &str = "id, kind, state, currency, amount_minor_units, card_tag, card_last_four, to_account, \
     trace_id, authorization, dispense_id, presented_minor_units, ending, reason, balance_minor_units, \
     available_minor_units";

pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(path: &Path, terminal: TerminalId) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_path_buf(), source };
        // Made here and not by SQLite, so that it and its log are nobody else's to read.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.sync_all())
            .map_err(io)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        let connection = Connection::open(path).map_err(|source| storage(path, source))?;
        let mut store = Self { connection, path: path.to_path_buf() };
        store.prepare(terminal)?;
        Ok(store)
    }

    /// Makes sure that every answer from here on is durable, whole and ours.
    fn prepare(&mut self, terminal: TerminalId) -> Result<(), JournalError> {
        self.pragma("journal_mode", "WAL")?;
        self.pragma("synchronous", "FULL")?;
        self.pragma("foreign_keys", "ON")?;
        self.checkpoint()?;
        let version = self.pragma_value("user_version")?;
        let application = self.pragma_value("application_id")?;
        match (application, version) {
            (0, 0) if self.is_empty()? => self.create(terminal)?,
            (APPLICATION_ID, SCHEMA_VERSION) => {}
            (APPLICATION_ID, found) => {
                return Err(JournalError::OtherVersion {
                    path: self.path.clone(),
                    found,
                    known: SCHEMA_VERSION,
                });
            }
            _ => return Err(self.damaged("it is not a journal of this program")),
        }
        let verdict: String =
            self.sql(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if verdict != "ok" {
            return Err(self.damaged(&verdict));
        }
        let owner: String = self.sql(|connection| {
            connection.query_row("SELECT terminal_id FROM terminal WHERE only = 1", [], |row| row.get(0))
        })?;
        if owner != terminal.to_string() {
            return Err(JournalError::OtherTerminal { path: self.path.clone() });
        }
        Ok(())
    }

    /// After a kill SQLite answers from frames of the log that were never flushed; what is answered from
    /// here on must be on disk. So everything moves into the database file first, or the machine stays out
    /// of service.
    fn checkpoint(&self) -> Result<(), JournalError> {
        let busy: i64 = self.sql(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        })?;
        if busy == 0 {
            Ok(())
        } else {
            Err(self.damaged("its write-ahead log could not be checkpointed; is somebody reading it?"))
        }
    }

    fn create(&mut self, terminal: TerminalId) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.execute(
                "INSERT INTO terminal (only, terminal_id) VALUES (1, ?1)",
                params![terminal.to_string()],
            )?;
            Ok(())
        })
    }

    pub(super) fn find(&self, id: TransactionId) -> Result<Option<Record>, JournalError> {
        let raw = self.sql(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM transactions WHERE id = ?1"))?
                .query_row(params![id.to_string()], read_row)
                .optional()
        })?;
        raw.map(|raw| raw.into_record(&self.path)).transpose()
    }

    pub(super) fn open_transactions(&self) -> Result<Vec<Record>, JournalError> {
        let raw = self.sql(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM transactions WHERE state NOT IN ('DONE', 'VOIDED')
                     ORDER BY (SELECT min(sequence) FROM steps WHERE transaction_id = id)"
                ))?
                .query_map([], read_row)?
                .collect::<Result<Vec<_>, _>>()
        })?;
        raw.into_iter().map(|raw| raw.into_record(&self.path)).collect()
    }

    pub(super) fn begin(&mut self, intent: &Intent, now: Timestamp) -> Result<Record, JournalError> {
        if let Some(existing) = self.find(intent.id)?
            && !(existing.may_begin_again() && intent.difference(&existing.intent).is_none())
        {
            return Err(JournalError::Presence { id: intent.id, exists: true });
        }
        let record = Record {
            intent: intent.clone(),
            state: State::Intent,
            authorization: Vec::new(),
            dispense_id: None,
            presented: None,
            ending: None,
            reason: None,
            balance: None,
        };
        self.write(|transaction| {
            write_record(transaction, &record)?;
            write_step(transaction, &record, "INTENT", now)
        })?;
        Ok(record)
    }

    pub(super) fn apply(
        &mut self,
        id: TransactionId,
        event: &Event,
        now: Timestamp,
    ) -> Result<Record, JournalError> {
        let record = self.find(id)?.ok_or(JournalError::Presence { id, exists: false })?;
        let state = machine::next(record.intent.kind, record.state, event).ok_or(JournalError::Illegal {
            id,
            state: record.state,
            event: event.name(),
        })?;
        let record = after(record, state, event);
        self.write(|transaction| {
            write_record(transaction, &record)?;
            write_step(transaction, &record, event.name(), now)
        })?;
        Ok(record)
    }

    fn write(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), JournalError> {
        let path = &self.path;
        let done = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(
            |transaction| {
                work(&transaction)?;
                transaction.commit()
            },
        );
        done.map_err(|source| storage(path, source))
    }

    fn sql<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, JournalError> {
        work(&self.connection).map_err(|source| storage(&self.path, source))
    }

    fn is_empty(&self) -> Result<bool, JournalError> {
        self.sql(|connection| {
            connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        })
    }

    fn pragma(&self, name: &str, value: &str) -> Result<(), JournalError> {
        self.sql(|connection| connection.pragma_update(None, name, value))
    }

    fn pragma_value(&self, name: &str) -> Result<i64, JournalError> {
        self.sql(|connection| connection.pragma_query_value(None, name, |row| row.get(0)))
    }

    fn damaged(&self, what: &str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

/// The record once `event` has led to `state`. What the event does not speak of stays as it was.
fn after(mut record: Record, state: State, event: &Event) -> Record {
    record.state = state;
    record.ending = event.ending();
    match event {
        Event::Held { authorization, balance } => {
            record.authorization.clone_from(authorization);
            record.balance = *balance;
        }
        Event::DispenseBegun { dispense_id } => record.dispense_id = Some(*dispense_id),
        Event::Presented { amount } => record.presented = Some(*amount),
        Event::Captured { balance } | Event::Posted { balance } => {
            record.balance = *balance;
            record.reason = None;
        }
        Event::Declined { reason, balance } => {
            record.balance = *balance;
            record.reason = Some(reason.clone());
        }
        Event::Cancelled { reason } => {
            // The hold is gone, and with it what the bank said while it stood.
            record.balance = None;
            if reason.is_some() {
                record.reason.clone_from(reason);
            }
        }
        Event::GivenUp { reason } => {
            record.balance = None;
            record.reason = Some(reason.clone());
        }
        Event::CaptureRefused { reason } | Event::Refused { reason } | Event::Contradicted { reason } => {
            record.reason = Some(reason.clone());
        }
        Event::NotPresented => record.reason = Some("not_presented".to_owned()),
        Event::PresentationUnknown => record.reason = Some("presentation_unknown".to_owned()),
        Event::NotSent => record.reason = Some("unavailable".to_owned()),
        Event::CaptureBegun => {}
    }
    record
}

fn write_record(transaction: &Transaction<'_>, record: &Record) -> Result<(), rusqlite::Error> {
    let intent = &record.intent;
    // One statement for both: a transaction's row is made by its INTENT and replaced by each later event.
    transaction
        .prepare_cached(&format!(
            "INSERT INTO transactions ({COLUMNS}) VALUES (:id, :kind, :state, :currency, :amount, :card_tag,
                 :last_four, :to_account, :trace_id, :authorization, :dispense_id, :presented, :ending,
                 :reason, :balance, :available)
             ON CONFLICT (id) DO UPDATE SET state = :state, trace_id = :trace_id,
                 authorization = :authorization, dispense_id = :dispense_id,
                 presented_minor_units = :presented, ending = :ending, reason = :reason,
                 balance_minor_units = :balance, available_minor_units = :available"
        ))?
        .execute(named_params! {
            ":id": intent.id.to_string(),
            ":kind": intent.kind.name(),
            ":state": record.state.name(),
            ":currency": intent.amount.currency().code(),
            ":amount": intent.amount.minor_units(),
            ":card_tag": intent.card.tag,
            ":last_four": intent.card.last_four,
            ":to_account": intent.to_account,
            ":trace_id": intent.trace_id,
            ":authorization": record.authorization,
            ":dispense_id": record.dispense_id.map(|id| id.hyphenated().to_string()),
            ":presented": record.presented.map(Money::minor_units),
            ":ending": record.ending.map(Ending::name),
            ":reason": record.reason,
            ":balance": record.balance.map(|balance| balance.balance),
            ":available": record.balance.map(|balance| balance.available),
        })?;
    Ok(())
}

fn write_step(
    transaction: &Transaction<'_>,
    record: &Record,
    event: &str,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "INSERT INTO steps (transaction_id, event, state, reason, time_nanos) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            record.id().to_string(),
            event,
            record.state.name(),
            record.reason,
            now.as_nanos()
        ])?;
    Ok(())
}

/// A row as SQLite gives it, before anybody believes it.
struct RawRow {
    id: String,
    kind: String,
    state: String,
    currency: String,
    amount: i64,
    card_tag: Vec<u8>,
    last_four: String,
    to_account: Option<String>,
    trace_id: String,
    authorization: Vec<u8>,
    dispense_id: Option<String>,
    presented: Option<i64>,
    ending: Option<String>,
    reason: Option<String>,
    balance: Option<i64>,
    available: Option<i64>,
}

fn read_row(row: &Row<'_>) -> Result<RawRow, rusqlite::Error> {
    Ok(RawRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        state: row.get(2)?,
        currency: row.get(3)?,
        amount: row.get(4)?,
        card_tag: row.get(5)?,
        last_four: row.get(6)?,
        to_account: row.get(7)?,
        trace_id: row.get(8)?,
        authorization: row.get(9)?,
        dispense_id: row.get(10)?,
        presented: row.get(11)?,
        ending: row.get(12)?,
        reason: row.get(13)?,
        balance: row.get(14)?,
        available: row.get(15)?,
    })
}

impl RawRow {
    fn into_record(self, path: &Path) -> Result<Record, JournalError> {
        let damaged = |column: &str| JournalError::Damaged {
            path: path.to_path_buf(),
            what: format!("transaction {} has no valid {column}", self.id),
        };
        let currency = self.currency.parse().map_err(|_| damaged("currency"))?;
        let ending = match &self.ending {
            Some(name) => Some(Ending::of_name(name).ok_or_else(|| damaged("ending"))?),
            None => None,
        };
        let dispense_id = match &self.dispense_id {
            Some(text) => Some(Uuid::try_parse(text).map_err(|_| damaged("dispense_id"))?),
            None => None,
        };
        Ok(Record {
            intent: Intent {
                id: self.id.parse().map_err(|_| damaged("id"))?,
                kind: Kind::of_name(&self.kind).ok_or_else(|| damaged("kind"))?,
                amount: Money::new(self.amount, currency),
                card: CardTag {
                    tag: self.card_tag.as_slice().try_into().map_err(|_| damaged("card_tag"))?,
                    last_four: self.last_four.clone(),
                },
                to_account: self.to_account.clone(),
                trace_id: self.trace_id.clone(),
            },
            state: State::of_name(&self.state).ok_or_else(|| damaged("state"))?,
            authorization: self.authorization.clone(),
            dispense_id,
            presented: self.presented.map(|units| Money::new(units, currency)),
            ending,
            reason: self.reason.clone(),
            balance: self
                .balance
                .zip(self.available)
                .map(|(balance, available)| AccountBalance { balance, available }),
        })
    }
}

/// Tells a damaged file from one that cannot be used just now.
fn storage(path: &Path, source: rusqlite::Error) -> JournalError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            JournalError::Damaged { path: path.to_path_buf(), what: source.to_string() }
        }
        Some(_) | None => JournalError::Storage { path: path.to_path_buf(), source },
    }
}

/// Whether a directory holds a journal.
pub(super) fn exists(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
