//! How a simulated program dies: it unwinds from the fault point that it reached, and nothing of it is heard after.
//!
//! The watcher of the fault points does not return to whoever reached a deadly one. Tokio catches the unwinding at the
//! edge of the task; what other tasks of the host still do until the end of the tick goes into silent connections, and
//! whatever reaches a fault point unwinds as well. Then the host is taken down with everything in its memory.

use std::sync::Arc;

use super::shared::{Death, Host, Shared};

tokio::task_local! {
    /// Which host's program this task belongs to, where the fault points do not tell.
    pub(super) static PROGRAM: Host;
}

/// What a dying program unwinds with.
#[derive(Debug)]
pub(super) struct Crashed;

/// Watches this thread for one world.
pub(super) fn watch(shared: Arc<Shared>) -> atm_faults::Watching {
    atm_faults::watch(move |point| reached(&shared, point))
}

/// The host whose program stands at a point.
fn host_of(point: &str) -> Option<Host> {
    if point.starts_with("LEDGER_") {
        return Some(Host::Ledger);
    }
    if point.starts_with("AUTH_") {
        return Some(Host::Auth);
    }
    if point.starts_with("GATEWAY_") {
        return Some(Host::Gateway);
    }
    PROGRAM.try_with(|host| *host).ok()
}

fn reached(shared: &Arc<Shared>, point: &'static str) {
    let Some(host) = host_of(point) else { return };
    let dies = {
        let mut state = shared.lock();
        if state.over {
            return;
        }
        let count = state.points.entry(point).or_default();
        *count += 1;
        let count = *count;
        let dead = state.lives.get(&host).is_some_and(|(life, _)| life.is_dead());
        let power_lost = point == atm_cli::simulation::POWER_LOST;
        let chosen = state.deadly.iter().position(|(name, nth)| *name == point && *nth <= count);
        if dead {
            None
        } else if let Some(index) = chosen {
            state.deadly.remove(index);
            Some(true)
        } else {
            Some(power_lost)
        }
    };
    match dies {
        Some(false) => {}
        Some(true) => {
            shared.tell(host, format!("dies at {point}"));
            shared.die(host, Death::AtPoint(point));
            unwind();
        }
        // It is dead already; this is what is left of it.
        None => unwind(),
    }
}

fn unwind() {
    // A panic while another one unwinds would end the process.
    if !std::thread::panicking() {
        std::panic::resume_unwind(Box::new(Crashed));
    }
}
