//! `kill -9` of every program there is: cash machines, gateway, auth and ledger, as real processes, at random and at
//! named points, under steady traffic. Afterwards every note and every entry has to be where it belongs.
//!
//! A round kills one service twice: at random with calls into it in flight, and, started again, at one of its fault
//! points; or it kills every machine a few times, at its own points and at random. A deck of cards says which, so that
//! every point comes up. `ATM_KILL_ROUNDS` says how many rounds (by default once through the deck; the check script plays
//! 50), `ATM_SEED` with which dice.
#![allow(clippy::unwrap_used, reason = "a test")]

mod guesser;
mod judge;
mod machine;
mod points;
mod program;
mod rounds;
mod scene;
mod twin;

use std::sync::Arc;

use atm_lab::bank::Bank;
use atm_lab::binaries::Binaries;
use guesser::Guesser;
use judge::Tally;
use machine::{Machine, open_pot, pot_balance};
use program::Program;
use rounds::{Rounds, size_of_deck};
use scene::Scene;
use twin::Twin;

/// How many machines work at once; one command of each at a time.
const MACHINES: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_wherever_money_moves_exactly_once_and_wrong_pins_count_once() {
    let (rounds, seed) = (number("ATM_KILL_ROUNDS", size_of_deck()), number("ATM_SEED", 20_261_121));
    println!("ATM_KILL_ROUNDS={rounds} ATM_SEED={seed}");
    let binaries = Binaries {
        auth: env!("CARGO_BIN_EXE_armed-auth").into(),
        ledger: env!("CARGO_BIN_EXE_armed-ledger").into(),
        gateway: env!("CARGO_BIN_EXE_armed-gateway").into(),
    };
    let bank = Bank::start(&binaries).await.unwrap();
    let scene = Arc::new(Scene::new(bank.gateway_url(), bank.operator_token_file(), MACHINES));

    let office = Program::new(&scene);
    open_pot(&office).await;
    let mut machines = Vec::new();
    for index in 0..MACHINES {
        machines.push(Machine::new(&scene, index, seed).await);
    }
    let passed = machines[0].rehearse().await;
    let twin = Twin::new(&scene, seed).await;
    let working: Vec<_> = machines.into_iter().map(|machine| tokio::spawn(machine.work())).collect();
    let guessing = tokio::spawn(Guesser::new(&scene, seed).await.guess());

    let mut played = Rounds::new(bank, &scene, twin, passed, seed);
    for round in 1..=rounds {
        let told = played.play().await;
        println!("round {round}: {told}");
    }
    scene.end();
    let mut tally = Tally::default();
    for machine in working {
        tally.add(&machine.await.unwrap());
    }
    let guesses = guessing.await.unwrap();
    tally.add(&played.twin.judge().await);

    println!("{}", played.report());
    println!("{tally}");
    println!("{guesses}");
    played.check(rounds);
    guesses.check();
    assert_eq!(pot_balance(&office).await, tally.sent, "what was sent away has come to where it was sent");
    office.insist(&["admin", "trial-balance"]).await;
    office.insist(&["admin", "verify"]).await;
    assert!(tally.acknowledged > 0, "somebody was served");
}
