//! Damage to the files of a ledger that was killed: everything acknowledged is there, or the start or the verification
//! says what is wrong.

use atm_fault_disk::{Damage, Tally, copy_of, dice, number};
use atm_ledger::handle::{Ledger, Options};
use atm_ledger_core::Step;
use atm_types::ManualClock;

use crate::books::*;

const LOG: &str = "ledger.db-wal";
const FILES: [&str; 6] = ["ledger.db", "ledger.db", "ledger.db", LOG, LOG, "acknowledged"];

/// What is on the disk after a kill: the files, and what was acknowledged by then. With a checkpoint now and then there
/// is something in every table; without, nearly all is in the log.
async fn killed(checkpoint_every: u64) -> (tempfile::TempDir, Vec<Step>) {
    let live = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every, ..options(live.path()) });
    books.fund(1_000).await;
    for number in 10..25 {
        books.ledger.execute(vec![hold(number, 10)], None).await.unwrap();
        if number % 3 > 0 {
            books.ledger.execute(vec![capture(number, 5)], None).await.unwrap();
        }
    }
    let acknowledged = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
    (copy_of(live.path()), acknowledged)
}

/// The same with all of the log in the database.
async fn emptied(killed: &tempfile::TempDir) -> tempfile::TempDir {
    let home = copy_of(killed.path());
    Books::open(options(home.path())).writer.stop().await;
    copy_of(home.path())
}

/// What comes of a start: an error at the start, findings of the verification, or the books as they were.
async fn start(directory: &std::path::Path, acknowledged: &[Step], about: &str) -> &'static str {
    let clock = ManualClock::default();
    let (ledger, writer) = match Ledger::open(options(directory), std::sync::Arc::new(clock.clone())) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.to_string().len() > 20, "{about}: {error}");
            return "refused at the start";
        }
    };
    let books = Books { ledger, writer, clock };
    let findings = books.findings().await;
    if !findings.is_empty() {
        books.writer.stop().await;
        return "found by the verification";
    }
    let steps = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
    assert_eq!(steps, acknowledged, "{about}: silent");
    // 15 holds of 10, ten of them captured with 5.
    assert_eq!(books.balance(CUSTOMER).await.posted, 1_000 - 50, "{about}: silent");
    assert_eq!(books.pending(CUSTOMER).await, (50, 0), "{about}: silent");
    books.writer.stop().await;
    "harmless"
}

#[tokio::test]
async fn damage_to_the_files_is_detected_or_harmless_and_never_silent() {
    let cases = number("ATM_DISK_CASES", 300);
    let mut dice = dice("ATM_DISK_CASES", cases);
    let mut tally = Tally::default();
    let mut whole = Vec::new();
    for checkpoint_every in [1_000, 7] {
        let (killed, acknowledged) = killed(checkpoint_every).await;
        whole.push((emptied(&killed).await, acknowledged.clone()));
        whole.push((killed, acknowledged));
    }
    for case in 1..=cases {
        let (files, acknowledged) = &whole[dice.usize(..whole.len())];
        let copy = copy_of(files.path());
        let has_log = files.path().join(LOG).metadata().is_ok_and(|log| log.len() > 0);
        let damage = match dice.u8(..6) {
            0 if has_log => Damage::cut(copy.path(), &[LOG], &mut dice),
            1 if has_log => Damage::tail(copy.path(), &[LOG], &mut dice),
            _ => Damage::flip(copy.path(), &FILES, &mut dice),
        };
        damage.strike(copy.path());
        let about = format!("case {case}: {damage:?}");
        tally.count(damage.kind(), start(copy.path(), acknowledged, &about).await);
    }
    print!("{tally}");
    for result in ["refused at the start", "found by the verification", "harmless"] {
        assert!(tally.of(result) > 0, "nothing was {result}");
    }
}
