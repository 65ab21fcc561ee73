//! Whether the books are right after an experiment: exactly one posting for each transaction that was applied, none
//! for any other, and every sum in order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use atm_proto::ledger::{
    GetAccountRequest, GetTrialBalanceRequest, ListAccountEntriesRequest, StepKind, VerifyLedgerRequest,
};

use crate::bank::{AMOUNT, Books, Customer, OPENING};

/// Checks one customer's withdrawals against what the client knows of them.
///
/// # Errors
/// Says what is wrong: this is the one thing that must never happen.
pub async fn check_customer(
    books: &mut Books,
    customer: &Customer,
    applied: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let mut posted = BTreeMap::<String, u32>::new();
    let mut page_token = String::new();
    loop {
        let request = ListAccountEntriesRequest {
            account_id: customer.account_id.clone(),
            page_size: 500,
            page_token,
            posted_only: true,
        };
        let page =
            books.list_account_entries(request).await.context("the account cannot be read")?.into_inner();
        for step in page.steps {
            let outcome = step.outcome.context("a step without an outcome")?;
            if outcome.debit_account_id != customer.account_id {
                continue;
            }
            let id = outcome.transaction_id.clone();
            ensure!(outcome.step() == StepKind::Post, "{id}: a step {}", outcome.step().as_str_name());
            let amount = outcome.amount.map_or(0, |amount| amount.minor_units);
            ensure!(amount == AMOUNT, "{id}: posted {amount} instead of {AMOUNT}");
            *posted.entry(id).or_default() += 1;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for (id, times) in &posted {
        ensure!(*times == 1, "{id}: posted {times} times");
        ensure!(applied.contains(id), "{id}: posted, and the client was told that it never will be");
    }
    for id in applied {
        ensure!(posted.contains_key(id), "{id}: not posted, and the client was told that it was");
    }
    let request = GetAccountRequest { account_id: customer.account_id.clone() };
    let account = books.get_account(request).await?.into_inner().account.context("no account")?;
    let balance = account.balance.context("no balance")?;
    let expected = OPENING - AMOUNT * i64::try_from(applied.len())?;
    ensure!(
        balance.balance_minor_units == expected,
        "the balance is {} instead of {expected}",
        balance.balance_minor_units
    );
    ensure!(balance.available_minor_units == expected, "money is still held");
    Ok(())
}

/// Checks the whole ledger: the trial balance, and everything recomputed from the entries.
///
/// # Errors
/// Says what is wrong.
pub async fn check_ledger(books: &mut Books) -> anyhow::Result<()> {
    let trial = books.get_trial_balance(GetTrialBalanceRequest {}).await?.into_inner();
    ensure!(trial.balanced, "the trial balance does not balance");
    let mut stream = books.verify_ledger(VerifyLedgerRequest {}).await?.into_inner();
    let mut complete = false;
    while let Some(message) = stream.message().await? {
        ensure!(message.findings.is_empty(), "verification found: {}", message.findings.join("; "));
        complete = message.complete;
    }
    ensure!(complete, "the verification did not come to its end");
    Ok(())
}
