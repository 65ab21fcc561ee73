//! Damage to a journal's files, drawn by dice: what it said is there, or the machine stays out of service.
//!
//! `ATM_DISK_CASES` says how many cases are tried, `ATM_SEED` with which dice.

use atm_fault_disk::{Damage, Tally, copy_of, dice, number};
use atm_types::SeededIds;

use super::damage_tests::{clock, everything, intent, one_withdrawal, open_at};
use super::*;

const LOG: &str = "journal.sqlite3-wal";
const FILES: [&str; 6] = [FILE_NAME, FILE_NAME, FILE_NAME, LOG, LOG, "journal.acknowledged"];

/// As a kill leaves it: the newest events are in the log alone.
fn killed(ids: &SeededIds) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open_at(home.path(), &clock()).unwrap();
    for _ in 0..6 {
        one_withdrawal(&mut journal, ids);
    }
    drop(journal);
    let mut journal = open_at(home.path(), &clock()).unwrap();
    one_withdrawal(&mut journal, ids);
    journal.begin(&intent(ids, Kind::Withdrawal), None).unwrap();
    copy_of(home.path())
}

#[test]
fn damage_to_the_files_is_detected_or_harmless_and_never_silent() {
    let cases = number("ATM_DISK_CASES", 400);
    let mut dice = dice("ATM_DISK_CASES", cases);
    let killed = killed(&SeededIds::new(11));
    let emptied = copy_of(killed.path());
    let whole = everything(&open_at(emptied.path(), &clock()).unwrap());
    let emptied = copy_of(emptied.path());

    let mut tally = Tally::default();
    for case in 1..=cases {
        let in_the_log = dice.bool();
        let copy = copy_of(if in_the_log { killed.path() } else { emptied.path() });
        let damage = match dice.u8(..4) {
            0 if in_the_log => Damage::tail(copy.path(), &[LOG], &mut dice),
            1 if in_the_log => Damage::cut(copy.path(), &[LOG], &mut dice),
            _ => Damage::flip(copy.path(), &FILES, &mut dice),
        };
        damage.strike(copy.path());
        let result = match open_at(copy.path(), &clock()) {
            Ok(journal) => {
                assert_eq!(everything(&journal), whole, "case {case}: {damage:?}: silent");
                "harmless"
            }
            Err(error) => {
                assert!(error.to_string().contains("journal"), "case {case}: {damage:?}: {error}");
                "refused at the start"
            }
        };
        tally.count(damage.kind(), result);
    }
    print!("{tally}");
    assert!(tally.of("harmless") > 0 && tally.of("refused at the start") > 0, "{tally}");
}
