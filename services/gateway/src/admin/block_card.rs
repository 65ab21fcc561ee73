//! Blocking and unblocking a card.

use atm_proto::auth;
use atm_proto::gateway::{BlockCardResponse, UnblockCardResponse};
use atm_rpc::deadline::Deadline;
use atm_types::AttemptId;
use uuid::Uuid;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::request;

/// Blocks a card and ends its sessions, here at once.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::CardNotFound`], and those of auth.
pub async fn block_card(
    gateway: &Gateway,
    deadline: Deadline,
    card_number: String,
) -> Result<BlockCardResponse, Failure> {
    request::card_number(&card_number)?;
    let answer = gateway.auth.block_card(deadline, auth::BlockCardRequest { card_number }).await?;
    gateway.revocations.end_card(card_id(&answer.card_id)?);
    Ok(BlockCardResponse {})
}

/// Unblocks a card and forgets its wrong PINs. Sessions from before the block stay ended.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::CardNotFound`], and those of auth.
pub async fn unblock_card(
    gateway: &Gateway,
    deadline: Deadline,
    card_number: String,
) -> Result<UnblockCardResponse, Failure> {
    request::card_number(&card_number)?;
    // Taken before the card can be used again: a session of afterwards must not count as one of before.
    let now = gateway.clock.now();
    let answer = gateway.auth.unblock_card(deadline, auth::UnblockCardRequest { card_number }).await?;
    gateway.revocations.unblock_card(card_id(&answer.card_id)?, now);
    Ok(UnblockCardResponse {})
}

fn card_id(text: &str) -> Result<Uuid, Failure> {
    let id: AttemptId = text.parse().map_err(|_| Failure::missing("auth", "card id"))?;
    Ok(id.as_uuid())
}
