//! Whose money was moved: 21. A session moves the money of the card that it was opened with, to and from the machine
//! that it was opened at, and to the account that the customer named.

use std::collections::BTreeMap;

use atm_ledger_core::{Step, Transfer};
use atm_proto::gateway::TransferRequest;
use atm_types::{AccountId, Currency, TransactionId};
use prost::Message;

use super::Violation;
use super::decode::{Asked, account_of, accounts_of_sessions, asked, decides};
use crate::evidence::Evidence;

/// See the module.
pub(super) fn accounts(evidence: &Evidence) -> Vec<Violation> {
    let sessions = accounts_of_sessions(evidence);
    let mut allowed: BTreeMap<TransactionId, Vec<(AccountId, AccountId)>> = BTreeMap::new();
    for asked in asked(evidence).iter().filter(|asked| decides(asked.call.method)) {
        if let Some(parties) = parties(asked, &sessions) {
            allowed.entry(asked.id).or_default().push(parties);
        }
    }
    let begun = evidence.ledger.steps.iter().filter(|step| step.ordinal == 0);
    begun.filter_map(|step| judge(step, step.action.transfer()?, allowed.get(&step.id)?)).collect()
}

fn judge(step: &Step, transfer: &Transfer, allowed: &[(AccountId, AccountId)]) -> Option<Violation> {
    let moved = (transfer.debit, transfer.credit);
    (!allowed.contains(&moved)).then(|| {
        let what =
            format!("{} moves money from {} to {}, and was asked for {allowed:?}", step.id, moved.0, moved.1);
        Violation::new(21, what)
    })
}

/// Debit and credit account of what a customer asks for; nothing for what operators and devices tell.
fn parties(asked: &Asked<'_>, sessions: &BTreeMap<String, AccountId>) -> Option<(AccountId, AccountId)> {
    let machine = &asked.call.caller;
    let customer = account_of(asked.call, sessions)?;
    match asked.call.method {
        "AuthorizeWithdrawal" | "Withdraw" => Some((customer, AccountId::of_cash(machine, Currency::BDT))),
        "Deposit" => Some((AccountId::of_deposit_box(machine, Currency::BDT), customer)),
        "Transfer" => {
            let request = TransferRequest::decode(&asked.call.request[..]).ok()?;
            Some((customer, AccountId::of_number(&request.to_account)))
        }
        _ => None,
    }
}
