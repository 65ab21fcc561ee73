//! The ledger's disk by itself: 1, 2, 3, 4, 5, 13, 15, 16 and 18.

use std::collections::BTreeMap;

use atm_ledger::storage::{Batch, Hash};
use atm_ledger_core::{Account, AccountKind, Action, Leg, Side, Step, StepKind, Totals, TransactionState};
use atm_types::{AccountId, TransactionId};
use sha2::{Digest, Sha256};

use super::Violation;
use crate::evidence::{Evidence, LedgerEvidence};

/// Adds a leg to the totals of its account, as a bookkeeper would.
fn add(totals: &mut Totals, side: Side, leg: &Leg) {
    let (posted, pending) = match side {
        Side::Debit => (&mut totals.debits_posted, &mut totals.debits_pending),
        Side::Credit => (&mut totals.credits_posted, &mut totals.credits_pending),
    };
    *posted += leg.posted;
    *pending += leg.pending;
}

/// The sums of all entries so far; 1, 2 and 3 are tried with each step that is added.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<AccountId, Account>);

impl Sums {
    /// What is wrong with the next step: it does not add up, an account is not what its entries sum to, or somebody has
    /// spent what he has not.
    pub(super) fn add(&mut self, step: &Step) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Action::OpenAccount(terms) = &step.action {
            self.0.insert(terms.account_id, Account::open((**terms).clone(), step.commit_time));
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
            let Some(account) = self.0.get_mut(&leg.account_id) else {
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
        found.extend(spent_too_much(step, &self.0));
        found
    }
}

/// 1, 2 and 3: each step adds up, so do all accounts, what is stored are the sums, and nobody has spent what he has not.
pub(super) fn sums(evidence: &Evidence) -> Vec<Violation> {
    let mut sums = Sums::default();
    let mut found: Vec<Violation> = evidence.ledger.steps.iter().flat_map(|step| sums.add(step)).collect();
    let Sums(accounts) = sums;
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

/// 14, 15 and 16: one order without gaps, batch after batch, that never goes back; and nothing beside it.
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
        found.extend(went_back(pair[0].1.sequence, pair[1].1.sequence));
    }
    found.extend(replaced(ledger));
    // In the middle of a run a torn commit may lie there until the ledger starts again.
    if evidence.at_end && ledger.stray_steps > 0 {
        found.push(Violation::new(
            15,
            format!("{} steps are on the disk and in no batch", ledger.stray_steps),
        ));
    }
    found
}

/// 14: the end of the books never goes back.
pub(super) fn went_back(before: u64, after: u64) -> Option<Violation> {
    (after < before).then(|| Violation::new(14, format!("the books went back from {before} to {after}")))
}

/// 14: whatever the end of the books once was is still a part of them, to the byte: its hash covers all before it.
fn replaced(ledger: &LedgerEvidence) -> Vec<Violation> {
    let last = |batch: &Batch| (batch.first_sequence + batch.keys.len() as u64 - 1, batch.hash);
    let ends: BTreeMap<u64, Hash> = ledger.batches.iter().map(last).collect();
    let seen = ledger.heads.iter().filter(|(_, head)| head.sequence > 0);
    let gone = seen.filter(|(_, head)| ends.get(&head.sequence) != Some(&head.hash));
    gone.map(|(at, head)| {
        let what = format!("the books that ended with {} at {at:?} were replaced", head.sequence);
        Violation::new(14, what)
    })
    .collect()
}

/// The life of each transaction so far; 4, 5 and 13 are tried with each step that is added.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<TransactionId, Life>);

/// What happened under one id.
#[derive(Debug, Default)]
struct Life {
    /// The last step's kind, and where it left the transaction.
    last: Option<(StepKind, Option<TransactionState>)>,
    /// Whether nothing may follow, since a cancel came first.
    tombstone: bool,
    /// What was set aside, by a hold or a suspension.
    held: Option<i64>,
    posted: i64,
}

impl Lives {
    /// What is wrong with the next step: it may not follow what was there, or posts more than was held.
    pub(super) fn add(&mut self, step: &Step) -> Vec<Violation> {
        let mut found = Vec::new();
        let (id, kind) = (step.id, step.action.kind());
        let life = self.0.entry(id).or_default();
        if let Some((before, state)) = life.last
            && !may_follow(&step.action, state, life.held.is_some())
        {
            let what = format!("{id}: {kind:?} after {before:?}");
            found.push(Violation::new(if life.tombstone { 13 } else { 4 }, what));
        }
        life.last = Some((kind, step.action.state()));
        life.tombstone = matches!(step.action, Action::Tombstone);
        if let Action::Hold { transfer, .. } | Action::Suspend { transfer, .. } = &step.action {
            life.held.get_or_insert(transfer.amount);
        }
        let posts = step.action.legs().first().map_or(0, |leg| leg.posted);
        life.posted += posts;
        if posts > 0 && life.held.is_some_and(|held| life.posted > held) {
            let what = format!("{id}: {} was posted of a hold of {:?}", life.posted, life.held);
            found.push(Violation::new(5, what));
        }
        found
    }
}

/// 4, 5 and 13: what may follow what under one id, and how much may be posted.
pub(super) fn lives(evidence: &Evidence) -> Vec<Violation> {
    let mut lives = Lives::default();
    evidence.ledger.steps.iter().flat_map(|step| lives.add(step)).collect()
}

fn may_follow(after: &Action, state: Option<TransactionState>, held: bool) -> bool {
    use TransactionState::{Cancelled, Expired, Held, Suspect};
    let Some(state) = state else { return false };
    match after {
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
