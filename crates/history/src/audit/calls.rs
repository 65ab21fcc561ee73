//! Judging calls: is each answer the model's answer at some moment of its call?

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use atm_types::{AccountId, TransactionId};

use super::{Audit, Rule};
use crate::answer::{AccountView, Answer, BalanceLine, Refused};
use crate::ask::Ask;
use crate::history::Call;
use crate::model::{Known, Recorded, Totals, balance, known};
use crate::step::{Kind, Outcome, State, Step};

/// The places of the order between which a call took effect: it saw everything up to `floor`, and nothing after
/// `ceiling`.
#[derive(Clone, Copy, Debug)]
struct Window {
    floor: u64,
    ceiling: u64,
}

impl Audit {
    pub(super) fn judge_calls(&mut self, calls: &[Call]) {
        self.find_unasked(calls);
        self.find_wrong_lifetimes(calls);
        let windows = self.windows(calls);
        for (call, window) in calls.iter().zip(windows) {
            if let Err((rule, what)) = self.judge_call(call, window) {
                let what =
                    format!("call {} of {} ({:?}) in {window:?}: {what}", call.call, call.caller, call.ask);
                self.find(rule, what);
            }
        }
        for call in calls.iter().filter(|call| call.ended.is_none()) {
            if let Some(id) = call.ask.id() {
                self.open.entry(id).or_default().push(call.ask.clone());
            }
        }
    }

    /// Every step but an expiry must have been asked for, by a call that began before anybody was told of the step.
    fn find_unasked(&mut self, calls: &[Call]) {
        let mut by_id: HashMap<TransactionId, Vec<&Call>> = HashMap::new();
        let mut first_told: HashMap<u64, u64> = HashMap::new();
        for call in calls {
            if let Some(id) = call.ask.id() {
                by_id.entry(id).or_default().push(call);
            }
            if let (Some(sequence), Some(ended)) = (seen(&call.answer), call.ended) {
                let told = first_told.entry(sequence).or_insert(ended);
                *told = ended.min(*told);
            }
        }
        let unasked: Vec<String> = self
            .log
            .values()
            .filter(|step| step.outcome.kind != Kind::Expire)
            .filter(|step| {
                let (sequence, id) = (step.outcome.sequence, step.outcome.id);
                let recorded = self.model.card(id).iter().find(|recorded| recorded.sequence == sequence);
                let makes = |ask: &Ask| recorded.is_some_and(|recorded| made_by(recorded, ask));
                let in_time = |call: &&&Call| first_told.get(&sequence).is_none_or(|told| call.begun < *told);
                let now = by_id
                    .get(&id)
                    .is_some_and(|calls| calls.iter().filter(in_time).any(|call| makes(&call.ask)));
                !now && !self.open.get(&id).is_some_and(|asks| asks.iter().any(makes))
            })
            .map(|step| {
                format!("step {} ({:?} {})", step.outcome.sequence, step.outcome.kind, step.outcome.id)
            })
            .collect();
        unasked.into_iter().for_each(|what| self.find(Rule::NobodyAsked, what));
    }

    /// A hold lives as long as one of those who asked for it said, counted from its own commit.
    fn find_wrong_lifetimes(&mut self, calls: &[Call]) {
        let mut asked: HashMap<TransactionId, HashSet<i64>> = HashMap::new();
        let earlier = self.open.values().flatten();
        for ask in calls.iter().map(|call| &call.ask).chain(earlier) {
            if let Ask::Hold { id, lifetime_nanos, .. } = ask {
                asked.entry(*id).or_default().insert(*lifetime_nanos);
            }
        }
        let lives = |step: &Step| Some(step.outcome.expire_nanos? - step.outcome.time.as_nanos());
        let wrong = |step: &&Step| {
            let asked = asked.get(&step.outcome.id);
            lives(step).zip(asked).is_some_and(|(lifetime, asked)| !asked.contains(&lifetime))
        };
        let what = |step: &Step| {
            let Outcome { sequence, id, .. } = &step.outcome;
            format!("step {sequence} holds {id} for {:?} ns, asked for were {:?}", lives(step), asked.get(id))
        };
        let found: Vec<String> = self.log.values().filter(wrong).map(what).collect();
        found.into_iter().for_each(|what| self.find(Rule::Lifetime, what));
    }

    /// For each call what its window is.
    fn windows(&self, calls: &[Call]) -> Vec<Window> {
        let mut windows = vec![Window { floor: self.beginning, ceiling: self.model.sequence() }; calls.len()];
        // Beginnings (false) and ends (true) in the order of time.
        let mut ticks = BTreeMap::new();
        for (index, call) in calls.iter().enumerate() {
            ticks.insert(call.begun, (index, false));
            if let Some(ended) = call.ended {
                ticks.insert(ended, (index, true));
            }
        }
        let mut known = self.beginning;
        for (index, is_end) in ticks.values() {
            match is_end {
                true => known = known.max(self.place(&calls[*index]).unwrap_or(0)),
                false => windows[*index].floor = known,
            }
        }
        let mut later = self.model.sequence() + 1;
        for (index, is_end) in ticks.values().rev() {
            match is_end {
                true => windows[*index].ceiling = later - 1,
                false => later = later.min(self.own_step(&calls[*index]).unwrap_or(u64::MAX)),
            }
        }
        windows
    }

