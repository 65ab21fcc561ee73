//! Looks at all disks after each tick and tells what is new on them: the events of a run are what became durable. What
//! is new must at once be right, as far as that is cheap to say.

use std::collections::BTreeMap;
use std::time::Duration;

use atm_cli::simulation::{self, JournalStep};
use atm_ledger::evidence;
use atm_ledger::storage::Head;
use atm_ledger_core::Action;

use super::World;
use super::machine::Machine;
use super::shared::Host;
use crate::check::Violation;
use crate::check::running::Running;
use crate::evidence::{AttemptRow, AttemptSummary, CountChange};

/// What was seen so far.
pub(super) struct Observer {
    ledger_commits: u64,
    pub(super) ledger_sequence: u64,
    auth_commits: u64,
    counts: BTreeMap<String, (u8, bool)>,
    machines: Vec<Seen>,
    pub(super) heads: Vec<(Duration, Head)>,
    pub(super) count_changes: Vec<CountChange>,
    pub(super) attempts: Vec<AttemptRow>,
    /// Disks that could not be read.
    pub(super) unreadable: Vec<String>,
    running: Running,
    /// What was wrong as soon as it was durable.
    pub(super) violations: Vec<Violation>,
}

#[derive(Default)]
struct Seen {
    journal_commits: u64,
    written: Vec<JournalStep>,
    device_commits: u64,
    dispenses: BTreeMap<String, &'static str>,
    /// What was open in the journal, and how many commits it had then.
    open: Option<(u64, Vec<String>)>,
}

impl Seen {
    fn last_sequence(&self) -> i64 {
        self.written.last().map_or(0, |step| step.sequence)
    }
}

impl Observer {
    pub(super) fn new(machines: usize) -> Self {
        Self {
            ledger_commits: 0,
            ledger_sequence: 0,
            auth_commits: 0,
            counts: BTreeMap::new(),
            machines: (0..machines).map(|_| Seen::default()).collect(),
            heads: Vec::new(),
            count_changes: Vec::new(),
            attempts: Vec::new(),
            unreadable: Vec::new(),
            running: Running::default(),
            violations: Vec::new(),
        }
    }

    pub(super) fn look(&mut self, world: &World, now: Duration) {
        self.look_at_ledger(world, now);
        self.look_at_auth(world, now);
        for index in 0..self.machines.len() {
            self.look_at_machine(world, index, now);
        }
    }

    fn look_at_ledger(&mut self, world: &World, now: Duration) {
        let commits = world.ledger.commits();
        if commits == self.ledger_commits {
            return;
        }
        self.ledger_commits = commits;
        match evidence::steps_after(&world.ledger, self.ledger_sequence) {
            Ok((head, steps)) => {
                self.heads.push((now, head));
                self.ledger_sequence = head.sequence;
                for step in &steps {
                    let what = format!("#{} {} {}", step.commit_sequence, words(&step.action), step.id);
                    world.shared.lock().trace.add(now, Host::Ledger, what);
                }
                let wrong = self.running.ledger(head, &steps);
                self.note(world, Host::Ledger, now, wrong);
            }
            Err(error) => self.unreadable.push(format!("ledger: {error}")),
        }
    }

    fn look_at_auth(&mut self, world: &World, now: Duration) {
        let commits = world.auth.commits();
        if commits == self.auth_commits {
            return;
        }
        self.auth_commits = commits;
        let cards = world.auth.cards();
        for card in &cards {
            let last_four = card.last_four.to_string();
            let count = (card.wrong_pins.count(), card.blocked);
            if self.counts.get(&last_four) != Some(&count) {
                let what = format!("card {last_four}: {} wrong PINs, blocked: {}", count.0, count.1);
                world.shared.lock().trace.add(now, Host::Auth, what);
                self.counts.insert(last_four.clone(), count);
                let (wrong_pins, blocked) = count;
                self.count_changes.push(CountChange { at: now, last_four, wrong_pins, blocked });
            }
        }
        for attempt in world.auth.attempts() {
            let attempt = AttemptSummary::of(&attempt, &cards);
            if self.attempts.iter().all(|row| row.attempt != attempt) {
                let what = format!("attempt {}: {}", attempt.attempt_id, attempt.outcome);
                world.shared.lock().trace.add(now, Host::Auth, what);
                self.attempts.push(AttemptRow { seen: now, attempt });
            }
        }
    }

