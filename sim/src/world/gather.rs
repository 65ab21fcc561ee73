//! Puts the evidence together.

use std::collections::BTreeMap;

use atm_cli::simulation;
use atm_ledger::authorization::Authorizer;
use atm_ledger::evidence::{self, Recorded};
use atm_ledger::storage::Head;
use atm_types::{AccountId, Currency};

use super::World;
use super::observe::Observer;
use super::services::{OPERATOR_TOKEN, SERVICE_TOKEN};
use super::shared::Host;
use crate::evidence::{AuthEvidence, Evidence, LedgerEvidence, MachineEvidence, Role, Secret};
use crate::plan::CUSTOMERS;

pub(super) fn evidence(world: &World, observer: &Observer, at_end: bool) -> Evidence {
    // Opening a disk passes fault points, which are nobody's any more.
    world.shared.lock().over = true;
    let ledger = ledger(world, observer);
    let state = world.shared.lock();
    Evidence {
        seed: world.seed,
        now: state.now,
        at_end,
        ledger,
        auth: AuthEvidence {
            cards: world.auth.cards(),
            attempts: observer.attempts.clone(),
            counts: observer.count_changes.clone(),
            verifications: state.verifications.clone(),
        },
        machines: machines(world, observer),
        door: world.door.calls(),
        calls: state.calls.clone(),
        told: state.told.clone(),
        pressed: state.pressed.clone(),
        log: state.log.clone(),
        probes: state.probes.clone().unwrap_or_default(),
        secrets: secrets(world),
    }
}

fn ledger(world: &World, observer: &Observer) -> LedgerEvidence {
    let mut damage = None;
    let recorded = evidence::recorded(&world.ledger).unwrap_or_else(|error| {
        damage = Some(error.to_string());
        Recorded {
            head: Head::EMPTY,
            batches: Vec::new(),
            steps: Vec::new(),
            stored: Vec::new(),
            stray_steps: 0,
            checkpoint_accounts: Vec::new(),
        }
    });
    // On a copy: opening a disk repairs what a torn commit left.
    let accounts =
        evidence::accounts_at_start(Box::new(world.ledger.copy().open())).unwrap_or_else(|error| {
            damage = Some(error.to_string());
            Vec::new()
        });
    LedgerEvidence {
        head: recorded.head,
        batches: recorded.batches,
        steps: recorded.steps,
        stored: recorded.stored,
        stray_steps: recorded.stray_steps,
        checkpoint_accounts: recorded.checkpoint_accounts,
        accounts,
        damage,
        heads: observer.heads.clone(),
        authorizer: Authorizer::new(&world.secrets.ledger_key),
        roles: roles(world),
    }
}

fn roles(world: &World) -> BTreeMap<AccountId, Role> {
    let bdt = Currency::BDT;
    let mut roles = BTreeMap::new();
    for who in &CUSTOMERS {
        roles.insert(AccountId::of_number(who.account), Role::Customer(who.account.to_owned()));
    }
    for index in 0..world.machines.len() {
        let machine = Host::Machine(index).name();
        for (place, account) in [
            ("cassettes", AccountId::of_cash(&machine, bdt)),
            ("reject", AccountId::of_reject(&machine, bdt)),
            ("retract", AccountId::of_retract(&machine, bdt)),
            ("deposit", AccountId::of_deposit_box(&machine, bdt)),
            ("suspense", AccountId::of_suspense(&machine, bdt)),
        ] {
            roles.insert(account, Role::Place { machine: machine.clone(), place });
        }
    }
    roles.insert(AccountId::of_vault(bdt), Role::Vault);
    roles.insert(AccountId::of_opening_balances(bdt), Role::OpeningBalance);
    roles
}

fn machines(world: &World, observer: &Observer) -> Vec<MachineEvidence> {
    let of = |(index, machine): (usize, &super::Machine)| MachineEvidence {
        name: Host::Machine(index).name(),
        terminal_id: simulation::terminal_id(machine.key).to_string(),
        journal: simulation::journal_evidence(&machine.journal).unwrap_or_default(),
        written: observer.written(index),
        device: simulation::device_evidence(&machine.device).unwrap_or_default(),
    };
    world.machines.iter().enumerate().map(of).collect()
}

fn secrets(world: &World) -> Vec<Secret> {
    let mut secrets = Vec::new();
    let mut add = |what: String, text: String| secrets.push(Secret { what, text });
    for who in &CUSTOMERS {
        add(format!("the card number of {}", who.account), who.card.to_owned());
        for pin in who.pins() {
            add(format!("the PIN of {}", who.account), pin.to_owned());
        }
    }
    add("the service token".to_owned(), SERVICE_TOKEN.to_owned());
    add("the operator token".to_owned(), OPERATOR_TOKEN.to_owned());
    add("the pepper".to_owned(), hex::encode(world.secrets.pepper));
    add("the session key".to_owned(), hex::encode(world.secrets.session_seed));
    add("the ledger's key".to_owned(), hex::encode(world.secrets.ledger_key));
    for (index, machine) in world.machines.iter().enumerate() {
        add(format!("the key of {}", Host::Machine(index)), hex::encode(machine.key));
    }
    secrets
}
