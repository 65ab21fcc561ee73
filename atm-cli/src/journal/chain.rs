//! The chain of steps: what makes damage in the middle of the journal visible.
//!
//! Every change to a transaction, to a cash movement or to the machine's own row appends a step in the same SQLite
//! transaction. A step has the next sequence, without gaps, and a SHA-256 over its own content, the content of the
//! changed row, and the hash of the step before. Opening the journal recomputes all of it. A torn tail is not this
//! module's business: SQLite cuts its log at the last whole commit, and what is left is a shorter chain.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::rows;

/// What a step is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Transaction(String),
    Movement(String),
    Machine,
}

impl Subject {
    /// As it stands in the journal: a transaction is its bare id.
    fn key(&self) -> String {
        match self {
            Self::Transaction(id) => id.clone(),
            Self::Movement(id) => format!("movement {id}"),
            Self::Machine => "machine".to_owned(),
        }
    }

    pub(super) fn of_key(key: &str) -> Self {
        match (key, key.strip_prefix("movement ")) {
            ("machine", _) => Self::Machine,
            (_, Some(id)) => Self::Movement(id.to_owned()),
            _ => Self::Transaction(key.to_owned()),
        }
    }
}

/// What a step says.
#[derive(Clone, Copy)]
pub(super) struct What<'a> {
    pub(super) event: &'a str,
    pub(super) state: &'a str,
    pub(super) reason: Option<&'a str>,
}

/// Everything that the hash of a step covers, in this order.
#[derive(Serialize)]
struct Content<'a> {
    before: &'a [u8],
    sequence: i64,
    subject: &'a str,
    event: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    time_nanos: i64,
    seen_sequence: i64,
    row_hash: &'a [u8],
}

/// SHA-256 over a value in its one JSON spelling.
pub(super) fn hash(value: &impl Serialize) -> Vec<u8> {
    // Plain structs of numbers, texts and bytes always have a JSON form.
    let text = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(text).to_vec()
}

/// Appends a step about a row that was written just now.
pub(super) fn append(
    transaction: &Transaction<'_>,
    subject: &Subject,
    what: What<'_>,
    time_nanos: i64,
    seen_sequence: u64,
) -> Result<(), rusqlite::Error> {
    let row_hash = rows::hash_of(transaction, subject)?;
    append_with(transaction, subject, what, time_nanos, seen_sequence, &row_hash)
}

/// The same with the hash of the row given.
pub(super) fn append_with(
    transaction: &Transaction<'_>,
    subject: &Subject,
    what: What<'_>,
    time_nanos: i64,
    seen_sequence: u64,
    row_hash: &[u8],
) -> Result<(), rusqlite::Error> {
    let (sequence, before) = head(transaction)?;
    let seen_sequence = i64::try_from(seen_sequence).unwrap_or(i64::MAX);
    let (sequence, key) = (sequence + 1, subject.key());
    let hash = hash(&Content {
        before: &before,
        sequence,
        subject: &key,
        event: what.event,
        state: what.state,
        reason: what.reason,
        time_nanos,
        seen_sequence,
        row_hash,
    });
    transaction.prepare_cached("INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
        params![
            sequence,
            key,
            what.event,
            what.state,
            what.reason,
            time_nanos,
            seen_sequence,
            row_hash,
            hash
        ],
    )?;
    Ok(())
}

/// The newest step's sequence and hash, or the anchor's when all steps were compacted.
fn head(connection: &Connection) -> Result<(i64, Vec<u8>), rusqlite::Error> {
    let newest = connection
        .prepare_cached("SELECT sequence, hash FROM steps ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    newest.map_or_else(|| anchor(connection), Ok)
}

/// How many steps were ever written.
pub(super) fn newest(connection: &Connection) -> Result<u64, rusqlite::Error> {
    head(connection).map(|(sequence, _)| u64::try_from(sequence).unwrap_or_default())
}

fn anchor(connection: &Connection) -> Result<(i64, Vec<u8>), rusqlite::Error> {
    connection.query_row("SELECT sequence, hash FROM anchor WHERE only = 1", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Recomputes the chain and compares every row with its newest step. Says what is wrong, if anything is; otherwise
/// the highest commit sequence that was seen.
pub(super) fn verify(connection: &Connection) -> Result<Result<u64, String>, rusqlite::Error> {
    let (mut sequence, mut before) = anchor(connection)?;
    let mut newest: HashMap<String, Vec<u8>> = HashMap::new();
    let mut seen = 0;
    let mut statement = connection.prepare("SELECT * FROM steps ORDER BY sequence")?;
    let mut steps = statement.query([])?;
    while let Some(row) = steps.next()? {
        let found: i64 = row.get(0)?;
        if found != sequence + 1 {
            return Ok(Err(format!("step {} is missing", sequence + 1)));
        }
        sequence = found;
        let (key, event, state): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let (reason, row_hash, stored): (Option<String>, Vec<u8>, Vec<u8>) =
            (row.get(4)?, row.get(7)?, row.get(8)?);
        let seen_sequence: i64 = row.get(6)?;
        let expected = hash(&Content {
            before: &before,
            sequence,
            subject: &key,
            event: &event,
            state: &state,
            reason: reason.as_deref(),
            time_nanos: row.get(5)?,
            seen_sequence,
            row_hash: &row_hash,
        });
        if expected != stored {
            return Ok(Err(format!("the checksum of step {sequence} is wrong")));
        }
        seen = seen_sequence;
        before = stored;
        newest.insert(key, row_hash);
    }
    for (subject, found) in rows::hashes(connection)? {
        if newest.remove(&subject.key()) != Some(found) {
            return Ok(Err(format!("what is written about {} does not fit its steps", subject.key())));
        }
    }
    Ok(match newest.keys().next() {
        // Ended ones may have lost their oldest steps to compaction, but never their row before their last step.
        Some(key) => Err(format!("there are steps of {key}, but not what they are about")),
        None => Ok(u64::try_from(seen).unwrap_or(0)),
    })
}
