//! The real service on a disk without room: it refuses what can wait, goes on with what cannot, and what it could not
//! write never comes back.

use std::time::Duration;

use atm_fault_disk::{Blow, Disk, End, Fault, copy_of, dice};
use atm_proto::auth::{
    BlockCardRequest, CloseSessionRequest, IssueCardsRequest, SignOnTerminalRequest, VerifyPinRequest,
};
use atm_proto::types::Boot;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{Home, Process, press};
use crate::{RIGHT, Told, WRONG, ask, attempt, card, compare, put, template};

/// From the `nth` write to `file` on, or for this one, there is no room.
fn full(file: &'static str, nth: u64, onwards: bool) -> Fault {
    Fault { operation: "write", nth, onwards, blow: Blow::Full, file }
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

/// A start of the machine after `epoch - 1` others.
fn boot(epoch: u64) -> Boot {
    let id = |epoch| Uuid::from_u128(u128::from(epoch)).to_string();
    let previous_boot_id = if epoch == 1 { String::new() } else { id(epoch - 1) };
    Boot { epoch, boot_id: id(epoch), previous_boot_id }
}

async fn sign_on(home: &Home, process: &Process, epoch: u64) -> Code {
    let VerifyPinRequest { atm_id, terminal_id, .. } = press(RIGHT);
    let request = SignOnTerminalRequest { atm_id, terminal_id, boot: Some(boot(epoch)) };
    code(home.client(process).sign_on_terminal(request).await)
}

async fn log_in(home: &Home, process: &Process, pin: &str) -> Code {
    code(home.client(process).verify_pin(attempt(0, pin)).await)
}

/// What is told of an attempt as soon as the service has found room for it.
async fn ask_until_there_is_room(home: &Home, process: &Process, request: VerifyPinRequest) -> Told {
    let asking = async {
        loop {
            match ask(home, process, request.clone()).await {
                Told::Nothing => tokio::time::sleep(Duration::from_millis(50)).await,
                told => return told,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("nobody finds the room")
}

fn lives(process: &mut Process) -> bool {
    process.child.try_wait().unwrap().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_finds_no_room_counts_for_nothing_and_never_comes_back() {
    let (home, disk) = (Home::new(), Disk::new());
    let template = template(&home).await;
    let mut dice = dice("cases for each write", 2);
    for nth in 1.. {
        let mut struck = false;
        // Room is found again at once, or never.
        for onwards in [false, true] {
            let end = End::draw(&mut dice);
            let about = format!("write {nth}, onwards: {onwards}, then {end:?}");
            put(&home, template.path());
            disk.settle(&home.data());
            let mut process = home.start_with(&[], &disk.environment());
            let strikes = disk.strikes();
            disk.strike(2 * nth + u64::from(onwards), &full("auth.db-wal", nth, onwards));
            let guess = attempt(0, WRONG);
            let told = ask(&home, &process, guess.clone()).await;
            struck = disk.strikes() > strikes;
            let wrong = Told::Refused("WRONG_CARD_OR_PIN".to_owned());
            let expected = if struck && onwards { Told::Nothing } else { wrong };
            assert_eq!(told, expected, "{about}");
            assert!(lives(&mut process), "{about}: the service ended");
            process.kill();
            disk.heal();
            let found = disk.after(end, &home.data(), &mut dice);
            disk.forget(&home.data());
            put(&home, found.path());

            let mut process = home.start(&[]);
            // A guess that was not answered must not have been counted.
            let diary = if told == Told::Nothing { Vec::new() } else { vec![(guess, told)] };
            compare(&home, &process, 0, &diary, &about).await;
            process.kill();
        }
        if !struck {
            println!("a commit is {} writes", nth - 1);
            assert!(nth > 4, "too few writes were tried");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_machines_sign_on_and_pins_wait_until_there_is_room() {
    let (home, disk) = (Home::new(), Disk::new());
    let template = template(&home).await;
    put(&home, template.path());
    let reserve = home.data().join("reserve");
    let mut process = home.start_with(&[], &disk.environment());
    let first = VerifyPinRequest { boot: Some(boot(1)), ..attempt(1, RIGHT) };
    let opened = home.client(&process).verify_pin(first).await.unwrap().into_inner();

    // No room at all: everything is refused, nothing is counted, and the service goes on.
    disk.strike(1, &full("auth.db-wal", 1, true));
    assert_eq!(log_in(&home, &process, WRONG).await, Code::Unavailable);
    // A directory in the place of the reserve, which cannot be made again then. Somebody may just have done that.
    while std::fs::create_dir(&reserve).is_err() {
        assert_eq!(log_in(&home, &process, WRONG).await, Code::Unavailable);
    }
    for _ in 0..4 {
        assert_eq!(log_in(&home, &process, WRONG).await, Code::Unavailable);
    }
    assert_eq!(sign_on(&home, &process, 2).await, Code::Unavailable);
    assert!(lives(&mut process));

    // The room that was kept, and no more: machines go on.
    disk.heal();
    assert_eq!(sign_on(&home, &process, 2).await, Code::Ok);
    let session_id = opened.session.unwrap().session_id;
    let closed = home.client(&process).close_session(CloseSessionRequest { session_id }).await;
    assert_eq!(code(closed), Code::Ok);
    let block = BlockCardRequest { card_number: card(2), order_id: Uuid::from_u128(7).to_string() };
    assert_eq!(code(home.client(&process).block_card(block).await), Code::Ok);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(log_in(&home, &process, WRONG).await, Code::Unavailable);
    let cards = crate::support::cards(RIGHT).cards;
    let issued = home.client(&process).issue_cards(IssueCardsRequest { cards }).await;
    assert_eq!(code(issued), Code::Unavailable);
    // So it does after a kill.
    process.kill();
    let mut process = home.start_with(&[], &disk.environment());
    assert_eq!(log_in(&home, &process, WRONG).await, Code::Unavailable);
    assert_eq!(sign_on(&home, &process, 3).await, Code::Ok);

    std::fs::remove_dir(&reserve).unwrap();
    let told = ask_until_there_is_room(&home, &process, attempt(3, RIGHT)).await;
    assert!(matches!(told, Told::Opened(_)), "{told:?}");
    compare(&home, &process, 0, &Vec::new(), "no guess was counted").await;
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_no_room_takes_what_was_kept() {
    let (home, disk) = (Home::new(), Disk::new());
    let template = template(&home).await;
    put(&home, template.path());
    let mut process = home.start(&[]);
    let told = ask(&home, &process, attempt(0, WRONG)).await;
    assert_eq!(told, Told::Refused("WRONG_CARD_OR_PIN".to_owned()));
    // What was counted is in the log alone.
    process.kill();
    let killed = copy_of(&home.data());
    for (case, file) in [(1, "auth.db"), (2, "auth.db-shm")] {
        put(&home, killed.path());
        let _ = std::fs::remove_file(home.data().join("auth.db-shm"));
        disk.strike(case, &full(file, 1, false));
        let strikes = disk.strikes();
        let mut process = home.start_with(&[], &disk.environment());
        assert_eq!(disk.strikes(), strikes + 1, "{file}");
        let said = "the kept room is used to open the database";
        assert!(process.output.lock().unwrap().contains(said), "{file}");
        let second = ask_until_there_is_room(&home, &process, attempt(0, WRONG)).await;
        assert_eq!(second, told, "{file}");
        let locked = ask(&home, &process, attempt(0, WRONG)).await;
        assert_eq!(locked, Told::Refused("CARD_LOCKED".to_owned()), "{file}");
        process.kill();
    }
}
