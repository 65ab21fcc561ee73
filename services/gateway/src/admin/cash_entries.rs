//! The postings on one place of a machine's cash, newest first: what explains its balance, entry by entry.

use atm_proto::gateway::{CashEntry, ListCashEntriesRequest, ListCashEntriesResponse};
use atm_proto::ledger::{AccountKind, ListAccountEntriesRequest, Side, Step};
use atm_rpc::deadline::Deadline;
use atm_types::AccountId;

use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert;
use crate::request;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// Reads a page of a place's postings; a place that was never used has none.
///
/// # Errors
/// [`Failure::Invalid`] (also for a page token), and those of the ledger.
pub async fn cash_entries(
    gateway: &Gateway,
    deadline: Deadline,
    request: ListCashEntriesRequest,
) -> Result<ListCashEntriesResponse, Failure> {
    let atm_id: AtmId = request.atm_id.parse()?;
    let bin = Bin::of(request.bin, "bin")?;
    if bin == Bin::Vault {
        return Err(Failure::invalid("bin", "must be a place of the machine"));
    }
    let account = bin.account(&atm_id, gateway.currency);
    let asked = ListAccountEntriesRequest {
        account_id: account.to_string(),
        page_size: request::page_size_or(request.page_size, 100)?,
        page_token: request.page_token,
        posted_only: true,
    };
    let answer = match gateway.ledger.list_account_entries(deadline, Asked::Account, asked).await {
        Ok(answer) => answer,
        Err(Failure::AccountNotFound) => return Ok(ListCashEntriesResponse::default()),
        Err(failure) => return Err(failure),
    };
    let entries = answer.steps.into_iter().map(|step| entry(step, bin, account));
    Ok(ListCashEntriesResponse {
        entries: entries.collect::<Result<_, _>>()?,
        next_page_token: answer.next_page_token,
    })
}

/// A posting as the place sees it, with the sign that its balance has.
fn entry(step: Step, bin: Bin, account: AccountId) -> Result<CashEntry, Failure> {
    let outcome = step.outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
    let own = step.entries.iter().find(|entry| convert::account_id(&entry.account_id) == Some(account));
    let own = own.ok_or_else(|| Failure::missing("ledger", "entry"))?;
    let raises = match bin.kind() {
        AccountKind::Suspense => Side::Credit,
        AccountKind::Cash
        | AccountKind::Customer
        | AccountKind::OpeningBalance
        | AccountKind::Unspecified => Side::Debit,
    };
    let amount = match own.side() {
        Side::Unspecified => None,
        side if side == raises => Some(own.posted_minor_units),
        Side::Debit | Side::Credit => own.posted_minor_units.checked_neg(),
    };
    Ok(CashEntry {
        transaction_id: outcome.transaction_id,
        amount_minor_units: amount.ok_or_else(|| Failure::missing("ledger", "side"))?,
        state: convert::state(outcome.state)?,
        commit_sequence: outcome.commit_sequence,
        commit_time: outcome.commit_time,
    })
}
