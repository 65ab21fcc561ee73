//! Rows with checksums: the only way in which rows are written, read and erased, so that none is written without its
//! checksum and none is believed that does not match it.
//!
//! A checksum covers its row, and nothing else: a row that is missing, or a page that is older than the others, has
//! none that is wrong. So `meta` keeps the sum of all checksums, which each transaction changes by what it wrote.

use std::cell::Cell;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Params, Row, params_from_iter};
use sha2::{Digest, Sha256};

use super::StorageError;
use super::sqlite::statement_failed;

/// A table, with the columns that its checksum covers; the first ones are its key.
pub(super) struct Table {
    name: &'static str,
    key: usize,
    columns: &'static [&'static str],
}

pub(super) const META: Table = Table { name: "meta", key: 1, columns: &["name", "value"] };
pub(super) const CARDS: Table = Table {
    name: "cards",
    key: 1,
    columns: &[
        "number_key",
        "card_id",
        "account_id",
        "last_four",
        "pin_salt",
        "pin_hash",
        "hash_memory_kib",
        "hash_passes",
        "hash_lanes",
        "wrong_pins",
        "blocked",
        "session_clock",
    ],
};
pub(super) const UNKNOWN_NUMBERS: Table =
    Table { name: "unknown_numbers", key: 1, columns: &["number_key", "wrong_pins", "touched"] };
pub(super) const ATTEMPTS: Table = Table {
    name: "attempts",
    key: 4,
    columns: &[
        "number_key",
        "atm_id",
        "attempt_id",
        "tag",
        "time",
        "outcome",
        "session_id",
        "card_id",
        "account_id",
        "terminal_id",
        "issue_time",
        "expire_time",
    ],
};
pub(super) const TERMINALS: Table =
    Table { name: "terminals", key: 1, columns: &["atm_id", "terminal_id", "boot_epoch", "boot_id"] };
pub(super) const SESSIONS: Table =
    Table { name: "sessions", key: 1, columns: &["session_id", "expire_time", "atm_id"] };
pub(super) const REVOCATIONS: Table =
    Table { name: "revocations", key: 2, columns: &["kind", "target", "revoke_time", "relevant_until"] };

pub(super) const ORDERS: Table =
    Table { name: "orders", key: 1, columns: &["order_id", "kind", "target", "affected", "time"] };

const TABLES: [&Table; 8] =
    [&META, &CARDS, &UNKNOWN_NUMBERS, &ATTEMPTS, &TERMINALS, &SESSIONS, &REVOCATIONS, &ORDERS];

/// The row of `meta` with the sum of the checksums of all other rows.
const SUM: &str = "sum_of_checksums";

/// The rows of an open transaction.
pub(super) struct CheckedRows<'a> {
    connection: &'a Connection,
    /// Whether there is room on the disk for more than what has to go on when it is full.
    pub(super) has_room: bool,
    /// By how much this transaction has changed the sum of all checksums.
    change: Cell<i64>,
}

