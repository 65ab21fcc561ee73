//! What the account book says to something new.

use atm_types::{AccountId, TerminalId, Timestamp};

use super::card::Way;
use super::{Account, Effect, Leg, Model, Recorded, Totals, balance};
use crate::answer::Refused;
use crate::ask::{Ask, Terms, Transfer};
use crate::step::{Decline, Kind, State};

/// What is to be noted, before the accounts are looked at.
struct Draft {
    kind: Kind,
    state: Option<State>,
    transfer: Option<Transfer>,
    legs: Vec<Leg>,
    withdrawn: Option<(AccountId, i32, i64)>,
}

impl Model {
    pub(crate) fn decide(&self, ask: &Ask, way: &Way, time: Timestamp) -> Result<Effect, Refused> {
        let day = self.day(time);
        let first = ask.id().and_then(|id| self.card(id).first().cloned());
        let (draft, terms, decline) = match ask {
            Ask::OpenAccount(terms) => (self.opening(), Some(terms.clone()), None),
            Ask::Post { transfer, .. } => self.money(Kind::Post, transfer, day)?,
            Ask::Hold { transfer, .. } => self.money(Kind::Hold, transfer, day)?,
            Ask::Capture { .. }
            | Ask::Cancel { .. }
            | Ask::Suspend { .. }
            | Ask::Resolve { .. }
            | Ask::Expire { .. } => (self.later(ask, way, day)?, None, None),
            // Nothing becomes of a reading.
            Ask::GetAccount { .. } | Ask::GetTrialBalance => return Err(Refused::new("READING", "")),
        };
        let id = ask.id().ok_or_else(|| Refused::new("READING", ""))?;
        let terminal = match ask {
            Ask::Post { terminal, .. }
            | Ask::Hold { terminal, .. }
            | Ask::Capture { terminal, .. }
            | Ask::Cancel { terminal, .. }
            | Ask::Suspend { terminal, .. } => *terminal,
            _ => first.as_ref().map_or(TerminalId::SERVICE, |first| first.terminal),
        };
        let expire_nanos = match ask {
            Ask::Hold { lifetime_nanos, .. } if draft.state == Some(State::Held) => {
                Some(time.as_nanos().saturating_add(*lifetime_nanos))
            }
            _ => None,
        };
        let suspense = match ask {
            Ask::Suspend { suspense, .. } => Some(*suspense),
            _ => None,
        };
        // What stands already counts on the day of its hold.
        let counts_on = match (way, &first) {
            (Way::Freeze(_), Some(first)) => first.day,
            _ => day,
        };
        let mut effect = Effect {
            id,
            recorded: Recorded {
                sequence: self.sequence + 1,
                terminal,
                kind: draft.kind,
                state: draft.state,
                decline,
                transfer: draft.transfer,
                terms,
                suspense,
                day: counts_on,
                expire_nanos,
                balances: [None, None],
            },
            legs: draft.legs,
            withdrawn: draft.withdrawn,
        };
        effect.recorded.balances = self.balances_after(&effect)?;
        Ok(effect)
    }

    fn opening(&self) -> Draft {
        Draft { kind: Kind::OpenAccount, state: None, transfer: None, legs: Vec::new(), withdrawn: None }
    }

