//! Issuing a card for an account.

use atm_proto::auth::{CardResultKind, CardToIssue, IssueCardsRequest};
use atm_proto::gateway::{IssueCardRequest, IssueCardResponse};
use atm_proto::ledger::AccountKind;
use atm_rpc::deadline::Deadline;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::request;

/// Issues a card, or sets the PIN that an issued card was missing.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::AccountNotFound`], [`Failure::CardOfAnotherAccount`], and those of the
/// upstreams.
pub async fn issue_card(
    gateway: &Gateway,
    deadline: Deadline,
    request: IssueCardRequest,
) -> Result<IssueCardResponse, Failure> {
    check(&request.card_number, &request.pin)?;
    let account = request::account(&request.account, "account")?.0;
    match gateway.accounts.kind(&gateway.ledger, deadline, account).await? {
        Some(AccountKind::Customer) => {}
        // The bank's own accounts have no cards.
        Some(
            AccountKind::Unspecified
            | AccountKind::Cash
            | AccountKind::Suspense
            | AccountKind::OpeningBalance,
        )
        | None => return Err(Failure::AccountNotFound),
    }
    let card =
        CardToIssue { card_number: request.card_number, account_id: account.to_string(), pin: request.pin };
    let answer = gateway.auth.issue_cards(deadline, IssueCardsRequest { cards: vec![card] }).await?;
    let result = answer.results.first().ok_or_else(|| Failure::missing("auth", "result"))?;
    Ok(IssueCardResponse { changed: changed(result.kind())? })
}

/// Checks a card to issue; its PIN may be missing.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn check(card_number: &str, pin: &str) -> Result<(), Failure> {
    request::card_number(card_number)?;
    if pin.is_empty() { Ok(()) } else { request::pin(pin, "pin") }
}

/// Whether issuing changed anything.
///
/// # Errors
/// [`Failure::CardOfAnotherAccount`], [`Failure::Defect`].
pub fn changed(kind: CardResultKind) -> Result<bool, Failure> {
    match kind {
        CardResultKind::Issued | CardResultKind::PinSet => Ok(true),
        CardResultKind::Unchanged => Ok(false),
        CardResultKind::OtherAccount => Err(Failure::CardOfAnotherAccount),
        CardResultKind::Unspecified => Err(Failure::missing("auth", "kind of result")),
    }
}
