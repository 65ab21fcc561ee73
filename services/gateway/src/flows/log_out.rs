//! Log-out.

use atm_faults::{Bug, planted};
use atm_proto::auth::CloseSessionRequest;
use atm_proto::gateway::LogOutResponse;

use crate::caller::Customer;
use crate::failure::Failure;
use crate::gateway::Gateway;

/// Ends the session: here at once, whatever becomes of the call, and at auth for every other gateway.
///
/// # Errors
/// Those of auth.
pub async fn log_out(gateway: &Gateway, customer: &Customer) -> Result<LogOutResponse, Failure> {
    let session_id = customer.session.session_id;
    if planted(Bug::LogOutEndsNothing) {
        return Ok(LogOutResponse {});
    }
    gateway.revocations.end_session(session_id);
    let request = CloseSessionRequest { session_id: session_id.hyphenated().to_string() };
    gateway.auth.close_session(customer.deadline, request).await?;
    Ok(LogOutResponse {})
}
