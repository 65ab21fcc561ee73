//! The trial balance: all accounts summed by kind and currency, at one commit sequence.
//!
//! The checkpoint has all accounts but those that changed since, and memory has those. So the writer only
//! hands out the changed ones, between two batches, and a reader sums the rest from a view of the same
//! checkpoint: a million accounts do not keep money waiting.

use std::collections::{BTreeMap, HashSet};

use atm_ledger_core::{Account, AccountKind, State, Totals};
use atm_types::{AccountId, Currency};
use tokio::sync::oneshot;

use crate::handle::ExecuteError;
use crate::read::Reading;
use crate::storage::{StoreError, View};
use crate::writer::queue::{Item, QueueSender};

/// How many accounts are read at once.
const PAGE: usize = 10_000;

/// The sums of one kind of account in one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialBalanceLine {
    /// The kind of the accounts.
    pub kind: AccountKind,
    /// Their currency.
    pub currency: Currency,
    /// How many there are.
    pub account_count: u64,
    /// Sum of posted debits, in minor units.
    pub debits_posted: i128,
    /// Sum of posted credits, in minor units.
    pub credits_posted: i128,
    /// Sum of debits on hold, in minor units.
    pub debits_pending: i128,
    /// Sum of credits on hold, in minor units.
    pub credits_pending: i128,
}

/// All accounts summed at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialBalance {
    /// One line for each kind and currency that has accounts, ordered by currency and kind.
    pub lines: Vec<TrialBalanceLine>,
    /// Whether debits equal credits in every currency, posted and pending.
    pub balanced: bool,
    /// The last committed step that is part of the sums.
    pub commit_sequence: u64,
}

/// What the writer's memory knows better than the checkpoint.
#[derive(Debug)]
pub(crate) struct ChangedAccounts {
    /// The last step that is part of the checkpoint.
    checkpoint: u64,
    /// The last step that is part of `accounts`.
    sequence: u64,
    accounts: Vec<(AccountId, AccountKind, Currency, Totals)>,
}

impl ChangedAccounts {
    /// The accounts of `state` that changed since the checkpoint.
    pub(crate) fn of(state: &State, checkpoint: u64) -> Self {
        let changed = state.changed_accounts().map(|account| {
            let terms = &account.terms;
            (terms.account_id, terms.kind, terms.currency, account.totals)
        });
        Self { checkpoint, sequence: state.commit_sequence(), accounts: changed.collect() }
    }
}

/// Takes the trial balance.
pub(crate) async fn take(queue: &QueueSender, reading: &Reading) -> Result<TrialBalance, ExecuteError> {
    loop {
        let (answer, answered) = oneshot::channel();
        queue.send(Item::ChangedAccounts { answer })?;
        let changed = answered.await.map_err(|_| ExecuteError::Stopped)?;
        // A checkpoint in between means that the changed accounts do not belong to it: ask again. They are
        // far apart.
        if let Some(balance) = reading.read(move |view| sum(view, &changed)).await? {
            return Ok(balance);
        }
    }
}

fn sum(view: &mut dyn View, changed: &ChangedAccounts) -> Result<Option<TrialBalance>, StoreError> {
    if view.checkpoint()?.head.sequence != changed.checkpoint {
        return Ok(None);
    }
    let mut sums = Sums::default();
    let mut in_memory = HashSet::with_capacity(changed.accounts.len());
    for (id, kind, currency, totals) in &changed.accounts {
        in_memory.insert(*id);
        sums.add(*kind, *currency, totals);
    }
    let mut after = None;
    loop {
        let accounts = view.accounts_after(after, PAGE)?;
        let Some(last) = accounts.last() else { break };
        after = Some(last.terms.account_id);
        for Account { terms, totals, .. } in &accounts {
            if !in_memory.contains(&terms.account_id) {
                sums.add(terms.kind, terms.currency, totals);
            }
        }
    }
    Ok(Some(TrialBalance {
        balanced: sums.balanced(),
        lines: sums.lines.into_values().collect(),
        commit_sequence: changed.sequence,
    }))
}

#[derive(Default)]
struct Sums {
    lines: BTreeMap<(Currency, AccountKind), TrialBalanceLine>,
}

impl Sums {
    fn add(&mut self, kind: AccountKind, currency: Currency, totals: &Totals) {
        let line = self.lines.entry((currency, kind)).or_insert(TrialBalanceLine {
            kind,
            currency,
            account_count: 0,
            debits_posted: 0,
            credits_posted: 0,
            debits_pending: 0,
            credits_pending: 0,
        });
        line.account_count += 1;
        line.debits_posted += i128::from(totals.debits_posted);
        line.credits_posted += i128::from(totals.credits_posted);
        line.debits_pending += i128::from(totals.debits_pending);
        line.credits_pending += i128::from(totals.credits_pending);
    }
    fn balanced(&self) -> bool {
        let mut differences: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        for line in self.lines.values() {
            let (posted, pending) = differences.entry(line.currency).or_default();
            *posted += line.debits_posted - line.credits_posted;
            *pending += line.debits_pending - line.credits_pending;
        }
        differences.values().all(|difference| *difference == (0, 0))
    }
}
