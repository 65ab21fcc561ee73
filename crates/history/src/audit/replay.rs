//! Replaying the log: is each step what the model would have recorded at its place?

use super::{Audit, Finding, Rule};
use crate::ask::Ask;
use crate::model::{Effect, Expected};
use crate::step::{Kind, State, Step};

impl Audit {
    pub(super) fn replay_step(&mut self, step: &Step) -> Result<(), Finding> {
        let outcome = &step.outcome;
        let wrong = |rule, what: String| Finding { rule, what: format!("step {}: {what}", outcome.sequence) };
        if outcome.sequence != self.model.sequence() + 1 {
            let what = format!("it follows step {}", self.model.sequence());
            return Err(wrong(Rule::Sequence, what));
        }
        if outcome.time < self.time {
            return Err(wrong(Rule::Sequence, "its time is before that of the step before".to_owned()));
        }
        check_sums(step).map_err(|what| wrong(Rule::Sums, what))?;
        let ask = self.asked_for(step).ok_or_else(|| {
            wrong(Rule::Decision, format!("nothing that could be asked leads to it: {outcome:?}"))
        })?;
        let effect = match self.model.ask(&ask, outcome.time) {
            Some(Expected::New(effect)) => effect,
            other => return Err(wrong(Rule::Decision, format!("to {ask:?} the model says {other:?}"))),
        };
        compare(step, &effect).map_err(|what| wrong(Rule::Decision, what))?;
        if let Ask::Expire { .. } = ask {
            let due = self.model.card(outcome.id).first().and_then(|hold| hold.expire_nanos);
            if due.is_none_or(|due| due > outcome.time.as_nanos()) {
                return Err(wrong(Rule::Decision, format!("it expired before {due:?}")));
            }
        }
        self.model.apply(&effect);
        for (entry, leg) in step.entries.iter().zip(&effect.legs) {
            let Some(account) = self.model.account(leg.account) else { continue };
            if account.balance() != entry.balance {
                let what =
                    format!("{:?} instead of {:?} on {}", entry.balance, account.balance(), leg.account);
                return Err(wrong(Rule::Decision, what));
            }
            self.totals.entry(leg.account).or_default().push((outcome.sequence, account.totals));
        }
        if let Some(terms) = &step.opened {
            self.totals.entry(terms.account).or_default().push((outcome.sequence, Default::default()));
        }
        self.time = outcome.time;
        self.log.insert(outcome.sequence, step.clone());
        Ok(())
    }

    /// The request that such a step answers. What a signature must have said is taken from the step itself.
    fn asked_for(&self, step: &Step) -> Option<Ask> {
        let outcome = &step.outcome;
        let (id, terminal) = (outcome.id, step.terminal);
        Some(match outcome.kind {
            Kind::OpenAccount => Ask::OpenAccount(step.opened.clone()?),
            Kind::Post => Ask::Post { id, terminal, transfer: outcome.transfer? },
            Kind::Hold => {
                // A decline does not tell how long the hold was to live; any lifetime would have been declined.
                let lifetime = outcome.expire_nanos.map(|at| at.saturating_sub(outcome.time.as_nanos()));
                let lifetime_nanos = lifetime.unwrap_or(1_000_000_000);
                Ask::Hold { id, terminal, transfer: outcome.transfer?, lifetime_nanos }
            }
            Kind::Capture | Kind::CaptureLate => {
                let transfer = outcome.transfer?;
                let (minor_units, currency) = (transfer.minor_units, transfer.currency);
                Ask::Capture { id, terminal, minor_units, currency, signed: Some(transfer) }
            }
            Kind::Cancel => Ask::Cancel { id, terminal },
            Kind::Expire => Ask::Expire { id },
            Kind::Suspend => {
                let suspense = step.entries.get(2)?.account;
                Ask::Suspend { id, terminal, suspense, signed: outcome.transfer }
            }
            Kind::Resolve => {
                let transfer = outcome.transfer?;
                let (minor_units, currency) = (transfer.minor_units, transfer.currency);
                Ask::Resolve { id, minor_units, currency, explained: true }
            }
        })
    }
}

/// Debits equal credits in a step, posted and pending.
fn check_sums(step: &Step) -> Result<(), String> {
    let sum = |credit, change: fn(&crate::step::Entry) -> i64| {
        let legs = step.entries.iter().filter(|entry| entry.credit == credit);
        legs.map(|entry| i128::from(change(entry))).sum::<i128>()
    };
    let balanced = sum(false, |e| e.posted) == sum(true, |e| e.posted)
        && sum(false, |e| e.pending) == sum(true, |e| e.pending);
    if balanced { Ok(()) } else { Err(format!("its debits are not its credits: {:?}", step.entries)) }
}

fn compare(step: &Step, effect: &Effect) -> Result<(), String> {
    let (outcome, expected) = (&step.outcome, &effect.recorded);
    macro_rules! same {
        ($what:literal, $have:expr, $want:expr) => {
            if $have != $want {
                return Err(format!("{} is {:?}, the model says {:?}", $what, $have, $want));
            }
        };
    }
    same!("what it did", outcome.kind, expected.kind);
    same!("the state", outcome.state, expected.state);
    same!("the decline", outcome.decline, expected.decline);
    same!("the transfer", outcome.transfer, expected.transfer);
    same!("the owner", step.terminal, expected.terminal);
    same!("the expiry", outcome.expire_nanos, expected.expire_nanos);
    same!("the balance after it", outcome.balances, expected.balances);
    same!("the opened account", step.opened, expected.terms);
    same!("the number of entries", step.entries.len(), effect.legs.len());
    for (entry, leg) in step.entries.iter().zip(&effect.legs) {
        let have = (entry.account, entry.credit, entry.posted, entry.pending);
        same!("an entry", have, (leg.account, leg.credit, leg.posted, leg.pending));
    }
    if outcome.state == Some(State::Held) && outcome.expire_nanos.is_none() {
        return Err("a hold without an end".to_owned());
    }
    Ok(())
}
