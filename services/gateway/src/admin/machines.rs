//! What operators order about machines: that a start is forgotten, and that a name is released.

use atm_proto::auth;
use atm_proto::gateway::{
    ForgetStartRequest, ForgetStartResponse, ReleaseTerminalRequest, ReleaseTerminalResponse,
};
use atm_rpc::deadline::Deadline;

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::request;
use crate::terminal::{ATM_ID, AtmId};

/// Lets the next start of a machine, or of every machine, sign on, whichever it is.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::MachineNotFound`], [`Failure::OrderIdReused`], and those of auth.
pub async fn forget_start(
    gateway: &Gateway,
    deadline: Deadline,
    request: ForgetStartRequest,
) -> Result<ForgetStartResponse, Failure> {
    let ForgetStartRequest { order_id, atm_id, all } = request;
    request::order_id(&order_id)?;
    if !all {
        atm_id.parse::<AtmId>()?;
    } else if !atm_id.is_empty() {
        return Err(Failure::invalid(ATM_ID, "must be empty when all machines are meant"));
    }
    let order = auth::ForgetStartRequest { order_id, atm_id, all };
    let answer = gateway.auth.forget_start(deadline, order).await?;
    Ok(ForgetStartResponse { machines: answer.machines })
}

/// Takes a machine's name from its terminal, here at once. Another gateway may remember for as long as it runs that
/// the old terminal had it.
///
/// # Errors
/// As [`forget_start`].
pub async fn release_terminal(
    gateway: &Gateway,
    deadline: Deadline,
    request: ReleaseTerminalRequest,
) -> Result<ReleaseTerminalResponse, Failure> {
    let ReleaseTerminalRequest { order_id, atm_id } = request;
    request::order_id(&order_id)?;
    let name: AtmId = atm_id.parse()?;
    gateway.auth.release_terminal(deadline, auth::ReleaseTerminalRequest { order_id, atm_id }).await?;
    gateway.machines.forget(&name);
    Ok(ReleaseTerminalResponse {})
}
