//! Blocking and unblocking a card.

use atm_proto::auth;
use atm_proto::gateway::{BlockCardRequest, BlockCardResponse, UnblockCardRequest, UnblockCardResponse};
use atm_rpc::deadline::Deadline;
use atm_types::AttemptId;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::request;

/// Blocks a card and ends its sessions, here at once.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::CardNotFound`], [`Failure::OrderIdReused`], and those of auth.
pub async fn block_card(
    gateway: &Gateway,
    deadline: Deadline,
    request: BlockCardRequest,
) -> Result<BlockCardResponse, Failure> {
    let BlockCardRequest { card_number, order_id } = request;
    request::card_number(&card_number)?;
    request::order_id(&order_id)?;
    let answer = gateway.auth.block_card(deadline, auth::BlockCardRequest { card_number, order_id }).await?;
    let card_id: AttemptId = answer.card_id.parse().map_err(|_| Failure::missing("auth", "card id"))?;
    let until = answer.revoke_time.ok_or_else(|| Failure::missing("auth", "time of the block"))?;
    gateway.revocations.end_card(card_id.as_uuid(), until);
    Ok(BlockCardResponse {})
}

/// Unblocks a card and forgets its wrong PINs. Sessions from before the block stay ended.
///
/// # Errors
/// As [`block_card`].
pub async fn unblock_card(
    gateway: &Gateway,
    deadline: Deadline,
    request: UnblockCardRequest,
) -> Result<UnblockCardResponse, Failure> {
    let UnblockCardRequest { card_number, order_id } = request;
    request::card_number(&card_number)?;
    request::order_id(&order_id)?;
    gateway.auth.unblock_card(deadline, auth::UnblockCardRequest { card_number, order_id }).await?;
    Ok(UnblockCardResponse {})
}
