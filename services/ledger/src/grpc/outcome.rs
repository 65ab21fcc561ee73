//! Recorded steps as they are answered.
//!
//! An outcome is made from its step, and from the ledger's key, and from nothing else: not from a balance of
//! today, not from a clock, not from the request. That is what keeps its bytes the same for ever.

use atm_ledger_core::{Account, AccountTerms, Action, Balance, Leg, Step};
use atm_proto::ledger as wire;
use atm_types::{TerminalId, Timestamp};

use super::convert;
use crate::authorization::Authorizer;

/// What is answered for a step.
pub(super) fn outcome(step: &Step, authorizer: &Authorizer) -> wire::Outcome {
    let action = &step.action;
    let transfer = action.transfer();
    let [debit_balance, credit_balance] = balances(action);
    let (decline, expire_time, authorization) = match action {
        Action::Decline { decline, .. } => (Some(*decline), None, Vec::new()),
        Action::Hold { transfer, expire_time, .. } => {
            (None, Some(*expire_time), authorizer.sign(step.id, step.terminal, transfer).to_vec())
        }
        Action::OpenAccount(_)
        | Action::Post { .. }
        | Action::Tombstone
        | Action::Capture { .. }
        | Action::Cancel { .. }
        | Action::Expire { .. }
        | Action::CaptureLate { .. }
        | Action::Suspend { .. }
        | Action::Resolve { .. } => (None, None, Vec::new()),
    };
    let resolution = match action {
        Action::Resolve { resolution, .. } => Some(convert::resolution(resolution)),
        _ => None,
    };
    wire::Outcome {
        transaction_id: step.id.to_string(),
        step: convert::step_kind(action.kind()).into(),
        state: convert::state(action.state()).into(),
        decline: decline.map(convert::decline),
        debit_account_id: transfer.map(|transfer| transfer.debit.to_string()).unwrap_or_default(),
        credit_account_id: transfer.map(|transfer| transfer.credit.to_string()).unwrap_or_default(),
        amount: transfer.map(|transfer| convert::money(transfer.amount, transfer.currency)),
        debit_balance: debit_balance.map(convert::balance),
        credit_balance: credit_balance.map(convert::balance),
        commit_sequence: step.commit_sequence,
        commit_time: Some(convert::timestamp(step.commit_time)),
        expire_time: expire_time.map(convert::timestamp),
        authorization,
        resolution,
    }
}

/// A step with its entries.
pub(crate) fn step(step: &Step, authorizer: &Authorizer) -> wire::Step {
    let entry = |(index, leg): (u8, &Leg)| wire::Entry {
        account_id: leg.account_id.to_string(),
        side: convert::side(Leg::side(index)).into(),
        posted_minor_units: leg.posted,
        pending_minor_units: leg.pending,
        balance: Some(convert::balance(leg.balance)),
    };
    let entries = step.entries().map(entry).collect();
    let opened_account = match &step.action {
        Action::OpenAccount(terms) => Some(opened(terms, step.commit_time)),
        _ => None,
    };
    let terminal_id =
        if step.terminal == TerminalId::SERVICE { String::new() } else { step.terminal.to_string() };
    wire::Step { outcome: Some(outcome(step, authorizer)), entries, terminal_id, opened_account }
}

/// An account as it was opened, with zero totals, whatever became of it since.
pub(super) fn opened(terms: &AccountTerms, create_time: Timestamp) -> wire::Account {
    // No withdrawal has been counted yet, so any day will do.
    convert::account(&Account::open(terms.clone(), create_time), 0)
}

/// The debited and the credited account right after the step.
fn balances(action: &Action) -> [Option<Balance>; 2] {
    match action {
        Action::Decline { balances, .. } => *balances,
        Action::OpenAccount(_)
        | Action::Tombstone
        | Action::Post { .. }
        | Action::Hold { .. }
        | Action::Capture { .. }
        | Action::Cancel { .. }
        | Action::Expire { .. }
        | Action::CaptureLate { .. }
        | Action::Suspend { .. }
        | Action::Resolve { .. } => {
            let legs = action.legs();
            [0, 1].map(|index| legs.get(index).map(|leg: &Leg| leg.balance))
        }
    }
}
