//! The arithmetic behind a decision: may the debit happen, and what would both accounts look like then?

use atm_faults::{Bug, planted};
use atm_types::AccountId;

use crate::account::{Account, AccountKind, Side};
use crate::command::Transfer;
use crate::refusal::Refusal;
use crate::state::State;
use crate::step::{Action, Decline, DeclineReason, Leg, StepKind};

/// The decline that a posting or a hold gets, or `None` when nothing speaks against it. The rules are held
/// against it in this order: accounts exist, room in the totals, available balance, daily limit.
///
/// # Errors
/// [`Refusal::CurrencyMismatch`] when the accounts exist and hold another currency: that can never become
/// right, so it is not recorded.
pub(crate) fn decline_for(
    state: &State,
    kind: StepKind,
    transfer: Transfer,
    day: i32,
) -> Result<Option<Action>, Refusal> {
    let (debit, credit) = (state.account(transfer.debit), state.account(transfer.credit));
    let decline = match (debit, credit) {
        (None, _) => Some(Decline { reason: DeclineReason::DebitAccountNotFound, available: 0 }),
        (_, None) => Some(Decline { reason: DeclineReason::CreditAccountNotFound, available: 0 }),
        (Some(debit), Some(credit)) => {
            for account in [debit, credit] {
                if account.terms.currency != transfer.currency {
                    return Err(Refusal::CurrencyMismatch { expected: account.terms.currency });
                }
            }
            weigh(debit, credit, transfer.amount, day)
        }
    };
    Ok(decline.map(|decline| Action::Decline {
        kind,
        transfer,
        decline,
        balances: [debit.map(Account::balance), credit.map(Account::balance)],
    }))
}

fn weigh(debit: &Account, credit: &Account, amount: i64, day: i32) -> Option<Decline> {
    let room = |account: &Account, side| account.totals.changed(side, 0, amount).is_some();
    if !room(debit, Side::Debit) || !room(credit, Side::Credit) {
        return Some(Decline { reason: DeclineReason::BalanceOverflow, available: 0 });
    }
    if debit.terms.kind != AccountKind::Customer {
        return None;
    }
    let balance = debit.balance();
    let available = if planted(Bug::HoldsDoNotCount) { balance.posted } else { balance.available };
    if amount > available {
        return Some(Decline { reason: DeclineReason::InsufficientFunds, available });
    }
    if credit.terms.kind != AccountKind::Cash {
        return None;
    }
    let remaining = debit.daily_withdrawal_remaining(day)?;
    (amount > remaining)
        .then_some(Decline { reason: DeclineReason::DailyLimitExceeded, available: remaining })
}

/// Debit and credit leg of a step; `None` when an account is missing or a total would overflow.
pub(crate) fn legs(
    state: &State,
    debit: AccountId,
    credit: AccountId,
    posted: i64,
    pending: i64,
) -> Option<[Leg; 2]> {
    Some([
        leg(state, debit, Side::Debit, posted, pending)?,
        leg(state, credit, Side::Credit, posted - i64::from(one_less(posted)), pending)?,
    ])
}

fn one_less(posted: i64) -> bool {
    planted(Bug::CreditIsOneLess) && posted > 0
}

/// Debit leg, credit leg and the credit leg on suspense, each with its own posted and pending change; `None`
/// as in [`legs`]. The accounts must be three.
pub(crate) fn suspense_legs(
    state: &State,
    transfer: &Transfer,
    suspense: AccountId,
    [debit, credit, on_suspense]: [(i64, i64); 3],
) -> Option<Box<[Leg; 3]>> {
    Some(Box::new([
        leg(state, transfer.debit, Side::Debit, debit.0, debit.1)?,
        leg(state, transfer.credit, Side::Credit, credit.0, credit.1)?,
        leg(state, suspense, Side::Credit, on_suspense.0, on_suspense.1)?,
    ]))
}

fn leg(state: &State, account_id: AccountId, side: Side, posted: i64, pending: i64) -> Option<Leg> {
    let account = state.account(account_id)?;
    let totals = account.totals.changed(side, posted, pending)?;
    let balance = account.terms.balance(totals);
    Some(Leg { account_id, posted, pending, balance, previous: account.newest_entry })
}
