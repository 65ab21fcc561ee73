//! What can be added up without believing anything that the server says of itself.

use anyhow::{Context, ensure};
use atm_proto::ledger::{
    Account, AccountKind, GetTrialBalanceRequest, HoldTransactionRequest, PostTransactionRequest,
    TrialBalanceLine,
};

use super::scene::{Scene, cancel, new_id};

/// Debits posted, credits posted, debits pending, credits pending.
type Totals<N> = [N; 4];
const TOTALS: [&str; 4] = ["debits posted", "credits posted", "debits pending", "credits pending"];

fn totals(account: &Account) -> Totals<i64> {
    [
        account.debits_posted_minor_units,
        account.credits_posted_minor_units,
        account.debits_pending_minor_units,
        account.credits_pending_minor_units,
    ]
}

fn totals_of_line(line: &TrialBalanceLine) -> anyhow::Result<Totals<i128>> {
    let [debits, credits, debits_pending, credits_pending] = [
        &line.debits_posted_minor_units,
        &line.credits_posted_minor_units,
        &line.debits_pending_minor_units,
        &line.credits_pending_minor_units,
    ]
    .map(|sum| sum.parse().with_context(|| format!("{sum:?} in the trial balance is no sum")));
    Ok([debits?, credits?, debits_pending?, credits_pending?])
}

/// Adds them up.
fn sum<N: Into<i128>>(all: impl IntoIterator<Item = Totals<N>>) -> Totals<i128> {
    all.into_iter().fold([0; 4], |sum, more| {
        let mut more = more.map(Into::into).into_iter();
        sum.map(|it| it + more.next().unwrap_or_default())
    })
}

fn expect_equal(
    what: &str,
    [debits, credits, debits_pending, credits_pending]: Totals<i128>,
) -> anyhow::Result<()> {
    ensure!(debits == credits, "{what}: {debits} debits posted and {credits} credits");
    ensure!(
        debits_pending == credits_pending,
        "{what}: {debits_pending} debits pending and {credits_pending} credits"
    );
    Ok(())
}

impl Scene {
    /// Insists on the totals of an account, and on the balance that follows from them.
    pub(super) async fn expect_totals(&self, account_id: &str, expected: Totals<i64>) -> anyhow::Result<()> {
        let account = self.account(account_id).await?;
        let seen = totals(&account);
        for ((name, seen), expected) in TOTALS.into_iter().zip(seen).zip(expected) {
            ensure!(seen == expected, "{name} {seen} instead of {expected}");
        }
        Ok(())
    }
}

/// Insists that an account's balance is what was posted, on its normal side.
fn expect_consistent(kind: AccountKind, account: &Account) -> anyhow::Result<()> {
    let [debits, credits, ..] = totals(account);
    let balance = match kind {
        AccountKind::Customer | AccountKind::Suspense => credits - debits,
        AccountKind::Cash | AccountKind::OpeningBalance | AccountKind::Unspecified => debits - credits,
    };
    let said = account.balance.context("no balance")?.balance_minor_units;
    let kind = kind.as_str_name();
    ensure!(said == balance, "{kind}: balance {said}, and {debits} debits and {credits} credits were posted");
    Ok(())
}

pub(super) async fn both_sides(scene: &Scene) -> anyhow::Result<()> {
    let customer = scene.customer(1000).await?;
    let cash = scene.open(AccountKind::Cash).await?;
    let mut client = scene.client()?;
    let moved = async |step: &str, posted: i64, pending: i64| {
        let debited = scene.expect_totals(&customer, [posted, 1000, pending, 0]).await;
        debited.with_context(|| format!("the debited account after {step}"))?;
        let credited = scene.expect_totals(&cash, [0, posted, 0, pending]).await;
        credited.with_context(|| format!("the credited account after {step}"))
    };
    let post = scene.post(&new_id(), &customer, 100);
    client.post_transaction(PostTransactionRequest { credit_account_id: cash.clone(), ..post }).await?;
    moved("a posting of 100", 100, 0).await?;
    let id = new_id();
    let hold = HoldTransactionRequest { credit_account_id: cash.clone(), ..scene.hold(&id, &customer, 300) };
    client.hold_transaction(hold).await?;
    moved("a hold of 300", 100, 300).await?;
    client.capture_transaction(scene.capture(&id, 200)).await?;
    moved("its capture of 200", 300, 0).await?;
    let id = new_id();
    let hold = HoldTransactionRequest { credit_account_id: cash.clone(), ..scene.hold(&id, &customer, 50) };
    client.hold_transaction(hold).await?;
    client.cancel_transaction(cancel(&id)).await?;
    moved("a hold of 50 and its cancel", 300, 0).await
}

pub(super) async fn books_balance(scene: &Scene) -> anyhow::Result<()> {
    let mut own: Vec<(AccountKind, Totals<i64>)> = Vec::new();
    for (id, kind) in scene.opened() {
        let account = scene.account(&id).await?;
        expect_consistent(kind, &account)?;
        own.push((kind, totals(&account)));
    }
    expect_equal("all accounts of this suite", sum(own.iter().map(|(_, totals)| *totals)))?;
    let trial = scene.client()?.get_trial_balance(GetTrialBalanceRequest {}).await?.into_inner();
    let currency = &scene.target.currency;
    let lines: Vec<_> = trial.lines.iter().filter(|line| line.currency_code == *currency).collect();
    // Others may use the ledger meanwhile, so that its sums are at least ours.
    for (kind, _) in &own {
        let name = kind.as_str_name();
        let line = lines.iter().find(|line| line.kind() == *kind);
        let line = line.with_context(|| format!("the trial balance has no line for {name} in {currency}"))?;
        let ours = sum(own.iter().filter(|(other, _)| other == kind).map(|(_, totals)| *totals));
        for ((what, all), ours) in TOTALS.into_iter().zip(totals_of_line(line)?).zip(ours) {
            ensure!(
                all >= ours,
                "the trial balance has {all} {what} for {name}, and this suite alone made {ours}"
            );
        }
    }
    let all = lines.into_iter().map(totals_of_line).collect::<Result<Vec<_>, _>>()?;
    expect_equal("the trial balance", sum(all))?;
    ensure!(trial.balanced, "the trial balance says of itself that it does not balance");
    Ok(())
}
