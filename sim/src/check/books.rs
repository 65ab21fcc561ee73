//! The ledger's disk by itself: 1, 2, 3, 4, 5, 13, 15, 16 and 18.

use std::collections::BTreeMap;

use atm_ledger_core::{Account, AccountKind, Action, Leg, Side, Step, Totals, TransactionState};
use atm_types::{AccountId, TransactionId};
use sha2::{Digest, Sha256};

use super::Violation;
use crate::evidence::Evidence;

/// Adds a leg to the totals of its account, as a bookkeeper would.
fn add(totals: &mut Totals, side: Side, leg: &Leg) {
    let (posted, pending) = match side {
        Side::Debit => (&mut totals.debits_posted, &mut totals.debits_pending),
        Side::Credit => (&mut totals.credits_posted, &mut totals.credits_pending),
    };
    *posted += leg.posted;
    *pending += leg.pending;
}

/// 1, 2 and 3: each step adds up, so do all accounts, what is stored are the sums, and nobody has spent what he has not.
pub(super) fn sums(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    for step in &evidence.ledger.steps {
        if let Action::OpenAccount(terms) = &step.action {
            accounts.insert(terms.account_id, Account::open((**terms).clone(), step.commit_time));
        }
        let legs = step.action.legs();
        let sum = |change: fn(&Leg) -> i64| -> (i64, i64) {
            (legs.first().map_or(0, change), legs.iter().skip(1).map(change).sum())
        };
        let (posted, pending) = (sum(|leg| leg.posted), sum(|leg| leg.pending));
        if posted.0 != posted.1 || pending.0 != pending.1 {
            found.push(Violation::new(1, format!("step {} does not add up: {legs:?}", step.commit_sequence)));
        }
        for (index, leg) in step.entries() {
            let Some(account) = accounts.get_mut(&leg.account_id) else {
                found.push(Violation::new(
                    2,
                    format!("step {} moves an account that is not open", step.commit_sequence),
                ));
                continue;
            };
            add(&mut account.totals, Leg::side(index), leg);
            if leg.balance != account.balance() {
                let what = format!(
                    "step {}: {:?} is not the sum {:?}",
                    step.commit_sequence,
                    leg.balance,
                    account.balance()
                );
                found.push(Violation::new(2, what));
            }
        }
        found.extend(spent_too_much(step, &accounts));
    }
    let sum =
        |change: fn(&Totals) -> i64| accounts.values().map(|account| change(&account.totals)).sum::<i64>();
    if sum(|t| t.debits_posted) != sum(|t| t.credits_posted)
        || sum(|t| t.debits_pending) != sum(|t| t.credits_pending)
    {
        found.push(Violation::new(1, "the debits of all accounts are not their credits"));
    }
    for stored in &evidence.ledger.accounts {
        let summed = accounts.get(&stored.terms.account_id).map(|account| account.totals);
        if summed != Some(stored.totals) {
            let what = format!(
                "{} is stored as {:?}, and its entries sum to {summed:?}",
                stored.terms.number, stored.totals
            );
            found.push(Violation::new(2, what));
        }
    }
    found
}

/// Only what was decided by the balance is held against it: late captures and suspensions are not.
fn spent_too_much(step: &Step, accounts: &BTreeMap<AccountId, Account>) -> Option<Violation> {
    let (Action::Post { transfer, .. } | Action::Hold { transfer, .. }) = &step.action else { return None };
    let account = accounts.get(&transfer.debit)?;
    let available = account.balance().available;
    let overdrawn = account.terms.kind == AccountKind::Customer && available < 0;
    let what = || format!("step {} of {} leaves {available} available", step.commit_sequence, step.id);
    overdrawn.then(|| Violation::new(3, what()))
}