    /// The last step that the caller has certainly seen the effect of.
    fn place(&self, call: &Call) -> Option<u64> {
        match &call.answer {
            Answer::Opened { .. } => self.model.card(call.ask.id()?).first().map(|opening| opening.sequence),
            answer => seen(answer),
        }
    }

    /// The step that was recorded for this call and for no other.
    fn own_step(&self, call: &Call) -> Option<u64> {
        match &call.answer {
            Answer::Recorded { replayed: false, .. } | Answer::Opened { replayed: false, .. } => {
                self.place(call)
            }
            _ => None,
        }
    }

    fn judge_call(&self, call: &Call, window: Window) -> Result<(), (Rule, String)> {
        if let Some(own) = self.own_step(call)
            && own <= window.floor
        {
            let what = format!("it was recorded as step {own}, before step {} was told", window.floor);
            return Err((Rule::RealTime, what));
        }
        match &call.answer {
            Answer::Unknown => Ok(()),
            Answer::Recorded { outcome, now, .. } => self.judge_recorded(&call.ask, outcome, *now, window),
            Answer::Opened { bytes, .. } => self.judge_opened(&call.ask, bytes, window),
            Answer::Refused(refused) => self.judge_refused(&call.ask, refused, window),
            Answer::Account(view) => self.judge_account(&call.ask, view, window),
            Answer::TrialBalance { sequence, balanced, lines } => {
                self.judge_balance(*sequence, *balanced, lines, window)
            }
        }
    }

    /// The lengths that the card of an id had during the window.
    fn lengths(&self, id: TransactionId, window: Window) -> impl Iterator<Item = usize> + use<'_> {
        let card = self.model.card(id);
        let upto = |sequence| card.iter().take_while(|recorded| recorded.sequence <= sequence).count();
        upto(window.floor)..=upto(window.ceiling)
    }

    fn judge_recorded(
        &self,
        ask: &Ask,
        outcome: &Outcome,
        now: State,
        window: Window,
    ) -> Result<(), (Rule, String)> {
        let Some(id) = ask.id() else { return Err((Rule::Answer, "a reading records nothing".to_owned())) };
        let card = self.model.card(id);
        let told = outcome.sequence;
        if let Some(step) = self.log.get(&told)
            && step.outcome.bytes != outcome.bytes
        {
            return Err((Rule::Bytes, format!("{outcome:?} is not {:?}", step.outcome)));
        }
        if told > window.ceiling {
            return Err((Rule::RealTime, format!("it was told of step {told} before that was recorded")));
        }
        let gives = |length: usize| match known(&card[..length], ask) {
            Known::Again(index) => card[index].sequence == told,
            // It is recorded next, and for this.
            Known::New(_) => {
                card.get(length).is_some_and(|r| r.sequence == told && told > window.floor && made_by(r, ask))
            }
            Known::Refused(_) => false,
        };
        if !self.lengths(id, window).any(gives) {
            return Err((Rule::Answer, format!("{outcome:?}, but the card says {card:?}")));
        }
        let since = Window { floor: window.floor.max(told), ..window };
        let stood = |length: usize| length > 0 && card[length - 1].state == Some(now);
        if self.lengths(id, since).any(stood) {
            return Ok(());
        }
        Err((Rule::CurrentState, format!("it did not stand at {now:?}: {card:?}")))
    }

    fn judge_opened(&self, ask: &Ask, bytes: &str, window: Window) -> Result<(), (Rule, String)> {
        let Some(id) = ask.id() else { return Err((Rule::Answer, "a reading opens nothing".to_owned())) };
        let card = self.model.card(id);
        let Some(opening) = card.first().filter(|opening| made_by(opening, ask)) else {
            return Err((Rule::Answer, format!("it was opened otherwise: {card:?}")));
        };
        if opening.sequence > window.ceiling {
            return Err((Rule::RealTime, "it was told before it was recorded".to_owned()));
        }
        match self.log.get(&opening.sequence) {
            Some(step) if step.opened_bytes != bytes => Err((Rule::Bytes, format!("{step:?}"))),
            _ => Ok(()),
        }
    }

    fn judge_refused(&self, ask: &Ask, refused: &Refused, window: Window) -> Result<(), (Rule, String)> {
        let Some(id) = ask.id() else {
            // Only an account that is not there is refused.
            let Ask::GetAccount { account } = ask else { return Err((Rule::Answer, format!("{refused:?}"))) };
            let opened = self.model.card(TransactionId::from_uuid(account.as_uuid())).first();
            let there = opened.is_some_and(|opening| opening.sequence <= window.floor);
            return if there { Err((Rule::Reading, format!("{refused:?}"))) } else { Ok(()) };
        };
        let card = self.model.card(id);
        let gives = |length: usize| match known(&card[..length], ask) {
            Known::Refused(expected) => expected == *refused,
            Known::Again(_) => false,
            // The accounts are against it. They are only ever opened, so those of the end will do.
            Known::New(way) => {
                self.model.decide(ask, &way, self.time).is_err_and(|expected| expected == *refused)
            }
        };
        if self.lengths(id, window).any(gives) {
            return Ok(());
        }
        Err((Rule::Answer, format!("{refused:?}, but the card says {card:?}")))
    }

    fn judge_account(&self, ask: &Ask, view: &AccountView, window: Window) -> Result<(), (Rule, String)> {
        let Ask::GetAccount { account } = ask else { return Err((Rule::Answer, format!("{view:?}"))) };
        in_window(view.sequence, window)?;
        let totals = self.totals_at(*account, view.sequence);
        let Some((totals, account)) = totals.zip(self.model.account(*account)) else {
            return Err((Rule::Reading, "there was no such account".to_owned()));
        };
        let expected =
            AccountView { sequence: view.sequence, totals, balance: balance(&account.terms, &totals) };
        if *view == expected { Ok(()) } else { Err((Rule::Reading, format!("{view:?} was {expected:?}"))) }
    }

    fn judge_balance(
        &self,
        sequence: u64,
        balanced: bool,
        told: &[BalanceLine],
        window: Window,
    ) -> Result<(), (Rule, String)> {
        in_window(sequence, window)?;
        let mut sums: BTreeMap<(String, String), (u64, [i128; 4])> = BTreeMap::new();
        let mut all = [0_i128; 4];
        for account in self.model.accounts() {
            let Some(totals) = self.totals_at(account.terms.account, sequence) else { continue };
            let key = (account.terms.kind.clone(), account.terms.currency.to_string());
            let line = sums.entry(key).or_default();
            line.0 += 1;
            let each =
                [totals.debits_posted, totals.credits_posted, totals.debits_pending, totals.credits_pending];
            for (index, value) in each.into_iter().enumerate() {
                line.1[index] += i128::from(value);
                all[index] += i128::from(value);
            }
        }
        if !balanced || all[0] != all[1] || all[2] != all[3] {
            return Err((Rule::Sums, format!("debits are not credits: {all:?}")));
        }
        let line = |((kind, currency), (accounts, sums))| BalanceLine { kind, currency, accounts, sums };
        let expected: BTreeSet<BalanceLine> = sums.into_iter().map(line).collect();
        let told: BTreeSet<BalanceLine> = told.iter().cloned().collect();
        if told == expected { Ok(()) } else { Err((Rule::Reading, format!("{told:?} was {expected:?}"))) }
    }

    fn totals_at(&self, account: AccountId, sequence: u64) -> Option<Totals> {
        let changes = self.totals.get(&account)?;
        let after = changes.partition_point(|(at, _)| *at <= sequence);
        after.checked_sub(1).map(|index| changes[index].1)
    }
}

