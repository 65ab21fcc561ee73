//! The storage transaction of a batch: compare-and-set on the head, steps, batch row, checkpoint.
//!
//! A large batch is written while it is being decided: [`write_ahead`] opens the transaction and inserts the
//! steps that there are, [`commit`] adds the rest. The head is compared at both ends.

use rusqlite::{Connection, ErrorCode, params};

use super::super::{CheckpointChanges, Commit, CommitError, EncodedSteps, Head};
use super::rows::{KEY_BYTES, signed};
use super::{account_row, unusable};

/// Inserts steps into a transaction that stays open, if the head is `expected`.
pub(super) fn write_ahead(
    connection: &Connection,
    expected: &Head,
    steps: &EncodedSteps,
) -> Result<(), CommitError> {
    let insert = || {
        if connection.is_autocommit() {
            open(connection, expected, expected)?;
        }
        Ok(insert_steps(connection, steps, 0)?)
    };
    insert().or_else(|failure| undo(connection, failure))
}

/// Commits all of `commit` or nothing; the first `ahead` steps were written ahead.
pub(super) fn commit(connection: &Connection, commit: &Commit<'_>, ahead: usize) -> Result<(), CommitError> {
    write(connection, commit, ahead).or_else(|failure| undo(connection, failure))
}

/// Rolls back, and says what the failure means.
fn undo(connection: &Connection, failure: Failure) -> Result<(), CommitError> {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        return Err(failed(error));
    }
    Err(match failure {
        Failure::HeadMoved => CommitError::HeadMoved,
        // A full disk stops the log before the frame that would commit: nothing was written. All other
        // errors leave it open, a failed sync above all.
        Failure::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            CommitError::Full
        }
        Failure::Database(error) => failed(error),
    })
}

fn failed(error: rusqlite::Error) -> CommitError {
    CommitError::Failed(unusable("the batch cannot be committed")(error))
}

enum Failure {
    HeadMoved,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Takes the turn to write, and moves the head from `expected` to `head`.
fn open(connection: &Connection, expected: &Head, head: &Head) -> Result<(), Failure> {
    if connection.is_autocommit() {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    }
    let unmoved = match move_head(connection, expected, head) {
        // Another process is writing, or wrote since this batch began. What was read for it does not matter
        // any more if the head is still the expected one; so wait for the turn, and compare.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            connection.execute_batch("ROLLBACK; BEGIN IMMEDIATE")?;
            move_head(connection, expected, head)?
        }
        result => result?,
    };
    if unmoved { Ok(()) } else { Err(Failure::HeadMoved) }
}

fn write(connection: &Connection, commit: &Commit<'_>, ahead: usize) -> Result<(), Failure> {
    open(connection, &commit.expected, &commit.head)?;
    if !commit.steps.is_empty() {
        insert_steps(connection, commit.steps, ahead)?;
        insert_batch(connection, commit)?;
    }
    if let Some(changes) = &commit.checkpoint {
        write_checkpoint(connection, &commit.head, changes)?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// The compare-and-set that keeps a second writer out.
fn move_head(connection: &Connection, expected: &Head, head: &Head) -> rusqlite::Result<bool> {
    let sql = "UPDATE head SET sequence = ?1, commit_time = ?2, hash = ?3 \
               WHERE id = 1 AND sequence = ?4 AND hash = ?5";
    let moved = connection.prepare_cached(sql)?.execute(params![
        signed(head.sequence),
        head.commit_time.as_nanos(),
        head.hash,
        signed(expected.sequence),
        expected.hash,
    ])?;
    Ok(moved == 1)
}

/// Inserts the steps from `first` on, in the order of the keys, not of the commit: neighbours share pages.
fn insert_steps(connection: &Connection, steps: &EncodedSteps, first: usize) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO step (transaction_id, ordinal, data) VALUES (?1, ?2, ?3)")?;
    let mut order: Vec<usize> = (first..steps.len()).collect();
    order.sort_unstable_by_key(|index| steps.keys()[*index]);
    for index in order {
        let key = &steps.keys()[index];
        insert.execute(params![key.id.as_bytes(), key.ordinal, steps.data(index)])?;
    }
    Ok(())
}

fn insert_batch(connection: &Connection, commit: &Commit<'_>) -> rusqlite::Result<()> {
    let mut keys = Vec::with_capacity(commit.steps.len() * KEY_BYTES);
    for key in commit.steps.keys() {
        keys.extend_from_slice(key.id.as_bytes());
        keys.push(key.ordinal);
    }
    connection
        .prepare_cached(
            "INSERT INTO batch (first_sequence, commit_time, hash, steps) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            signed(commit.expected.sequence + 1),
            commit.head.commit_time.as_nanos(),
            commit.head.hash,
            keys,
        ])?;
    Ok(())
}

fn write_checkpoint(
    connection: &Connection,
    head: &Head,
    changes: &CheckpointChanges<'_>,
) -> rusqlite::Result<()> {
    let mut write = account_row::prepare_write(connection)?;
    for account in changes.accounts {
        account_row::write(&mut write, account)?;
    }
    let mut add = connection.prepare_cached("INSERT INTO open_hold (transaction_id) VALUES (?1)")?;
    for id in changes.holds_added {
        add.execute([id.as_bytes()])?;
    }
    let mut remove = connection.prepare_cached("DELETE FROM open_hold WHERE transaction_id = ?1")?;
    for id in changes.holds_removed {
        remove.execute([id.as_bytes()])?;
    }
    let sql = "UPDATE checkpoint SET sequence = ?1, commit_time = ?2, hash = ?3, newest_id = ?4 WHERE id = 1";
    connection.prepare_cached(sql)?.execute(params![
        signed(head.sequence),
        head.commit_time.as_nanos(),
        head.hash,
        changes.newest_id.as_bytes(),
    ])?;
    Ok(())
}
