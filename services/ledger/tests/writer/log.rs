//! The write-ahead log after an unclean stop: cut, torn or damaged, every acknowledged step is there or the
//! start says what is wrong. Never neither.

use std::fs;
use std::path::Path;

use atm_ledger::handle::{Answer, Ledger, OpenError, Options};
use atm_ledger::storage::StoreError;
use atm_ledger_core::Step;

use crate::books::*;
use crate::histories::copy_files;

/// What is on the disk after a kill: the files, and what was acknowledged by then.
struct Killed {
    directory: tempfile::TempDir,
    acknowledged: Vec<Step>,
}

/// Books with some batches, most of them only in the log.
async fn killed(checkpoint_every: u64) -> Killed {
    let live = tempfile::tempdir().unwrap();
    let books = Books::open(Options { checkpoint_every, ..options(live.path()) });
    books.fund(1_000).await;
    for number in 10..25 {
        books.ledger.execute(vec![hold(number, 10), capture(number, 5)], None).await.unwrap();
    }
    let acknowledged = books.ledger.steps_after(0, 1_000).await.unwrap().steps;
    let directory = tempfile::tempdir().unwrap();
    copy_files(live.path(), directory.path());
    Killed { directory, acknowledged }
}

impl Killed {
    /// The same again, to be damaged.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_files(self.directory.path(), copy.path());
        copy
    }
}

fn log_of(directory: &Path) -> std::path::PathBuf {
    directory.join("ledger.db-wal")
}

/// Starts on `directory`, and reads everything if it starts.
async fn start(directory: &Path) -> Result<Vec<Step>, OpenError> {
    let clock = std::sync::Arc::new(atm_types::ManualClock::default());
    let (ledger, writer) = Ledger::open(options(directory), clock)?;
    let steps = ledger.steps_after(0, 1_000).await.map(|page| page.steps).unwrap_or_default();
    writer.stop().await;
    Ok(steps)
}

#[tokio::test]
async fn after_a_kill_everything_acknowledged_is_there() {
    let killed = killed(1_000).await;
    assert_eq!(start(killed.directory.path()).await.unwrap(), killed.acknowledged);
}

