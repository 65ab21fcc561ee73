//! Which machine's name belongs to which terminal, as auth said.
//!
//! A binding is only undone by an operator's order, through a gateway that forgets it, so that it is asked for once.
//! Nothing else is remembered: a name that is nobody's yet may be bound the next moment.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use atm_proto::auth::GetTerminalRequest;
use atm_types::TerminalId;

use crate::caller::Terminal;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::terminal::{ATM_ID, ATM_ID_RULE, AtmId};

/// So many machines are remembered, some 8 MiB.
const CAPACITY: usize = 65_536;

/// The bindings that auth has confirmed.
#[derive(Debug, Default)]
pub struct Machines {
    bound: Mutex<HashSet<(AtmId, TerminalId)>>,
}

impl Machines {
    /// Whether auth has confirmed this binding.
    pub fn knows(&self, atm_id: &AtmId, terminal_id: TerminalId) -> bool {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.contains(&(atm_id.clone(), terminal_id))
    }

    /// Forgets a machine's binding, which an operator has undone.
    pub fn forget(&self, atm_id: &AtmId) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.retain(|(name, _)| name != atm_id);
    }

    fn remember(&self, atm_id: &AtmId, terminal_id: TerminalId) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.len() >= CAPACITY {
            bound.clear();
        }
        bound.insert((atm_id.clone(), terminal_id));
    }
}

impl Gateway {
    /// The machine that a terminal says it is, once it is known to be that.
    ///
    /// # Errors
    /// [`Failure::Invalid`] without a name, [`Failure::TerminalMismatch`], [`Failure::TerminalNotBound`], and those
    /// of auth.
    pub async fn own_machine<'a>(&self, terminal: &'a Terminal) -> Result<&'a AtmId, Failure> {
        let atm_id = terminal.atm_id.as_ref().ok_or_else(|| Failure::invalid(ATM_ID, ATM_ID_RULE))?;
        if self.machines.knows(atm_id, terminal.id) {
            return Ok(atm_id);
        }
        let asked = GetTerminalRequest { terminal_id: terminal.id.to_string(), atm_id: atm_id.to_string() };
        if !self.auth.get_terminal(terminal.deadline, asked).await?.bound {
            return Err(Failure::TerminalNotBound);
        }
        self.machines.remember(atm_id, terminal.id);
        Ok(atm_id)
    }
}
