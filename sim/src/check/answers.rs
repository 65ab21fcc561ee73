//! What the bank told its machines, held against its books: 6, 7, 13, 14, 16 and 17.

use std::collections::BTreeMap;
use std::time::Duration;

use atm_ledger_core::{Action, Step, TransactionState as Core};
use atm_proto::gateway::{GetBalanceResponse, SignOnResponse};
use atm_proto::types::TransactionState;
use atm_types::TransactionId;

use super::Violation;
use super::decode::{account_of, accounts_of_sessions, answer, asked, decides};
use crate::evidence::{Call, Evidence};

fn step_at(evidence: &Evidence, sequence: u64) -> Option<&Step> {
    let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
    evidence.ledger.steps.get(index).filter(|step| step.commit_sequence == sequence)
}

fn same_state(told: TransactionState, recorded: Core) -> bool {
    let expected = match recorded {
        Core::Posted => TransactionState::Posted,
        Core::Declined => TransactionState::Declined,
        Core::Held => TransactionState::Held,
        Core::Captured => TransactionState::Captured,
        Core::Cancelled => TransactionState::Cancelled,
        Core::Expired => TransactionState::Expired,
        Core::CapturedLate => TransactionState::CapturedLate,
        Core::Suspect => TransactionState::Suspect,
    };
    told == expected
}

/// 6, 13 and 14: every outcome that was told is a step of the books, with this number, id, state and amount; and 7: it
/// is about what was asked.
pub(super) fn told_is_recorded(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for asked in asked(evidence) {
        let Some((outcome, _)) = &asked.told else { continue };
        let (id, sequence) = (asked.id, outcome.commit_sequence);
        let tombstone = outcome.state() == TransactionState::Cancelled && outcome.amount.is_none();
        let lost = if tombstone { 13 } else { 14 };
        let Some(step) = step_at(evidence, sequence) else {
            let what =
                format!("{id} was told to be step {sequence}, {:?}, which is not there", outcome.state());
            found.push(Violation::new(lost, what));
            continue;
        };
        if step.id != id || !step.action.state().is_some_and(|state| same_state(outcome.state(), state)) {
            let what = format!(
                "{id} was told to be step {sequence}, {:?}, which is {:?} of {}",
                outcome.state(),
                step.action.state(),
                step.id
            );
            found.push(Violation::new(if tombstone { 13 } else { 6 }, what));
        }
        let recorded = step.action.transfer().map(|transfer| transfer.amount);
        let told = outcome.amount.as_ref().map(|amount| amount.minor_units);
        if step.id == id && recorded != told {
            found.push(Violation::new(6, format!("{id} was told {told:?}, recorded was {recorded:?}")));
        }
        let wanted = asked.amount.as_ref().map(|amount| amount.minor_units);
        if decides(asked.call.method) && told.is_some() && told != wanted {
            found.push(Violation::new(7, format!("{id} was asked for {wanted:?} and told {told:?}")));
        }
    }
    found
}

/// 6: whoever asks again is told the same, and never that the id is taken.
pub(super) fn same_id_same_outcome(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut first: BTreeMap<(TransactionId, &str, &[u8]), (u64, TransactionState)> = BTreeMap::new();
    let all = asked(evidence);
    for asked in &all {
        // A cancel tells how the transaction ended, and that may change.
        let Some((outcome, _)) = &asked.told else { continue };
        if asked.call.method == "CancelTransaction" {
            continue;
        }
        let told = (outcome.commit_sequence, outcome.state());
        let before = *first.entry((asked.id, asked.call.method, &asked.call.request)).or_insert(told);
        if before != told {
            let what =
                format!("{} to {} was told {before:?} and later {told:?}", asked.call.method, asked.id);
            found.push(Violation::new(6, what));
        }
    }
    for asked in all.iter().filter(|asked| decides(asked.call.method)) {
        let taken = |call: &Call| matches!(&call.answer, Some((_, Err(status))) if status.code == tonic::Code::AlreadyExists);
        let alone = || {
            all.iter().filter(|other| other.id == asked.id && decides(other.call.method)).all(|other| {
                (other.call.method, &other.call.request, &other.call.caller)
                    == (asked.call.method, &asked.call.request, &asked.call.caller)
            })
        };
        if taken(asked.call) && alone() {
            found.push(Violation::new(6, format!("{} is a repeat and was refused", asked.id)));
        }
    }
    found
}

