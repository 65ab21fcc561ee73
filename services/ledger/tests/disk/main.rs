//! A real SQLite ledger on a bad disk: writes and syncs fail, the power goes, files are damaged. Whatever happens and
//! when, nothing that was acknowledged is lost, nothing is there by half, and the next start is clean or says why not.
//!
//! `ATM_DISK_CASES` says how many cases are tried (200 by default; the long run is `ATM_DISK_CASES=100000`),
//! `ATM_DISK_PROCESSES` how many with a process of their own, `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "the books and the stories serve other tests too")]

#[path = "../writer/books.rs"]
mod books;
mod damage;
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use atm_fault_disk::{Blow, Disk, End, Fault, Tally, copy_of, dice, number};
use atm_ledger::handle::{Answer, ExecuteError};
use atm_ledger_core::Step;
use books::*;

/// The log above all; now and then the database, or the note of what was acknowledged.
const FILES: [(&str, u64); 6] = [
    ("ledger.db-wal", 8),
    ("ledger.db-wal", 8),
    ("ledger.db-wal", 8),
    ("ledger.db-wal", 2),
    ("ledger.db", 1),
    ("acknowledged", 2),
];

#[test]
fn on_a_disk_that_fails_nothing_acknowledged_is_lost_and_the_next_start_is_clean() {
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cases_on_a_disk_that_fails", "--ignored", "--nocapture"])
        .envs(Disk::new().environment())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    print!("{said}");
    assert!(inner.status.success(), "{}", String::from_utf8_lossy(&inner.stderr));
    assert!(said.contains("1 passed"), "nothing was tried");
}

/// What one case came to.
struct Case {
    acknowledged: Vec<Step>,
    asked: Vec<atm_types::TransactionId>,
    ending: &'static str,
}

async fn work(books: &Books) -> Case {
    let (mut acknowledged, mut asked, mut ending) = (Vec::new(), Vec::new(), "went on");
    for n in 10..18 {
        let command = if n % 2 == 0 { hold(n, 10) } else { capture(n - 1, 5) };
        asked.push(command.id());
        match books.one(command).await {
            Ok(Answer::Recorded { step, .. }) => acknowledged.push(step),
            Ok(Answer::NoRoom) => ending = "found no room",
            // The capture of a hold that found no room.
            Ok(Answer::Refused(_)) => {}
            Ok(Answer::Expired) => panic!("nobody set a deadline"),
            Err(ExecuteError::Stopped) => {
                ending = "stopped";
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    Case { acknowledged, asked, ending }
}

/// Works on a copy of `template` while the disk fails; what the next start finds after `end`.
async fn work_and_end(
    disk: &Disk,
    template: &Path,
    (case, fault): (u64, &Fault),
    (end, dice): (End, &mut fastrand::Rng),
) -> (Case, tempfile::TempDir) {
    let live = copy_of(template);
    disk.settle(live.path());
    let books = Books::open(options(live.path()));
    disk.strike(case, fault);
    let worked = work(&books).await;
    // A writer that ended has closed its files, on the disk that still fails; one that lives is killed.
    let stopped = worked.ending == "stopped";
    let mut living = Some(books.writer);
    if stopped && let Some(writer) = living.take() {
        writer.stop().await;
    }
    disk.heal();
    let found = disk.after(end, live.path(), dice);
    if let Some(writer) = living {
        writer.stop().await;
    }
    disk.forget(live.path());
    (worked, found)
}

#[tokio::test]
#[ignore = "run by the test above, on a disk that fails"]
async fn cases_on_a_disk_that_fails() {
    let disk = Disk::under_this_process().expect("this runs on such a disk");
    let cases = number("ATM_DISK_CASES", 200);
    let mut dice = dice("ATM_DISK_CASES", cases);
    let template = tempfile::tempdir().unwrap();
    let books = Books::open(options(template.path()));
    books.fund(1_000).await;
    let before = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
    books.writer.stop().await;

    let (mut hit, mut tally) = (0, Tally::default());
    for case in 1..=cases {
        let mut dice = dice.fork();
        let fault = Fault::draw(&mut dice, &FILES, &[Blow::Fails, Blow::Full]);
        let end = End::draw(&mut dice);
        let strikes = disk.strikes();
        let (worked, found) = work_and_end(&disk, template.path(), (case, &fault), (end, &mut dice)).await;
        let struck = disk.strikes() > strikes;
        hit += u64::from(struck);
        tally.count(format!("{end:?}"), if struck { worked.ending } else { "not struck" });

        let about = format!("case {case}: {fault:?}, then {end:?}");
        let books = Books::open(options(found.path()));
        let steps = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
        let told = before.len() + worked.acknowledged.len();
        assert!(steps.len() >= told, "{about}: {} of {told} steps are there", steps.len());
        assert_eq!(steps[..before.len()], before, "{about}");
        assert_eq!(steps[before.len()..told], worked.acknowledged, "{about}");
        // What nobody was told of may be there, whole, if somebody asked for it.
        assert!(steps.len() <= told + 1 && steps[told..].iter().all(|step| worked.asked.contains(&step.id)));
        assert_eq!(books.findings().await, Vec::<String>::new(), "{about}");
        books.writer.stop().await;
    }
    println!("{tally}{hit} of {cases} were struck");
    assert!(hit * 2 > cases, "too few were struck: {hit} of {cases}");
    assert!(tally.of("stopped") > 0, "no failure was met");
}
