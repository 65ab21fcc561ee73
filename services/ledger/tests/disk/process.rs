//! The real program on a disk that fails under it, with tellers who work and never give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use atm_fault_disk::{Blow, Disk, End, Fault, Tally, dice, number};

use crate::support::process::{self, Process};
use crate::support::story::{self, Diary, Observer, Teller};
use crate::support::*;

/// What fails. The database itself is written at the start and at the end only.
const FILES: [(&str, u64); 3] = [("ledger.db-wal", 25), ("ledger.db-wal", 25), ("acknowledged", 20)];
const TELLERS: u64 = 6;
const EACH: i64 = 100_000_000;

/// Counts what was answered, and what was not.
#[derive(Default)]
struct Answers {
    given: AtomicU64,
    refused: AtomicU64,
}

impl Observer for Answers {
    fn begun(&self) -> u64 {
        0
    }

    fn ended(&self, _: u64, failed: bool) {
        let counter = if failed { &self.refused } else { &self.given };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl Answers {
    fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Waits until so much was answered, or until so much was refused that nothing more will be: without room a
    /// ledger lives, and holds nothing.
    async fn reach(&self, count: u64) {
        let refused = self.refused.load(Ordering::SeqCst) + TELLERS;
        while self.given() < count && self.refused.load(Ordering::SeqCst) < refused {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Works on a disk that fails until the process has ended by itself or has answered enough; goes on where the next
/// start finds the books, and compares. Whether anything was struck, and how the process ended.
async fn play(disk: &Disk, (case, fault): (u64, &Fault), dice: &mut fastrand::Rng) -> (bool, &'static str) {
    let (end, seed) = (End::draw(dice), dice.u64(..));
    let directory = tempfile::tempdir().unwrap();
    let environment = disk.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.to_str().unwrap()));
    let mut ledger = Process::start_with(directory.path(), &environment).await;
    let (url, address) = (ledger.url(), ledger.address.to_string());
    let token = process::token(directory.path());
    story::endow(&mut connect(&url, &token), EACH).await;

    let (answers, over) = (Arc::new(Answers::default()), Arc::new(AtomicBool::new(false)));
    let before = disk.strikes();
    disk.strike(case, fault);
    let tellers: Vec<_> = (1..=TELLERS)
        .map(|number| {
            let (observer, over) = (Arc::clone(&answers) as Arc<dyn Observer>, Arc::clone(&over));
            let mut teller = Teller::new(&url, &token, seed ^ number, observer);
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    teller.transact().await;
                }
                teller.diary
            })
        })
        .collect();
    tokio::select! {
        _ = ledger.has_ended() => {}
        () = answers.reach(120) => {}
    }
    // One that does not serve any more is about to end by itself; one that lives on, with room or without, is killed.
    let ended = if atm_rpc::server::check_health(&url).await {
        ledger.kill().await;
        "it went on and was killed"
    } else {
        assert!(!ledger.has_ended().await.success(), "it ended as if all were well");
        "the process ended"
    };
    let struck = disk.strikes() > before;
    disk.heal();
    let found = disk.after(end, &process::data(directory.path()), dice);
    disk.forget(&process::data(directory.path()));
    std::fs::remove_dir_all(process::data(directory.path())).unwrap();
    copy_files(found.path(), &process::data(directory.path()));

    let ledger = Process::start_with(directory.path(), &[("ATM_LEDGER_LISTEN", &address)]).await;
    answers.reach(answers.given() + TELLERS).await;
    over.store(true, Ordering::SeqCst);
    let mut diary = Diary::default();
    for teller in tellers {
        diary.merge(teller.await.unwrap());
    }
    story::compare(&mut connect(&url, &token), &diary, EACH).await;
    ledger.kill().await;
    (struck, ended)
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_disk_fails_has_answered_nothing_that_is_not_there_afterwards() {
    let cases = number("ATM_DISK_PROCESSES", 10);
    let mut dice = dice("ATM_DISK_PROCESSES", cases);
    let disk = Disk::new();
    let (mut hit, mut tally) = (0, Tally::default());
    for case in 1..=cases {
        let mut dice = dice.fork();
        let fault = Fault::draw(&mut dice, &FILES, &[Blow::Fails, Blow::Full, Blow::Kill]);
        println!("case {case}: {fault:?}");
        let (struck, ended) = play(&disk, (case, &fault), &mut dice).await;
        hit += u64::from(struck);
        tally.count(format!("{:?}", fault.blow), if struck { ended } else { "not struck" });
    }
    println!("{tally}{hit} of {cases} were struck");
    assert!(hit * 2 >= cases, "too few were struck: {hit} of {cases}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_no_room_takes_what_was_kept() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let environment = disk.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.to_str().unwrap()));
    let ledger = Process::start(directory.path()).await;
    let token = process::token(directory.path());
    story::endow(&mut connect(&ledger.url(), &token), EACH).await;
    // What was posted is in the log alone.
    ledger.kill().await;
    let (data, killed) = (process::data(directory.path()), tempfile::tempdir().unwrap());
    copy_files(&data, killed.path());
    for (case, file) in [(1, "ledger.db"), (2, "ledger.db-shm")] {
        std::fs::remove_dir_all(&data).unwrap();
        copy_files(killed.path(), &data);
        std::fs::remove_file(data.join("ledger.db-shm")).unwrap();
        let before = disk.strikes();
        disk.strike(case, &Fault { operation: "write", nth: 1, onwards: false, blow: Blow::Full, file });
        let ledger = Process::start_with(directory.path(), &environment).await;
        assert_eq!(disk.strikes(), before + 1, "{file}");
        // One write found no room, which would have kept it from starting; there is room again for what it gave up.
        assert!(data.join("reserve").exists(), "{file}: no room is kept");
        story::compare(&mut connect(&ledger.url(), &token), &Diary::default(), EACH).await;
        ledger.kill().await;
    }
}
