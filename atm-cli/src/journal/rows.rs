//! The rows of the journal as SQLite gives them, before anybody believes them, and what they mean.

use std::path::Path;

use atm_types::{Money, Timestamp, TransactionId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use serde::Serialize;
use uuid::Uuid;

use super::chain::{Subject, hash};
use super::expected::Carried;
use super::machine::{AccountBalance, Ending, Kind, State};
use super::movement::{Account, Movement, MovementState};
use super::record::{CardTag, Intent, Record};
use super::status::{Boot, Outage, Status};
use crate::device::Notes;
use crate::durable::DurableError;

const TRANSACTION: &str = "id, kind, state, currency, amount_minor_units, card_tag, card_last_four, to_account, \
     trace_id, authorization, dispense_id, presented_minor_units, ending, reason, balance_minor_units, \
     available_minor_units, cash_in_id, plan, cassettes_before, retracted_minor_units, retract_uncounted, \
     resolved_minor_units, noted_sequence, ended_nanos";
const MOVEMENT: &str = "id, from_account, to_account, currency, amount_minor_units, notes, about, state, reason, \
     ended_nanos";
const MACHINE: &str = "current_epoch, current_boot, current_previous, pending_epoch, pending_boot, \
     pending_previous, outage, device, enrolled_as";

/// The hash of the row that a step is about; of one that is not there, the hash of nothing.
pub(super) fn hash_of(connection: &Connection, subject: &Subject) -> Result<Vec<u8>, rusqlite::Error> {
    Ok(match subject {
        Subject::Transaction(id) => hash(&find_transaction(connection, id)?),
        Subject::Movement(id) => hash(&find_movement(connection, id)?),
        Subject::Machine => hash(&Some(machine(connection)?)),
    })
}

/// Every row there is, and its hash.
pub(super) fn hashes(connection: &Connection) -> Result<Vec<(Subject, Vec<u8>)>, rusqlite::Error> {
    let mut found = vec![(Subject::Machine, hash(&Some(machine(connection)?)))];
    for row in transactions(connection, "")? {
        found.push((Subject::Transaction(row.id.clone()), hash(&Some(row))));
    }
    for row in movements(connection, "")? {
        found.push((Subject::Movement(row.id.clone()), hash(&Some(row))));
    }
    Ok(found)
}

#[derive(Serialize)]
pub(super) struct RawTransaction {
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
    cash_in_id: Option<String>,
    plan: String,
    cassettes_before: String,
    retracted: Option<i64>,
    retract_uncounted: bool,
    resolved: Option<i64>,
    noted_sequence: i64,
    ended: Option<i64>,
}

fn read_transaction(row: &Row<'_>) -> Result<RawTransaction, rusqlite::Error> {
    Ok(RawTransaction {
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
        cash_in_id: row.get(16)?,
        plan: row.get(17)?,
        cassettes_before: row.get(18)?,
        retracted: row.get(19)?,
        retract_uncounted: row.get(20)?,
        resolved: row.get(21)?,
        noted_sequence: row.get(22)?,
        ended: row.get(23)?,
    })
}

/// One transaction's row.
pub(super) fn find_transaction(
    connection: &Connection,
    id: &str,
) -> Result<Option<RawTransaction>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {TRANSACTION} FROM transactions WHERE id = ?1"))?
        .query_row([id], read_transaction)
        .optional()
}

/// The rows that `filter`, the end of a statement, chooses.
pub(super) fn transactions(
    connection: &Connection,
    filter: &str,
) -> Result<Vec<RawTransaction>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {TRANSACTION} FROM transactions {filter}"))?
        .query_map([], read_transaction)?
        .collect()
}

/// Writes a transaction's row, over the one that was there.
pub(super) fn write_transaction(
    transaction: &Transaction<'_>,
    record: &Record,
) -> Result<(), rusqlite::Error> {
    let intent = &record.intent;
    let uuid = |id: Option<Uuid>| id.map(|id| id.hyphenated().to_string());
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO transactions ({TRANSACTION}) VALUES (:id, :kind, :state, :currency, :amount,
                 :card_tag, :last_four, :to_account, :trace_id, :authorization, :dispense_id, :presented, :ending,
                 :reason, :balance, :available, :cash_in_id, :plan, :cassettes_before, :retracted,
                 :retract_uncounted, :resolved, :noted_sequence, :ended)"
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
            ":dispense_id": uuid(record.dispense_id),
            ":presented": record.presented.map(Money::minor_units),
            ":ending": record.ending.map(Ending::name),
            ":reason": record.reason,
            ":balance": record.balance.map(|balance| balance.balance),
            ":available": record.balance.map(|balance| balance.available),
            ":cash_in_id": uuid(record.cash_in_id),
            ":plan": record.plan.to_string(),
            ":cassettes_before": record.cassettes_before.to_string(),
            ":retracted": record.retracted.map(Money::minor_units),
            ":retract_uncounted": record.retract_uncounted,
            ":resolved": record.resolved.map(Money::minor_units),
            ":noted_sequence": i64::try_from(record.noted_sequence).unwrap_or(i64::MAX),
            ":ended": record.ended.map(Timestamp::as_nanos),
        })?;
    Ok(())
}