    /// What is wrong stands in the timeline where it was seen.
    fn note(&mut self, world: &World, host: Host, now: Duration, wrong: impl IntoIterator<Item = Violation>) {
        for violation in wrong {
            let what = format!("INVARIANT {}: {}", violation.invariant, violation.what);
            world.shared.lock().trace.add(now, host, what);
            self.violations.push(violation);
        }
    }

    fn look_at_machine(&mut self, world: &World, index: usize, now: Duration) {
        let mut wrong = Vec::new();
        let (machine, seen, host) = (&world.machines[index], &mut self.machines[index], Host::Machine(index));
        let name = host.name();
        let commits = machine.journal.commits();
        if commits != seen.journal_commits {
            seen.journal_commits = commits;
            match simulation::journal_steps_after(&machine.journal, seen.last_sequence()) {
                Ok(steps) => {
                    for step in steps {
                        let what = format!("journal: {} {} {}", step.event, step.state, step.subject);
                        world.shared.lock().trace.add(now, host, what);
                        wrong.extend(self.running.journal(&name, &step));
                        seen.written.push(step);
                    }
                }
                Err(error) => self.unreadable.push(format!("{host}: {error}")),
            }
        }
        let commits = machine.device.commits();
        if commits != seen.device_commits {
            seen.device_commits = commits;
            match simulation::device_evidence(&machine.device) {
                Ok(device) => {
                    let journal = simulation::journal_evidence(&machine.journal).unwrap_or_default();
                    for dispense in device.dispenses {
                        let before = seen.dispenses.insert(dispense.id.to_string(), dispense.step);
                        if before.is_none() {
                            wrong.extend(self.running.dispense(&journal, &name, &dispense));
                        }
                        if before != Some(dispense.step) {
                            let what = format!("device: {} {}", dispense.step, dispense.id);
                            world.shared.lock().trace.add(now, host, what);
                        }
                    }
                }
                Err(error) => self.unreadable.push(format!("{host}: {error}")),
            }
        }
        self.note(world, host, now, wrong);
    }

    /// The steps that were seen in a machine's journal.
    pub(super) fn written(&self, index: usize) -> Vec<JournalStep> {
        self.machines.get(index).map_or_else(Vec::new, |seen| seen.written.clone())
    }

    /// What has not ended yet, in words; empty when every transaction of every machine has ended or waits for a person,
    /// and the bank knows all cash that moved.
    pub(super) fn what_is_open(&mut self, world: &World) -> String {
        for (index, (machine, seen)) in world.machines.iter().zip(&mut self.machines).enumerate() {
            let commits = machine.journal.commits();
            if seen.open.as_ref().is_none_or(|(known, _)| *known != commits) {
                seen.open = Some((commits, open_in(Host::Machine(index), machine)));
            }
        }
        let open = self.machines.iter().filter_map(|seen| seen.open.as_ref());
        open.flat_map(|(_, open)| open).map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

fn open_in(host: Host, machine: &Machine) -> Vec<String> {
    let Ok(journal) = simulation::journal_evidence(&machine.journal) else { return Vec::new() };
    let mut open = Vec::new();
    for record in journal.records.iter().filter(|record| !record.is_over && record.state != "SUSPECT") {
        open.push(format!("{host} has {} in {}", record.id, record.state));
    }
    for movement in journal.movements.iter().filter(|movement| movement.state == "PENDING") {
        open.push(format!("{host} has not told of movement {}", movement.id));
    }
    if let Some(outage) = journal.outage {
        open.push(format!("{host} is out of service: {outage}"));
    }
    open
}

fn words(action: &Action) -> String {
    match action {
        Action::OpenAccount(terms) => format!("OPEN_ACCOUNT {}", terms.number),
        Action::Post { transfer, .. } => format!("POST {}", transfer.amount),
        Action::Hold { transfer, .. } => format!("HOLD {}", transfer.amount),
        Action::Decline { decline, transfer, .. } => {
            format!("DECLINE {:?} {}", decline.reason, transfer.amount)
        }
        Action::Tombstone => "TOMBSTONE".to_owned(),
        Action::Capture { transfer, .. } => format!("CAPTURE {}", transfer.amount),
        Action::Cancel { transfer, .. } => format!("CANCEL {}", transfer.amount),
        Action::Expire { transfer, .. } => format!("EXPIRE {}", transfer.amount),
        Action::CaptureLate { transfer, .. } => format!("CAPTURE_LATE {}", transfer.amount),
        Action::Suspend { transfer, .. } => format!("SUSPEND {}", transfer.amount),
        Action::Resolve { transfer, .. } => format!("RESOLVE {}", transfer.amount),
    }
}
