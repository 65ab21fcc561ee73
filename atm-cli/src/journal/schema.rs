//! The tables, and how a journal of schema 1 becomes one of schema 2.

use rusqlite::{Transaction, params};

use super::chain::{self, Subject};
use super::rows;

/// "ATMj" in `PRAGMA application_id`: what tells a journal from somebody else's database.
pub(super) const APPLICATION_ID: i64 = 0x4154_4d6a;
pub(super) const VERSION: i64 = 2;
pub(super) const OLDEST: i64 = 1;

const TRANSACTIONS: &str = "
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
";

/// What schema 2 knows of a transaction beyond schema 1.
const MORE_COLUMNS: &str = "
ALTER TABLE transactions ADD COLUMN cash_in_id TEXT;
ALTER TABLE transactions ADD COLUMN plan TEXT NOT NULL DEFAULT '';
ALTER TABLE transactions ADD COLUMN cassettes_before TEXT NOT NULL DEFAULT '';
ALTER TABLE transactions ADD COLUMN retracted_minor_units INTEGER;
ALTER TABLE transactions ADD COLUMN retract_uncounted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN resolved_minor_units INTEGER;
ALTER TABLE transactions ADD COLUMN noted_sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN ended_nanos INTEGER;
";

/// `steps` is a chain: `hash` is the SHA-256 over the row and the `hash` of the row before, and `row_hash` that of
/// the row in `transactions`, `movements` or `machine` as this step left it. `anchor` is where the chain begins
/// after older steps were compacted; `carried` sums up what those said about cash, notes by denomination and under the
/// denomination 0 their worth in the books.
const CHAIN: &str = "
CREATE TABLE movements (
    id TEXT PRIMARY KEY,
    from_account TEXT NOT NULL,
    to_account TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor_units INTEGER NOT NULL,
    notes TEXT NOT NULL,
    about TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    ended_nanos INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE machine (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    current_epoch INTEGER,
    current_boot TEXT,
    current_previous TEXT,
    pending_epoch INTEGER,
    pending_boot TEXT,
    pending_previous TEXT,
    outage TEXT,
    device TEXT,
    enrolled_as TEXT
) STRICT;
CREATE TABLE carried (
    place TEXT NOT NULL,
    denomination INTEGER NOT NULL,
    count INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (place, denomination)
) STRICT, WITHOUT ROWID;
CREATE TABLE anchor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE steps (
    sequence INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    time_nanos INTEGER NOT NULL,
    seen_sequence INTEGER NOT NULL,
    row_hash BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX steps_of_subject ON steps (subject, sequence);
INSERT INTO anchor VALUES (1, 0, zeroblob(32));
INSERT INTO machine (only) VALUES (1);
";

/// Makes the tables of a new journal.
pub(super) fn create(
    transaction: &Transaction<'_>,
    terminal: &str,
    now_nanos: i64,
) -> Result<(), rusqlite::Error> {
    transaction.execute_batch(TRANSACTIONS)?;
    transaction.execute_batch(MORE_COLUMNS)?;
    transaction.execute_batch(CHAIN)?;
    transaction.execute("INSERT INTO terminal (only, terminal_id) VALUES (1, ?1)", [terminal])?;
    born(transaction, "MADE", now_nanos)
}

/// Brings a journal of schema 1 up to schema 2. Its steps are chained as they are; of each transaction the newest
/// carries the hash of its row, from which on damage is noticed. There was no device then, and what was DISPENSING
/// never came out: the new device will say that it was never told.
pub(super) fn migrate(transaction: &Transaction<'_>, now_nanos: i64) -> Result<(), rusqlite::Error> {
    transaction.execute_batch("ALTER TABLE steps RENAME TO steps_1")?;
    transaction.execute_batch(MORE_COLUMNS)?;
    transaction.execute_batch(CHAIN)?;
    transaction.execute_batch(
        "UPDATE transactions SET state = 'SUSPEND_PENDING'
         WHERE state = 'SUSPECT' AND reason = 'presentation_unknown';
         UPDATE transactions SET ended_nanos =
             (SELECT max(time_nanos) FROM steps_1 WHERE transaction_id = id)
         WHERE state IN ('DONE', 'VOIDED');",
    )?;
    let mut old = transaction.prepare(
        "SELECT transaction_id, event, state, reason, time_nanos,
             sequence = (SELECT max(sequence) FROM steps_1 AS o WHERE o.transaction_id = s.transaction_id)
         FROM steps_1 AS s ORDER BY sequence",
    )?;
    let mut old = old.query([])?;
    while let Some(row) = old.next()? {
        let subject = Subject::Transaction(row.get(0)?);
        let (event, state, reason): (String, String, Option<String>) =
            (row.get(1)?, row.get(2)?, row.get(3)?);
        let newest: bool = row.get(5)?;
        let row_hash = if newest { rows::hash_of(transaction, &subject)? } else { Vec::new() };
        let what = chain::What { event: &event, state: &state, reason: reason.as_deref() };
        chain::append_with(transaction, &subject, what, row.get(4)?, 0, &row_hash)?;
    }
    transaction.execute_batch("DROP TABLE steps_1")?;
    born(transaction, "MIGRATED", now_nanos)
}

fn born(transaction: &Transaction<'_>, event: &str, now_nanos: i64) -> Result<(), rusqlite::Error> {
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    let what = chain::What { event, state: "", reason: None };
    chain::append(transaction, &Subject::Machine, what, now_nanos, 0)
}

/// The owner of the journal.
pub(super) fn terminal(connection: &rusqlite::Connection) -> Result<String, rusqlite::Error> {
    connection.query_row("SELECT terminal_id FROM terminal WHERE only = ?1", params![1], |row| row.get(0))
}
