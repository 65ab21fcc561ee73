//! Cards in memory: for tests and simulations, which can make its commits fail.
//!
//! Clones share the rows, so that a "restarted" service finds what the one before it had committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atm_types::{AttemptId, Timestamp};

use super::{Backend, Expiry, Meta, Rows, StorageError, Work};
use crate::domain::{
    AtmId, Attempt, Card, CardId, DoneOrder, NumberKey, OrderId, Outcome, Revocation, RevocationTarget,
    Session, SessionId, Terminal, WrongPins,
};

/// How a commit goes wrong. In both cases the caller cannot know which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing of it is kept.
    Lost,
    /// All of it is kept, only that nobody hears of it.
    Kept,
}

/// A database that lives as long as its clones.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    rows: MemoryRows,
    /// The fault that waits for a commit with something to write, and how many such commits pass before it.
    fault: Option<(u64, CommitFault)>,
    commits: u64,
}

impl MemoryStore {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit that has something to write fail.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.fail_after(0, fault);
    }

    /// Lets `fault` happen to the commit after the next `commits` ones that have something to write.
    pub fn fail_after(&self, commits: u64, fault: CommitFault) {
        self.lock().fault = Some((commits, fault));
    }

    /// A fault that waits does not happen any more.
    pub fn clear_faults(&self) {
        self.lock().fault = None;
    }

    /// How many commits had something to write and are kept.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// All cards, in the order of their number keys.
    pub fn cards(&self) -> Vec<Card> {
        self.lock().rows.cards.values().cloned().collect()
    }

    /// All attempts that are not erased, in the order of card, machine and attempt id.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().rows.attempts.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn next_fault(&mut self) -> Option<CommitFault> {
        match &mut self.fault {
            Some((0, _)) => self.fault.take().map(|(_, fault)| fault),
            Some((commits, _)) => {
                *commits -= 1;
                None
            }
            None => None,
        }
    }
}

impl Backend for MemoryStore {
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), StorageError> {
        let mut shared = self.lock();
        let mut rows = shared.rows.clone();
        rows.written = false;
        work(&mut rows)?;
        let fault = if rows.written { shared.next_fault() } else { None };
        if fault != Some(CommitFault::Lost) {
            shared.commits += u64::from(rows.written);
            shared.rows = rows;
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(StorageError::Commit("a planted fault".into())),
        }
    }

    fn scrub(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn look_for_room(&mut self) {}
}

type AttemptKey = (NumberKey, AtmId, AttemptId, [u8; 32]);

#[derive(Clone, Default)]
struct MemoryRows {
    written: bool,
    meta: BTreeMap<Meta, Vec<u8>>,
    cards: BTreeMap<NumberKey, Card>,
    unknown: BTreeMap<NumberKey, (u64, WrongPins)>,
    touched: u64,
    attempts: BTreeMap<AttemptKey, Attempt>,
    terminals: BTreeMap<AtmId, Terminal>,
    sessions: BTreeMap<SessionId, (AtmId, Timestamp)>,
    revocations: BTreeMap<RevocationTarget, Revocation>,
    orders: BTreeMap<OrderId, DoneOrder>,
}

impl Rows for MemoryRows {
    fn has_room(&self) -> bool {
        true
    }

