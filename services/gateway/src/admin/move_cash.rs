//! Cash that an operator moved: a load, an unload, or the difference that a count found.

use atm_proto::gateway::{MoveCashRequest, MoveCashResponse};
use atm_proto::ledger::GetTransactionRequest;
use atm_rpc::deadline::Deadline;
use atm_types::TerminalId;

use crate::cash::Movement;
use crate::failure::Failure;
use crate::flows::transaction::accounts_of;
use crate::gateway::Gateway;
use crate::grpc::convert;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// Posts a movement between any two places of one machine or the vault, in the bank's own name.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::IdReused`], and those of the ledger.
pub async fn move_cash(
    gateway: &Gateway,
    deadline: Deadline,
    request: MoveCashRequest,
) -> Result<MoveCashResponse, Failure> {
    let atm_id: AtmId = request.atm_id.parse()?;
    let places = (request.from, request.to);
    let movement = Movement::of(&request.transaction_id, places, request.amount.as_ref(), gateway.currency)?;
    match gateway.move_cash(deadline, TerminalId::SERVICE, &atm_id, movement).await {
        Ok((outcome, _)) => Ok(MoveCashResponse { outcome: Some(outcome) }),
        Err(Failure::IdReused { field: "from" | "to" })
            if is_of_another_machine(gateway, deadline, &atm_id, &request.transaction_id).await =>
        {
            Err(Failure::IdReused { field: "atm_id" })
        }
        Err(failure) => Err(failure),
    }
}

/// Whether what was recorded under the id concerns another machine. To the ledger that is another account, which the
/// operator never named; if it cannot be found out now, the place is named that the account stands for.
async fn is_of_another_machine(gateway: &Gateway, deadline: Deadline, atm_id: &AtmId, id: &str) -> bool {
    let asked = GetTransactionRequest { transaction_id: id.to_owned() };
    let Ok(recorded) = gateway.ledger.get_transaction(deadline, Asked::Transaction, asked).await else {
        return false;
    };
    accounts_of(&recorded.steps).is_some_and(|outcome| {
        [&outcome.debit_account_id, &outcome.credit_account_id]
            .into_iter()
            .filter_map(|account| convert::account_id(account))
            .any(|account| !gateway.is_place_of(atm_id, account))
    })
}
