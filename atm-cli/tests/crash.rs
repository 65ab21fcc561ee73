//! The real program is killed at every crash point there is, alone and in pairs with other faults, and recovers.
//!
//! The points come from the program itself (`crash-points`); which scenario passes which of them is found out by
//! running each once. Pairs are a point and one of four faults, in either order: the fault strikes first and the kill
//! comes in the middle of what it caused, or the machine is killed and the fault strikes its recovery. The ordinary
//! run takes one pair for each point, always the same; `ATM_CRASH_PAIRS=all` takes every one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "crash/check.rs"]
mod check;
#[path = "crash/scenario.rs"]
mod scenario;
mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use check::{Counts, check, recover};
use scenario::{ALL, FAULTS, Fault, Scenario, Stage};
use support::glass_bank::GlassBank;
use support::own_bank::{OwnBank, copy};
use support::{Atm, text};

/// Points of an outage, which takes a restored ledger or a copied disk: killed in a test of their own.
const OUTAGE: [&str; 4] =
    ["BEFORE_OUT_OF_SERVICE", "OUT_OF_SERVICE", "BEFORE_BACK_IN_SERVICE", "BACK_IN_SERVICE"];
/// Points that only operators' commands pass: killed in `operators.rs`.
const OPERATORS: [&str; 8] = [
    "BEFORE_CASH_MOVED",
    "CASH_MOVED",
    "BEFORE_DEVICE_COUNTED",
    "DEVICE_COUNTED",
    "BEFORE_MOVE_CASH",
    "MOVE_CASH_ANSWERED",
    "BEFORE_RESOLVE",
    "RESOLVE_ANSWERED",
];
/// So many machines at a time, each with a bank of its own, since a dead ledger is dead for all its machines. Most of
/// their time is spent waiting: for a disk, or for an answer that does not come.
const WORKERS: usize = 6;

/// One machine to kill.
#[derive(Clone, Debug)]
struct Job {
    scenario: Scenario,
    point: Option<String>,
    fault: Option<(Fault, Order)>,
}

/// Which of the two comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    FaultFirst,
    KillFirst,
}

fn all_points() -> Vec<String> {
    let json = Atm::new("http://127.0.0.1:1").json(&["crash-points"]);
    json["points"].as_array().unwrap().iter().map(|point| point.as_str().unwrap().to_owned()).collect()
}

/// For each point the scenarios that pass it.
fn find_scenarios() -> BTreeMap<String, Vec<Scenario>> {
    let bank = GlassBank::new(u32::try_from(ALL.len()).unwrap() + 1);
    let mut found: BTreeMap<String, Vec<Scenario>> = BTreeMap::new();
    for (scenario, number) in ALL.into_iter().zip(1..) {
        let stage = Stage::new(&bank, number);
        stage.prepare(scenario);
        for point in stage.points_of(scenario) {
            let passing = found.entry(point).or_default();
            if !passing.contains(&scenario) {
                passing.push(scenario);
            }
        }
    }
    found
}

/// Whether everything is to be played, and not only a sample.
fn every() -> bool {
    std::env::var("ATM_CRASH_PAIRS").is_ok_and(|which| which == "all")
}

/// The scenarios in which a point is killed alone: the first that passes it, deposits, and captures that come late.
fn chosen(passing: &[Scenario]) -> impl Iterator<Item = Scenario> {
    passing.iter().enumerate().filter_map(|(index, scenario)| {
        let always = matches!(scenario, Scenario::Deposit | Scenario::RecoverLate);
        (index == 0 || always || every()).then_some(*scenario)
    })
}

