//! Cash that a machine moved by itself: a load that it was told of, notes in the reject or retract bin, an emptied
//! box. No customer is concerned; the terminal speaks for the machine that its name is bound to, and no other.

use atm_proto::gateway::{RecordCashMovementRequest, RecordCashMovementResponse};

use crate::caller::Terminal;
use crate::cash::Movement;
use crate::failure::Failure;
use crate::gateway::Gateway;

/// Posts the movement under the terminal's id.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::TerminalMismatch`], [`Failure::TerminalNotBound`], [`Failure::IdReused`], and
/// those of an upstream.
pub async fn cash_movement(
    gateway: &Gateway,
    terminal: &Terminal,
    request: RecordCashMovementRequest,
) -> Result<RecordCashMovementResponse, Failure> {
    let places = (request.from, request.to);
    let movement = Movement::of(&request.transaction_id, places, request.amount.as_ref(), gateway.currency)?
        .by_a_machine()?;
    let atm_id = gateway.own_machine(terminal).await?;
    let (outcome, current_state) =
        gateway.move_cash(terminal.deadline, terminal.id, atm_id, movement).await?;
    Ok(RecordCashMovementResponse { outcome: Some(outcome), current_state })
}
