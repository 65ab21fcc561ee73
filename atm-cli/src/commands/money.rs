//! What withdrawals, deposits and transfers have in common: one key press from the PIN to the receipt.

use atm_rpc::deadline::Deadline;
use atm_types::Money;

use super::Context;
use crate::amount;
use crate::cli::{CardArgs, IdArgs};
use crate::client::Session;
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine, Order};
use crate::journal::{CardTag, Intent, JournalError, Kind};
use crate::output::{Receipt, Status, When, show_failure};
use crate::pin::Pin;

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
            show_failure(&failure, Status::of_failure(&failure), shown, context.screen, currency);
            context.screen.error(&failure.to_string());
            Ok(failure.exit)
        }
    }
}

async fn key_press(context: &Context, request: &Request<'_>, amount: Money) -> Result<Receipt, Failure> {
    let given = request.id.transaction_id;
    // The journal cannot be read now. An id that was given may stand in it, or be under way in the process that has it.
    let not_looked_up = |failure: Failure| match given {
        Some(id) => failure.in_doubt(id),
        None => failure,
    };
    let terminal = context.terminal().map_err(not_looked_up)?;
    let mut machine = context.machine(&terminal).map_err(not_looked_up)?;
    let order = Order {
        id_given: given.is_some(),
        intent: Intent {
            id: given.unwrap_or_else(|| context.ids.transaction_id()),
            kind: request.kind,
            amount,
            card: CardTag::new(terminal.key(), &request.card.card),
            to_account: request.to_account.map(str::to_owned),
            trace_id: context.trace.to_string(),
        },
    };
    let (pin, when) = match prepare(context, request, &mut machine, &order) {
        Ok(prepared) => prepared,
        Err(failure) => return machine.not_let_in(&order, failure),
    };
    // Not before the PIN: whoever is asked for it can still go, and nothing has happened.
    let stop = context.stop();
    let (session, deadline, receipt) = tokio::select! {
        // What is done is done, whatever else is ready.
        biased;
        // Boxed: what calls this nests as deep as a compiler will follow.
        served = Box::pin(serve(context, request, &mut machine, &order, pin)) => match served {
            Ok(served) => served,
            Err(failure) => return machine.not_let_in(&order, failure),
        },
        () = stop.cancelled() => return machine.stopped(&order, when),
    };
    let afterwards = async {
        machine.bank.log_out(&session).await;
        // The customer has the receipt's facts; a bank that answered hears of the cash that moved inside the machine.
        if receipt.as_ref().is_ok_and(Receipt::is_settled) {
            machine.tell_of_movements(deadline).await;
        }
    };
    tokio::select! {
        biased;
        () = afterwards => {}
        () = stop.cancelled() => {}
    }
    receipt
}

/// What needs no bank: the machine can do it, and there is a PIN. Also in which run it began, should it be broken off.
fn prepare(
    context: &Context,
    request: &Request<'_>,
    machine: &mut Machine,
    order: &Order,
) -> Result<(Pin, When), Failure> {
    machine.finish_loads().map_err(|error| flow::journal_before(&error))?;
    // What the machine cannot pay needs nobody's PIN; what was paid already needs no notes.
    let when = if machine.has_begun(order)? {
        When::BeforeUnasked
    } else {
        machine.notes_for(request.kind, order.intent.amount)?;
        When::Now
    };
    Ok((context.pin(request.card.pin_file.as_deref(), "PIN:")?, when))
}

type Served = (Session, Deadline, Result<Receipt, Failure>);

/// The key press: from here on the customer waits. Fails when she is not let in.
async fn serve(
    context: &Context,
    request: &Request<'_>,
    machine: &mut Machine,
    order: &Order,
    pin: Pin,
) -> Result<Served, Failure> {
    let (session, deadline) = let_in(context, request, machine, pin).await?;
    let receipt = machine.perform(&session, order, deadline).await;
    Ok((session, deadline, receipt))
}

/// Everything before the customer's own transaction: the PIN is right, and what was open is settled.
async fn let_in(
    context: &Context,
    request: &Request<'_>,
    machine: &mut Machine,
    pin: Pin,
) -> Result<(Session, Deadline), Failure> {
    let before = |error: JournalError| flow::journal_before(&error);
    let patience = context.global.deadline;
    let deadline = Deadline::after(patience);
    machine.sign_on_for_business(deadline).await?;
    machine.settle_all_before(Deadline::after(patience.mul_f64(SETTLING))).await.map_err(before)?;
    let (attempt_id, boot) = (context.ids.attempt_id(), machine.boot());
    let session = machine.bank.log_in(&request.card.card, &pin, attempt_id, boot, deadline).await?;
    drop(pin);
    machine.let_in().map_err(before)?;
    machine.enrol().map_err(before)?;
    Ok((session, deadline))
}
