//! The fake's accounts and transactions, and its rules. Nothing here waits.

use std::collections::BTreeMap;
use std::time::Duration;

use atm_proto::ledger::{self, AccountKind, Outcome, StepKind, TrialBalanceLine};
use atm_proto::types::{Balance, Money, TransactionState as State};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::Flaw;

/// What has to be the same in a repeat.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) terminal: String,
    pub(crate) debit: String,
    pub(crate) credit: String,
    pub(crate) amount: i64,
}

#[derive(Clone)]
pub(crate) struct Recorded {
    step: StepKind,
    terms: Terms,
    state: State,
    outcome: Outcome,
    expires: Option<Instant>,
    /// The amount that was captured or decided, and how that was answered.
    end: Option<(i64, Outcome)>,
    /// The suspense account, and how the suspension was answered.
    suspended: Option<(String, Outcome)>,
}

#[derive(Clone, Copy)]
pub(crate) struct Account {
    kind: AccountKind,
    debits: i64,
    credits: i64,
    debits_pending: i64,
    credits_pending: i64,
}

pub(crate) struct Books {
    pub(crate) flaw: Flaw,
    accounts: BTreeMap<String, Account>,
    transactions: BTreeMap<String, Recorded>,
    sequence: u64,
}

/// The outcome, and where the transaction stands.
pub(crate) type Decided = Result<(Outcome, State), Status>;

fn reused(field: &str) -> Status {
    let details =
        ErrorDetails::with_error_info("ID_REUSED", "fake", [("field".to_owned(), field.to_owned())]);
    Status::with_error_details(Code::AlreadyExists, "the id was used for something else", details)
}

fn not_found() -> Status {
    Status::not_found("no such transaction")
}

fn refused(why: &str) -> Status {
    Status::failed_precondition(why)
}

impl Account {
    fn balance(&self) -> i64 {
        match self.kind {
            AccountKind::Customer | AccountKind::Suspense => self.credits - self.debits,
            AccountKind::Cash | AccountKind::OpeningBalance | AccountKind::Unspecified => {
                self.debits - self.credits
            }
        }
    }
}

