//! Another PIN: the old one counts like any attempt.

use atm_proto::auth;
use atm_proto::gateway::{ChangePinRequest, ChangePinResponse};

use crate::caller::Customer;
use crate::failure::{COME_BACK, Failure};
use crate::gateway::Gateway;
use crate::request;

/// Sets another PIN for the session's card.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::WrongCardOrPin`], [`Failure::CardLocked`], [`Failure::CardBlocked`],
/// [`Failure::Busy`], and those of auth.
pub async fn change_pin(
    gateway: &Gateway,
    customer: &Customer,
    request: ChangePinRequest,
) -> Result<ChangePinResponse, Failure> {
    request::pin(&request.old_pin, "old_pin")?;
    request::pin(&request.new_pin, "new_pin")?;
    let attempt_id = request::attempt_id(&request.attempt_id)?;
    let _place = gateway.pin_checks.try_acquire().map_err(|_| Failure::Busy { retry_after: COME_BACK })?;
    let asked = auth::ChangePinRequest {
        card_id: customer.session.card_id.hyphenated().to_string(),
        old_pin: request.old_pin,
        new_pin: request.new_pin,
        attempt_id: attempt_id.to_string(),
        atm_id: customer.session.atm_id.to_string(),
        terminal_id: customer.session.terminal_id.to_string(),
    };
    gateway.auth.change_pin(customer.deadline, asked).await?;
    Ok(ChangePinResponse {})
}