    fn meta(&mut self, name: Meta) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.meta.get(&name).cloned())
    }

    fn put_meta(&mut self, name: Meta, value: &[u8]) -> Result<(), StorageError> {
        self.written = true;
        self.meta.insert(name, value.to_vec());
        Ok(())
    }

    fn card(&mut self, key: &NumberKey) -> Result<Option<Card>, StorageError> {
        Ok(self.cards.get(key).cloned())
    }

    fn card_by_id(&mut self, id: CardId) -> Result<Option<Card>, StorageError> {
        Ok(self.cards.values().find(|card| card.card_id == id).cloned())
    }

    fn put_card(&mut self, card: &Card) -> Result<(), StorageError> {
        self.written = true;
        self.cards.insert(card.number_key, card.clone());
        Ok(())
    }

    fn has_cards(&mut self) -> Result<bool, StorageError> {
        Ok(!self.cards.is_empty())
    }

    fn unknown_number(&mut self, key: &NumberKey) -> Result<WrongPins, StorageError> {
        Ok(self.unknown.get(key).map(|(_, wrong_pins)| *wrong_pins).unwrap_or_default())
    }

    fn put_unknown_number(
        &mut self,
        key: &NumberKey,
        wrong_pins: WrongPins,
        most: usize,
    ) -> Result<(), StorageError> {
        self.written = true;
        self.touched += 1;
        self.unknown.insert(*key, (self.touched, wrong_pins));
        while self.unknown.len() > most {
            let oldest = self.unknown.iter().min_by_key(|(_, (touched, _))| *touched).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.unknown.remove(&oldest);
            }
        }
        Ok(())
    }

    fn forget_unknown_number(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        self.written = true;
        self.unknown.remove(key);
        Ok(())
    }

    fn forget_numbers(&mut self) -> Result<(), StorageError> {
        self.written = true;
        self.unknown.clear();
        self.attempts.clear();
        Ok(())
    }

    fn attempts(
        &mut self,
        key: &NumberKey,
        atm_id: &AtmId,
        attempt_id: AttemptId,
    ) -> Result<Vec<Attempt>, StorageError> {
        let range =
            (*key, atm_id.clone(), attempt_id, [0; 32])..=(*key, atm_id.clone(), attempt_id, [255; 32]);
        Ok(self.attempts.range(range).map(|(_, attempt)| attempt.clone()).collect())
    }

    fn put_attempt(&mut self, attempt: &Attempt) -> Result<(), StorageError> {
        self.written = true;
        let key = (attempt.number_key, attempt.atm_id.clone(), attempt.attempt_id, *attempt.tag.as_bytes());
        self.attempts.insert(key, attempt.clone());
        Ok(())
    }

    fn forget_opened_attempts(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        self.written = true;
        self.attempts.retain(|_, attempt| {
            attempt.number_key != *key || !matches!(attempt.outcome, Outcome::Opened(_))
        });
        Ok(())
    }

    fn terminal(&mut self, atm_id: &AtmId) -> Result<Option<Terminal>, StorageError> {
        Ok(self.terminals.get(atm_id).copied())
    }

    fn put_terminal(&mut self, atm_id: &AtmId, terminal: &Terminal) -> Result<(), StorageError> {
        self.written = true;
        self.terminals.insert(atm_id.clone(), *terminal);
        Ok(())
    }

    fn remove_terminal(&mut self, atm_id: &AtmId) -> Result<(), StorageError> {
        self.written = true;
        self.terminals.remove(atm_id);
        Ok(())
    }

    fn terminals(&mut self) -> Result<Vec<(AtmId, Terminal)>, StorageError> {
        Ok(self.terminals.iter().map(|(atm_id, terminal)| (atm_id.clone(), *terminal)).collect())
    }

    fn terminal_count(&mut self) -> Result<usize, StorageError> {
        Ok(self.terminals.len())
    }

    fn session_expiry(&mut self, id: SessionId) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.sessions.get(&id).map(|(_, expire_time)| *expire_time))
    }

    fn sessions_at(
        &mut self,
        atm_id: &AtmId,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, Timestamp)>, StorageError> {
        let there = self.sessions.iter().filter(|(_, (place, end))| place == atm_id && *end > now);
        let mut found: Vec<_> = there.map(|(id, (_, end))| (*id, *end)).collect();
        found.sort_by_key(|(id, end)| (*end, *id));
        Ok(found)
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StorageError> {
        self.written = true;
        self.sessions.insert(session.session_id, (session.atm_id.clone(), session.expire_time));
        Ok(())
    }

    fn put_revocation(&mut self, revocation: &Revocation) -> Result<(), StorageError> {
        self.written = true;
        self.revocations.insert(revocation.target, *revocation);
        Ok(())
    }

    fn revocations(&mut self, now: Timestamp) -> Result<Vec<Revocation>, StorageError> {
        let mut found: Vec<_> =
            self.revocations.values().filter(|it| it.relevant_until > now).copied().collect();
        found.sort_by_key(|revocation| (revocation.revoke_time, revocation.target));
        Ok(found)
    }

    fn order(&mut self, id: OrderId) -> Result<Option<DoneOrder>, StorageError> {
        Ok(self.orders.get(&id).cloned())
    }

    fn put_order(&mut self, order: &DoneOrder) -> Result<(), StorageError> {
        self.written = true;
        self.orders.insert(order.id, order.clone());
        Ok(())
    }

    fn erase(&mut self, expiry: Expiry) -> Result<usize, StorageError> {
        let count = |rows: &Self| rows.attempts.len() + rows.sessions.len() + rows.revocations.len();
        let before = count(self);
        self.attempts.retain(|_, it| it.time > expiry.attempts_until && it.time < expiry.attempts_from);
        self.sessions.retain(|_, (_, expire_time)| *expire_time >= expiry.sessions_before);
        self.revocations.retain(|_, it| it.relevant_until >= expiry.sessions_before);
        let erased = before - count(self);
        self.written |= erased > 0;
        Ok(erased)
    }
}
