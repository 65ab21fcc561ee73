//! The statement: what was posted on the session's account, newest first.

use std::collections::BTreeSet;

use atm_proto::gateway::{ListTransactionsRequest, ListTransactionsResponse, MovementKind, StatementLine};
use atm_proto::ledger::{AccountKind, Entry, ListAccountEntriesRequest, Side, Step};
use atm_proto::types::Money as WireMoney;
use atm_types::AccountId;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::caller::Customer;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert;
use crate::request;
use crate::upstream::Asked;

/// So many accounts are asked for at once when their kinds are not known yet.
const LOOK_UPS: usize = 16;

/// Reads a page of the statement.
///
/// # Errors
/// [`Failure::Invalid`] (also for a page token), and those of the ledger.
pub async fn statement(
    gateway: &Gateway,
    customer: &Customer,
    request: ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Failure> {
    let account = customer.session.account_id;
    let asked = ListAccountEntriesRequest {
        account_id: account.to_string(),
        page_size: request::page_size(request.page_size)?,
        page_token: request.page_token,
        posted_only: true,
    };
    let answer = gateway.ledger.list_account_entries(customer.deadline, Asked::Account, asked).await?;
    let counterparts: BTreeSet<AccountId> =
        answer.steps.iter().filter_map(|step| counterpart(step, account)).collect();
    stream::iter(counterparts)
        .map(|id| gateway.accounts.kind(&gateway.ledger, customer.deadline, id))
        .buffer_unordered(LOOK_UPS)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    let mut lines = Vec::with_capacity(answer.steps.len());
    for step in answer.steps {
        // A page token of someone else's, should the ledger ever accept one, must show nothing.
        if !step.entries.iter().any(|entry| is_on(entry, account)) {
            continue;
        }
        let kind = match counterpart(&step, account) {
            Some(id) => gateway.accounts.kind(&gateway.ledger, customer.deadline, id).await?,
            None => None,
        };
        lines.push(line(step, account, kind, gateway.currency.code())?);
    }
    Ok(ListTransactionsResponse { lines, next_page_token: answer.next_page_token })
}

fn line(
    step: Step,
    account: AccountId,
    counterpart: Option<AccountKind>,
    currency: &str,
) -> Result<StatementLine, Failure> {
    let outcome = step.outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
    let entry = step
        .entries
        .into_iter()
        .find(|entry| is_on(entry, account))
        .ok_or_else(|| Failure::missing("ledger", "entry"))?;
    let minor_units = match entry.side() {
        Side::Debit => entry.posted_minor_units.checked_neg(),
        Side::Credit => Some(entry.posted_minor_units),
        Side::Unspecified => None,
    };
    let currency_code = outcome.amount.map_or_else(|| currency.to_owned(), |amount| amount.currency_code);
    Ok(StatementLine {
        kind: movement(entry.side(), counterpart).into(),
        amount: Some(WireMoney {
            currency_code,
            minor_units: minor_units.ok_or_else(|| Failure::missing("ledger", "side"))?,
        }),
        balance: entry.balance,
        transaction_id: outcome.transaction_id,
        commit_time: outcome.commit_time,
        commit_sequence: outcome.commit_sequence,
        state: outcome.state,
    })
}

/// What a movement is to the customer, by the side that the account is on and what stands against it.
fn movement(side: Side, counterpart: Option<AccountKind>) -> MovementKind {
    match (side, counterpart) {
        (Side::Debit, Some(AccountKind::Cash | AccountKind::Suspense)) => MovementKind::Withdrawal,
        (Side::Credit, Some(AccountKind::Cash | AccountKind::Suspense)) => MovementKind::Deposit,
        (Side::Debit, Some(AccountKind::Customer)) => MovementKind::TransferOut,
        (Side::Credit, Some(AccountKind::Customer)) => MovementKind::TransferIn,
        (Side::Debit | Side::Credit, Some(AccountKind::OpeningBalance)) => MovementKind::OpeningBalance,
        (Side::Unspecified, _) | (_, Some(AccountKind::Unspecified) | None) => MovementKind::Unspecified,
    }
}

/// Where the money came from or went: of a resolved withdrawal that is the cash, and not the suspense account, on
/// which nothing is posted.
fn counterpart(step: &Step, account: AccountId) -> Option<AccountId> {
    let others = || step.entries.iter().filter(|entry| !is_on(entry, account));
    let other = others().find(|entry| entry.posted_minor_units != 0).or_else(|| others().next());
    other.and_then(|entry| convert::account_id(&entry.account_id))
}

fn is_on(entry: &Entry, account: AccountId) -> bool {
    convert::account_id(&entry.account_id) == Some(account)
}

#[cfg(test)]
mod tests {
    use atm_proto::ledger::Outcome;
    use atm_proto::types::Balance;

    use super::*;

    #[test]
    fn a_movement_is_named_by_where_the_money_came_from_or_went() {
        for (side, counterpart, kind) in [
            (Side::Debit, AccountKind::Cash, MovementKind::Withdrawal),
            (Side::Credit, AccountKind::Cash, MovementKind::Deposit),
            (Side::Debit, AccountKind::Customer, MovementKind::TransferOut),
            (Side::Credit, AccountKind::Customer, MovementKind::TransferIn),
            (Side::Credit, AccountKind::OpeningBalance, MovementKind::OpeningBalance),
        ] {
            assert_eq!(movement(side, Some(counterpart)), kind);
        }
    }

    #[test]
    fn a_resolved_withdrawal_is_a_withdrawal() {
        let own = AccountId::of_number("Farhan");
        let cash = AccountId::of_cash("ATM-1", atm_types::Currency::BDT);
        let suspense = AccountId::of_suspense("ATM-1", atm_types::Currency::BDT);
        let entry = |id: AccountId, side: Side, posted_minor_units, pending_minor_units| Entry {
            account_id: id.to_string(),
            side: side.into(),
            posted_minor_units,
            pending_minor_units,
            balance: None,
        };
        let (debit, cash_leg) = (entry(own, Side::Debit, 300, -500), entry(cash, Side::Credit, 300, 0));
        let suspense_leg = entry(suspense, Side::Credit, 0, -500);
        for entries in
            [vec![debit.clone(), cash_leg.clone(), suspense_leg.clone()], vec![suspense_leg, debit, cash_leg]]
        {
            let step = Step { outcome: Some(Outcome::default()), entries, ..Step::default() };
            assert_eq!(counterpart(&step, own), Some(cash));
            let line = line(step, own, Some(AccountKind::Cash), "BDT").unwrap();
            assert_eq!((line.kind(), line.amount.unwrap().minor_units), (MovementKind::Withdrawal, -300));
        }
    }

    #[test]
    fn money_that_leaves_the_account_is_negative() {
        let own = AccountId::of_number("Farhan");
        let other = AccountId::of_number("Biva");
        let entry = |id: AccountId, side: Side, balance| Entry {
            account_id: id.to_string(),
            side: side.into(),
            posted_minor_units: 500,
            pending_minor_units: 0,
            balance: Some(Balance { balance_minor_units: balance, available_minor_units: balance }),
        };
        let step = Step {
            outcome: Some(Outcome { transaction_id: "id".to_owned(), ..Outcome::default() }),
            entries: vec![entry(own, Side::Debit, 10), entry(other, Side::Credit, 20)],
            ..Step::default()
        };
        let seen = |account| line(step.clone(), account, Some(AccountKind::Customer), "BDT").unwrap();
        assert_eq!(seen(own).amount.unwrap().minor_units, -500);
        assert_eq!(seen(other).amount.unwrap().minor_units, 500);
        assert_eq!(seen(own).balance.unwrap().balance_minor_units, 10, "and nobody sees the other balance");
        assert_eq!(counterpart(&step, own), Some(other));
    }
}