    /// A posting or a hold: the rules in the order in which they are held against it.
    fn money(
        &self,
        kind: Kind,
        transfer: &Transfer,
        day: i32,
    ) -> Result<(Draft, Option<Terms>, Option<Decline>), Refused> {
        let decline = |reason: &str, available| Some(Decline { reason: reason.to_owned(), available });
        let amount = transfer.minor_units;
        let (debit, credit) = (self.account(transfer.debit), self.account(transfer.credit));
        let declined = match (debit, credit) {
            (None, _) => decline("DEBIT_ACCOUNT_NOT_FOUND", 0),
            (_, None) => decline("CREDIT_ACCOUNT_NOT_FOUND", 0),
            (Some(debit), Some(credit)) => {
                if [debit, credit].iter().any(|account| account.terms.currency != transfer.currency) {
                    return Err(Refused::new("CURRENCY_MISMATCH", "amount.currency_code"));
                }
                let left = debit.terms.daily_withdrawal_limit - self.withdrawn_on(transfer.debit, day);
                let limited = debit.terms.daily_withdrawal_limit > 0 && credit.terms.is_cash();
                let customer = debit.terms.is_customer();
                match () {
                    () if !has_room(debit, false, amount) || !has_room(credit, true, amount) => {
                        decline("BALANCE_OVERFLOW", 0)
                    }
                    () if customer && amount > debit.balance().available => {
                        decline("INSUFFICIENT_FUNDS", debit.balance().available)
                    }
                    () if customer && limited && amount > left.max(0) => {
                        decline("DAILY_LIMIT_EXCEEDED", left.max(0))
                    }
                    () => None,
                }
            }
        };
        let draft =
            |state, legs, withdrawn| Draft { kind, state, transfer: Some(*transfer), legs, withdrawn };
        Ok(match (&declined, kind) {
            (Some(_), _) => (draft(Some(State::Declined), Vec::new(), None), None, declined),
            (None, Kind::Hold) => {
                let legs = pair(transfer, 0, amount);
                (draft(Some(State::Held), legs, self.cash_out(transfer, day, amount)), None, None)
            }
            (None, _) => {
                let legs = pair(transfer, amount, 0);
                (draft(Some(State::Posted), legs, self.cash_out(transfer, day, amount)), None, None)
            }
        })
    }

    fn later(&self, ask: &Ask, way: &Way, day: i32) -> Result<Draft, Refused> {
        let card = ask.id().map_or(&[][..], |id| self.card(id));
        let counted = card.last().map_or(day, |last| last.day);
        let posted = match ask {
            Ask::Capture { minor_units, .. } | Ask::Resolve { minor_units, .. } => *minor_units,
            _ => 0,
        };
        let draft = |kind, state, held: &Transfer, legs, withdrawn| Draft {
            kind,
            state: Some(state),
            transfer: Some(*held),
            legs,
            withdrawn,
        };
        Ok(match (way, ask) {
            (Way::Tombstone, _) => {
                let (kind, state) = (Kind::Cancel, Some(State::Cancelled));
                Draft { kind, state, transfer: None, legs: Vec::new(), withdrawn: None }
            }
            (Way::Ends(held), _) => {
                let legs = pair(held, posted, -held.minor_units);
                let back = self.cash_out(held, counted, posted - held.minor_units);
                match ask {
                    Ask::Capture { .. } => {
                        draft(Kind::Capture, State::Captured, &part(held, posted), legs, back)
                    }
                    Ask::Expire { .. } => draft(Kind::Expire, State::Expired, held, legs, back),
                    _ => draft(Kind::Cancel, State::Cancelled, held, legs, back),
                }
            }
            (Way::Late(held), _) => {
                let (moved, legs) = (part(held, posted), pair(held, posted, 0));
                let out = self.cash_out(held, day, posted);
                draft(Kind::CaptureLate, State::CapturedLate, &moved, legs, out)
            }
            (Way::Freeze(held) | Way::FreezeAgain(held), Ask::Suspend { suspense, .. }) => {
                self.check_suspense(*suspense, held)?;
                let amount = held.minor_units;
                let stands = matches!(way, Way::Freeze(_));
                let changes = if stands {
                    [(0, 0), (0, -amount), (0, amount)]
                } else {
                    [(0, amount), (0, 0), (0, amount)]
                };
                let again = if stands { None } else { self.cash_out(held, day, amount) };
                draft(Kind::Suspend, State::Suspect, held, three(held, *suspense, changes), again)
            }
            (Way::Decide(held), _) => {
                let amount = held.minor_units;
                let state = if posted > 0 { State::Captured } else { State::Cancelled };
                let suspense = card.last().and_then(|last| last.suspense).unwrap_or(held.credit);
                let changes = [(posted, -amount), (posted, 0), (0, -amount)];
                let back = self.cash_out(held, counted, posted - amount);
                draft(Kind::Resolve, state, &part(held, posted), three(held, suspense, changes), back)
            }
            (Way::First | Way::Freeze(_) | Way::FreezeAgain(_), _) => {
                return Err(Refused::new("READING", ""));
            }
        })
    }

