//! The heart of the service: one press of the enter key behind a PIN.
//!
//! The order is what makes it safe:
//! 1. hold the card, so that two guesses at it never run side by side;
//! 2. look the attempt up: another terminal's machine, or a start of it whose place was taken, is refused, what
//!    was answered before is answered again, and a locked card is refused, and so is everybody while the disk is full;
//!    none of this costs a hash or a count;
//! 3. get a permit to hash, or be refused at once;
//! 4. hash, then commit outcome and count in one transaction, then answer. From here on the caller cannot
//!    stop it any more, and it learns nothing before the count is durable. A disk that is full only now has room kept
//!    for that: otherwise guesses would be free, and a stopwatch could tell the right one.
//!
//! A number that is nobody's card takes the same way at the same cost, and is counted and locked alike.

use std::sync::Arc;

use atm_faults::{Bug, fault_point, planted};
use atm_types::{AttemptId, IdSource, TerminalId, Timestamp};

use crate::auth::Auth;
use crate::card_locks::Crowded;
use crate::domain::{
    AtmId, Attempt, Boot, CardId, CardNumber, NumberKey, Outcome, Pin, PinHash, Session, SessionId, Tag,
    Terminal, Verdict, may_serve, replay,
};
use crate::failure::Failure;
use crate::hashing::Permit;
use crate::storage::{Rows, StorageError};

/// When a caller who found the line in front of a card too long may come back.
const CROWDED_RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// Where a key was pressed, and which press it was.
pub(crate) struct Press {
    pub(crate) atm_id: AtmId,
    pub(crate) terminal_id: TerminalId,
    pub(crate) attempt_id: AttemptId,
    /// The start that the machine signed on with, if it says so.
    pub(crate) boot: Option<Boot>,
}

/// An open session with its token.
pub(crate) struct SignedSession {
    pub(crate) session: Session,
    pub(crate) token: String,
}

/// One attempt on its way.
struct Try {
    key: NumberKey,
    tag: Tag,
    press: Press,
    pin: Pin,
    /// The PIN to set if `pin` is right; without one a session is opened.
    new_pin: Option<Pin>,
}

/// What the look-up before the hash came to.
enum Looked {
    /// This very attempt was made before.
    Replayed(Outcome),
    Refused(Refused),
    /// It has to be verified, against this hash if there is one.
    Verify(Option<PinHash>),
}

/// What is refused without verifying anything.
enum Refused {
    CardLocked,
    TerminalMismatch,
    StaleBoot,
    TooManyMachines,
    DiskFull,
}

/// What a transaction came to: an outcome that is recorded now, or a refusal that left nothing behind.
type Settled = Result<Outcome, Refused>;