/// 15 and 16: one order without gaps, batch after batch, that never goes back; and nothing beside it.
pub(super) fn order(evidence: &Evidence) -> Vec<Violation> {
    let ledger = &evidence.ledger;
    let mut found = Vec::new();
    for (step, expected) in ledger.steps.iter().zip(1..) {
        if step.commit_sequence != expected {
            found.push(Violation::new(
                16,
                format!("step {} stands where {expected} should", step.commit_sequence),
            ));
            break;
        }
    }
    let mut next = 1;
    for batch in &ledger.batches {
        if batch.first_sequence != next {
            found.push(Violation::new(
                16,
                format!("a batch begins with {} after {}", batch.first_sequence, next - 1),
            ));
        }
        next = batch.first_sequence + batch.keys.len() as u64;
    }
    if ledger.head.sequence != next - 1 || ledger.steps.len() as u64 != next - 1 {
        let what = format!(
            "the head is {}, the batches end with {}, and there are {} steps",
            ledger.head.sequence,
            next - 1,
            ledger.steps.len()
        );
        found.push(Violation::new(16, what));
    }
    for pair in ledger.heads.windows(2) {
        if pair[1].1.sequence < pair[0].1.sequence {
            found.push(Violation::new(
                14,
                format!("the books went back from {} to {}", pair[0].1.sequence, pair[1].1.sequence),
            ));
        }
    }
    // In the middle of a run a torn commit may lie there until the ledger starts again.
    if evidence.at_end && ledger.stray_steps > 0 {
        found.push(Violation::new(
            15,
            format!("{} steps are on the disk and in no batch", ledger.stray_steps),
        ));
    }
    found
}

/// 4, 5 and 13: what may follow what under one id, and how much may be posted.
pub(super) fn lives(evidence: &Evidence) -> Vec<Violation> {
    let mut lives: BTreeMap<TransactionId, Vec<&Step>> = BTreeMap::new();
    for step in &evidence.ledger.steps {
        lives.entry(step.id).or_default().push(step);
    }
    let mut found = Vec::new();
    for (id, steps) in lives {
        for pair in steps.windows(2) {
            if !may_follow(&steps, pair[0], pair[1]) {
                let after_tombstone = matches!(pair[0].action, Action::Tombstone);
                let what = format!("{id}: {:?} after {:?}", pair[1].action.kind(), pair[0].action.kind());
                found.push(Violation::new(if after_tombstone { 13 } else { 4 }, what));
            }
        }
        let held = steps.iter().find_map(|step| match &step.action {
            Action::Hold { transfer, .. } | Action::Suspend { transfer, .. } => Some(transfer.amount),
            _ => None,
        });
        let posted: i64 =
            steps.iter().filter_map(|step| step.action.legs().first()).map(|leg| leg.posted).sum();
        if held.is_some_and(|held| posted > held) {
            found.push(Violation::new(5, format!("{id}: {posted} was posted of a hold of {held:?}")));
        }
    }
    found
}

fn may_follow(steps: &[&Step], before: &Step, after: &Step) -> bool {
    use TransactionState::{Cancelled, Expired, Held, Suspect};
    let held = steps.iter().any(|step| matches!(step.action, Action::Hold { .. } | Action::Suspend { .. }));
    let Some(state) = before.action.state() else { return false };
    match &after.action {
        Action::Capture { .. } | Action::Cancel { .. } | Action::Expire { .. } => state == Held,
        Action::CaptureLate { .. } => held && matches!(state, Cancelled | Expired),
        Action::Suspend { .. } => held && matches!(state, Held | Cancelled | Expired),
        Action::Resolve { .. } => state == Suspect,
        Action::OpenAccount(_)
        | Action::Post { .. }
        | Action::Hold { .. }
        | Action::Decline { .. }
        | Action::Tombstone => false,
    }
}

/// 18: the chain is hashed anew from what is stored.
pub(super) fn chain(evidence: &Evidence) -> Vec<Violation> {
    let ledger = &evidence.ledger;
    let mut hash = [0; 32];
    let mut stored = ledger.stored.iter();
    for batch in &ledger.batches {
        let mut link = Sha256::new();
        link.update(hash);
        link.update(batch.first_sequence.to_be_bytes());
        link.update(batch.commit_time.as_nanos().to_be_bytes());
        link.update((batch.keys.len() as u64).to_be_bytes());
        for key in &batch.keys {
            let Some(data) = stored.next() else { break };
            link.update(key.id.as_bytes());
            link.update([key.ordinal]);
            link.update(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
            link.update(data);
        }
        hash = link.finalize().into();
        if hash != batch.hash {
            return vec![Violation::new(
                18,
                format!("the batch of step {} has another hash", batch.first_sequence),
            )];
        }
    }
    if hash == ledger.head.hash {
        Vec::new()
    } else {
        vec![Violation::new(18, "the head is not the end of the chain")]
    }
}

/// 14: what was acknowledged survives; a ledger that does not start has lost everything.
pub(super) fn starts_again(evidence: &Evidence) -> Vec<Violation> {
    let damage = evidence.ledger.damage.as_ref();
    damage
        .map(|damage| Violation::new(14, format!("the ledger would not start: {damage}")))
        .into_iter()
        .collect()
}
