//! Machines and their starts: who owns a name, which start of it goes on, and what operators order about both.
//!
//! A sign-on is one storage transaction that compares the recorded start and sets the new one, and it is
//! committed before it is answered: of two copies of one disk exactly one is told that it may go on. The sessions
//! of the start before end with it, since whoever opened them stands before a machine that is gone.

use std::sync::Arc;

use atm_faults::fault_point;
use atm_types::{TerminalId, Timestamp};

use crate::auth::Auth;
use crate::domain::{AtmId, Boot, Order, OrderId, Revocation, RevocationTarget, SignOn, Terminal, sign_on};
use crate::failure::Failure;
use crate::orders::{Effect, once};
use crate::revocations::unheard_before;
use crate::storage::{Rows, StorageError};

/// Whether a machine's name is bound to the terminal that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It is.
    Bound,
    /// It is nobody's yet.
    Free,
}

/// What the transaction of a sign-on came to.
enum Signed {
    On(Binding, Vec<Revocation>),
    Foreign,
    Stale(Terminal),
}

impl Auth {
    /// Lets a start of a machine go on, or refuses it for good.
    pub(crate) async fn sign_on(
        self: &Arc<Self>,
        atm_id: AtmId,
        terminal_id: TerminalId,
        boot: Boot,
    ) -> Result<Binding, Failure> {
        let (now, auth) = (self.clock.now(), Arc::clone(self));
        // To the end: the sessions that a commit has ended are announced whoever still waits.
        self.to_the_end(async move {
            let name = atm_id.clone();
            fault_point!("AUTH_BEFORE_SIGN_ON");
            let signed = auth.store.vital_transaction(move |rows| signed_on(rows, &name, terminal_id, &boot, now));
            let signed = signed.await?;
            fault_point!("AUTH_SIGN_ON");
            match signed {
                Signed::On(binding, revocations) => {
                    tracing::info!(%atm_id, epoch = boot.mark().epoch, ?binding, "a machine signed on");
                    revocations.into_iter().for_each(|revocation| auth.announce(revocation));
                    Ok(binding)
                }
                Signed::Foreign => Err(Failure::TerminalMismatch),
                Signed::Stale(recorded) => {
                    fault_point!("AUTH_STALE_BOOT");
                    let recorded = recorded.boot.map(|boot| boot.epoch);
                    tracing::warn!(
                        %atm_id,
                        epoch = boot.mark().epoch,
                        recorded,
                        "a machine was refused: another start took its place; was its disk copied or restored?"
                    );
                    Err(Failure::StaleBoot)
                }
            }
        })
        .await
    }

    /// Whether a machine's name is bound to this terminal.
    pub(crate) async fn binding(&self, atm_id: AtmId, terminal_id: TerminalId) -> Result<Binding, Failure> {
        match self.store.transaction(move |rows| rows.terminal(&atm_id)).await? {
            None => Ok(Binding::Free),
            Some(owner) if owner.terminal_id == terminal_id => Ok(Binding::Bound),
            Some(_) => Err(Failure::TerminalMismatch),
        }
    }

    /// Forgets the recorded start of a machine, or of all: the next one that signs on is let in, whichever it is. Tells
    /// how many machines that were.
    pub(crate) async fn forget_start(&self, id: OrderId, atm_id: Option<AtmId>) -> Result<u64, Failure> {
        let (now, name) = (self.clock.now(), atm_id.clone());
        let forgotten = self.store.vital_transaction(move |rows| match &name {
            Some(atm_id) => once(rows, id, Order::ForgetStart(atm_id.clone()), |rows| {
                let machine = rows.terminal(atm_id)?.map(|terminal| (atm_id.clone(), terminal));
                forgotten(rows, machine.as_slice(), now)
            }),
            None => once(rows, id, Order::ForgetAllStarts, |rows| {
                let machines = rows.terminals()?;
                forgotten(rows, &machines, now)
            }),
        });
        let (done, new) = forgotten.await?.done()?;
        if atm_id.is_some() && done.affected == 0 {
            return Err(Failure::NoSuchMachine);
        }
        if new.is_some() {
            let atm_id = atm_id.as_ref().map_or("all", AtmId::as_str);
            tracing::info!(order_id = %id, atm_id, machines = done.affected, "forgot the start of machines");
        }
        Ok(done.affected)
    }

