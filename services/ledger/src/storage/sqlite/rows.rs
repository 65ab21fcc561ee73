//! Reading rows. Numbers and ids become the types of the ledger here and nowhere else.

use atm_types::{Timestamp, TransactionId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Batch, Checkpoint, Hash, Head, StepKey, StoreError, StoredStep};
use super::unreadable;

/// Transaction id and ordinal of a step in a batch row.
pub(super) const KEY_BYTES: usize = 17;

pub(super) fn head(connection: &Connection) -> Result<Head, StoreError> {
    connection
        .prepare_cached("SELECT sequence, commit_time, hash FROM head WHERE id = 1")
        .and_then(|mut select| select.query_row([], |row| Ok(head_of(row))))
        .map_err(unreadable)?
}

pub(super) fn checkpoint(connection: &Connection) -> Result<Checkpoint, StoreError> {
    connection
        .prepare_cached("SELECT sequence, commit_time, hash, newest_id FROM checkpoint WHERE id = 1")
        .and_then(|mut select| {
            select.query_row([], |row| {
                Ok(head_of(row).and_then(|head| Ok(Checkpoint { head, newest_id: transaction_id(row, 3)? })))
            })
        })
        .map_err(unreadable)?
}

fn head_of(row: &Row<'_>) -> Result<Head, StoreError> {
    Ok(Head {
        sequence: unsigned(row, 0)?,
        commit_time: Timestamp::from_nanos(integer(row, 1)?),
        hash: bytes(row, 2)?,
    })
}

pub(super) fn batch_of(connection: &Connection, sequence: u64) -> Result<Option<Batch>, StoreError> {
    let sql = "SELECT first_sequence, commit_time, hash, steps FROM batch \
               WHERE first_sequence <= ?1 ORDER BY first_sequence DESC LIMIT 1";
    let batch = connection
        .prepare_cached(sql)
        .and_then(|mut select| select.query_row([signed(sequence)], |row| Ok(batch(row))).optional())
        .map_err(unreadable)?
        .transpose()?;
    Ok(batch.filter(|batch| batch.last_sequence() >= sequence))
}

fn batch(row: &Row<'_>) -> Result<Batch, StoreError> {
    let first_sequence = unsigned(row, 0)?;
    let (keys, rest) = blob(row, 3)?.as_chunks::<KEY_BYTES>();
    if keys.is_empty() || !rest.is_empty() {
        return Err(StoreError::damaged(format!("the batch of step {first_sequence} has no proper steps")));
    }
    Ok(Batch {
        first_sequence,
        commit_time: Timestamp::from_nanos(integer(row, 1)?),
        keys: keys.iter().map(step_key).collect(),
        hash: bytes(row, 2)?,
    })
}

fn step_key(bytes: &[u8; KEY_BYTES]) -> StepKey {
    let [id @ .., ordinal] = *bytes;
    StepKey { id: TransactionId::from_bytes(id), ordinal }
}

pub(super) fn step(connection: &Connection, key: StepKey) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT data FROM step WHERE transaction_id = ?1 AND ordinal = ?2")
        .and_then(|mut select| {
            let data = |row: &Row<'_>| Ok(blob(row, 0).map(<[u8]>::to_vec));
            select.query_row(params![key.id.as_bytes(), key.ordinal], data).optional()
        })
        .map_err(unreadable)?
        .transpose()
}

pub(super) fn transaction(connection: &Connection, id: TransactionId) -> Result<Vec<StoredStep>, StoreError> {
    let sql = "SELECT transaction_id, ordinal, data FROM step WHERE transaction_id = ?1 ORDER BY ordinal";
    collect(connection, sql, params![id.as_bytes()], stored_step)
}

pub(super) fn open_holds_after(
    connection: &Connection,
    after: Option<TransactionId>,
    limit: usize,
) -> Result<Vec<TransactionId>, StoreError> {
    let sql =
        "SELECT transaction_id FROM open_hold WHERE transaction_id > ?1 ORDER BY transaction_id LIMIT ?2";
    // No blob sorts before the empty one.
    let after = after.as_ref().map_or(&[][..], |after| after.as_bytes());
    collect(connection, sql, params![after, limit_of(limit)], |row| transaction_id(row, 0))
}

pub(super) fn steps_after_key(
    connection: &Connection,
    after: Option<StepKey>,
    limit: usize,
) -> Result<Vec<StoredStep>, StoreError> {
    let sql = "SELECT transaction_id, ordinal, data FROM step WHERE (transaction_id, ordinal) > (?1, ?2) \
               ORDER BY transaction_id, ordinal LIMIT ?3";
    let (id, ordinal) =
        after.as_ref().map_or((&[][..], 0), |after| (&after.id.as_bytes()[..], after.ordinal));
    collect(connection, sql, params![id, ordinal, limit_of(limit)], stored_step)
}

fn stored_step(row: &Row<'_>) -> Result<StoredStep, StoreError> {
    let ordinal = u8::try_from(integer(row, 1)?).map_err(|_| misshapen(row, 1))?;
    Ok(StoredStep { key: StepKey { id: transaction_id(row, 0)?, ordinal }, data: blob(row, 2)?.to_vec() })
}

/// All rows of a query.
pub(super) fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut select = connection.prepare_cached(sql).map_err(unreadable)?;
    let mut rows = select.query(parameters).map_err(unreadable)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(unreadable)? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// A limit as SQLite takes it.
pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A sequence as SQLite takes it; none comes near the end of its range.
pub(super) fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

pub(super) fn integer(row: &Row<'_>, index: usize) -> Result<i64, StoreError> {
    match row.get_ref(index) {
        Ok(ValueRef::Integer(number)) => Ok(number),
        Ok(_) | Err(_) => Err(misshapen(row, index)),
    }
}

pub(super) fn unsigned(row: &Row<'_>, index: usize) -> Result<u64, StoreError> {
    u64::try_from(integer(row, index)?).map_err(|_| misshapen(row, index))
}

pub(super) fn blob<'row>(row: &'row Row<'_>, index: usize) -> Result<&'row [u8], StoreError> {
    match row.get_ref(index) {
        Ok(ValueRef::Blob(bytes)) => Ok(bytes),
        Ok(_) | Err(_) => Err(misshapen(row, index)),
    }
}

pub(super) fn text<'row>(row: &'row Row<'_>, index: usize) -> Result<&'row str, StoreError> {
    match row.get_ref(index).map(|value| value.as_str()) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) | Err(_) => Err(misshapen(row, index)),
    }
}

fn bytes(row: &Row<'_>, index: usize) -> Result<Hash, StoreError> {
    blob(row, index)?.try_into().map_err(|_| misshapen(row, index))
}

fn transaction_id(row: &Row<'_>, index: usize) -> Result<TransactionId, StoreError> {
    let bytes = blob(row, index)?.try_into().map_err(|_| misshapen(row, index))?;
    Ok(TransactionId::from_bytes(bytes))
}

/// A column that has not the shape it was written with.
pub(super) fn misshapen(row: &Row<'_>, index: usize) -> StoreError {
    let column = row.as_ref().column_name(index).unwrap_or("a column");
    StoreError::damaged(format!("{column} has a value that nobody wrote"))
}
