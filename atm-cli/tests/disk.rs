//! The real program on a disk that fails under it: the writes and syncs of its journal and of its device's memory end
//! with an error, find no room, or are its last. Whatever it was doing, once the disk is good again it recovers: device,
//! journal and books agree to the note, and nobody was told what is not so.
//!
//! `ATM_DISK_PROCESSES` says how many cases are tried, `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "crash/check.rs"]
#[allow(dead_code, reason = "the counts are of kills")]
mod check;
#[path = "crash/scenario.rs"]
#[allow(dead_code, reason = "the network is left alone here")]
mod scenario;
mod support;

use std::sync::Mutex;

use atm_fault_disk::{Blow, Disk, End, Fault, Tally, dice, number};
use check::{check, recover};
use scenario::{Scenario, Stage};
use support::Said;
use support::glass_bank::GlassBank;
use support::own_bank::copy;

/// The journal's log above all.
const FILES: [(&str, u64); 9] = [
    ("journal.sqlite3-wal", 12),
    ("journal.sqlite3-wal", 12),
    ("journal.sqlite3-wal", 12),
    ("journal.sqlite3-wal", 3),
    ("dispenser.sqlite3-wal", 5),
    ("dispenser.sqlite3-wal", 2),
    ("journal.sqlite3", 1),
    ("journal.reserve", 1),
    ("journal.acknowledged", 4),
];
/// What the machine is doing.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// A command.
    Ordinary(Scenario),
    /// `recover`, after this command was killed at this point.
    RecoverAfter(Scenario, &'static str),
}

const SCENES: [Scene; 12] = [
    Scene::Ordinary(Scenario::Withdrawal),
    Scene::Ordinary(Scenario::Withdrawal),
    Scene::Ordinary(Scenario::Withdrawal),
    Scene::Ordinary(Scenario::Deposit),
    Scene::Ordinary(Scenario::Deposit),
    Scene::Ordinary(Scenario::Transfer),
    Scene::Ordinary(Scenario::WithdrawalWith("partly-taken")),
    Scene::Ordinary(Scenario::RecoverLate),
    Scene::RecoverAfter(Scenario::Withdrawal, "INTENT"),
    Scene::RecoverAfter(Scenario::Withdrawal, "DISPENSING"),
    Scene::RecoverAfter(Scenario::Withdrawal, "PRESENTED"),
    Scene::RecoverAfter(Scenario::Deposit, "INTENT"),
];
/// So many machines at a time, each with a bank and a disk of its own.
const WORKERS: u64 = 4;

/// One machine on one bad disk.
#[derive(Debug)]
struct Job {
    case: u64,
    scene: Scene,
    /// Whether the machine has worked before, on a good disk.
    old: bool,
    fault: Fault,
    end: End,
    seed: u64,
}

impl Job {
    fn draw(case: u64, dice: &mut fastrand::Rng) -> Self {
        Self {
            case,
            scene: SCENES[dice.usize(..SCENES.len())],
            old: dice.u8(..4) > 0,
            fault: Fault::draw(dice, &FILES, &[Blow::Fails, Blow::Full, Blow::Kill]),
            end: End::draw(dice),
            seed: dice.u64(..),
        }
    }
}

/// Plays one job on a new machine. Whether the disk struck, and how the program ended.
fn play(bank: &GlassBank, disk: &Disk, job: &Job) -> (bool, i32) {
    let about = format!("{job:?}");
    let mut stage = Stage::new(bank, u32::try_from(job.case).unwrap());
    if job.old {
        assert_eq!(stage.atm.run(&["dispenser", "fault", "none"]).code, 0);
    }
    let scenario = match job.scene {
        Scene::Ordinary(scenario) => {
            stage.prepare(scenario);
            scenario
        }
        Scene::RecoverAfter(scenario, point) => {
            assert_eq!(stage.act(scenario, &["--crash-at", point]).code, -1, "{about}");
            Scenario::RecoverSilence
        }
    };
    if stage.atm.state.exists() {
        disk.settle(&stage.atm.state);
    }
    stage.atm.environment = disk.environment().into();
    let strikes = disk.strikes();
    disk.strike(job.case, &job.fault);
    let said = stage.act(scenario, &["--json"]);
    disk.heal();
    stage.atm.environment.clear();
    if stage.atm.state.exists() {
        let found = disk.after(job.end, &stage.atm.state, &mut fastrand::Rng::with_seed(job.seed));
        disk.forget(&stage.atm.state);
        std::fs::remove_dir_all(&stage.atm.state).unwrap();
        copy(found.path(), &stage.atm.state);
    }
    let about = format!("{about}: {said:?}");
    recover(&stage, &about);
    check(&stage, &about);
    check_told(&stage, &said, &about);
    (disk.strikes() > strikes, said.code)
}

/// What the program said of its transaction is still so.
fn check_told(stage: &Stage<'_>, said: &Said, about: &str) {
    let journaled = stage.atm.journaled();
    let Some(told) = said.stdout.lines().next().map(|_| said.json()) else {
        assert_eq!(said.code, -1, "{about}: it said nothing");
        return;
    };
    // A recovery tells of several, and what it has not settled is for the next.
    if told["status"].is_null() {
        return;
    }
    let state = |id: &str| journaled.iter().find(|one| one.id == id).map(|one| one.state.as_str());
    let its_state = told["transaction_id"].as_str().and_then(state);
    match told["status"].as_str().unwrap() {
        "captured" | "capture_pending" | "posted" => assert_eq!(its_state, Some("DONE"), "{about}"),
        "declined" | "cancelled" => assert!(matches!(its_state, None | Some("VOIDED")), "{about}"),
        "unknown" if said.code == 3 => {}
        // Provably nothing happened.
        _ => assert!(journaled.iter().all(|one| one.state == "VOIDED"), "{about}: {journaled:?}"),
    }
}

#[test]
fn whatever_the_disk_does_cash_out_equals_debits_and_nobody_was_told_what_is_not_so() {
    let cases = number("ATM_DISK_PROCESSES", 60);
    let mut dice = dice("ATM_DISK_PROCESSES", cases);
    let jobs: Vec<Job> = (1..=cases).map(|case| Job::draw(case, &mut dice)).collect();
    let total = Mutex::new((0, Tally::default()));
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(cases) {
            scope.spawn(|| {
                let bank = GlassBank::new(u32::try_from(cases).unwrap() + 1);
                let disk = Disk::new();
                while let Some(job) = jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let (struck, code) = play(&bank, &disk, job);
                    let ending = match (struck, code) {
                        (false, _) => "not struck",
                        (true, -1) => "killed",
                        (true, 0) => "done all the same",
                        (true, 3) => "unknown",
                        (true, 5) => "out of service",
                        (true, _) => "refused",
                    };
                    let mut total = total.lock().unwrap();
                    total.0 += u64::from(struck);
                    total.1.count(format!("{:?}", job.fault.blow), ending);
                }
                bank.check_books();
            });
        }
    });
    let (hit, tally) = total.into_inner().unwrap();
    println!("{tally}{hit} of {cases} were struck");
    assert!(hit * 2 > cases, "too few were struck: {hit} of {cases}");
    for ending in ["killed", "unknown", "out of service"] {
        assert!(tally.of(ending) > 0, "no program ended so: {ending}");
    }
}
