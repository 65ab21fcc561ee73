//! A real SQLite ledger on a disk that fails: writes and syncs end with EIO or ENOSPC, once or from then on. Whatever
//! fails and when, nothing that was acknowledged is lost, nothing is there by half, and the next start is clean.
//!
//! The failures are made by a library of a hundred lines of C (`shim.c`) that is compiled here and preloaded into a
//! second run of this test program. `ATM_DISK_CASES` says how many cases are tried (200 by default; the long run is
//! `ATM_DISK_CASES=100000`), `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "the books serve other tests too")]

#[path = "../writer/books.rs"]
mod books;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use atm_ledger::handle::{Answer, ExecuteError};
use atm_ledger_core::Step;
use books::*;

const CONTROL: &str = "ATM_SHIM_CONTROL";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn on_a_disk_that_fails_nothing_acknowledged_is_lost_and_the_next_start_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    let (library, control) = (directory.path().join("shim.so"), directory.path().join("control"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/shim.c");
    // There is a compiler wherever SQLite could be built.
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
        .expect("there is a C compiler");
    assert!(built.success());
    fs::write(&control, "").unwrap();
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cases_under_the_shim", "--ignored", "--nocapture"])
        .env("LD_PRELOAD", &library)
        .env(CONTROL, &control)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    print!("{said}");
    assert!(inner.status.success(), "{}", String::from_utf8_lossy(&inner.stderr));
    assert!(said.contains("cases, struck in"), "nothing was tried");
}

/// One way for the disk to fail.
#[derive(Debug)]
struct Fault {
    operation: &'static str,
    nth: u64,
    onwards: bool,
    errno: i32,
    file: &'static str,
}

impl Fault {
    fn draw(dice: &mut fastrand::Rng) -> Self {
        // The log above all; now and then the database, or the note of what was acknowledged.
        let files = ["ledger.db-wal", "ledger.db-wal", "ledger.db-wal", "ledger.db", "acknowledged"];
        Self {
            operation: if dice.bool() { "sync" } else { "write" },
            nth: dice.u64(1..10),
            onwards: dice.bool(),
            errno: if dice.bool() { EIO } else { ENOSPC },
            file: files[dice.usize(..files.len())],
        }
    }

    fn line(&self, case: u64) -> String {
        let Self { operation, nth, onwards, errno, file } = self;
        format!("{case} {operation} {nth} {} {errno} {file}\n", u8::from(*onwards))
    }
}

/// What one case came to.
struct Case {
    acknowledged: Vec<Step>,
    asked: Vec<atm_types::TransactionId>,
    /// What the next start finds.
    copy: tempfile::TempDir,
    ending: &'static str,
}

async fn work(template: &Path, control: &Path, line: &str) -> Case {
    let live = copy_of(template);
    let books = Books::open(options(live.path()));
    fs::write(control, line).unwrap();
    let (mut acknowledged, mut asked, mut ending) = (Vec::new(), Vec::new(), "went on");
    for n in 10..18 {
        let command = if n % 2 == 0 { hold(n, 10) } else { capture(n - 1, 5) };
        asked.push(command.id());
        match books.one(command).await {
            Ok(Answer::Recorded { step, .. }) => acknowledged.push(step),
            Ok(Answer::NoRoom) => ending = "no room",
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
    // A writer that ended has closed its files, on the disk that still fails; one that lives is killed.
    let copy = if ending == "stopped" {
        books.writer.stop().await;
        copy_of(live.path())
    } else {
        let copy = copy_of(live.path());
        fs::write(control, "").unwrap();
        books.writer.stop().await;
        copy
    };
    fs::write(control, "").unwrap();
    Case { acknowledged, asked, copy, ending }
}

/// The same files in another directory, but for the lock.
fn copy_of(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        // The index of the log is made anew.
        if entry.file_type().unwrap().is_file() && !name.to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), to.path().join(name)).unwrap();
        }
    }
    to
}

#[tokio::test]
#[ignore = "run by the test above, under the shim"]
async fn cases_under_the_shim() {
    let control = PathBuf::from(std::env::var(CONTROL).expect("this runs under the shim"));
    let struck = control.with_extension("struck");
    let (cases, seed) = (number("ATM_DISK_CASES", 200), number("ATM_SEED", 20_261_121));
    println!("ATM_DISK_CASES={cases} ATM_SEED={seed}");
    let template = tempfile::tempdir().unwrap();
    let books = Books::open(options(template.path()));
    books.fund(1_000).await;
    let before = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
    books.writer.stop().await;

    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut hit, mut endings) = (0, BTreeMap::new());
    for case in 1..=cases {
        let fault = Fault::draw(&mut dice);
        let strikes = fs::metadata(&struck).map_or(0, |file| file.len());
        let worked = work(template.path(), &control, &fault.line(case)).await;
        let struck_now = fs::metadata(&struck).map_or(0, |file| file.len()) > strikes;
        hit += u64::from(struck_now);
        let what = if struck_now { worked.ending } else { "not struck" };
        *endings.entry(what).or_insert(0_u64) += 1;

        let books = Books::open(options(worked.copy.path()));
        let steps = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
        assert_eq!(steps[..before.len()], before, "case {case}: {fault:?}");
        let told = before.len() + worked.acknowledged.len();
        assert!(steps.len() >= told, "case {case}: {fault:?}: {} of {told} steps are there", steps.len());
        assert_eq!(steps[before.len()..told], worked.acknowledged, "case {case}: {fault:?}");
        // What nobody was told of may be there, whole, if somebody asked for it.
        assert!(steps.len() <= told + 1 && steps[told..].iter().all(|step| worked.asked.contains(&step.id)));
        assert_eq!(books.findings().await, Vec::<String>::new(), "case {case}: {fault:?}");
        books.writer.stop().await;
    }
    println!("{cases} cases, struck in {hit}: {endings:?}");
    assert!(hit * 2 > cases, "too few were struck: {hit} of {cases}");
}
