//! The real service on a bad disk: writes and syncs of its database fail, find no room or are its last, and then the
//! power goes. No PIN is ever answered before its count is on the disk, and none is counted twice.
//!
//! `ATM_DISK_PROCESSES` says how many cases are tried, `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may stop where it is")]

mod damage;
mod full;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use atm_fault_disk::{Blow, Disk, End, Fault, Tally, copy_of, dice, number};
use atm_proto::auth::{CardToIssue, IssueCardsRequest, VerifyPinRequest};
use support::{Home, Process, press, reason};
use tempfile::TempDir;

const FILES: [(&str, u64); 5] =
    [("auth.db-wal", 10), ("auth.db-wal", 10), ("auth.db-wal", 3), ("auth.db", 1), ("/acknowledged", 5)];
const RIGHT: &str = "1234";
const WRONG: &str = "4321";
const CARDS: usize = 4;
/// So many are tried at each card while the disk fails.
const ATTEMPTS: usize = 5;

fn card(number: usize) -> String {
    format!("77770000{number}")
}

fn attempt(number: usize, pin: &str) -> VerifyPinRequest {
    VerifyPinRequest { card_number: card(number), ..press(pin) }
}

/// What was answered to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Opened(String),
    Refused(String),
    /// Nobody knows whether it counts.
    Nothing,
}

async fn ask(home: &Home, process: &Process, request: VerifyPinRequest) -> Told {
    let answer = home.client(process).verify_pin(request).await;
    match (reason(&answer).as_deref(), answer) {
        (_, Ok(answer)) => Told::Opened(answer.into_inner().session_token),
        (Some(reason @ ("WRONG_CARD_OR_PIN" | "CARD_LOCKED")), Err(_)) => Told::Refused(reason.to_owned()),
        (_, Err(_)) => Told::Nothing,
    }
}

/// A database with the cards, which no attempt has touched.
async fn template(home: &Home) -> TempDir {
    let mut process = home.start(&[]);
    let cards = (0..CARDS)
        .map(|number| CardToIssue {
            card_number: card(number),
            account_id: atm_types::AccountId::of_number(&card(number)).to_string(),
            pin: RIGHT.to_owned(),
        })
        .collect();
    home.client(&process).issue_cards(IssueCardsRequest { cards }).await.unwrap();
    assert!(process.terminate().success());
    copy_of(&home.data())
}

/// Puts these files in the place of the service's.
fn put(home: &Home, files: &Path) {
    if home.data().exists() {
        std::fs::remove_dir_all(home.data()).unwrap();
    }
    std::fs::create_dir(home.data()).unwrap();
    for entry in std::fs::read_dir(files).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), home.data().join(entry.file_name())).unwrap();
    }
}

/// The attempts at one card, and what was told of each.
type Diary = Vec<(VerifyPinRequest, Told)>;

/// All cards are tried at once, each by right and wrong PINs.
async fn tries(home: &Home, process: &Process, dice: &mut fastrand::Rng) -> Vec<Diary> {
    let one = |number: usize, pins: Vec<&'static str>| async move {
        let mut diary = Diary::new();
        for pin in pins {
            let request = attempt(number, pin);
            let told = ask(home, process, request.clone()).await;
            diary.push((request, told));
        }
        diary
    };
    let drawn = |dice: &mut fastrand::Rng| {
        (0..ATTEMPTS).map(|_| if dice.u8(..3) == 0 { RIGHT } else { WRONG }).collect::<Vec<_>>()
    };
    let pins: [Vec<_>; CARDS] = std::array::from_fn(|_| drawn(dice));
    let [a, b, c, d] = pins;
    let (a, b, c, d) = tokio::join!(one(0, a), one(1, b), one(2, c), one(3, d));
    vec![a, b, c, d]
}

/// The counts that the answers leave possible.
fn possible(diary: &Diary) -> BTreeSet<u32> {
    let after = |count: u32, pin: &str| match (count, pin) {
        (3, _) => 3,
        (_, RIGHT) => 0,
        (count, _) => count + 1,
    };
    diary.iter().fold(BTreeSet::from([0]), |counts, (request, told)| {
        counts
            .iter()
            .flat_map(|&count| {
                let counted = after(count, &request.pin);
                match told {
                    Told::Nothing => vec![count, counted],
                    Told::Opened(_) => vec![0],
                    // A locked card says so to every PIN.
                    Told::Refused(reason) if (reason == "CARD_LOCKED") == (counted == 3) => vec![counted],
                    Told::Refused(_) => vec![],
                }
            })
            .collect()
    })
}

/// After a start on a good disk every answer is given again as it was, and the count is what the answers made it.
async fn compare(home: &Home, process: &Process, number: usize, diary: &Diary, about: &str) {
    let told: Vec<_> = diary.iter().map(|(request, told)| (&request.pin, told)).collect();
    let about = format!("{about}: card {number}: {told:?}");
    let counts = possible(diary);
    assert!(!counts.is_empty(), "{about}: these answers contradict each other");
    for (request, told) in diary.iter().filter(|(_, told)| *told != Told::Nothing) {
        assert_eq!(ask(home, process, request.clone()).await, *told, "{about}: {}", request.attempt_id);
    }
    let mut left = 0;
    while ask(home, process, attempt(number, WRONG)).await != Told::Refused("CARD_LOCKED".to_owned()) {
        left += 1;
    }
    let found = match left {
        0 => [2, 3],
        1 => [1, 1],
        2 => [0, 0],
        more => panic!("{about}: {more} more guesses were free"),
    };
    assert!(found.iter().any(|count| counts.contains(count)), "{about}: {left} guesses were left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pin_is_answered_before_its_count_is_on_a_disk_that_fails() {
    let cases = number("ATM_DISK_PROCESSES", 12);
    let mut dice = dice("ATM_DISK_PROCESSES", cases);
    let (home, disk) = (Home::new(), Disk::new());
    let template = template(&home).await;
    let (mut hit, mut tally) = (0, Tally::default());
    for case in 1..=cases {
        let mut dice = dice.fork();
        let fault = Fault::draw(&mut dice, &FILES, &[Blow::Fails, Blow::Full, Blow::Kill]);
        let end = End::draw(&mut dice);
        let about = format!("case {case}: {fault:?}, then {end:?}");
        put(&home, template.path());
        disk.settle(&home.data());
        let mut process = home.start_with(&[], &disk.environment());
        let strikes = disk.strikes();
        disk.strike(case, &fault);
        let diaries = tries(&home, &process, &mut dice).await;
        process.kill_if_it_lives();
        let struck = disk.strikes() > strikes;
        disk.heal();
        let found = disk.after(end, &home.data(), &mut dice);
        disk.forget(&home.data());
        put(&home, found.path());

        let mut process = home.start(&[]);
        for (number, diary) in diaries.iter().enumerate() {
            compare(&home, &process, number, diary, &about).await;
        }
        process.kill();
        let unanswered = diaries.iter().flatten().any(|(_, told)| *told == Told::Nothing);
        hit += u64::from(struck);
        let result = match (struck, unanswered) {
            (false, _) => "not struck",
            (true, true) => "some were not answered",
            (true, false) => "all were answered",
        };
        tally.count(format!("{:?}", fault.blow), result);
    }
    println!("{tally}{hit} of {cases} were struck");
    assert!(hit * 2 > cases, "too few were struck: {hit} of {cases}");
    assert!(tally.of("some were not answered") > 0, "no attempt was hit");
}
