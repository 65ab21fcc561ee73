//! Statements against the books: 2 and 17.

use atm_ledger_core::Leg;
use atm_proto::gateway::{ListTransactionsRequest, ListTransactionsResponse, StatementLine};
use atm_types::AccountId;
use prost::Message;

use super::Violation;
use super::answers::Known;
use super::decode::{account_of, accounts_of_sessions, answer};
use crate::evidence::Evidence;

/// 2: a statement has each posted movement once, newest first, and adds up to the balance at each place; 17: it is not
/// older than what was told before.
pub(super) fn statements(evidence: &Evidence) -> Vec<Violation> {
    let accounts = accounts_of_sessions(evidence);
    let known = Known::of(evidence);
    let mut found = Vec::new();
    for call in evidence.calls.iter().filter(|call| call.method == "ListTransactions") {
        let Some(read) = answer::<ListTransactionsResponse>(call) else { continue };
        let Some(account) = account_of(call, &accounts) else { continue };
        let newest = read.lines.first().map_or(0, |line| line.commit_sequence);
        let expected = lines(evidence, account, newest);
        let told: Vec<Line> = read.lines.iter().map(Line::told).collect();
        if !expected.starts_with(&told) {
            found.push(Violation::new(
                2,
                format!("a statement said {told:?}, and the books say {expected:?}"),
            ));
        }
        let first_page = ListTransactionsRequest::decode(&call.request[..])
            .is_ok_and(|request| request.page_token.is_empty());
        let floor = known.before(call.began);
        let missed = lines(evidence, account, floor).first().map_or(0, |line| line.sequence);
        if first_page && newest < missed {
            let what = format!("a statement begins with step {newest}, and step {missed} was told before");
            found.push(Violation::new(17, what));
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    sequence: u64,
    id: String,
    amount: i64,
    balance: i64,
}

impl Line {
    fn told(line: &StatementLine) -> Self {
        Self {
            sequence: line.commit_sequence,
            id: line.transaction_id.clone(),
            amount: line.amount.as_ref().map_or(0, |amount| amount.minor_units),
            balance: line.balance.map_or(0, |balance| balance.balance_minor_units),
        }
    }
}

/// What a statement of the account shows that begins with this step, added up anew.
fn lines(evidence: &Evidence, account: AccountId, newest: u64) -> Vec<Line> {
    let mut balance = 0;
    let mut lines = Vec::new();
    for step in evidence.ledger.steps.iter().filter(|step| step.commit_sequence <= newest) {
        let ours = |(_, leg): &(u8, &Leg)| leg.account_id == account && leg.posted != 0;
        for (index, leg) in step.entries().filter(ours) {
            // A customer's account grows by credits.
            let amount = if index == 0 { -leg.posted } else { leg.posted };
            balance += amount;
            lines.push(Line { sequence: step.commit_sequence, id: step.id.to_string(), amount, balance });
        }
    }
    lines.reverse();
    lines
}
