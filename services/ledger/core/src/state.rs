//! The books in memory: accounts, transactions that are at hand, and the holds that wait for their expiry.
//!
//! The state may hold less than the books do: accounts and settled transactions are brought in when a
//! command needs them. Open holds, though, are always here, since their expiries must not be missed.

use std::collections::{BTreeSet, HashMap, HashSet};

use atm_types::{AccountId, Timestamp, TransactionId};

use crate::account::{Account, AccountKind, Side, Withdrawn};
use crate::command::Command;
use crate::step::{Action, Leg, Step};
use crate::transaction::{OpenHold, Transaction};

/// A recorded step that does not follow from the books before it: damage, or a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {commit_sequence} does not follow from the books before it: {what}")]
pub struct Inconsistency {
    /// The step that does not fit.
    pub commit_sequence: u64,
    /// What does not fit.
    pub what: &'static str,
}

/// The books as far as they are at hand.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Boxed, since the table is larger than what is in it.
    accounts: HashMap<AccountId, Box<Account>>,
    transactions: HashMap<TransactionId, Transaction>,
    /// Transactions at hand that need not stay: no open hold.
    settled: Vec<TransactionId>,
    expiries: BTreeSet<(Timestamp, TransactionId)>,
    /// Accounts whose totals moved since they were last taken for a checkpoint.
    changed: HashSet<AccountId>,
    commit_sequence: u64,
    commit_time: Timestamp,
}

impl State {
    /// Empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// The books as a checkpoint left them; accounts and settled transactions come in on demand.
    pub fn at(commit_sequence: u64, commit_time: Timestamp) -> Self {
        Self { commit_sequence, commit_time, ..Self::default() }
    }

    /// The number of the last recorded step; 0 before the first.
    pub const fn commit_sequence(&self) -> u64 {
        self.commit_sequence
    }

    /// The time of the last recorded step.
    pub const fn commit_time(&self) -> Timestamp {
        self.commit_time
    }

