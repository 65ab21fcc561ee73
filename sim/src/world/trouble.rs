//! What goes wrong at a moment, as the plan says.

use std::sync::Arc;
use std::time::Duration;

use atm_cli::simulation;
use turmoil::Sim;

use super::machine::Machine;
use super::shared::Host;
use super::{Driver, Later};
use crate::plan::Trouble;

impl Driver<'_> {
    pub(super) fn trouble(&mut self, now: Duration) {
        let Some(begun) = self.begun else { return };
        while let Some((at, _)) = self.troubles.first() {
            if begun + *at > now {
                return;
            }
            let (_, trouble) = self.troubles.remove(0);
            self.make_trouble(&trouble, now);
        }
    }

    fn make_trouble(&mut self, trouble: &Trouble, now: Duration) {
        if !matches!(trouble, Trouble::Wires(_)) {
            self.world.shared.tell(Host::Office, format!("trouble: {trouble:?}"));
        }
        match trouble {
            Trouble::Crash(host, down) => self.crash(*host, now + *down),
            Trouble::Pause(host, away) => {
                self.for_neighbours(*host, Sim::hold);
                self.later.push((now + *away, Later::Release(*host)));
            }
            Trouble::Partition(one, other, away) => {
                // TCP sends again what was lost, so to a connection that outlives it a partition is a delay.
                self.sim.hold(one.name(), other.name());
                self.later.push((now + *away, Later::Repair(*one, *other)));
            }
            Trouble::Clock(host, seconds) => {
                if let Some(clock) = self.world.clocks.get(host) {
                    clock.set_ahead(*seconds);
                }
            }
            Trouble::MachineDisk { machine, device, after, fault } => {
                if let Some(machine) = self.world.machines.get(*machine) {
                    let disk = if *device { &machine.device } else { &machine.journal };
                    disk.fail_after(*after, *fault);
                }
            }
            Trouble::LedgerDisk(after, fault) => self.world.ledger.fail_after(*after, *fault),
            Trouble::AuthDisk(after, fault) => self.world.auth.fail_after(*after, *fault),
            Trouble::MakeRoom => self.make_room(),
            Trouble::SecondLedger(away) => {
                self.for_neighbours(Host::Ledger, Sim::hold);
                self.later.push((now + *away, Later::Release(Host::Ledger)));
                self.later.push((now + *away, Later::BackToFirstLedger));
                self.lead_to(Host::SecondLedger);
            }
            Trouble::Twin => self.copy_first_machine(),
            Trouble::Wires(bad) => self.set_wires(*bad),
        }
    }

    /// From now on this ledger answers to the name of all; connections to the other one break.
    pub(super) fn lead_to(&mut self, ledger: Host) {
        self.state().answering = Some(ledger);
        self.end_life(Host::WireToLedger);
        self.sim.bounce(Host::WireToLedger.name());
    }

    /// Copies the first machine's disks. The copy starts once the first machine has been let in twice since, so that
    /// whatever the copy knows is old.
    fn copy_first_machine(&mut self) {
        let Some(first) = self.world.machines.first() else { return };
        let copies = (first.journal.copy("twin journal"), first.device.copy("twin device"));
        let steps = simulation::journal_steps_after(&first.journal, 0).unwrap_or_default();
        let last = steps.last().map_or(0, |step| step.sequence);
        if let (Ok(journal), Ok(device)) = copies {
            let machine = Machine { journal, device, key: first.key, script: Arc::default() };
            self.twin = Some((last, machine));
        }
    }

    pub(super) fn wake_twin(&mut self) {
        let Some((sequence, _)) = &self.twin else { return };
        let steps = simulation::journal_steps_after(&self.world.machines[0].journal, *sequence);
        let booted = steps.unwrap_or_default().iter().filter(|step| step.event == "BOOTED").count();
        if booted >= 2
            && let Some((_, machine)) = self.twin.take()
        {
            self.world.shared.tell(Host::Twin, "starts with an older copy of the disks of atm-1");
            self.state().twin = Some(machine);
        }
    }

    pub(super) fn set_wires(&mut self, bad: bool) {
        let rules = if bad { self.world.plan.wire.rules() } else { Vec::new() };
        for proxy in self.world.wires.values() {
            if let Err(error) = proxy.set_rules(rules.clone()) {
                self.failures.push(error.to_string());
            }
        }
    }

    pub(super) fn make_room(&self) {
        self.world.ledger.set_reserve(true);
        for machine in &self.world.machines {
            machine.journal.make_room();
            machine.device.make_room();
        }
    }
}