impl Auth {
    /// Checks a PIN and opens a session; a repeated attempt gets the session of the first.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        number: &CardNumber,
        pin: Pin,
        press: Press,
    ) -> Result<SignedSession, Failure> {
        let key = self.keys.number_key(number);
        let tag = self.keys.log_in_tag(&key, &press.atm_id, press.attempt_id, &pin);
        match self.attempt(Try { key, tag, press, pin, new_pin: None }).await? {
            Outcome::Opened(session) => {
                Ok(SignedSession { token: self.session_key.sign(&session)?, session })
            }
            // Unreachable: the tag of a change is another one. To a caller it would be a wrong PIN.
            Outcome::Changed | Outcome::Wrong => Err(Failure::WrongCardOrPin),
            Outcome::Locked => Err(Failure::CardLocked),
            Outcome::Blocked => Err(Failure::CardBlocked),
        }
    }

    /// Checks the old PIN, which counts like any attempt, and sets the new one.
    pub(crate) async fn change_pin(
        self: &Arc<Self>,
        card_id: CardId,
        (old, new): (Pin, Pin),
        press: Press,
    ) -> Result<(), Failure> {
        let found = self.store.transaction(move |rows| rows.card_by_id(card_id)).await?;
        let key = found.map_or_else(|| self.keys.unknown_id_key(card_id), |card| card.number_key);
        let tag = self.keys.change_tag(&key, &press.atm_id, press.attempt_id, (&old, &new));
        match self.attempt(Try { key, tag, press, pin: old, new_pin: Some(new) }).await? {
            Outcome::Changed => Ok(()),
            // Unreachable: the tag of a log-in is another one.
            Outcome::Opened(_) | Outcome::Wrong => Err(Failure::WrongCardOrPin),
            Outcome::Locked => Err(Failure::CardLocked),
            Outcome::Blocked => Err(Failure::CardBlocked),
        }
    }

    async fn attempt(self: &Arc<Self>, attempt: Try) -> Result<Outcome, Failure> {
        let held = self.locks.hold(attempt.key).await;
        let card = held.map_err(|Crowded| Failure::Busy { retry_after: CROWDED_RETRY_AFTER })?;
        let stored = match self.look_up(&attempt).await? {
            Looked::Replayed(outcome) => {
                fault_point!("AUTH_ATTEMPT_ANSWERED_AGAIN");
                return Ok(outcome);
            }
            Looked::Refused(refused) => return Err(refused.into()),
            Looked::Verify(stored) => stored,
        };
        let permit = self.pool.permit_for_log_in().await?;
        let auth = Arc::clone(self);
        self.to_the_end(async move {
            let outcome = auth.verify(attempt, stored, permit).await;
            drop(card);
            outcome
        })
        .await
    }

    async fn look_up(&self, attempt: &Try) -> Result<Looked, Failure> {
        let (key, tag, now) = (attempt.key, attempt.tag, self.clock.now());
        let (atm_id, terminal_id) = (attempt.press.atm_id.clone(), attempt.press.terminal_id);
        let (attempt_id, boot, most) = (attempt.press.attempt_id, attempt.press.boot, self.limits.machines);
        let is_change = attempt.new_pin.is_some();
        let looked = self.store.transaction(move |rows| {
            if let Err(refused) = check_terminal(rows, &atm_id, (terminal_id, boot), most)? {
                return Ok(Looked::Refused(refused));
            }
            let attempts = rows.attempts(&key, &atm_id, attempt_id)?;
            if let Some(outcome) = replay(&attempts, tag, now).filter(|_| !forgets(is_change)) {
                return Ok(Looked::Replayed(outcome.clone()));
            }
            let (wrong_pins, stored) = match rows.card(&key)? {
                Some(card) => (card.wrong_pins, card.pin),
                None => (rows.unknown_number(&key)?, None),
            };
            Ok(if wrong_pins.is_locked() {
                Looked::Refused(Refused::CardLocked)
            } else if !rows.has_room() {
                Looked::Refused(Refused::DiskFull)
            } else {
                Looked::Verify(stored)
            })
        });
        Ok(looked.await?)
    }

    /// Hashes, and commits what came of it.
    async fn verify(
        &self,
        attempt: Try,
        stored: Option<PinHash>,
        permit: Permit,
    ) -> Result<Outcome, Failure> {
        fault_point!("AUTH_BEFORE_VERIFY");
        let Try { key, tag, press, pin, new_pin } = attempt;
        let salt = salt(&*self.ids);
        let is_change = new_pin.is_some();
        let work = self.pool.run(permit, move |hashes| {
            let right = hashes.verify(&pin, stored.as_ref())?
                || (new_pin.is_some() && planted(Bug::ChangeChecksNoPin));
            let new_hash = match new_pin {
                Some(new_pin) if right => Some(hashes.hash(&new_pin, salt)?),
                Some(_) | None => None,
            };
            Ok((right, new_hash))
        });
        let (right, new_hash) = work.await?;
        let settling = Settling {
            key,
            tag,
            press,
            right,
            new_hash,
            session_id: SessionId::from_uuid(self.ids.uuid_v7()),
            now: self.clock.now(),
            lifetime: self.session_lifetime,
            unknown_numbers: self.limits.unknown_numbers,
            machines: self.limits.machines,
        };
        let (atm_id, attempt_id) = (settling.press.atm_id.clone(), settling.press.attempt_id);
        fault_point!("AUTH_BEFORE_ATTEMPT");
        let settled = match self.store.vital_transaction(move |rows| settling.commit(rows)).await {
            Err(_) if planted(Bug::AnswerBeforeTheCount) && !right => Ok(Outcome::Wrong),
            Err(_) if planted(Bug::ChangeIsToldBeforeItIsStored) && is_change => Ok(Outcome::Changed),
            settled => settled?,
        };
        fault_point!("AUTH_ATTEMPT");
        let outcome = settled.map_err(Failure::from)?;
        tracing::info!(%atm_id, %attempt_id, outcome = outcome_name(&outcome), "verified a PIN");
        Ok(outcome)
    }
}

/// Everything that the last transaction of an attempt needs.
struct Settling {
    key: NumberKey,
    tag: Tag,
    press: Press,
    right: bool,
    new_hash: Option<PinHash>,
    session_id: SessionId,
    now: Timestamp,
    lifetime: std::time::Duration,
    unknown_numbers: usize,
    machines: usize,
}

