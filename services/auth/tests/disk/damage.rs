//! Damage to the log of a service that was killed, and to the note of what was acknowledged: cards, counts and attempts
//! are there as they were, or the start says what is wrong.
//!
//! The database itself is not tried: only its pages are checked at the start, and nothing tells a count or a hash that
//! was changed within its row.

use std::path::Path;

use atm_auth::storage::{SqliteBackend, SqliteOptions};
use atm_fault_disk::{Damage, Tally, copy_of, dice, number};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::support::Home;
use crate::{put, template, tries};

const LOG: &str = "auth.db-wal";
const FILES: [&str; 4] = [LOG, LOG, LOG, "acknowledged"];
const TABLES: [&str; 7] =
    ["meta", "cards", "unknown_numbers", "attempts", "terminals", "sessions", "revocations"];

/// Everything that the database says.
fn everything(directory: &Path) -> Vec<Vec<Value>> {
    let connection = Connection::open(directory.join("auth.db")).unwrap();
    let rows_of = |table: &&str| -> Vec<Vec<Value>> {
        let mut rows = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let rows = rows.query_map([], |row| (0..columns).map(|index| row.get(index)).collect()).unwrap();
        rows.map(Result::unwrap).collect()
    };
    TABLES.iter().flat_map(rows_of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_log_is_detected_or_harmless_and_never_silent() {
    let cases = number("ATM_DISK_CASES", 200);
    let mut dice = dice("ATM_DISK_CASES", cases);
    let home = Home::new();
    let template = template(&home).await;
    put(&home, template.path());
    let process = home.start(&[]);
    tries(&home, &process, &mut dice).await;
    // As a kill leaves it: what was tried is in the log alone.
    let killed = copy_of(&home.data());
    drop(process);
    let whole = copy_of(killed.path());
    drop(SqliteBackend::open(whole.path(), SqliteOptions::default()).unwrap());
    let whole = everything(whole.path());

    let mut tally = Tally::default();
    for case in 1..=cases {
        let copy = copy_of(killed.path());
        let damage = match dice.u8(..4) {
            0 => Damage::tail(copy.path(), &[LOG], &mut dice),
            1 => Damage::cut(copy.path(), &[LOG], &mut dice),
            _ => Damage::flip(copy.path(), &FILES, &mut dice),
        };
        damage.strike(copy.path());
        let result = match SqliteBackend::open(copy.path(), SqliteOptions::default()) {
            Err(error) => {
                assert!(error.to_string().len() > 20, "case {case}: {damage:?}: {error}");
                "refused at the start"
            }
            Ok(backend) => {
                drop(backend);
                assert_eq!(everything(copy.path()), whole, "case {case}: {damage:?}: silent");
                "harmless"
            }
        };
        tally.count(damage.kind(), result);
    }
    print!("{tally}");
    assert!(tally.of("harmless") > 0 && tally.of("refused at the start") > 0, "{tally}");
}