    /// Takes a machine's name from its terminal and ends the sessions there. The next terminal that shows a right PIN
    /// under this name gets it.
    pub(crate) async fn release_terminal(
        self: &Arc<Self>,
        id: OrderId,
        atm_id: AtmId,
    ) -> Result<(), Failure> {
        let (now, auth) = (self.clock.now(), Arc::clone(self));
        self.to_the_end(async move {
            let name = atm_id.clone();
            let released = auth.store.vital_transaction(move |rows| {
                once(rows, id, Order::ReleaseTerminal(name.clone()), |rows| released(rows, &name, now))
            });
            let (done, new) = released.await?.done()?;
            if done.affected == 0 {
                return Err(Failure::NoSuchMachine);
            }
            if let Some(ended) = new {
                ended.into_iter().for_each(|revocation| auth.announce(revocation));
                tracing::info!(order_id = %id, %atm_id, "released a machine's name");
            }
            Ok(())
        })
        .await
    }
}

fn signed_on(
    rows: &mut dyn Rows,
    atm_id: &AtmId,
    terminal_id: TerminalId,
    boot: &Boot,
    now: Timestamp,
) -> Result<Signed, StorageError> {
    // Nothing is recorded under a name that is nobody's: a stranger could fill the table.
    let Some(terminal) = rows.terminal(atm_id)? else { return Ok(Signed::On(Binding::Free, Vec::new())) };
    if terminal.terminal_id != terminal_id {
        return Ok(Signed::Foreign);
    }
    match sign_on(terminal.boot, boot) {
        SignOn::Stale => Ok(Signed::Stale(terminal)),
        SignOn::Repeated => Ok(Signed::On(Binding::Bound, Vec::new())),
        SignOn::Accepted => {
            rows.put_terminal(atm_id, &Terminal { boot: Some(boot.mark()), ..terminal })?;
            Ok(Signed::On(Binding::Bound, end_sessions(rows, atm_id, now)?))
        }
    }
}

/// Ends all sessions that were opened at a machine.
fn end_sessions(
    rows: &mut dyn Rows,
    atm_id: &AtmId,
    now: Timestamp,
) -> Result<Vec<Revocation>, StorageError> {
    let ended = rows.sessions_at(atm_id, unheard_before(now))?;
    let revocations = ended.into_iter().map(|(session_id, expire_time)| Revocation {
        target: RevocationTarget::Session(session_id),
        revoke_time: now,
        relevant_until: expire_time,
    });
    let revocations: Vec<_> = revocations.collect();
    revocations.iter().try_for_each(|revocation| rows.put_revocation(revocation))?;
    Ok(revocations)
}

/// Forgets the recorded starts of these machines.
fn forgotten(
    rows: &mut dyn Rows,
    machines: &[(AtmId, Terminal)],
    now: Timestamp,
) -> Result<Effect<()>, StorageError> {
    for (atm_id, terminal) in machines {
        rows.put_terminal(atm_id, &Terminal { boot: None, ..*terminal })?;
    }
    Ok(Effect { affected: machines.len() as u64, time: now, more: () })
}

fn released(
    rows: &mut dyn Rows,
    atm_id: &AtmId,
    now: Timestamp,
) -> Result<Effect<Vec<Revocation>>, StorageError> {
    if rows.terminal(atm_id)?.is_none() {
        return Ok(Effect { affected: 0, time: now, more: Vec::new() });
    }
    rows.remove_terminal(atm_id)?;
    Ok(Effect { affected: 1, time: now, more: end_sessions(rows, atm_id, now)? })
}
