//! Rows that somebody changed, erased or added behind the program's back: noticed at the next start, and when they are
//! read.

use atm_types::{AccountId, AttemptId, TerminalId, Timestamp};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::domain::{
    BootId, BootMark, CardToIssue, HashCost, Issued, LastFour, Order, Outcome, PinHash, RevocationTarget,
    Session, Tag, issue,
};

fn key() -> NumberKey {
    NumberKey::from_bytes([1; 32])
}

fn atm_id() -> AtmId {
    "ATM-1".parse().unwrap()
}

fn open(home: &TempDir) -> Result<SqliteBackend, OpenError> {
    SqliteBackend::open(home.path(), SqliteOptions::default())
}

/// A database with a row in every table, of which no column is NULL.
fn database() -> TempDir {
    let home = tempdir().unwrap();
    let later = Timestamp::from_seconds(1_900_000_000);
    let session = Session {
        session_id: SessionId::from_bytes([4; 16]),
        card_id: CardId::from_bytes([2; 16]),
        account_id: AccountId::from_bytes([3; 16]),
        atm_id: atm_id(),
        terminal_id: TerminalId::from_bytes([5; 32]),
        issue_time: later,
        expire_time: later,
    };
    let card = CardToIssue {
        number_key: key(),
        card_id: CardId::from_bytes([2; 16]),
        account_id: AccountId::from_bytes([3; 16]),
        last_four: LastFour::from_digits(*b"6789"),
        pin: Some(PinHash { salt: [1; 16], hash: [2; 32], cost: HashCost::FLOOR }),
    };
    let Issued::New(card) = issue(None, card) else { panic!("not new") };
    let mut work = |rows: &mut dyn Rows| {
        rows.put_meta(Meta::PepperCanary, b"canary")?;
        rows.put_card(&card)?;
        rows.put_unknown_number(&NumberKey::from_bytes([9; 32]), WrongPins::from_count(1), 10)?;
        rows.put_attempt(&Attempt {
            number_key: key(),
            atm_id: atm_id(),
            attempt_id: AttemptId::from_bytes([6; 16]),
            tag: Tag::from_bytes([7; 32]),
            time: later,
            outcome: Outcome::Opened(session.clone()),
        })?;
        let boot = Some(BootMark { epoch: 3, boot_id: BootId::from_bytes([8; 16]) });
        rows.put_terminal(&atm_id(), &Terminal { terminal_id: session.terminal_id, boot })?;
        rows.put_session(&session)?;
        rows.put_order(&DoneOrder {
            id: OrderId::from_bytes([3; 16]),
            order: Order::UnblockCard(key()),
            affected: 0,
            time: later,
        })?;
        rows.put_revocation(&Revocation {
            target: RevocationTarget::Session(session.session_id),
            revoke_time: later,
            relevant_until: later,
        })
    };
    open(&home).unwrap().transaction(&mut work).unwrap();
    home
}

/// Somebody with another program, who heeds no constraint of ours.
fn behind_its_back(home: &TempDir) -> Connection {
    let connection = Connection::open(home.path().join("auth.db")).unwrap();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    connection
}

fn columns(connection: &Connection, table: &str) -> Vec<String> {
    let mut statement =
        connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

const TABLES: [&str; 8] =
    ["meta", "cards", "unknown_numbers", "attempts", "terminals", "sessions", "revocations", "orders"];

#[test]
fn a_change_of_any_column_of_any_table_is_refused_at_the_start_by_the_tables_name() {
    let home = database();
    for table in TABLES {
        for column in columns(&behind_its_back(&home), table) {
            let connection = behind_its_back(&home);
            let sql = format!("SELECT {column} FROM {table} ORDER BY 1 LIMIT 1");
            let value: Value = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            let other = match value.clone() {
                Value::Integer(number) => Value::Integer(number ^ 1),
                Value::Text(text) => Value::Text(text + "x"),
                Value::Blob(mut bytes) => {
                    bytes[0] ^= 1;
                    Value::Blob(bytes)
                }
                Value::Null | Value::Real(_) => panic!("{table}.{column} is {value:?}"),
            };
            let change = format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1");
            assert!(connection.execute(&change, [&value, &other]).unwrap() > 0);
            drop(connection);

            let refused = open(&home).map(drop).unwrap_err();
            let named = matches!(&refused, OpenError::DamagedRow { table: found, .. } if *found == table);
            // A number that no program of ours writes: SQLite itself checks these constraints.
            let broken =
                matches!(&*column, "outcome" | "kind") && matches!(refused, OpenError::Damaged { .. });
            assert!(named || broken, "{table}.{column}: {refused:?}");

            assert!(behind_its_back(&home).execute(&change, [&other, &value]).unwrap() > 0);
            drop(open(&home).unwrap_or_else(|error| panic!("{table}.{column} is as it was: {error}")));
        }
    }
}

#[test]
fn a_row_that_is_missing_or_was_put_back_as_it_once_was_is_refused_at_the_start() {
    for table in TABLES {
        let home = database();
        let connection = behind_its_back(&home);
        connection.execute_batch(&format!("CREATE TEMP TABLE old AS SELECT * FROM {table}")).unwrap();
        let mut work = |rows: &mut dyn Rows| {
            let mut card = rows.card(&key())?.unwrap();
            card.judge(false);
            rows.put_card(&card)
        };
        open(&home).unwrap().transaction(&mut work).unwrap();
        if matches!(table, "meta" | "cards") {
            connection.execute_batch(&format!("REPLACE INTO {table} SELECT * FROM old")).unwrap();
        } else {
            connection.execute_batch(&format!("DELETE FROM {table}")).unwrap();
        }
        drop(connection);
        let refused = open(&home).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Incomplete { .. }), "{table}: {refused:?}");
        assert!(refused.to_string().contains("Restore it from a backup"), "{refused}");
    }
}

#[test]
fn a_row_that_is_damaged_while_the_service_runs_is_not_believed_erased_or_written_over() {
    let home = database();
    let mut backend = open(&home).unwrap();
    let damage = "UPDATE cards SET wrong_pins = 2; UPDATE attempts SET time = 5";
    behind_its_back(&home).execute_batch(damage).unwrap();
    let expiry = Expiry {
        attempts_until: Timestamp::from_seconds(1_000_000_000),
        attempts_from: Timestamp::from_nanos(i64::MAX),
        sessions_before: Timestamp::from_nanos(0),
    };
    type Try = fn(&mut dyn Rows, Expiry) -> Result<(), StorageError>;
    let tries: [(&str, Try); 4] = [
        ("cards", |rows, _| rows.card(&key()).map(drop)),
        ("cards", |rows, _| rows.card_by_id(CardId::from_bytes([2; 16])).map(drop)),
        ("attempts", |rows, expiry| rows.erase(expiry).map(drop)),
        ("attempts", |rows, _| rows.forget_opened_attempts(&key())),
    ];
    for (table, work) in tries {
        let found = backend.transaction(&mut |rows| work(rows, expiry));
        assert!(matches!(found, Err(StorageError::Damaged(named)) if named == table), "{found:?}");
    }
    drop(backend);
    let refused = open(&home).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::DamagedRow { table: "cards", .. }), "{refused:?}");
}