    fn check_suspense(&self, suspense: AccountId, held: &Transfer) -> Result<(), Refused> {
        let fits = self.account(suspense).is_some_and(|account| {
            account.terms.is_suspense()
                && account.terms.currency == held.currency
                && ![held.debit, held.credit].contains(&suspense)
        });
        if fits { Ok(()) } else { Err(Refused::new("INVALID_FIELD", "suspense_account_id")) }
    }

    fn withdrawn_on(&self, account: AccountId, day: i32) -> i64 {
        self.withdrawn.get(&(account, day)).copied().unwrap_or(0)
    }

    /// What the day's withdrawals change by, if the credit is a place for cash.
    fn cash_out(&self, transfer: &Transfer, day: i32, change: i64) -> Option<(AccountId, i32, i64)> {
        let cash = self.account(transfer.credit).is_some_and(|account| account.terms.is_cash());
        (cash && change != 0).then_some((transfer.debit, day, change))
    }

    /// Debited and credited account right after it.
    fn balances_after(&self, effect: &Effect) -> Result<[Option<crate::step::Balance>; 2], Refused> {
        if effect.legs.is_empty() {
            let Some(transfer) = &effect.recorded.transfer else { return Ok([None, None]) };
            let balance = |id| self.account(id).map(Account::balance);
            return Ok([balance(transfer.debit), balance(transfer.credit)]);
        }
        let after = |leg: &Leg| {
            let account = self.account(leg.account)?;
            Some(balance(&account.terms, &changed(account.totals, leg)?))
        };
        let cannot_post = || Refused::new("CANNOT_POST", "");
        let all: Option<Vec<_>> = effect.legs.iter().map(after).collect();
        let all = all.ok_or_else(cannot_post)?;
        Ok([all.first().copied(), all.get(1).copied()])
    }
}

/// Totals after a leg; `None` when one would leave what 64 bits hold, or fall below zero.
pub(crate) fn changed(mut totals: Totals, leg: &Leg) -> Option<Totals> {
    let (posted, pending) = match leg.credit {
        false => (&mut totals.debits_posted, &mut totals.debits_pending),
        true => (&mut totals.credits_posted, &mut totals.credits_pending),
    };
    *posted = posted.checked_add(leg.posted).filter(|total| *total >= 0)?;
    *pending = pending.checked_add(leg.pending).filter(|total| *total >= 0)?;
    posted.checked_add(*pending).map(|_| totals)
}

fn has_room(account: &Account, credit: bool, amount: i64) -> bool {
    let leg = Leg { account: account.terms.account, credit, posted: 0, pending: amount };
    changed(account.totals, &leg).is_some()
}

fn part(held: &Transfer, minor_units: i64) -> Transfer {
    Transfer { minor_units, ..*held }
}

fn pair(transfer: &Transfer, posted: i64, pending: i64) -> Vec<Leg> {
    let leg = |account, credit| Leg { account, credit, posted, pending };
    vec![leg(transfer.debit, false), leg(transfer.credit, true)]
}

fn three(transfer: &Transfer, suspense: AccountId, changes: [(i64, i64); 3]) -> Vec<Leg> {
    let accounts = [(transfer.debit, false), (transfer.credit, true), (suspense, true)];
    let leg = |((account, credit), (posted, pending))| Leg { account, credit, posted, pending };
    accounts.into_iter().zip(changes).map(leg).collect()
}