impl Settling {
    /// Counts the attempt and records its outcome. The card is read again: an operator may have blocked it
    /// meanwhile.
    fn commit(&self, rows: &mut dyn Rows) -> Result<Settled, StorageError> {
        let outcome = match rows.card(&self.key)? {
            None => {
                let wrong_pins = rows.unknown_number(&self.key)?.and_one();
                rows.put_unknown_number(&self.key, wrong_pins, self.unknown_numbers)?;
                if wrong_pins.is_locked() { Outcome::Locked } else { Outcome::Wrong }
            }
            Some(mut card) => {
                let outcome = match card.judge(self.right) {
                    Verdict::Wrong => Outcome::Wrong,
                    Verdict::Locked => Outcome::Locked,
                    Verdict::Blocked => Outcome::Blocked,
                    Verdict::Right => {
                        if let Err(refused) = self.bind_terminal(rows)? {
                            return Ok(Err(refused));
                        }
                        match &self.new_hash {
                            Some(new_hash) => {
                                if !planted(Bug::OldPinStays) {
                                    card.pin = Some(new_hash.clone());
                                }
                                Outcome::Changed
                            }
                            None => {
                                let place = (self.press.atm_id.clone(), self.press.terminal_id);
                                let session =
                                    card.open_session(self.session_id, place, self.now, self.lifetime);
                                rows.put_session(&session)?;
                                Outcome::Opened(session)
                            }
                        }
                    }
                };
                if outcome != Outcome::Wrong || !planted(Bug::WrongPinsAreNotCounted) {
                    rows.put_card(&card)?;
                }
                outcome
            }
        };
        rows.put_attempt(&Attempt {
            number_key: self.key,
            atm_id: self.press.atm_id.clone(),
            attempt_id: self.press.attempt_id,
            tag: self.tag,
            time: self.now,
            outcome: outcome.clone(),
        })?;
        Ok(Ok(outcome))
    }

    /// Trust on first use: the first terminal at which a right PIN is entered under a machine's name owns that
    /// name, and the start that it names is recorded with it. A wrong PIN binds nothing, or a stranger could take
    /// the names of machines that are yet to be installed, and fill the table.
    fn bind_terminal(&self, rows: &mut dyn Rows) -> Result<Result<(), Refused>, StorageError> {
        let (atm_id, terminal_id, boot) = (&self.press.atm_id, self.press.terminal_id, self.press.boot);
        let bound = match check_terminal(rows, atm_id, (terminal_id, boot), self.machines)? {
            Ok(bound) => bound,
            Err(refused) => return Ok(Err(refused)),
        };
        let recorded = bound.and_then(|terminal| terminal.boot);
        let terminal = Terminal { terminal_id, boot: recorded.or(boot.map(|boot| boot.mark())) };
        if bound != Some(terminal) {
            rows.put_terminal(atm_id, &terminal)?;
        }
        Ok(Ok(()))
    }
}

/// Whether this terminal may speak for this machine in this start, or could be bound to its name. What the name
/// is bound to, if it may.
fn check_terminal(
    rows: &mut dyn Rows,
    atm_id: &AtmId,
    (terminal_id, boot): (TerminalId, Option<Boot>),
    most: usize,
) -> Result<Result<Option<Terminal>, Refused>, StorageError> {
    Ok(match rows.terminal(atm_id)? {
        Some(owner) if owner.terminal_id != terminal_id => Err(Refused::TerminalMismatch),
        Some(owner) if !may_serve(owner.boot, boot.as_ref()) => Err(Refused::StaleBoot),
        Some(owner) => Ok(Some(owner)),
        None if rows.terminal_count()? < most => Ok(None),
        None => Err(Refused::TooManyMachines),
    })
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::CardLocked => Self::CardLocked,
            Refused::TerminalMismatch => Self::TerminalMismatch,
            Refused::StaleBoot => Self::StaleBoot,
            Refused::TooManyMachines => Self::TooManyMachines,
            Refused::DiskFull => Self::Storage(StorageError::Full),
        }
    }
}

/// Whether a bug is planted that takes a repeat for another attempt.
fn forgets(is_change: bool) -> bool {
    planted(Bug::RetriesCount) || (is_change && planted(Bug::RepeatedChangeIsTriedAgain))
}

/// A salt that nobody can predict.
pub(crate) fn salt(ids: &dyn IdSource) -> [u8; 16] {
    let mut salt = [0; 16];
    ids.fill(&mut salt);
    salt
}

/// A new id for a card.
pub(crate) fn new_card_id(ids: &dyn IdSource) -> CardId {
    let mut random = [0; 16];
    ids.fill(&mut random);
    // Version 4: unlike version 7 it does not tell when the card was issued.
    CardId::from_uuid(uuid::Builder::from_random_bytes(random).into_uuid())
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Opened(_) => "opened",
        Outcome::Changed => "changed",
        Outcome::Wrong => "wrong",
        Outcome::Locked => "locked",
        Outcome::Blocked => "blocked",
    }
}
