//! The books in memory: accounts, transactions that are at hand, and the holds that wait for their expiry.
//!
//! The state may hold less than the books do: accounts and settled transactions are brought in when a
//! command needs them. Open holds, though, are always here, since their expiries must not be missed.

use std::collections::BTreeSet;

use atm_faults::{Bug, planted};
use atm_types::{AccountId, Timestamp, TransactionId};

use crate::account::{Account, AccountKind, Side, Withdrawn};
use crate::at_hand::{Accounts, Transactions};
use crate::command::{Authorization, Command};
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
    accounts: Accounts,
    transactions: Transactions,
    expiries: BTreeSet<(Timestamp, TransactionId)>,
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
        self.accounts.get(id)
    }

    /// A transaction, if it is at hand.
    pub fn transaction(&self, id: TransactionId) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    /// Brings in an account that storage had. One that is at hand already stays as it is.
    pub fn insert_account(&mut self, account: Account) {
        self.accounts.bring_in(account);
    }

    /// Brings in a transaction that storage had, oldest step first; nothing happens when there is none, or
    /// when it is at hand already.
    pub fn insert_transaction(&mut self, steps: impl IntoIterator<Item = Step>) {
        let Some(transaction) = Transaction::from_steps(steps) else { return };
        let id = transaction.first().id;
        if self.transactions.get(id).is_some() {
            return;
        }
        if let Some(hold) = transaction.open_hold() {
            self.expiries.insert((hold.expire_time, id));
        }
        self.transactions.insert(transaction);
    }

    /// The accounts that deciding `command` looks at. Its transaction must be at hand.
    pub fn accounts_of(&self, command: &Command) -> [Option<AccountId>; 3] {
        let held = |id| self.transactions.get(id).and_then(Transaction::held);
        let held_or = |id, authorization: &Option<Authorization>| {
            held(id).or_else(|| authorization.map(|authorization| authorization.transfer))
        };
        let (transfer, suspense) = match command {
            Command::OpenAccount(terms) => return [Some(terms.account_id), None, None],
            Command::Post { transfer, .. } => (Some(*transfer), None),
            Command::Hold(hold) => (Some(hold.transfer), None),
            Command::Capture(capture) => (held_or(capture.id, &capture.authorization), None),
            Command::Suspend(suspend) => {
                (held_or(suspend.id, &suspend.authorization), Some(suspend.suspense))
            }
            Command::Resolve(resolve) => {
                let suspension = self.transactions.get(resolve.id).and_then(Transaction::suspension);
                let suspense = suspension.and_then(|step| step.action.legs().last());
                (held(resolve.id), suspense.map(|leg| leg.account_id))
            }
            Command::Cancel { id, .. } | Command::Expire { id } => (held(*id), None),
        };
        [transfer.map(|transfer| transfer.debit), transfer.map(|transfer| transfer.credit), suspense]
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
        self.expiries.iter().filter_map(|(_, id)| self.transactions.get(*id)).map(Transaction::first)
    }

    /// Lets go of all transactions but open holds. Call it between batches.
    pub fn forget_settled(&mut self) {
        self.transactions.forget_settled();
    }

    /// How many accounts are at hand.
    pub fn accounts_at_hand(&self) -> usize {
        self.accounts.len()
    }

    /// The ids of all accounts that are at hand.
    pub fn account_ids(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.ids()
    }

    /// Lets go of all accounts, to be brought in again on demand. Call it only when storage has all of them
    /// as they are.
    pub fn forget_accounts(&mut self) {
        self.accounts.forget();
    }

    /// All accounts that changed since they were last taken for a checkpoint.
    pub fn changed_accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.changed()
    }

    /// Hands out the ids of all accounts that changed since the last call.
    pub fn take_changed_accounts(&mut self) -> Vec<AccountId> {
        self.accounts.take_changed()
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
            return if self.accounts.open(account) { Ok(()) } else { Err("its account was open already") };
        }
        let [debit, credits @ ..] = step.action.legs() else { return Ok(()) };
        let sum = |change: fn(&Leg) -> i64| credits.iter().map(change).try_fold(0, i64::checked_add);
        let unchecked = planted(Bug::CreditIsOneLess);
        if !unchecked && sum(|leg| leg.posted) != Some(debit.posted)
            || sum(|leg| leg.pending) != Some(debit.pending)
        {
            return Err("its debit and its credit differ");
        }
        let hold =
            if step.ordinal == 0 { None } else { self.transactions.get(step.id).and_then(Transaction::hold) };
        let credited = credits.first().and_then(|credit| self.accounts.get(credit.account_id));
        let credited_kind = credited.map(|account| account.terms.kind);
        for (index, leg) in step.entries() {
            let account = self.accounts.change(leg.account_id).ok_or("its account is not open")?;
            let side = Leg::side(index);
            fold_leg(account, leg, side)?;
            account.newest_entry = Some(step.entry_ref(index));
            if side == Side::Debit && credited_kind == Some(AccountKind::Cash) {
                count_withdrawal(&mut account.withdrawn, step, leg, hold);
            }
        }
        Ok(())
    }

    fn fold_transaction(&mut self, step: &Step) -> Result<(), &'static str> {
        let (may_begin, may_follow) = step.action.places();
        if step.ordinal == 0 {
            if !may_begin {
                return Err("it follows a hold that does not stand");
            }
            let transaction = Transaction::new(step.clone());
            if let Some(hold) = transaction.open_hold() {
                self.expiries.insert((hold.expire_time, step.id));
            }
            let new = self.transactions.insert(transaction);
            return if new { Ok(()) } else { Err("its id was recorded already") };
        }
        if !may_follow {
            return Err("it is not the first step of its transaction");
        }
        let Some(transaction) = self.transactions.get_mut(step.id) else {
            // Only open holds are sure to be at hand. What ends none follows a transaction that is settled
            // or frozen.
            let ends_hold = step.action.ends_hold();
            return if ends_hold { Err("it follows a hold that does not stand") } else { Ok(()) };
        };
        if step.ordinal != transaction.next_ordinal() {
            return Err("its ordinal is not the next one of its transaction");
        }
        let ended = transaction.open_hold();
        if ended.is_some() != step.action.ends_hold() {
            return Err("it does not follow from where its transaction stood");
        }
        transaction.push(step.clone());
        if let Some(hold) = ended {
            self.expiries.remove(&(hold.expire_time, step.id));
            self.transactions.end(step.id);
        }
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
/// hold frees again is given back to the day of that hold, if that day is still the one being counted. To
/// freeze a hold that stands changes nothing of that; to freeze one that is gone counts it again, on the day
/// of the suspension, and its resolution gives back to whichever day it was.
fn count_withdrawal(withdrawn: &mut Withdrawn, step: &Step, leg: &Leg, hold: Option<OpenHold>) {
    match &step.action {
        Action::Post { .. } | Action::Hold { .. } | Action::CaptureLate { .. } => count(withdrawn, step, leg),
        Action::Suspend { .. } if !step.action.ends_hold() => count(withdrawn, step, leg),
        Action::Capture { .. } | Action::Cancel { .. } | Action::Expire { .. } => {
            give_back(withdrawn, hold.map(|hold| hold.day), leg);
        }
        Action::Resolve { counted_day, .. } => give_back(withdrawn, Some(*counted_day), leg),
        Action::OpenAccount(_) | Action::Decline { .. } | Action::Tombstone | Action::Suspend { .. } => {}
    }
}

fn count(withdrawn: &mut Withdrawn, step: &Step, leg: &Leg) {
    if withdrawn.day != step.day {
        *withdrawn = Withdrawn { day: step.day, amount: 0 };
    }
    withdrawn.amount = withdrawn.amount.saturating_add(leg.posted).saturating_add(leg.pending);
}

fn give_back(withdrawn: &mut Withdrawn, counted_day: Option<i32>, leg: &Leg) {
    if counted_day == Some(withdrawn.day) {
        // `pending` is what the hold gives up, as a negative number; `posted` is what stays withdrawn.
        withdrawn.amount = withdrawn.amount.saturating_add(leg.pending).saturating_add(leg.posted);
    }
}