fn in_window(sequence: u64, window: Window) -> Result<(), (Rule, String)> {
    if sequence < window.floor {
        return Err((
            Rule::Reading,
            format!("it shows step {sequence}, and step {} was told before", window.floor),
        ));
    }
    if sequence > window.ceiling {
        return Err((Rule::RealTime, format!("it shows step {sequence}, which was recorded later")));
    }
    Ok(())
}

/// The step that an answer shows.
fn seen(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Recorded { outcome, .. } => Some(outcome.sequence),
        Answer::Account(view) => Some(view.sequence),
        Answer::TrialBalance { sequence, .. } => Some(*sequence),
        Answer::Opened { .. } | Answer::Refused(_) | Answer::Unknown => None,
    }
}

/// Whether this is what the request asks for.
fn made_by(recorded: &Recorded, ask: &Ask) -> bool {
    let kinds: HashSet<Kind> = match ask {
        Ask::OpenAccount(terms) => return recorded.terms.as_ref() == Some(terms),
        Ask::Post { .. } => [Kind::Post].into(),
        Ask::Hold { .. } => [Kind::Hold].into(),
        Ask::Capture { .. } => [Kind::Capture, Kind::CaptureLate].into(),
        Ask::Cancel { .. } => [Kind::Cancel].into(),
        Ask::Suspend { .. } => [Kind::Suspend].into(),
        Ask::Resolve { .. } => [Kind::Resolve].into(),
        Ask::Expire { .. } => [Kind::Expire].into(),
        Ask::GetAccount { .. } | Ask::GetTrialBalance => return false,
    };
    let moved = recorded.transfer.map(|transfer| (transfer.minor_units, transfer.currency));
    let body = match ask {
        Ask::Post { terminal, transfer, .. } | Ask::Hold { terminal, transfer, .. } => {
            recorded.terminal == *terminal && recorded.transfer == Some(*transfer)
        }
        Ask::Capture { terminal, minor_units, currency, .. } => {
            recorded.terminal == *terminal && moved == Some((*minor_units, *currency))
        }
        Ask::Resolve { minor_units, currency, .. } => moved == Some((*minor_units, *currency)),
        Ask::Cancel { terminal, .. } => recorded.terminal == *terminal,
        Ask::Suspend { terminal, suspense, .. } => {
            recorded.terminal == *terminal && recorded.suspense == Some(*suspense)
        }
        _ => true,
    };
    kinds.contains(&recorded.kind) && body
}