impl RawTransaction {
    pub(super) fn into_record(self, path: &Path) -> Result<Record, DurableError> {
        let damaged = |column: &str| DurableError::Damaged {
            path: path.to_path_buf(),
            what: format!("transaction {} has no valid {column}", self.id),
        };
        let currency = self.currency.parse().map_err(|_| damaged("currency"))?;
        let money = |units: Option<i64>| units.map(|units| Money::new(units, currency));
        let ending = match &self.ending {
            Some(name) => Some(Ending::of_name(name).ok_or_else(|| damaged("ending"))?),
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
            dispense_id: uuid(self.dispense_id.as_deref()).map_err(|()| damaged("dispense_id"))?,
            cash_in_id: uuid(self.cash_in_id.as_deref()).map_err(|()| damaged("cash_in_id"))?,
            plan: self.plan.parse().map_err(|_| damaged("plan"))?,
            cassettes_before: self.cassettes_before.parse().map_err(|_| damaged("cassettes_before"))?,
            presented: money(self.presented),
            retracted: money(self.retracted),
            retract_uncounted: self.retract_uncounted,
            resolved: money(self.resolved),
            noted_sequence: u64::try_from(self.noted_sequence).map_err(|_| damaged("noted_sequence"))?,
            ended: self.ended.map(Timestamp::from_nanos),
            ending,
            reason: self.reason.clone(),
            balance: self
                .balance
                .zip(self.available)
                .map(|(balance, available)| AccountBalance { balance, available }),
        })
    }
}

fn uuid(text: Option<&str>) -> Result<Option<Uuid>, ()> {
    text.map(Uuid::try_parse).transpose().map_err(|_| ())
}

#[derive(Serialize)]
pub(super) struct RawMovement {
    id: String,
    from: String,
    to: String,
    currency: String,
    amount: i64,
    notes: String,
    about: Option<String>,
    state: String,
    reason: Option<String>,
    ended: Option<i64>,
}

fn read_movement(row: &Row<'_>) -> Result<RawMovement, rusqlite::Error> {
    Ok(RawMovement {
        id: row.get(0)?,
        from: row.get(1)?,
        to: row.get(2)?,
        currency: row.get(3)?,
        amount: row.get(4)?,
        notes: row.get(5)?,
        about: row.get(6)?,
        state: row.get(7)?,
        reason: row.get(8)?,
        ended: row.get(9)?,
    })
}

/// One movement's row.
pub(super) fn find_movement(
    connection: &Connection,
    id: &str,
) -> Result<Option<RawMovement>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {MOVEMENT} FROM movements WHERE id = ?1"))?
        .query_row([id], read_movement)
        .optional()
}

/// The rows that `filter`, the end of a statement, chooses.
pub(super) fn movements(connection: &Connection, filter: &str) -> Result<Vec<RawMovement>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {MOVEMENT} FROM movements {filter}"))?
        .query_map([], read_movement)?
        .collect()
}

/// Writes a movement's row, over the one that was there.
pub(super) fn write_movement(
    transaction: &Transaction<'_>,
    movement: &Movement,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO movements ({MOVEMENT}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute(params![
            movement.id.to_string(),
            movement.from.name(),
            movement.to.name(),
            movement.amount.currency().code(),
            movement.amount.minor_units(),
            movement.notes.to_string(),
            movement.about.map(|id| id.to_string()),
            movement.state.name(),
            movement.reason,
            movement.ended.map(Timestamp::as_nanos),
        ])?;
    Ok(())
}

impl RawMovement {
    pub(super) fn into_movement(self, path: &Path) -> Result<Movement, DurableError> {
        let damaged = |column: &str| DurableError::Damaged {
            path: path.to_path_buf(),
            what: format!("cash movement {} has no valid {column}", self.id),
        };
        let account = |name: &str| Account::of_name(name);
        let currency = self.currency.parse().map_err(|_| damaged("currency"))?;
        let about: Option<TransactionId> =
            self.about.as_deref().map(str::parse).transpose().map_err(|_| damaged("about"))?;
        let notes: Notes = self.notes.parse().map_err(|_| damaged("notes"))?;
        Ok(Movement {
            id: self.id.parse().map_err(|_| damaged("id"))?,
            from: account(&self.from).ok_or_else(|| damaged("from_account"))?,
            to: account(&self.to).ok_or_else(|| damaged("to_account"))?,
            amount: Money::new(self.amount, currency),
            notes,
            about,
            state: MovementState::of_name(&self.state).ok_or_else(|| damaged("state"))?,
            reason: self.reason.clone(),
            ended: self.ended.map(Timestamp::from_nanos),
        })
    }
}

#[derive(Serialize)]
pub(super) struct RawMachine {
    current: (Option<i64>, Option<String>, Option<String>),
    pending: (Option<i64>, Option<String>, Option<String>),
    outage: Option<String>,
    device: Option<String>,
    enrolled_as: Option<String>,
}

/// What compacted rows said about cash: place, denomination, count. Nothing when it is not what was written.
pub(super) fn carried(connection: &Connection) -> Result<Option<Carried>, rusqlite::Error> {
    let shortened: bool = connection.query_row("SELECT sequence > 0 FROM anchor", [], |row| row.get(0))?;
    let mut statement = connection.prepare_cached("SELECT place, denomination, count, hash FROM carried")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (place, denomination, count): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(account) = Account::of_name(&place) else { return Ok(None) };
        if hash(&(&place, denomination, count)) != row.get::<_, Vec<u8>>(3)? {
            return Ok(None);
        }
        found.push((account, denomination, count));
    }
    // Each place has a row for its worth, also when that is nothing.
    let worths = found.iter().filter(|(_, denomination, _)| *denomination == 0).count();
    Ok((worths == if shortened { Account::ALL.len() } else { 0 }).then_some(found))
}

