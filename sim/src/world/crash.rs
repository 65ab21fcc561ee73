//! How a simulated program dies: it unwinds from the fault point that it reached, and nothing of it is heard after.
//!
//! The watcher of the fault points does not return to whoever reached a deadly one. Tokio catches the unwinding at the
//! edge of the task; what other tasks of the host still do until the end of the tick goes into silent connections, and
//! whatever reaches a fault point unwinds as well. Then the host is taken down with everything in its memory.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::World;
use super::shared::{Death, Host, Shared};
use crate::plan::{Blow, Strike};

/// What a dying program unwinds with.
#[derive(Debug)]
pub(super) struct Crashed;

/// Watches this thread for one world.
pub(super) fn watch(world: &Arc<World>) -> atm_faults::Watching {
    let world = Arc::clone(world);
    atm_faults::watch(move |point| reached(&world, point))
}

/// The host whose program stands at a point: each host has a runtime of its own.
fn running(shared: &Shared) -> Option<Host> {
    let runtime = Handle::try_current().ok()?.id();
    shared.lock().runtimes.get(&runtime).copied()
}

/// What a program that reached a point has to do.
enum Fate {
    GoOn,
    Die,
    /// It is dead already; this is what is left of it.
    Unwind,
    Suffer(Strike),
}

fn reached(world: &Arc<World>, point: &'static str) {
    let shared = &world.shared;
    let Some(host) = running(shared) else { return };
    match fate(shared, host, point) {
        Fate::GoOn => {}
        Fate::Unwind => unwind(),
        Fate::Die => die(shared, host, point),
        Fate::Suffer(strike) => {
            shared.lock().struck.push((host, strike));
            match strike.blow {
                Blow::Crash => die(shared, host, point),
                blow => {
                    shared.tell(host, format!("{blow:?} at {point}"));
                    world.suffer(host, point, blow);
                }
            }
        }
    }
}

fn fate(shared: &Shared, host: Host, point: &'static str) -> Fate {
    let mut state = shared.lock();
    if state.over {
        return Fate::GoOn;
    }
    let count = state.points.entry(point).or_default();
    *count += 1;
    let count = *count;
    if state.lives.get(&host).is_some_and(|(life, _)| life.is_dead()) {
        return Fate::Unwind;
    }
    if point == atm_cli::simulation::POWER_LOST {
        return Fate::Die;
    }
    match state.strikes.iter().position(|strike| strike.point == point && strike.nth <= count) {
        Some(index) => Fate::Suffer(state.strikes.remove(index)),
        None => Fate::GoOn,
    }
}

fn die(shared: &Shared, host: Host, point: &'static str) {
    shared.tell(host, format!("dies at {point}"));
    shared.die(host, Death::AtPoint(point));
    unwind();
}

fn unwind() {
    // A panic while another one unwinds would end the process.
    if !std::thread::panicking() {
        std::panic::resume_unwind(Box::new(Crashed));
    }
}

impl World {
    /// What is no death: a disk that fails next, or a network that the driver takes away at the end of the tick.
    fn suffer(&self, host: Host, point: &str, blow: Blow) {
        use atm_auth::storage::CommitFault;
        use atm_cli::simulation::DiskFault;
        use atm_ledger::storage::memory::Fault;
        let (ledger, auth, machine) = match blow {
            Blow::CommitLost => (Fault::Lost, Some(CommitFault::Lost), DiskFault::Lost),
            Blow::CommitUnknown => (Fault::Unknown, Some(CommitFault::Kept), DiskFault::Unknown),
            Blow::DiskFull => (Fault::Full, None, DiskFault::Full),
            Blow::Crash | Blow::Pause | Blow::Silence => {
                self.shared.lock().cut_off.push((host, blow));
                return;
            }
        };
        match host {
            Host::Ledger | Host::SecondLedger => self.ledger.fail_after(0, ledger),
            Host::Auth => {
                if let Some(fault) = auth {
                    self.auth.fail_after(0, fault);
                }
            }
            Host::Machine(index) => {
                if let Some(disks) = self.machines.get(index) {
                    let disk = if point.contains("DEVICE") { &disks.device } else { &disks.journal };
                    disk.fail_after(0, machine);
                }
            }
            Host::Gateway
            | Host::WireToGateway
            | Host::WireToAuth
            | Host::WireToLedger
            | Host::Office
            | Host::Twin => {}
        }
    }
}