    /// An account, if it is at hand.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id).map(Box::as_ref)
    }

    /// A transaction, if it is at hand.
    pub fn transaction(&self, id: TransactionId) -> Option<&Transaction> {
        self.transactions.get(&id)
    }

    /// Brings in an account that storage had. One that is at hand already stays as it is.
    pub fn insert_account(&mut self, account: Account) {
        self.accounts.entry(account.terms.account_id).or_insert_with(|| Box::new(account));
    }

    /// Brings in a transaction that storage had, oldest step first; nothing happens when there is none, or
    /// when it is at hand already.
    pub fn insert_transaction(&mut self, steps: impl IntoIterator<Item = Step>) {
        let Some(transaction) = Transaction::from_steps(steps) else { return };
        let id = transaction.first().id;
        if self.transactions.contains_key(&id) {
            return;
        }
        match transaction.open_hold() {
            Some(hold) => {
                self.expiries.insert((hold.expire_time, id));
            }
            None => self.settled.push(id),
        }
        self.transactions.insert(id, transaction);
    }

    /// The two accounts that deciding `command` looks at. Its transaction must be at hand.
    pub fn accounts_of(&self, command: &Command) -> [Option<AccountId>; 2] {
        let held = |id| {
            let transaction: Option<&Transaction> = self.transactions.get(&id);
            transaction.and_then(|t| t.first().action.transfer()).copied()
        };
        let transfer = match command {
            Command::OpenAccount(terms) => return [Some(terms.account_id), None],
            Command::Post { transfer, .. } => Some(*transfer),
            Command::Hold(hold) => Some(hold.transfer),
            Command::Capture(capture) => {
                held(capture.id).or_else(|| capture.authorization.map(|authorization| authorization.transfer))
            }
            Command::Cancel { id, .. } | Command::Expire { id } => held(*id),
        };
        transfer.map_or([None, None], |transfer| [Some(transfer.debit), Some(transfer.credit)])
    }

    /// Holds whose lifetime is over at `time`, the oldest first, at most `limit` of them.
    pub fn due_expiries(&self, time: Timestamp, limit: usize) -> Vec<TransactionId> {
        self.expiries
            .iter()
            .take_while(|(expire, _)| *expire <= time)
            .map(|(_, id)| *id)
            .take(limit)
            .collect()
    }

    /// When the next hold expires.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(time, _)| *time)
    }

    /// All holds that stand, as the steps that made them; in order of their expiry.
    pub fn open_holds(&self) -> impl Iterator<Item = &Step> {
        self.expiries.iter().filter_map(|(_, id)| self.transactions.get(id)).map(Transaction::first)
    }

    /// Lets go of all transactions but open holds. Call it between batches.
    pub fn forget_settled(&mut self) {
        for id in self.settled.drain(..) {
            self.transactions.remove(&id);
        }
    }

    /// How many accounts are at hand.
    pub fn accounts_at_hand(&self) -> usize {
        self.accounts.len()
    }

    /// The ids of all accounts that are at hand.
    pub fn account_ids(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.keys().copied()
    }

    /// Lets go of all accounts, to be brought in again on demand. Call it only when storage has all of them
    /// as they are.
    pub fn forget_accounts(&mut self) {
        self.accounts = HashMap::default();
    }

    /// All accounts that changed since they were last taken for a checkpoint.
    pub fn changed_accounts(&self) -> impl Iterator<Item = &Account> {
        self.changed.iter().filter_map(|id| self.account(*id))
    }

    /// Hands out the ids of all accounts that changed since the last call.
    pub fn take_changed_accounts(&mut self) -> HashSet<AccountId> {
        std::mem::take(&mut self.changed)
    }

    /// Folds a recorded step into the books.
    ///
    /// # Errors
    /// [`Inconsistency`] when the step does not follow from the books; the state is then unusable.
    pub fn apply(&mut self, step: &Step) -> Result<(), Inconsistency> {
        let inconsistency = |what| Inconsistency { commit_sequence: step.commit_sequence, what };
        if step.commit_sequence != self.commit_sequence + 1 {
            return Err(inconsistency("its commit sequence is not the next one"));
        }
        if step.commit_time < self.commit_time {
            return Err(inconsistency("its commit time is before the last one"));
        }
        self.fold_accounts(step).map_err(inconsistency)?;
        self.fold_transaction(step).map_err(inconsistency)?;
        self.commit_sequence = step.commit_sequence;
        self.commit_time = step.commit_time;
        Ok(())
    }

    fn fold_accounts(&mut self, step: &Step) -> Result<(), &'static str> {
        if let Action::OpenAccount(terms) = &step.action {
            let account = Account::open((**terms).clone(), step.commit_time);
            self.changed.insert(terms.account_id);
            return match self.accounts.insert(terms.account_id, Box::new(account)) {
                None => Ok(()),
                Some(_) => Err("its account was open already"),
            };
        }
        let Some(legs) = step.action.legs() else { return Ok(()) };
        if legs[0].posted != legs[1].posted || legs[0].pending != legs[1].pending {
            return Err("its debit and its credit differ");
        }
        let hold = self.transactions.get(&step.id).and_then(Transaction::hold);
        let credited_kind = self.accounts.get(&legs[1].account_id).map(|account| account.terms.kind);
        for (leg, side) in legs.iter().zip([Side::Debit, Side::Credit]) {
            let account = self.accounts.get_mut(&leg.account_id).ok_or("its account is not open")?;
            fold_leg(account, leg, side)?;
            account.newest_entry = Some(step.entry_ref(side));
            if side == Side::Debit && credited_kind == Some(AccountKind::Cash) {
                count_withdrawal(&mut account.withdrawn, step, leg, hold);
            }
            self.changed.insert(leg.account_id);
        }
        Ok(())
    }

    fn fold_transaction(&mut self, step: &Step) -> Result<(), &'static str> {
        if step.ordinal == 0 {
            let transaction = Transaction::new(step.clone());
            match transaction.open_hold() {
                Some(hold) => {
                    self.expiries.insert((hold.expire_time, step.id));
                }
                None => self.settled.push(step.id),
            }
            return match self.transactions.insert(step.id, transaction) {
                None => Ok(()),
                Some(_) => Err("its id was recorded already"),
            };
        }
        let Some(transaction) = self.transactions.get_mut(&step.id) else {
            // Only open holds are sure to be at hand; a late capture follows a transaction that is settled.
            let late = matches!(step.action, Action::CaptureLate { .. });
            return if late { Ok(()) } else { Err("it follows a hold that does not stand") };
        };
        if step.ordinal != transaction.next_ordinal() {
            return Err("its ordinal is not the next one of its transaction");
        }
        if let Some(hold) = transaction.open_hold() {
            self.expiries.remove(&(hold.expire_time, step.id));
            self.settled.push(step.id);
        }
        transaction.push(step.clone());
        Ok(())
    }
}

fn fold_leg(account: &mut Account, leg: &Leg, side: Side) -> Result<(), &'static str> {
    if leg.previous != account.newest_entry {
        return Err("its entry does not point to the account's newest one");
    }
    account.totals = account.totals.changed(side, leg.posted, leg.pending).ok_or("a total overflows")?;
    if leg.balance != account.balance() {
        return Err("its recorded balance is not the sum of the entries");
    }
    Ok(())
}

/// Keeps the sum of a day's cash withdrawals: what is posted or held counts on the day of its step; what a
/// hold frees again is given back to the day of that hold, if that day is still the one being counted.
fn count_withdrawal(withdrawn: &mut Withdrawn, step: &Step, leg: &Leg, hold: Option<OpenHold>) {
    match &step.action {
        Action::Post { .. } | Action::Hold { .. } | Action::CaptureLate { .. } => {
            if withdrawn.day != step.day {
                *withdrawn = Withdrawn { day: step.day, amount: 0 };
            }
            withdrawn.amount = withdrawn.amount.saturating_add(leg.posted).saturating_add(leg.pending);
        }
        Action::Capture { .. } | Action::Cancel { .. } | Action::Expire { .. } => {
            if hold.is_some_and(|hold| hold.day == withdrawn.day) {
                // `pending` is what the hold gives up, as a negative number; `posted` is what stays withdrawn.
                withdrawn.amount = withdrawn.amount.saturating_add(leg.pending).saturating_add(leg.posted);
            }
        }
        Action::OpenAccount(_) | Action::Decline { .. } | Action::Tombstone => {}
    }
}
