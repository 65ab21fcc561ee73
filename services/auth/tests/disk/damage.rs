//! Damage to the database of auth, to the log of one that was killed, and to the note of what was acknowledged: cards,
//! counts and attempts are there as they were, or the start says what is wrong.

use std::path::Path;

use atm_auth::storage::{SqliteBackend, SqliteOptions};
use atm_fault_disk::{Damage, Tally, copy_of, dice, number};
use atm_proto::auth::{BlockCardRequest, CloseSessionRequest, VerifyPinRequest};
use atm_proto::types::Boot;
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Home, press};
use crate::{RIGHT, WRONG, attempt, card, put, template, tries};

const DATABASE: &str = "auth.db";
const LOG: &str = "auth.db-wal";
const FILES: [&str; 4] = [LOG, LOG, LOG, "acknowledged"];
const TABLES: [&str; 8] =
    ["meta", "cards", "unknown_numbers", "attempts", "terminals", "sessions", "revocations", "orders"];

/// Without the reserve, which would be made anew for each case.
const OPTIONS: SqliteOptions = SqliteOptions { max_pages: None, reserve_bytes: 0 };

/// Everything that the database says, table by table.
fn everything(directory: &Path) -> Vec<Vec<Vec<Value>>> {
    let connection = Connection::open(directory.join(DATABASE)).unwrap();
    let rows_of = |table: &&str| -> Vec<Vec<Value>> {
        let mut rows = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let rows = rows.query_map([], |row| (0..columns).map(|index| row.get(index)).collect()).unwrap();
        rows.map(Result::unwrap).collect()
    };
    TABLES.iter().map(rows_of).collect()
}

/// A service that was killed after it wrote to every table, and its directory before that.
async fn killed(dice: &mut fastrand::Rng) -> (TempDir, TempDir) {
    let home = Home::new();
    let template = template(&home).await;
    put(&home, template.path());
    let process = home.start(&[]);
    let mut client = home.client(&process);
    let stranger = VerifyPinRequest { card_number: "99999999".to_owned(), ..press(WRONG) };
    assert!(client.verify_pin(stranger).await.is_err());
    let boot = Boot { epoch: 1, boot_id: Uuid::from_u128(1).to_string(), previous_boot_id: String::new() };
    let opened = client.verify_pin(VerifyPinRequest { boot: Some(boot), ..attempt(0, RIGHT) }).await.unwrap();
    let session_id = opened.into_inner().session.unwrap().session_id;
    client.close_session(CloseSessionRequest { session_id }).await.unwrap();
    let block = BlockCardRequest { card_number: card(1), order_id: Uuid::from_u128(2).to_string() };
    client.block_card(block).await.unwrap();
    tries(&home, &process, dice).await;
    std::fs::remove_file(home.data().join("reserve")).unwrap();
    (copy_of(&home.data()), template)
}

/// Strikes copies of `files` one after the other, and holds what a start says to it against what the database says
/// without damage.
fn try_all(
    cases: u64,
    files: &Path,
    dice: &mut fastrand::Rng,
    draw: impl Fn(&Path, &mut fastrand::Rng) -> Damage,
) {
    let whole = copy_of(files);
    drop(SqliteBackend::open(whole.path(), OPTIONS).unwrap());
    let whole = everything(whole.path());
    let mut tally = Tally::default();
    for case in 1..=cases {
        let copy = copy_of(files);
        let damage = draw(copy.path(), dice);
        damage.strike(copy.path());
        let result = match SqliteBackend::open(copy.path(), OPTIONS) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_log_is_detected_or_harmless_and_never_silent() {
    let cases = number("ATM_DISK_CASES", 200);
    let mut dice = dice("ATM_DISK_CASES", cases);
    // As a kill leaves it: what was tried is in the log alone.
    let (killed, _) = killed(&mut dice).await;
    try_all(cases, killed.path(), &mut dice, |copy, dice| match dice.u8(..4) {
        0 => Damage::tail(copy, &[LOG], dice),
        1 => Damage::cut(copy, &[LOG], dice),
        _ => Damage::flip(copy, &FILES, dice),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_database_is_detected_or_harmless_and_never_silent() {
    let cases = number("ATM_DISK_CASES", 200);
    let mut dice = dice("ATM_DISK_CASES", cases);
    let (stopped, template) = killed(&mut dice).await;
    // A start brings everything from the log into the database.
    drop(SqliteBackend::open(stopped.path(), OPTIONS).unwrap());
    for table in everything(stopped.path()).iter() {
        assert!(!table.is_empty(), "no table is without a row to damage");
    }
    try_all(cases, stopped.path(), &mut dice, |copy, dice| match dice.u8(..8) {
        0 => Damage::tail(copy, &[DATABASE], dice),
        1 => Damage::cut(copy, &[DATABASE], dice),
        2 => Damage::old_page(copy, template.path(), DATABASE, dice),
        _ => Damage::flip(copy, &[DATABASE], dice),
    });
}
