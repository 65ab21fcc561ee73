//! What of the books is in memory, laid out for speed: looking up, adding and letting go are on the path of
//! every command.
//!
//! The maps use foldhash, seeded anew in every process since callers choose their ids; the standard hasher
//! took a fifth of the time of a decision.

use std::collections::HashMap;

use atm_types::{AccountId, TransactionId};
use foldhash::fast::RandomState;

use crate::account::Account;
use crate::transaction::Transaction;

/// Accounts at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    /// Boxed, since a table has room for twice what is in it.
    slots: HashMap<AccountId, Box<Slot>, RandomState>,
    /// Those that changed since they were last taken, each once.
    changed: Vec<AccountId>,
}

#[derive(Clone, Debug)]
struct Slot {
    account: Account,
    changed: bool,
}

impl Accounts {
    pub(crate) fn get(&self, id: AccountId) -> Option<&Account> {
        self.slots.get(&id).map(|slot| &slot.account)
    }

    /// An account that is about to change.
    pub(crate) fn change(&mut self, id: AccountId) -> Option<&mut Account> {
        let slot = self.slots.get_mut(&id)?;
        if !slot.changed {
            slot.changed = true;
            self.changed.push(id);
        }
        Some(&mut slot.account)
    }

    /// Adds an account that storage had; one that is at hand stays as it is.
    pub(crate) fn bring_in(&mut self, account: Account) {
        let id = account.terms.account_id;
        self.slots.entry(id).or_insert_with(|| Box::new(Slot { account, changed: false }));
    }

    /// Adds an account that was just opened; whether it was not there.
    pub(crate) fn open(&mut self, account: Account) -> bool {
        let id = account.terms.account_id;
        self.changed.push(id);
        self.slots.insert(id, Box::new(Slot { account, changed: true })).is_none()
    }

    pub(crate) fn changed(&self) -> impl Iterator<Item = &Account> {
        self.changed.iter().filter_map(|id| self.get(*id))
    }

    pub(crate) fn take_changed(&mut self) -> Vec<AccountId> {
        let changed = std::mem::take(&mut self.changed);
        for id in &changed {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.changed = false;
            }
        }
        changed
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = AccountId> {
        self.slots.keys().copied()
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Transactions at hand: open holds, which stay, and what is settled, which goes after the batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    holds: HashMap<TransactionId, Box<Transaction>, RandomState>,
    /// Those among `holds` that have ended.
    ended: Vec<TransactionId>,
    /// One after the other, since most are written once and never looked at again.
    settled: Vec<Transaction>,
    /// Where they are in `settled`.
    places: HashMap<TransactionId, usize, RandomState>,
}

impl Transactions {
    pub(crate) fn get(&self, id: TransactionId) -> Option<&Transaction> {
        match self.places.get(&id) {
            Some(place) => self.settled.get(*place),
            None => self.holds.get(&id).map(Box::as_ref),
        }
    }

    pub(crate) fn get_mut(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        match self.places.get(&id) {
            Some(place) => self.settled.get_mut(*place),
            None => self.holds.get_mut(&id).map(Box::as_mut),
        }
    }

    /// Adds a transaction; whether it was not there.
    pub(crate) fn insert(&mut self, transaction: Transaction) -> bool {
        let id = transaction.first().id;
        if transaction.open_hold().is_some() {
            return self.holds.insert(id, Box::new(transaction)).is_none() && !self.places.contains_key(&id);
        }
        let new = self.places.insert(id, self.settled.len()).is_none() && !self.holds.contains_key(&id);
        self.settled.push(transaction);
        new
    }

    /// Takes note that a hold at hand has ended.
    pub(crate) fn end(&mut self, id: TransactionId) {
        self.ended.push(id);
    }

    pub(crate) fn forget_settled(&mut self) {
        for id in self.ended.drain(..) {
            self.holds.remove(&id);
        }
        self.settled.clear();
        self.places.clear();
    }
}