/// Plays one job on a new machine; what it came to, when the kill happened.
fn play(bank: &GlassBank, number: u32, job: &Job) -> Counts {
    let about = format!("{job:?}");
    let stage = Stage::new(bank, number);
    stage.prepare(job.scenario);
    let lost = stage.lost_at_ledger();
    let before = job.fault.filter(|(_, order)| *order == Order::FaultFirst);
    if let Some((fault, _)) = before {
        stage.strike(fault, Stage::first_money_call(job.scenario));
    }
    let mut more = vec!["--deadline", if job.fault.is_some() { "1500ms" } else { "10s" }];
    if let Some(point) = &job.point {
        more.extend(["--crash-at", point]);
    }
    let said = stage.act(job.scenario, &more);
    let killed = said.code == -1;
    assert!(killed || before.is_some(), "{about}: it was not killed: {said:?}");
    if let Some((fault, Order::KillFirst)) = job.fault {
        // The machine's sign-on passes; what is struck is the first thing that it settles.
        stage.strike(fault, 2);
        let said = stage.atm.run(&["recover", "--deadline", "1s"]);
        assert!(said.code == 0 || said.code == 3 || said.code == 5, "{about}: {said:?}");
    }
    let struck = stage.heal(lost);
    recover(&stage, &about);
    Counts { kills: u32::from(killed), faults: u32::from(struck), ..check(&stage, &about) }
}

/// Plays all jobs, several at a time; each worker has a bank of its own.
fn play_all(jobs: &[Job]) -> Counts {
    let (next_job, total) = (AtomicUsize::new(0), Mutex::new(Counts::default()));
    let customers = u32::try_from(jobs.len()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(jobs.len()) {
            scope.spawn(|| {
                let bank = GlassBank::new(customers + 1);
                while let Some(job) = {
                    let index = next_job.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).map(|job| (index, job))
                } {
                    let number = u32::try_from(job.0).unwrap() + 1;
                    let counts = play(&bank, number, job.1);
                    total.lock().unwrap().add(counts);
                }
                bank.check_books();
            });
        }
    });
    total.into_inner().unwrap()
}

fn say(what: &str, jobs: usize, counts: Counts) {
    println!(
        "{what}: {jobs}; kills: {}, other faults: {}, suspects: {}, late captures: {}, tombstones: {}",
        counts.kills, counts.faults, counts.suspects, counts.late_captures, counts.tombstones
    );
}

#[test]
fn killed_at_every_crash_point_the_machine_recovers_and_cash_out_equals_debits() {
    let points = all_points();
    let scenarios = find_scenarios();
    let elsewhere = |point: &str| OUTAGE.contains(&point) || OPERATORS.contains(&point);
    let missing: Vec<_> =
        points.iter().filter(|point| !scenarios.contains_key(*point) && !elsewhere(point)).collect();
    assert!(missing.is_empty(), "no scenario passes {missing:?}");

    let jobs_at = |(point, passing): (&String, &Vec<Scenario>)| -> Vec<Job> {
        let job = |scenario| Job { scenario, point: Some(point.clone()), fault: None };
        chosen(passing).map(job).collect()
    };
    let alone: Vec<Job> = scenarios.iter().flat_map(jobs_at).collect();
    let counts = play_all(&alone);
    println!(
        "{} crash points, {} passed by {} scenarios, {} in an outage, {} by operators",
        points.len(),
        scenarios.len(),
        ALL.len(),
        OUTAGE.len(),
        OPERATORS.len()
    );
    say("killed alone", alone.len(), counts);
    assert_eq!(usize::try_from(counts.kills).unwrap(), alone.len(), "every one was a kill");
    let met = counts.suspects > 0 && counts.tombstones > 0 && counts.late_captures > 0;
    assert!(met, "important situations were met: {counts:?}");
}

#[test]
fn killed_at_every_crash_point_in_pair_with_another_fault_the_machine_recovers() {
    let scenarios = find_scenarios();
    let orders = [Order::KillFirst, Order::FaultFirst];
    let pairs: Vec<_> = FAULTS.into_iter().flat_map(|fault| orders.map(|order| (fault, order))).collect();
    let mut jobs = Vec::new();
    for (index, (point, passing)) in scenarios.iter().enumerate() {
        for (number, pair) in pairs.iter().enumerate() {
            // Three has no divisor in common with eight: the sample goes round through all kinds of pairs.
            if every() || number == index * 3 % pairs.len() {
                jobs.push(Job { scenario: passing[0], point: Some(point.clone()), fault: Some(*pair) });
            }
        }
    }
    let counts = play_all(&jobs);
    println!(
        "{} pairs of {} points, {} faults and 2 orders",
        scenarios.len() * pairs.len(),
        scenarios.len(),
        FAULTS.len()
    );
    say("played", jobs.len(), counts);
    let most = u32::try_from(jobs.len() / 2).unwrap();
    assert!(
        counts.kills > most && counts.faults > most,
        "most were killed, and most were struck: {counts:?}"
    );
}

