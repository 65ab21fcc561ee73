//! Forgetting what ended long ago.
//!
//! Only the oldest steps are ever cut off, in one piece from the beginning of the chain, and the anchor moves to the
//! last of them, so that what is left can still be verified. The cut stops before the first step that is too
//! young, or that belongs to something which is not over. A row goes with its last step. What it said about cash is
//! carried on as a sum.

use atm_types::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::chain::Subject;
use super::sqlite::is_over;

/// The part of the chain that may go.
pub(super) struct Prefix {
    last: i64,
    hash: Vec<u8>,
    gone: Vec<Subject>,
    pub(super) steps: usize,
}

impl Prefix {
    /// The ids of all that goes with it.
    pub(super) fn gone_ids(&self) -> Vec<String> {
        let id = |subject: &Subject| match subject {
            Subject::Transaction(id) | Subject::Movement(id) => Some(id.clone()),
            Subject::Machine => None,
        };
        self.gone.iter().filter_map(id).collect()
    }
}

/// At most so many of the oldest steps, as far as all that they speak of ended before `cutoff`.
pub(super) fn prefix(
    connection: &Connection,
    cutoff: Timestamp,
    most: usize,
) -> Result<Option<Prefix>, rusqlite::Error> {
    let mut found: Option<Prefix> = None;
    let mut statement = connection.prepare_cached(
        "SELECT sequence, subject, time_nanos, hash,
             sequence = (SELECT max(sequence) FROM steps AS newer WHERE newer.subject = s.subject)
         FROM steps AS s ORDER BY sequence",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (last, key, newest): (i64, String, bool) = (row.get(0)?, row.get(1)?, row.get(4)?);
        let subject = Subject::of_key(&key);
        let full = found.as_ref().is_some_and(|prefix| prefix.steps >= most);
        if full
            || row.get::<_, i64>(2)? > cutoff.as_nanos()
            || !is_forgotten(connection, &subject, newest, cutoff)?
        {
            break;
        }
        let prefix = found.get_or_insert(Prefix { last, hash: Vec::new(), gone: Vec::new(), steps: 0 });
        prefix.last = last;
        prefix.hash = row.get(3)?;
        prefix.steps += 1;
        if newest {
            prefix.gone.push(subject);
        }
    }
    Ok(found)
}

/// Whether nobody will ask for this step again.
fn is_forgotten(
    connection: &Connection,
    subject: &Subject,
    newest: bool,
    cutoff: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let ended = |sql: &str, id: &String| {
        connection.prepare_cached(sql)?.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let (state, nanos): (String, Option<i64>) = match subject {
        // The machine's newest step says what it is now.
        Subject::Machine => return Ok(!newest),
        Subject::Transaction(id) => ended("SELECT state, ended_nanos FROM transactions WHERE id = ?1", id)?,
        Subject::Movement(id) => ended("SELECT state, ended_nanos FROM movements WHERE id = ?1", id)?,
    };
    let over = is_over(&state) || matches!(subject, Subject::Movement(_));
    Ok(over && nanos.is_some_and(|nanos| nanos <= cutoff.as_nanos()))
}

/// Cuts it off.
pub(super) fn cut(transaction: &Transaction<'_>, prefix: &Prefix) -> Result<(), rusqlite::Error> {
    transaction.execute("DELETE FROM steps WHERE sequence <= ?1", [prefix.last])?;
    transaction.execute("UPDATE anchor SET sequence = ?1, hash = ?2", params![prefix.last, prefix.hash])?;
    for subject in &prefix.gone {
        match subject {
            Subject::Transaction(id) => {
                transaction.execute("DELETE FROM transactions WHERE id = ?1", [id])?;
            }
            Subject::Movement(id) => {
                transaction.execute("DELETE FROM movements WHERE id = ?1", [id])?;
            }
            Subject::Machine => {}
        }
    }
    Ok(())
}