impl<'a> CheckedRows<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, has_room: true, change: Cell::new(0) }
    }

    /// All rows that `condition` selects, with the columns of the table in their order; `read` is shown none that is
    /// damaged.
    pub(super) fn select<T>(
        &self,
        table: &Table,
        condition: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let sql = format!("SELECT {}, checksum FROM {} {condition}", table.columns.join(", "), table.name);
        self.checked(table, &sql, params, read)
    }

    /// Writes a row, in the place of the one with the same key; `values` are in the order of the columns.
    pub(super) fn put(&self, table: &Table, values: &[Value]) -> Result<(), StorageError> {
        let key = &table.columns[..table.key];
        let same: Vec<_> = key.iter().zip(1..).map(|(column, at)| format!("{column} = ?{at}")).collect();
        let same = format!("WHERE {}", same.join(" AND "));
        let by = params_from_iter(&values[..table.key]);
        let replaced = self.select(table, &same, by, |row| stored_checksum(row, table))?;
        let added = self.write(table, values)?;
        self.add(replaced.into_iter().fold(added, i64::wrapping_sub));
        Ok(())
    }

    /// Erases the rows that `condition` selects, and says how many these were.
    pub(super) fn delete(
        &self,
        table: &Table,
        condition: &str,
        params: impl Params,
    ) -> Result<usize, StorageError> {
        let columns = table.columns.join(", ");
        let sql = format!("DELETE FROM {} {condition} RETURNING {columns}, checksum", table.name);
        let erased = self.checked(table, &sql, params, |row| stored_checksum(row, table))?;
        self.add(erased.iter().copied().fold(0, i64::wrapping_sub));
        Ok(erased.len())
    }

    /// How many rows a table has.
    pub(super) fn count(&self, table: &Table) -> Result<usize, StorageError> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        let mut statement = self.connection.prepare_cached(&sql).map_err(statement_failed)?;
        let count: i64 = statement.query_row([], |row| row.get(0)).map_err(statement_failed)?;
        usize::try_from(count).map_err(|_| StorageError::Damaged(table.name))
    }

    /// Notes what this transaction has changed in the sum of all checksums: the last thing before its commit.
    pub(super) fn note_sum(&self) -> Result<(), StorageError> {
        let before = self.noted_sum()?.ok_or(StorageError::Incomplete)?;
        self.write_sum(before.wrapping_add(self.change.take()))
    }

    /// Reads every row, and holds the sum of their checksums against the one that is noted.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] names the table of a damaged row; [`StorageError::Incomplete`] if the sum is another.
    pub(super) fn verify(&self) -> Result<(), StorageError> {
        let found = self.sum()?;
        if self.noted_sum()? == Some(found) { Ok(()) } else { Err(StorageError::Incomplete) }
    }

    /// Gives every row its checksum, in a database that had none.
    pub(super) fn introduce(&self) -> Result<(), StorageError> {
        for table in TABLES {
            let sql = format!("SELECT {} FROM {}", table.columns.join(", "), table.name);
            let rows: Vec<Vec<Value>> = self.read(&sql, [], |row| {
                (0..table.columns.len()).map(|index| row.get(index).map_err(statement_failed)).collect()
            })?;
            rows.iter().try_for_each(|values| self.write(table, values).map(drop))?;
        }
        self.write_sum(self.sum()?)
    }

    fn add(&self, change: i64) {
        self.change.set(self.change.get().wrapping_add(change));
    }

    /// Writes a row with its checksum, and tells that.
    fn write(&self, table: &Table, values: &[Value]) -> Result<i64, StorageError> {
        let checksum = checksum(table, values.iter().map(ValueRef::from));
        let places: Vec<_> = (1..=values.len() + 1).map(|at| format!("?{at}")).collect();
        let changed: Vec<_> = table.columns[table.key..]
            .iter()
            .map(|column| format!("{column} = excluded.{column}, "))
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}, checksum) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}checksum = excluded.checksum",
            table.name,
            table.columns.join(", "),
            places.join(", "),
            table.columns[..table.key].join(", "),
            changed.concat(),
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(statement_failed)?;
        let values = values.iter().cloned().chain([Value::Integer(checksum)]);
        statement.execute(params_from_iter(values)).map_err(statement_failed)?;
        Ok(checksum)
    }

    fn noted_sum(&self) -> Result<Option<i64>, StorageError> {
        let found = self.select(&META, "WHERE name = ?1", [SUM], |row| {
            row.get(1).map(i64::from_be_bytes).map_err(statement_failed)
        })?;
        Ok(found.into_iter().next())
    }

    fn write_sum(&self, sum: i64) -> Result<(), StorageError> {
        self.write(&META, &[SUM.to_owned().into(), sum.to_be_bytes().to_vec().into()]).map(drop)
    }

    /// The sum of the checksums of all rows but that of the sum itself.
    fn sum(&self) -> Result<i64, StorageError> {
        TABLES.iter().try_fold(0, |sum: i64, table| {
            let found = self.select(table, "", [], |row| {
                let is_the_sum = row.get_ref(0).map_err(statement_failed)? == ValueRef::from(SUM);
                if table.name == META.name && is_the_sum { Ok(0) } else { stored_checksum(row, table) }
            })?;
            Ok(found.into_iter().fold(sum, i64::wrapping_add))
        })
    }

    fn checked<T>(
        &self,
        table: &Table,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        self.read(sql, params, |row| {
            let columns = (0..table.columns.len()).map(|index| row.get_ref(index));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(statement_failed)?;
            if checksum(table, columns.into_iter()) == stored_checksum(row, table)? {
                read(row)
            } else {
                Err(StorageError::Damaged(table.name))
            }
        })
    }

    fn read<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(statement_failed)?;
        let mut rows = statement.query(params).map_err(statement_failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(statement_failed)? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

fn stored_checksum(row: &Row<'_>, table: &Table) -> Result<i64, StorageError> {
    row.get(table.columns.len()).map_err(statement_failed)
}

/// The first 8 bytes of a SHA-256 over the table's name and all columns: of each its type, and its bytes after their
/// number.
fn checksum<'v>(table: &Table, columns: impl Iterator<Item = ValueRef<'v>>) -> i64 {
    let mut hash = Sha256::new();
    let mut part = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(0, table.name.as_bytes());
    for column in columns {
        match column {
            ValueRef::Null => part(1, &[]),
            ValueRef::Integer(number) => part(2, &number.to_be_bytes()),
            ValueRef::Real(number) => part(3, &number.to_be_bytes()),
            ValueRef::Text(text) => part(4, text),
            ValueRef::Blob(bytes) => part(5, bytes),
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}