/// What everybody knew of the order, by the time at which it was told: sorted by time, growing.
pub(super) struct Known(Vec<(Duration, u64)>);

impl Known {
    pub(super) fn of(evidence: &Evidence) -> Self {
        let mut told: Vec<(Duration, u64)> = Vec::new();
        for asked in asked(evidence) {
            if let (Some((at, _)), Some((outcome, _))) = (&asked.call.answer, &asked.told) {
                told.push((*at, outcome.commit_sequence));
            }
        }
        for call in &evidence.calls {
            let sequence = match call.method {
                "GetBalance" => answer::<GetBalanceResponse>(call).map(|read| read.commit_sequence),
                "SignOn" => answer::<SignOnResponse>(call).map(|read| read.commit_sequence),
                _ => None,
            };
            if let (Some((at, _)), Some(sequence)) = (&call.answer, sequence) {
                told.push((*at, sequence));
            }
        }
        told.sort_unstable();
        let mut highest = 0;
        for (_, sequence) in &mut told {
            highest = highest.max(*sequence);
            *sequence = highest;
        }
        Self(told)
    }

    /// The highest number that was told before this moment.
    pub(super) fn before(&self, moment: Duration) -> u64 {
        let after = self.0.partition_point(|(at, _)| *at < moment);
        after.checked_sub(1).map_or(0, |index| self.0[index].1)
    }
}

/// 16 and 17: what was first asked for after others had been told of step n is recorded after n, and nobody is told of
/// an older end of the books.
pub(super) fn real_time(evidence: &Evidence) -> Vec<Violation> {
    let known = Known::of(evidence);
    let mut found = Vec::new();
    let mut began: BTreeMap<TransactionId, Duration> = BTreeMap::new();
    for asked in asked(evidence) {
        let first = began.entry(asked.id).or_insert(asked.call.began);
        *first = asked.call.began.min(*first);
    }
    for step in &evidence.ledger.steps {
        let Some(first) = began.get(&step.id) else { continue };
        let floor = known.before(*first);
        if step.commit_sequence <= floor && !matches!(step.action, Action::Expire { .. }) {
            let what = format!(
                "{} is step {}, and {floor} had been told before it was asked for",
                step.id, step.commit_sequence
            );
            found.push(Violation::new(17, what));
        }
    }
    for call in evidence.calls.iter().filter(|call| call.method == "SignOn") {
        let Some(read) = answer::<SignOnResponse>(call) else { continue };
        let floor = known.before(call.began);
        if read.commit_sequence < floor {
            let what = format!(
                "{} was told that the books end with {}, after {floor}",
                call.caller, read.commit_sequence
            );
            found.push(Violation::new(16, what));
        }
    }
    let went_back = |line: &&crate::evidence::MachineEvidence| line.journal.outage == Some("bank_went_back");
    for machine in evidence.machines.iter().filter(went_back) {
        found.push(Violation::new(16, format!("{} says that the bank went back", machine.name)));
    }
    found
}

/// 17: a balance is that of the account at the step that it names, and that is not older than what was told before.
pub(super) fn balances(evidence: &Evidence) -> Vec<Violation> {
    let accounts = accounts_of_sessions(evidence);
    let known = Known::of(evidence);
    let mut found = Vec::new();
    for call in evidence.calls.iter().filter(|call| call.method == "GetBalance") {
        let Some(read) = answer::<GetBalanceResponse>(call) else { continue };
        let Some(account) = account_of(call, &accounts) else { continue };
        let floor = known.before(call.began);
        if read.commit_sequence < floor {
            let what = format!("a balance of step {} was told after step {floor}", read.commit_sequence);
            found.push(Violation::new(17, what));
        }
        let then = evidence.ledger.steps.iter().filter(|step| step.commit_sequence <= read.commit_sequence);
        let leg = then.rev().find_map(|step| step.action.legs().iter().find(|leg| leg.account_id == account));
        let was = leg.map(|leg| (leg.balance.posted, leg.balance.available));
        let told = read.balance.map(|balance| (balance.balance_minor_units, balance.available_minor_units));
        if was.is_some() && told != was {
            let what = format!("the balance {told:?} at step {} was {was:?}", read.commit_sequence);
            found.push(Violation::new(17, what));
        }
    }
    found
}
