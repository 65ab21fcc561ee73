//! Log-in: the PIN goes to auth once, with the id of its key press.

use atm_faults::{Bug, planted};
use atm_proto::auth::VerifyPinRequest;
use atm_proto::gateway::{LogInRequest, LogInResponse};

use crate::caller::Terminal;
use crate::failure::{COME_BACK, Failure};
use crate::gateway::Gateway;
use crate::request;
use crate::terminal::AtmId;

/// Checks a card and its PIN and opens a session at this machine.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::WrongCardOrPin`], [`Failure::CardLocked`], [`Failure::CardBlocked`],
/// [`Failure::TerminalMismatch`], [`Failure::StaleBoot`], [`Failure::Busy`], and those of an upstream.
pub async fn log_in(
    gateway: &Gateway,
    terminal: &Terminal,
    request: LogInRequest,
) -> Result<LogInResponse, Failure> {
    request::card_number(&request.card_number)?;
    request::pin(&request.pin, "pin")?;
    if planted(Bug::PinsAreLogged) {
        tracing::info!(card_number = request.card_number, pin = request.pin, "log-in");
    }
    let attempt_id = request::attempt_id(&request.attempt_id)?;
    let atm_id: AtmId = request.atm_id.parse()?;
    request.boot.as_ref().map_or(Ok(()), request::boot)?;
    if terminal.atm_id.as_ref().is_some_and(|said| *said != atm_id) {
        return Err(Failure::TerminalMismatch);
    }
    let _place = gateway.pin_checks.try_acquire().map_err(|_| Failure::Busy { retry_after: COME_BACK })?;
    let asked = VerifyPinRequest {
        card_number: request.card_number,
        pin: request.pin,
        attempt_id: attempt_id.to_string(),
        atm_id: atm_id.to_string(),
        terminal_id: terminal.id.to_string(),
        boot: request.boot,
    };
    let answer = gateway.auth.verify_pin(terminal.deadline, asked).await?;
    let session = answer.session.ok_or_else(|| Failure::missing("auth", "session"))?;
    Ok(LogInResponse {
        session_token: answer.session_token,
        expire_time: session.expire_time,
        account_id: session.account_id,
    })
}