impl Books {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { flaw, accounts: BTreeMap::new(), transactions: BTreeMap::new(), sequence: 0 }
    }

    /// What a restart does to it.
    pub(crate) fn restart(&mut self) {
        if self.flaw == Flaw::ForgetsOnRestart {
            self.transactions.clear();
        }
        if self.flaw == Flaw::ForgetsCapturesOnRestart {
            for known in self.transactions.values_mut().filter(|known| known.state == State::Captured) {
                (known.state, known.end) = (State::Held, None);
            }
        }
    }

    pub(crate) fn open(&mut self, id: &str, kind: AccountKind) {
        let new = Account { kind, debits: 0, credits: 0, debits_pending: 0, credits_pending: 0 };
        self.accounts.entry(id.to_owned()).or_insert(new);
    }

    pub(crate) fn account(&self, id: &str) -> Option<ledger::Account> {
        let account = self.accounts.get(id)?;
        let balance = account.balance();
        Some(ledger::Account {
            account_id: id.to_owned(),
            kind: account.kind.into(),
            debits_posted_minor_units: account.debits,
            credits_posted_minor_units: account.credits,
            debits_pending_minor_units: account.debits_pending,
            credits_pending_minor_units: account.credits_pending,
            balance: Some(Balance {
                balance_minor_units: balance,
                available_minor_units: balance - account.debits_pending,
            }),
            ..ledger::Account::default()
        })
    }

    pub(crate) fn lines(&self) -> Vec<TrialBalanceLine> {
        let kinds =
            [AccountKind::Customer, AccountKind::Cash, AccountKind::Suspense, AccountKind::OpeningBalance];
        let line = |kind| {
            let sum = |total: fn(&Account) -> i64| {
                let all = self.accounts.values().filter(|account| account.kind == kind);
                let sum: i64 = all.map(total).sum();
                if self.flaw == Flaw::TrialBalanceOfNothing { "0".to_owned() } else { sum.to_string() }
            };
            TrialBalanceLine {
                kind: i32::from(kind),
                currency_code: "BDT".to_owned(),
                debits_posted_minor_units: sum(|it| it.debits),
                credits_posted_minor_units: sum(|it| it.credits),
                debits_pending_minor_units: sum(|it| it.debits_pending),
                credits_pending_minor_units: sum(|it| it.credits_pending),
                ..TrialBalanceLine::default()
            }
        };
        kinds.map(line).into()
    }

    fn outcome(&mut self, id: &str, step: StepKind, state: State, amount: i64) -> Outcome {
        self.sequence += 1;
        Outcome {
            transaction_id: id.to_owned(),
            step: step.into(),
            state: state.into(),
            amount: Some(Money { currency_code: "BDT".to_owned(), minor_units: amount }),
            commit_sequence: self.sequence,
            ..Outcome::default()
        }
    }

    fn at(&mut self, account: &str) -> &mut Account {
        self.accounts.get_mut(account).unwrap()
    }

    fn covers(&mut self, terms: &Terms) -> bool {
        let account = self.at(&terms.debit);
        account.kind != AccountKind::Customer || account.balance() - account.debits_pending >= terms.amount
    }

    fn transfer(&mut self, debit: &str, credit: &str, amount: i64) {
        self.at(debit).debits += amount;
        let to_cash = self.at(credit).kind == AccountKind::Cash;
        let lost = self.flaw == Flaw::OneSided || self.flaw == Flaw::CashIsNeverCredited && to_cash;
        self.at(credit).credits += if lost { 0 } else { amount };
    }

    fn set_aside(&mut self, debit: &str, credit: &str, amount: i64) {
        self.at(debit).debits_pending += amount;
        self.at(credit).credits_pending += amount;
    }

    /// Whoever looks finds holds expired that are due.
    pub(crate) fn look_up(&mut self, id: &str) -> Option<Recorded> {
        let known = self.transactions.get_mut(id)?;
        let due = known.expires.is_some_and(|expires| expires <= Instant::now());
        if known.state == State::Held && due && self.flaw != Flaw::NeverExpires {
            known.state = State::Expired;
            let Terms { debit, credit, amount, .. } = known.terms.clone();
            self.set_aside(&debit, &credit, -amount);
        }
        self.transactions.get(id).cloned()
    }

    /// What is recorded, unless it belongs to somebody else.
    fn owned(&mut self, id: &str, terminal: &str) -> Result<Option<Recorded>, Status> {
        match self.look_up(id) {
            Some(it) if it.terms.terminal != terminal && self.flaw != Flaw::TrustsStrangers => {
                Err(not_found())
            }
            other => Ok(other),
        }
    }

    /// The first field that differs.
    fn difference(&self, step: StepKind, old: &Recorded, new: &Terms) -> Result<(), Status> {
        let ignored = match self.flaw {
            Flaw::IgnoresTheBody => step == StepKind::Post,
            Flaw::IgnoresTheBodyOfHolds => step == StepKind::Hold,
            _ => false,
        };
        let body = !ignored && old.step != StepKind::Cancel;
        let strange = old.terms.terminal != new.terminal && self.flaw != Flaw::TrustsStrangers;
        if strange && self.flaw != Flaw::TellsStrangers {
            Err(reused("transaction_id"))
        } else if body && old.terms.debit != new.debit {
            Err(reused("debit_account_id"))
        } else if body && old.terms.credit != new.credit {
            Err(reused("credit_account_id"))
        } else if body && old.terms.amount != new.amount {
            Err(reused("amount"))
        } else if strange {
            Err(reused("transaction_id"))
        } else {
            Ok(())
        }
    }

    /// Posts or holds; `known` is what was recorded when somebody looked.
    pub(crate) fn first(
        &mut self,
        step: StepKind,
        (id, terms, lifetime): (&str, Terms, Option<Duration>),
        known: Option<Recorded>,
    ) -> Decided {
        if let Some(known) = known.filter(|_| self.flaw != Flaw::ForgetsIds) {
            self.difference(step, &known, &terms)?;
            if self.flaw == Flaw::HoldsAgain && known.state == State::Held {
                self.set_aside(&terms.debit, &terms.credit, terms.amount);
            }
            if self.flaw != Flaw::RedecidesDeclines || known.state != State::Declined {
                return Ok((known.outcome, known.state));
            }
        }
        let state = match (self.covers(&terms), step) {
            (false, _) => State::Declined,
            (true, StepKind::Hold) => State::Held,
            (true, _) => State::Posted,
        };
        match state {
            State::Held => self.set_aside(&terms.debit, &terms.credit, terms.amount),
            State::Posted => self.transfer(&terms.debit, &terms.credit, terms.amount),
            _ => {}
        }
        let outcome = self.outcome(id, step, state, terms.amount);
        let expires = lifetime.map(|lifetime| Instant::now() + lifetime);
        let (end, suspended) = (None, None);
        let recorded = Recorded { step, terms, state, outcome: outcome.clone(), expires, end, suspended };
        self.transactions.insert(id.to_owned(), recorded);
        Ok((outcome, state))
    }

    pub(crate) fn capture(
        &mut self,
        (id, terminal, amount): (&str, &str, i64),
        looked: Option<Recorded>,
    ) -> Decided {
        let known = self.owned(id, terminal)?.ok_or_else(not_found)?;
        let known = looked.unwrap_or(known);
        if let Some((first, outcome)) = &known.end {
            let same = *first == amount || self.flaw == Flaw::IgnoresTheCapturedAmount;
            return if same { Ok((outcome.clone(), known.state)) } else { Err(reused("amount")) };
        }
        let Terms { debit, credit, amount: held, .. } = known.terms.clone();
        if known.step != StepKind::Hold || amount > held {
            return Err(refused("so much is not held"));
        }
        let (state, step) = match known.state {
            State::Held => {
                self.set_aside(&debit, &credit, -held);
                (State::Captured, StepKind::Capture)
            }
            State::Cancelled | State::Expired if self.flaw != Flaw::RefusesLateCaptures => {
                (State::CapturedLate, StepKind::CaptureLate)
            }
            _ => return Err(refused("it is not held")),
        };
        self.transfer(&debit, &credit, amount);
        let outcome = self.outcome(id, step, state, amount);
        let end = Some((amount, outcome.clone()));
        self.transactions.insert(id.to_owned(), Recorded { state, end, ..known });
        Ok((outcome, state))
    }

    pub(crate) fn cancel(&mut self, id: &str, terminal: &str) -> Decided {
        let state = State::Cancelled;
        let Some(known) = self.owned(id, terminal)? else {
            let outcome = self.outcome(id, StepKind::Cancel, state, 0);
            if self.flaw != Flaw::ForgetsCancels {
                let terms = Terms { terminal: terminal.to_owned(), ..Terms::default() };
                let tombstone = Recorded {
                    step: StepKind::Cancel,
                    terms,
                    state,
                    outcome: outcome.clone(),
                    expires: None,
                    end: None,
                    suspended: None,
                };
                self.transactions.insert(id.to_owned(), tombstone);
            }
            return Ok((outcome, state));
        };
        let Terms { debit, credit, amount, .. } = known.terms.clone();
        let state = match known.state {
            State::Held => {
                self.set_aside(&debit, &credit, -amount);
                state
            }
            State::Posted if self.flaw == Flaw::CancelUndoes => {
                self.transfer(&credit, &debit, amount);
                state
            }
            other => other,
        };
        let outcome = known.outcome.clone();
        self.transactions.insert(id.to_owned(), Recorded { state, ..known });
        Ok((outcome, state))
    }

    pub(crate) fn suspend(&mut self, id: &str, terminal: &str, suspense: &str) -> Decided {
        let known = self.owned(id, terminal)?.ok_or_else(not_found)?;
        let Terms { debit, credit, amount, .. } = known.terms.clone();
        if let Some((first, outcome)) = &known.suspended {
            if first != suspense {
                return Err(reused("suspense_account_id"));
            }
            if self.flaw == Flaw::SuspendsAgain {
                self.at(suspense).credits_pending += amount;
            }
            return Ok((outcome.clone(), known.state));
        }
        if known.state != State::Held {
            return Err(refused("nothing is held"));
        }
        self.set_aside(&debit, &credit, -amount);
        self.set_aside(&debit, suspense, amount);
        let state = State::Suspect;
        let outcome = self.outcome(id, StepKind::Suspend, state, amount);
        let suspended = Some((suspense.to_owned(), outcome.clone()));
        let recorded = Recorded { state, suspended, expires: None, ..known };
        self.transactions.insert(id.to_owned(), recorded);
        Ok((outcome, state))
    }

    pub(crate) fn resolve(&mut self, id: &str, amount: i64) -> Decided {
        let known = self.look_up(id).ok_or_else(not_found)?;
        let Terms { debit, credit, amount: held, .. } = known.terms.clone();
        let Some((suspense, _)) = &known.suspended else { return Err(refused("it is not suspended")) };
        if let Some((first, outcome)) = &known.end {
            if *first != amount {
                return Err(reused("amount"));
            }
            if self.flaw == Flaw::ResolvesAgain {
                self.transfer(&debit, &credit, amount);
            }
            return Ok((outcome.clone(), known.state));
        }
        self.set_aside(&debit, suspense, -held);
        self.transfer(&debit, &credit, amount);
        let state = State::Captured;
        let outcome = self.outcome(id, StepKind::Resolve, state, amount);
        let end = Some((amount, outcome.clone()));
        self.transactions.insert(id.to_owned(), Recorded { state, end, ..known });
        Ok((outcome, state))
    }
}