#[tokio::test]
async fn a_torn_tail_that_nobody_was_answered_from_is_dropped() {
    let killed = killed(1_000).await;
    for garbage in [vec![0; 10], vec![0xff; 5_000], vec![7; 100_000]] {
        let copy = killed.copy();
        let mut log = fs::read(log_of(copy.path())).unwrap();
        log.extend(garbage);
        fs::write(log_of(copy.path()), log).unwrap();
        assert_eq!(start(copy.path()).await.unwrap(), killed.acknowledged);
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_in_what_was_acknowledged_stops_the_start() {
    let killed = killed(1_000).await;
    let length = fs::read(log_of(killed.directory.path())).unwrap().len();
    let frame = 8_192 + 24;
    let cuts =
        (1..40).map(|n| length * n / 40).chain([length - 1, length - frame, length - frame - 1, 32, 0]);
    for cut in cuts {
        let copy = killed.copy();
        let log = fs::read(log_of(copy.path())).unwrap();
        fs::write(log_of(copy.path()), &log[..cut]).unwrap();
        let started = start(copy.path()).await;
        let lost = matches!(started, Err(OpenError::Store(StoreError::AcknowledgedLost { .. })));
        // Without its first frames there is not even a schema to start from.
        let unusable = matches!(started, Err(OpenError::Store(_)));
        assert!(lost || (unusable && cut < frame * 12), "cut at {cut} of {length}: {started:?}");
    }
}

#[tokio::test]
async fn an_unacknowledged_batch_that_was_cut_is_gone_and_one_that_was_not_may_stay() {
    let live = tempfile::tempdir().unwrap();
    let books = Books::open(options(live.path()));
    books.fund(1_000).await;
    let before = tempfile::tempdir().unwrap();
    copy_files(live.path(), before.path());
    let acknowledged = books.ledger.steps_after(0, 100).await.unwrap().steps;
    let answer = books.one(post(2, CUSTOMER, CASH, 1)).await.unwrap();
    let (short, long) = (fs::read(log_of(before.path())).unwrap(), fs::read(log_of(live.path())).unwrap());
    assert_eq!(long[..short.len()], short, "the log only grew");
    // A power cut in the middle of the last batch, before its sync: any part of it may be there.
    for length in (short.len()..=long.len()).step_by(997).chain([long.len()]) {
        let copy = tempfile::tempdir().unwrap();
        copy_files(before.path(), copy.path());
        fs::write(log_of(copy.path()), &long[..length]).unwrap();
        let steps = start(copy.path()).await.unwrap();
        let expected = acknowledged.len() + usize::from(length == long.len());
        assert_eq!(steps.len(), expected, "with {length} bytes");
        assert_eq!(steps[..acknowledged.len()], acknowledged);
        assert!(steps[acknowledged.len()..].iter().all(|last| last == step(&answer)));
    }
}

#[tokio::test]
async fn a_byte_flipped_anywhere_in_the_log_is_harmless_or_stops_the_start() {
    let killed = killed(1_000).await;
    let length = fs::read(log_of(killed.directory.path())).unwrap().len();
    let (mut harmless, mut stopped) = (0, 0);
    for at in (0..length).step_by(length / 150) {
        let copy = killed.copy();
        flip(&log_of(copy.path()), at);
        match start(copy.path()).await {
            Ok(steps) => {
                assert_eq!(steps, killed.acknowledged, "flipped at {at}");
                harmless += 1;
            }
            Err(OpenError::Store(_)) => stopped += 1,
            Err(error) => panic!("flipped at {at}: {error}"),
        }
    }
    // Both happen, or this test would prove nothing.
    assert!(stopped > harmless, "{stopped} stopped the start, {harmless} were harmless");
}

#[tokio::test]
async fn a_byte_flipped_anywhere_in_the_database_is_harmless_or_found() {
    let killed = killed(10).await;
    // Everything from the log into the database, as after a clean stop.
    start(killed.directory.path()).await.unwrap();
    let copy_all = || {
        let copy = tempfile::tempdir().unwrap();
        for name in ["ledger.db", "acknowledged"] {
            fs::copy(killed.directory.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    };
    let length = fs::metadata(killed.directory.path().join("ledger.db")).unwrap().len();
    let (mut harmless, mut found) = (0, 0);
    for at in (0..usize::try_from(length).unwrap()).step_by(331) {
        let copy = copy_all();
        flip(&copy.path().join("ledger.db"), at);
        let Ok((ledger, writer)) =
            Ledger::open(options(copy.path()), std::sync::Arc::new(atm_types::ManualClock::default()))
        else {
            found += 1;
            continue;
        };
        let books = Books { ledger, writer, clock: atm_types::ManualClock::default() };
        let findings = books.findings().await;
        let steps = books.ledger.steps_after(0, 1_000).await.map(|page| page.steps);
        if findings.is_empty() {
            assert_eq!(steps.unwrap(), killed.acknowledged, "flipped at {at}");
            assert_eq!(books.balance(CUSTOMER).await.posted, 1_000 - 75);
            harmless += 1;
        } else {
            found += 1;
        }
    }
    assert!(found > 10, "{found} were found, {harmless} were harmless");
}

#[tokio::test]
async fn a_log_that_is_gone_or_a_database_from_an_older_copy_stops_the_start() {
    let killed = killed(1_000).await;
    let gone = killed.copy();
    fs::remove_file(log_of(gone.path())).unwrap();
    assert!(matches!(start(gone.path()).await, Err(OpenError::Store(_))));

    let live = tempfile::tempdir().unwrap();
    let books = Books::open(options(live.path()));
    books.fund(1_000).await;
    let older = tempfile::tempdir().unwrap();
    copy_files(live.path(), older.path());
    books.one(post(2, CUSTOMER, CASH, 1)).await.unwrap();
    fs::copy(live.path().join("acknowledged"), older.path().join("acknowledged")).unwrap();
    let Err(OpenError::Store(error @ StoreError::AcknowledgedLost { .. })) = start(older.path()).await else {
        panic!("it started");
    };
    // The way out is said and works: who removes the file accepts the loss.
    let marker = older.path().join("acknowledged");
    assert!(error.to_string().contains(marker.to_str().unwrap()), "{error}");
    fs::remove_file(marker).unwrap();
    assert_eq!(start(older.path()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_database_of_another_version_or_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).await.unwrap();
    let database = rusqlite::Connection::open(directory.path().join("ledger.db")).unwrap();
    database.pragma_update(None, "user_version", 2).unwrap();
    drop(database);
    let refused = start(directory.path()).await;
    assert!(matches!(refused, Err(OpenError::Store(StoreError::SchemaVersion { found: 2, expected: 1 }))));

    let foreign = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(foreign.path().join("ledger.db")).unwrap();
    database.execute_batch("CREATE TABLE something (else_ INTEGER)").unwrap();
    drop(database);
    let refused = start(foreign.path()).await;
    assert!(matches!(refused, Err(OpenError::Store(StoreError::SchemaVersion { found: 0, .. }))));

    let garbage = tempfile::tempdir().unwrap();
    fs::write(garbage.path().join("ledger.db"), [0x5a; 20_000]).unwrap();
    assert!(matches!(start(garbage.path()).await, Err(OpenError::Store(StoreError::Unusable { .. }))));
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_a_plain_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a_file");
    fs::write(&file, "").unwrap();
    let error = start(&file.join("books")).await.unwrap_err();
    assert!(matches!(error, OpenError::Lock(_)), "{error}");
    // A directory where the database should be.
    fs::create_dir(directory.path().join("ledger.db")).unwrap();
    let error = start(directory.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Unusable { .. })), "{error}");
}

#[tokio::test]
async fn what_was_answered_after_a_kill_survives_the_next_one() {
    // Twice in a row: the second start must not trip over what the first one left.
    let killed = killed(10).await;
    let books = Books::open(options(killed.directory.path()));
    let again = books.one(hold(10, 10)).await.unwrap();
    assert!(matches!(&again, Answer::Recorded { replayed: true, .. }));
    let new = books.one(post(50, CUSTOMER, CASH, 1)).await.unwrap();
    let second = tempfile::tempdir().unwrap();
    copy_files(killed.directory.path(), second.path());
    let steps = start(second.path()).await.unwrap();
    assert_eq!(steps.last(), Some(step(&new)));
    assert_eq!(steps.len(), killed.acknowledged.len() + 1);
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}
