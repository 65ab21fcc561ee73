//! Who a call comes from, read from its metadata before anything is done for it.

use std::time::Duration;

use atm_faults::{Bug, planted};
use atm_rpc::deadline::Deadline;
use atm_types::TerminalId;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::revocations::Standing;
use crate::session::Session;
use crate::terminal::{self, AtmId, single};

/// Callers without a deadline get this one; the server's layer normally sees to it.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the first callers after a start wait for auth to be heard.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// A cash machine, known by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The SHA-256 of its key: what owns its transactions.
    pub id: TerminalId,
    /// What it calls itself. Only a hint: no session vouches for it.
    pub atm_id: Option<AtmId>,
    /// When nobody waits for the answer any more.
    pub deadline: Deadline,
}

/// A customer with a good session at the machine that it was opened at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The session.
    pub session: Session,
    /// When nobody waits for the answer any more.
    pub deadline: Deadline,
}

/// Whether a log-out or a block counts against the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Refused,
    Accepted,
}

impl Gateway {
    /// The terminal behind a call.
    ///
    /// # Errors
    /// [`Failure::TerminalKeyRequired`]; [`Failure::Invalid`] for a malformed machine's name.
    pub fn terminal<T>(&self, request: &Request<T>) -> Result<Terminal, Failure> {
        let id = terminal::terminal(request.metadata())?;
        let atm_id = terminal::atm_id(request.metadata())?;
        Ok(Terminal { id, atm_id, deadline: deadline_of(request) })
    }

    /// The customer behind a call.
    ///
    /// # Errors
    /// [`Failure::SessionRequired`] whatever is wrong with the session, the terminal or the machine;
    /// [`Failure::SessionsUnknown`] when auth was not heard for too long.
    pub async fn customer<T>(&self, request: &Request<T>) -> Result<Customer, Failure> {
        self.customer_of(request.metadata(), deadline_of(request), Ended::Refused).await
    }

    /// The customer behind a call, or the terminal alone if the call carries no session at all.
    ///
    /// # Errors
    /// Those of [`Gateway::customer`] and [`Gateway::terminal`].
    pub async fn customer_if_any<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(Terminal, Option<Customer>), Failure> {
        if request.metadata().get("authorization").is_none() {
            return Ok((self.terminal(request)?, None));
        }
        let customer = self.customer(request).await?;
        let terminal = Terminal {
            id: customer.session.terminal_id,
            atm_id: Some(customer.session.atm_id.clone()),
            deadline: customer.deadline,
        };
        Ok((terminal, Some(customer)))
    }

    /// The customer who logs out: ending a session twice is no error.
    ///
    /// # Errors
    /// Those of [`Gateway::customer`].
    pub async fn leaving_customer<T>(&self, request: &Request<T>) -> Result<Customer, Failure> {
        self.customer_of(request.metadata(), deadline_of(request), Ended::Accepted).await
    }

    /// The deadline of an operator's call.
    ///
    /// # Errors
    /// [`Failure::OperatorRequired`].
    pub fn operator<T>(&self, request: &Request<T>) -> Result<Deadline, Failure> {
        if self.operator_token.matches(request.metadata()) {
            Ok(deadline_of(request))
        } else {
            Err(Failure::OperatorRequired)
        }
    }

    async fn customer_of(
        &self,
        metadata: &MetadataMap,
        deadline: Deadline,
        ended: Ended,
    ) -> Result<Customer, Failure> {
        let terminal = terminal::terminal(metadata).map_err(|_| Failure::SessionRequired)?;
        let atm_id = terminal::atm_id(metadata).map_err(|_| Failure::SessionRequired)?;
        let token = bearer(metadata).ok_or(Failure::SessionRequired)?;
        if !self.revocations.heard_once(FIRST_WORD.min(deadline.remaining() / 2)).await {
            return Err(Failure::SessionsUnknown);
        }
        let session =
            self.session_keys.verify(token, self.clock.now()).map_err(|_| Failure::SessionRequired)?;
        let elsewhere = atm_id.is_some_and(|atm_id| atm_id != session.atm_id);
        if (session.terminal_id != terminal || elsewhere) && !planted(Bug::SessionsWorkAnywhere) {
            return Err(Failure::SessionRequired);
        }
        match (self.revocations.standing(&session), ended) {
            (Standing::Good, _) | (Standing::Revoked | Standing::Unknown, Ended::Accepted) => {
                Ok(Customer { session, deadline })
            }
            (Standing::Revoked, Ended::Refused) => Err(Failure::SessionRequired),
            (Standing::Unknown, Ended::Refused) => Err(Failure::SessionsUnknown),
        }
    }
}

fn deadline_of<T>(request: &Request<T>) -> Deadline {
    Deadline::of(request).unwrap_or_else(|| Deadline::after(DEFAULT_DEADLINE))
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let (scheme, token) = single(metadata, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