#[test]
fn whenever_the_devices_own_power_goes_the_machine_recovers() {
    let faults = [
        "power-after-accept",
        "power-after-pick",
        "power-after-stack",
        "power-while-presenting",
        "power-after-present",
        "power-after-take",
    ];
    let jobs: Vec<Job> = faults
        .iter()
        .map(|fault| Job { scenario: Scenario::WithdrawalWith(fault), point: None, fault: None })
        .collect();
    let counts = play_all(&jobs);
    say("losses of power", jobs.len(), counts);
    assert_eq!((counts.kills, counts.suspects), (6, 1), "only while the shutter moved nobody knows");
}

#[test]
fn killed_while_it_is_fenced_off_a_copy_of_the_machine_stays_fenced_off() {
    let bank = GlassBank::new(4);
    for (number, point) in [(1, "BEFORE_OUT_OF_SERVICE"), (2, "OUT_OF_SERVICE")] {
        let stage = Stage::new(&bank, number);
        assert_eq!(stage.act(Scenario::Withdrawal, &[]).code, 0);
        let clone = Atm::new(&bank.gateway);
        copy(&stage.atm.state, &clone.state);
        assert_eq!(stage.act(Scenario::Deposit, &[]).code, 0);
        let card = &stage.customer.card;
        assert_eq!(clone.run(&["withdraw", "10", "--card", card, "--crash-at", point]).code, -1, "{point}");
        for _ in 0..2 {
            let (code, json) = clone.run_json(&["withdraw", "10", "--card", card]);
            assert_eq!((code, text(&json, "reason")), (5, "fenced_off".into()), "{point}");
        }
        check(&stage, point);
    }
}

#[test]
fn killed_while_it_goes_out_of_service_and_back_the_bank_is_told_again_all_the_same() {
    let mut bank = OwnBank::new();
    let customer = bank.customer(1, "1000");
    let mut atm = Atm::new(&bank.gateway());
    let withdraw = |atm: &Atm, more: &[&str]| {
        atm.run(&[&["withdraw", "100", "--card", &customer.card, "--json"][..], more].concat())
    };
    assert_eq!(withdraw(&atm, &[]).code, 0);
    bank.stop();
    bank.back_up_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    assert_eq!(withdraw(&atm, &[]).code, 0);
    bank.stop();
    bank.restore_ledger("monday");
    bank.start();
    atm.behind(&bank.gateway());
    let reason = |atm: &Atm| text(&withdraw(atm, &[]).json(), "reason");
    assert_eq!(withdraw(&atm, &["--crash-at", "BEFORE_OUT_OF_SERVICE"]).code, -1);
    assert_eq!(withdraw(&atm, &["--crash-at", "OUT_OF_SERVICE"]).code, -1);
    assert_eq!(reason(&atm), "bank_went_back");
    assert_eq!(atm.run(&["recover", "--crash-at", "BEFORE_BACK_IN_SERVICE"]).code, -1);
    assert_eq!(reason(&atm), "bank_went_back", "not before it is written down");
    assert_eq!(atm.run(&["recover", "--crash-at", "BACK_IN_SERVICE"]).code, -1);
    assert_eq!(atm.run(&["recover"]).code, 0);
    assert_eq!(withdraw(&atm, &[]).code, 0);
    let balance = atm.json(&["balance", "--card", &customer.card]);
    assert_eq!(text(&balance, "balance"), "700.00", "three withdrawals, one of them posted late");
    assert_eq!(bank.admin(&["verify"]).code, 0);
    bank.stop();
}