/// Replaces it.
pub(super) fn write_carried(
    transaction: &Transaction<'_>,
    carried: &[(Account, i64, i64)],
) -> Result<(), rusqlite::Error> {
    transaction.execute("DELETE FROM carried", [])?;
    let mut insert = transaction.prepare_cached("INSERT INTO carried VALUES (?1, ?2, ?3, ?4)")?;
    carried.iter().try_for_each(|(place, denomination, count)| {
        let hash = hash(&(place.name(), denomination, count));
        insert.execute(params![place.name(), denomination, count, hash]).map(drop)
    })
}

/// The machine's own row.
pub(super) fn machine(connection: &Connection) -> Result<RawMachine, rusqlite::Error> {
    connection.prepare_cached(&format!("SELECT {MACHINE} FROM machine WHERE only = 1"))?.query_row(
        [],
        |row| {
            Ok(RawMachine {
                current: (row.get(0)?, row.get(1)?, row.get(2)?),
                pending: (row.get(3)?, row.get(4)?, row.get(5)?),
                outage: row.get(6)?,
                device: row.get(7)?,
                enrolled_as: row.get(8)?,
            })
        },
    )
}

/// Writes the machine's own row.
pub(super) fn write_machine(transaction: &Transaction<'_>, status: &Status) -> Result<(), rusqlite::Error> {
    let boot = |boot: Option<Boot>| {
        let previous = boot.and_then(|boot| boot.previous).map(|id| id.to_string());
        let epoch = boot.map(|boot| i64::try_from(boot.epoch).unwrap_or(i64::MAX));
        (epoch, boot.map(|boot| boot.id.to_string()), previous)
    };
    let (current, pending) = (boot(status.current), boot(status.pending));
    transaction
        .prepare_cached(
            "UPDATE machine SET current_epoch = ?1, current_boot = ?2, current_previous = ?3, pending_epoch = ?4,
                 pending_boot = ?5, pending_previous = ?6, outage = ?7, device = ?8, enrolled_as = ?9
             WHERE only = 1",
        )?
        .execute(params![
            current.0,
            current.1,
            current.2,
            pending.0,
            pending.1,
            pending.2,
            status.outage.map(Outage::name),
            status.device.map(|id| id.to_string()),
            status.enrolled_as,
        ])?;
    Ok(())
}

impl RawMachine {
    pub(super) fn into_status(self, path: &Path) -> Result<Status, DurableError> {
        let damaged = |column: &str| DurableError::Damaged {
            path: path.to_path_buf(),
            what: format!("the machine has no valid {column}"),
        };
        let boot = |(epoch, id, previous): (Option<i64>, Option<String>, Option<String>)| {
            let Some((epoch, id)) = epoch.zip(id) else { return Ok(None) };
            Ok(Some(Boot {
                epoch: u64::try_from(epoch).map_err(|_| damaged("boot epoch"))?,
                id: Uuid::try_parse(&id).map_err(|_| damaged("boot id"))?,
                previous: uuid(previous.as_deref()).map_err(|()| damaged("boot id"))?,
            }))
        };
        let outage = match &self.outage {
            Some(name) => Some(Outage::of_name(name).ok_or_else(|| damaged("outage"))?),
            None => None,
        };
        Ok(Status {
            current: boot(self.current)?,
            pending: boot(self.pending)?,
            outage,
            device: uuid(self.device.as_deref()).map_err(|()| damaged("device"))?,
            enrolled_as: self.enrolled_as,
        })
    }
}
