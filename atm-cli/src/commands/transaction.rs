//! `transaction show` and `transaction cancel`: what is recorded under an id, and the fence.

use atm_proto::gateway::Outcome;
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_types::{Currency, Money, TransactionId};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use crate::cli::{CardArgs, parse_transaction_id};
use crate::client::{Session, read_failure};
use crate::exit::{Exit, Failure};
use crate::flow::{Machine, decline_reason};
use crate::journal::CardTag;
use crate::output::{Status, Table, show_failure, state_name};
use crate::pin::Pin;

const SHOW_EXAMPLES: &str = "\
Example:
  atm-cli transaction show 0190b5f0-7c1e-7a3b-9d55-0242ac120002 --card 123456789";

const CANCEL_EXAMPLES: &str = "\
Example:
  atm-cli transaction cancel 0190b5f0-7c1e-7a3b-9d55-0242ac120002 --card 123456789

Exit code 0: it was not applied and never will be. Exit code 1: it has an outcome that stays, which is printed. \
Exit code 3: the bank was not heard, or let nobody in, and the transaction may have taken place before; run it again. \
Only the machine that began a transaction can cancel it, and not once its cash was presented.";

const EXAMPLES: &str = "\
Examples:
  atm-cli transaction show 0190b5f0-7c1e-7a3b-9d55-0242ac120002 --card 123456789
  atm-cli transaction cancel 0190b5f0-7c1e-7a3b-9d55-0242ac120002 --card 123456789";

/// Look a transaction up, or fence it off.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TransactionArgs {
    #[command(subcommand)]
    command: TransactionCommand,
}

#[derive(Debug, Subcommand)]
enum TransactionCommand {
    /// Show everything that the bank recorded under an id.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(OneArgs),
    /// Make sure that a transaction never takes effect, or learn its outcome.
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The transaction's id.
    #[arg(value_name = "ID", value_parser = parse_transaction_id)]
    id: TransactionId,
    #[command(flatten)]
    card: CardArgs,
}

impl TransactionArgs {
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.command, TransactionCommand::Show(_))
    }
}

pub(crate) async fn run(context: &Context, args: &TransactionArgs) -> Result<Exit, Failure> {
    match &args.command {
        TransactionCommand::Show(args) => show(context, args).await,
        TransactionCommand::Cancel(args) => match cancel(context, args).await {
            Ok(exit) => Ok(exit),
            Err(failure) => {
                let failure = failure.about(args.id);
                let status = Status::of_failed_cancel(&failure);
                show_failure(&failure, status, None, context.screen, context.global.currency);
                context.screen.error(&failure.to_string());
                Ok(failure.exit)
            }
        },
    }
}

#[derive(Serialize)]
struct Keys {
    transaction_id: String,
    state: &'static str,
    outcomes: Vec<OutcomeKeys>,
}

#[derive(Serialize)]
struct OutcomeKeys {
    state: &'static str,
    reason: Option<String>,
    amount: Option<String>,
    balance: Option<String>,
    available: Option<String>,
    currency: String,
    commit_sequence: u64,
    time: String,
}

async fn show(context: &Context, args: &OneArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let gateway = context.gateway(&terminal)?;
    let (session, deadline) = context.log_in(&gateway, &args.card).await?;
    let answer = gateway.transaction(Some(&session), args.id, deadline).await;
    gateway.log_out(&session).await;
    let answer = answer.map_err(|error| read_failure(&error).about(args.id))?;

    let state = state_name(answer.current_state());
    let outcomes: Vec<OutcomeKeys> =
        answer.outcomes.iter().map(|outcome| outcome_keys(context, outcome)).collect();
    context.screen.result(&format!("Transaction {} is {state}", args.id));
    let mut table = Table::new(&["time", "step", ">amount", ">balance", ">available", "reason"]);
    for outcome in &outcomes {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            outcome.time.clone(),
            outcome.state.to_owned(),
            text(&outcome.amount),
            text(&outcome.balance),
            text(&outcome.available),
            outcome.reason.clone().unwrap_or_default(),
        ]);
    }
    context.screen.result(&table.to_string());
    context.screen.object(&Keys { transaction_id: args.id.to_string(), state, outcomes });
    Ok(Exit::Done)
}

fn outcome_keys(context: &Context, outcome: &Outcome) -> OutcomeKeys {
    let amount = outcome.amount.as_ref();
    let currency: Currency =
        amount.and_then(|amount| amount.currency_code.parse().ok()).unwrap_or(context.global.currency);
    let decimal = |units: i64| Money::new(units, currency).to_decimal();
    let state = outcome.state();
    OutcomeKeys {
        state: state_name(state),
        reason: (state == TransactionState::Declined).then(|| decline_reason(outcome)),
        amount: amount.map(|amount| decimal(amount.minor_units)),
        balance: outcome.balance.as_ref().map(|balance| decimal(balance.balance_minor_units)),
        available: outcome.balance.as_ref().map(|balance| decimal(balance.available_minor_units)),
        currency: currency.to_string(),
        commit_sequence: outcome.commit_sequence,
        time: time_text(outcome.commit_time.as_ref()),
    }
}

async fn cancel(context: &Context, args: &OneArgs) -> Result<Exit, Failure> {
    let in_doubt = |failure: Failure| failure.in_doubt(args.id);
    let terminal = context.terminal().map_err(in_doubt)?;
    let mut machine = context.machine(&terminal).map_err(in_doubt)?;
    let pin = context.pin(args.card.pin_file.as_deref(), "PIN:")?;
    let deadline = Deadline::after(context.global.deadline);
    let card = CardTag::new(terminal.key(), &args.card.card);
    let receipt = match let_in(context, args, &mut machine, &pin, deadline).await {
        Ok(session) => {
            let receipt = machine.cancel_by_customer(args.id, &card, deadline).await;
            machine.bank.log_out(&session).await;
            receipt?
        }
        Err(failure) => machine.cancel_not_let_in(args.id, &card, failure)?,
    };
    receipt.show_cancel(context.screen, context.global.currency);
    Ok(match receipt.status {
        // Here it is what was asked for.
        Status::Cancelled => Exit::Done,
        Status::Declined | Status::Captured | Status::CapturePending | Status::Posted => Exit::Declined,
        Status::Unknown => Exit::Unknown,
    })
}

async fn let_in(
    context: &Context,
    args: &OneArgs,
    machine: &mut Machine,
    pin: &Pin,
    deadline: Deadline,
) -> Result<Session, Failure> {
    machine.sign_on(deadline).await?;
    let (attempt_id, boot) = (context.ids.attempt_id(), machine.boot());
    machine.bank.log_in(&args.card.card, pin, attempt_id, boot, deadline).await
}

/// RFC 3339 in UTC, to the millisecond; empty when there is none.
pub(super) fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok())
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        .unwrap_or_default()
}
