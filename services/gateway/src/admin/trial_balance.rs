//! The trial balance.

use atm_proto::gateway::{GetTrialBalanceResponse, TrialBalanceLine};
use atm_proto::ledger::{self, AccountKind, GetTrialBalanceRequest};
use atm_rpc::deadline::Deadline;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::upstream::Asked;

/// Sums all accounts by kind and currency.
///
/// # Errors
/// Those of the ledger.
pub async fn trial_balance(
    gateway: &Gateway,
    deadline: Deadline,
) -> Result<GetTrialBalanceResponse, Failure> {
    let answer = gateway.ledger.get_trial_balance(deadline, Asked::Books, GetTrialBalanceRequest {}).await?;
    Ok(GetTrialBalanceResponse {
        lines: answer.lines.into_iter().map(line).collect::<Result<_, _>>()?,
        balanced: answer.balanced,
        commit_sequence: answer.commit_sequence,
    })
}

fn line(line: ledger::TrialBalanceLine) -> Result<TrialBalanceLine, Failure> {
    let kind = match line.kind() {
        AccountKind::Customer => "CUSTOMER",
        AccountKind::Cash => "CASH",
        AccountKind::Suspense => "SUSPENSE",
        AccountKind::OpeningBalance => "OPENING_BALANCE",
        AccountKind::Unspecified => return Err(Failure::missing("ledger", "kind of account")),
    };
    Ok(TrialBalanceLine {
        kind: kind.to_owned(),
        currency_code: line.currency_code,
        account_count: line.account_count,
        debits_posted_minor_units: line.debits_posted_minor_units,
        credits_posted_minor_units: line.credits_posted_minor_units,
        debits_pending_minor_units: line.debits_pending_minor_units,
        credits_pending_minor_units: line.credits_pending_minor_units,
    })
}
