//! What withdrawals, deposits and transfers have in common: one key press from the PIN to the receipt.

use atm_rpc::deadline::Deadline;
use atm_types::Money;

use super::Context;
use crate::amount;
use crate::cli::{CardArgs, IdArgs};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Order};
use crate::journal::{CardTag, Intent, Kind};
use crate::output::{Receipt, show_failure};

/// A money command as it was typed.
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) amount: &'a str,
    pub(super) card: &'a CardArgs,
    pub(super) to_account: Option<&'a str>,
    pub(super) id: &'a IdArgs,
}

/// The part of the deadline that settling older transactions may take.
const SETTLING: f64 = 0.4;

/// Carries a money command out and shows how it ended.
pub(super) async fn run(context: &Context, request: &Request<'_>) -> Result<Exit, Failure> {
    let currency = context.global.currency;
    let amount = amount::positive(request.amount, currency);
    let shown = amount.as_ref().ok().copied();
    let given = request.id.transaction_id;
    let done = match amount {
        Ok(amount) => key_press(context, request, amount).await,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(receipt) => {
            receipt.show(context.screen, currency);
            Ok(receipt.exit())
        }
        Err(mut failure) => {
            failure.transaction_id = failure.transaction_id.or(given);
            show_failure(&failure, shown, context.screen, currency);
            context.screen.error(&failure.message);
            Ok(failure.exit)
        }
    }
}

async fn key_press(context: &Context, request: &Request<'_>, amount: Money) -> Result<Receipt, Failure> {
    let terminal = context.terminal()?;
    let mut machine = context.machine(&terminal)?;
    // What the machine cannot pay needs nobody's PIN.
    machine.finish_loads().map_err(|error| flow::journal_before(&error))?;
    machine.notes_for(request.kind, amount)?;
    let pin = context.pin(request.card.pin_file.as_deref(), "PIN:")?;

    // The key press: from here on the customer waits.
    let patience = context.global.deadline;
    let deadline = Deadline::after(patience);
    let order = Order {
        id_given: request.id.transaction_id.is_some(),
        intent: Intent {
            id: request.id.transaction_id.unwrap_or_else(|| context.ids.transaction_id()),
            kind: request.kind,
            amount,
            card: CardTag::new(terminal.key(), &request.card.card),
            to_account: request.to_account.map(str::to_owned),
            trace_id: context.trace.to_string(),
        },
    };
    if let Err(failure) = machine.sign_on_for_business(deadline).await {
        return machine.not_let_in(&order.intent, failure);
    }
    machine
        .settle_all_before(Deadline::after(patience.mul_f64(SETTLING)))
        .await
        .map_err(|error| flow::journal_before(&error))?;
    let (attempt_id, boot) = (context.ids.attempt_id(), machine.boot());
    let session = match machine.bank.log_in(&request.card.card, &pin, attempt_id, boot, deadline).await {
        Ok(session) => session,
        Err(failure) => return machine.not_let_in(&order.intent, failure),
    };
    drop(pin);
    machine.let_in().map_err(|error| flow::journal_before(&error))?;
    machine.enrol().map_err(|error| flow::journal_before(&error))?;
    let receipt = machine.perform(&session, &order, deadline).await;
    machine.bank.log_out(&session).await;
    // The customer has the receipt's facts; a bank that answered hears of the cash that moved inside the machine.
    if receipt.as_ref().is_ok_and(Receipt::is_settled) {
        machine.tell_of_movements(deadline).await;
    }
    receipt
}
