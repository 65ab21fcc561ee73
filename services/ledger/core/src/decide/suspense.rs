//! Freezing a withdrawal of which nobody knows whether its cash left, and deciding it.
//!
//! While it is frozen, the customer's side stays on hold and never expires, and the credit that it waits for
//! stands on the machine's suspense account, not on its cash. A resolution posts what the customer got, to
//! the cash account, and frees the rest.

use super::{Decided, Verdict, first_difference, same_amount};
use crate::account::{Account, AccountKind};
use crate::command::{Resolve, Suspend, Transfer};
use crate::evaluate::suspense_legs;
use crate::refusal::Refusal;
use crate::state::State;
use crate::step::{Action, Resolution, Step};
use crate::transaction::{Transaction, TransactionState};
use atm_faults::{Bug, planted};

/// The field that names the suspense account.
const SUSPENSE_FIELD: &str = "suspense_account_id";

pub(super) fn suspend<'state>(state: &'state State, asked: &Suspend) -> Decided<'state> {
    let Some(transaction) = state.transaction(asked.id) else {
        return on_authorization(state, asked, Refusal::NotFound);
    };
    if transaction.first().terminal != asked.terminal {
        return Err(Refusal::NotFound);
    }
    if let Some(suspension) = transaction.suspension() {
        return repeat(suspension, asked);
    }
    let last = transaction.last();
    match (&last.action, transaction.held()) {
        (Action::Capture { .. } | Action::CaptureLate { .. }, _) => Ok(Verdict::Replay(last)),
        (Action::Hold { .. }, Some(held)) => freeze(state, asked, held, true),
        (Action::Cancel { .. } | Action::Expire { .. }, Some(held)) => freeze(state, asked, held, false),
        (Action::Tombstone, _) => on_authorization(state, asked, nothing_at(TransactionState::Cancelled)),
        (Action::Decline { .. }, _) => on_authorization(state, asked, nothing_at(TransactionState::Declined)),
        (Action::Post { .. }, _) => Err(nothing_at(TransactionState::Posted)),
        // An account's id; or steps without what they follow, which no books can contain.
        (
            Action::OpenAccount(_)
            | Action::Hold { .. }
            | Action::Cancel { .. }
            | Action::Expire { .. }
            | Action::Suspend { .. }
            | Action::Resolve { .. },
            None | Some(_),
        ) => Err(Refusal::NotFound),
    }
}

/// Answers a suspension again, whatever came after it.
fn repeat<'state>(suspension: &'state Step, asked: &Suspend) -> Decided<'state> {
    let same = suspension.action.legs().last().is_some_and(|leg| leg.account_id == asked.suspense);
    first_difference(&[(SUSPENSE_FIELD, same)])?;
    Ok(Verdict::Replay(suspension))
}

/// Freezes a hold on this ledger's own signature although these books do not know it: they were restored
/// from a backup that is older than the hold.
fn on_authorization<'state>(state: &State, asked: &Suspend, otherwise: Refusal) -> Decided<'state> {
    match &asked.authorization {
        Some(authorization) => freeze(state, asked, authorization.transfer, false),
        None => Err(otherwise),
    }
}

const fn nothing_at(state: TransactionState) -> Refusal {
    Refusal::NothingToSuspend { state }
}

/// `stands`: whether the hold still does, so that the customer's side is on hold already.
fn freeze<'state>(state: &State, asked: &Suspend, transfer: Transfer, stands: bool) -> Decided<'state> {
    check_suspense(state.account(asked.suspense), &transfer)?;
    let held = transfer.amount;
    let kept = if planted(Bug::SuspensionFreesTheMoney) { -held } else { 0 };
    let stays = [(0, kept), (0, -held), (0, held + kept)];
    let changes = if stands { stays } else { [(0, held), (0, 0), (0, held)] };
    let legs = suspense_legs(state, &transfer, asked.suspense, changes).ok_or(Refusal::CannotPost)?;
    Ok(Verdict::Record(asked.terminal, Action::Suspend { transfer, legs }))
}

fn check_suspense(suspense: Option<&Account>, transfer: &Transfer) -> Result<(), Refusal> {
    let invalid = |rule| Err(Refusal::Invalid { field: SUSPENSE_FIELD, rule });
    let Some(terms) = suspense.map(|account| &account.terms) else {
        return invalid("must be an account that is open");
    };
    if terms.kind != AccountKind::Suspense {
        return invalid("must be a SUSPENSE account");
    }
    if terms.currency != transfer.currency {
        return invalid("must be in the currency of the hold");
    }
    if [transfer.debit, transfer.credit].contains(&terms.account_id) {
        return invalid("must not be an account of the hold");
    }
    Ok(())
}

pub(super) fn resolve<'state>(state: &'state State, asked: &Resolve) -> Decided<'state> {
    validate(asked)?;
    let transaction = state.transaction(asked.id).ok_or(Refusal::NotFound)?;
    if let Some(resolution) = transaction.resolution()
        && let Some(transfer) = resolution.action.transfer()
    {
        return same_amount(resolution, transfer, asked.amount, asked.currency);
    }
    // An account's id has no state.
    let state_now = transaction.state().ok_or(Refusal::NotFound)?;
    let last = transaction.last();
    let Action::Suspend { transfer: held, legs } = &last.action else {
        return Err(Refusal::NotSuspended { state: state_now });
    };
    if asked.currency != held.currency {
        return Err(Refusal::CurrencyMismatch { expected: held.currency });
    }
    if asked.amount > held.amount {
        return Err(Refusal::ResolutionExceedsHold { held: held.amount });
    }
    let changes = [(asked.amount, -held.amount), (asked.amount, 0), (0, -held.amount)];
    let legs = suspense_legs(state, held, legs[2].account_id, changes).ok_or(Refusal::CannotPost)?;
    let action = Action::Resolve {
        transfer: Transfer { amount: asked.amount, ..*held },
        legs,
        counted_day: counted_day(transaction, last),
        resolution: Box::new(Resolution { operator: asked.operator.clone(), reason: asked.reason.clone() }),
    };
    Ok(Verdict::Record(transaction.first().terminal, action))
}

/// The day whose limit what is frozen counts against: that of the hold if it stood until then, or that of the
/// suspension, which set it up again.
fn counted_day(transaction: &Transaction, suspension: &Step) -> i32 {
    if suspension.action.ends_hold() { transaction.first().day } else { suspension.day }
}

fn validate(asked: &Resolve) -> Result<(), Refusal> {
    let text_fits =
        |text: &str, most| (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let rules = [
        ("amount.minor_units", asked.amount >= 0, "must be 0 or more"),
        ("operator", text_fits(&asked.operator, 100), "must be 1 to 100 characters, no control characters"),
        ("reason", text_fits(&asked.reason, 500), "must be 1 to 500 characters, no control characters"),
    ];
    match rules.into_iter().find(|(_, fits, _)| !fits) {
        Some((field, _, rule)) => Err(Refusal::Invalid { field, rule }),
        None => Ok(()),
    }
}
