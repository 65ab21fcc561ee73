//! `recover`: settles every open transaction of the journal, and tells the story.

use atm_rpc::deadline::Deadline;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::flow;
use crate::journal::{Plan, Record, State};
use crate::output::{Receipt, Status};

const EXAMPLES: &str = "\
Examples:
  atm-cli recover
  atm-cli recover --deadline 30s --json

Needs no card and no PIN: this machine's terminal key is enough. Captures are sent until the bank has posted \
them, transactions that were given up are cancelled. Exit code 0: all are settled. Exit code 3: some are open.";

/// Settle every open transaction in the journal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {}

#[derive(Serialize)]
struct Keys {
    settled: usize,
    open: usize,
    transactions: Vec<TransactionKeys>,
}

#[derive(Serialize)]
struct TransactionKeys {
    transaction_id: String,
    kind: &'static str,
    was: &'static str,
    state: &'static str,
    status: Status,
    reason: Option<String>,
    amount: String,
    currency: String,
}

/// After so many in a row that the bank did not answer, the rest would not be answered either.
const SILENCES: u32 = 2;

pub(crate) async fn run(context: &Context, _args: &RecoverArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let mut machine = context.machine(&terminal)?;
    let open = machine.journal.open_transactions().map_err(|error| flow::journal_before(&error))?;
    if open.is_empty() {
        context.screen.good("Nothing is open.");
    }
    let mut silences = 0;
    let mut transactions = Vec::new();
    for record in open {
        let was = record.state;
        tell_before(context, &record);
        let record = if silences < SILENCES {
            let id = record.id();
            machine
                .settle(record, Deadline::after(context.global.deadline))
                .await
                .map_err(|error| flow::journal_after(&error, id))?
        } else {
            record
        };
        silences = match record.state.plan() {
            Plan::Nothing | Plan::Operator => 0,
            Plan::Cancel | Plan::AskDispenser | Plan::Capture => silences + 1,
        };
        tell_after(context, &record);
        transactions.push((was, record));
    }
    let still_open = transactions.iter().filter(|(_, record)| record.state.plan() != Plan::Nothing).count();
    let settled = transactions.len() - still_open;
    if !transactions.is_empty() {
        context.screen.result(&format!("{settled} settled, {still_open} still open"));
    }
    let transactions = transactions.iter().map(|(was, record)| keys(*was, record)).collect();
    context.screen.object(&Keys { settled, open: still_open, transactions });
    Ok(if still_open == 0 { Exit::Done } else { Exit::Unknown })
}

fn tell_before(context: &Context, record: &Record) {
    let Record { intent, state, .. } = record;
    let doing = match state.plan() {
        Plan::Cancel => "nothing was paid out: telling the bank to cancel it",
        Plan::AskDispenser => "asking the dispenser what came out",
        Plan::Capture => "the cash is out: telling the bank to post it",
        Plan::Operator => "a person must decide",
        Plan::Nothing => "nothing to do",
    };
    context.screen.result(&format!(
        "{}: {} of {}, card …{}, is {state}; {doing}",
        intent.id, intent.kind, intent.amount, intent.card.last_four
    ));
}

fn tell_after(context: &Context, record: &Record) {
    let id = record.id();
    let reason = record.reason.as_deref().unwrap_or("no reason known");
    match record.state {
        State::Done => context.screen.good(&format!("{id}: the bank has posted it. It counts, once.")),
        State::Voided if record.ending == Some(crate::journal::Ending::Declined) => {
            context.screen.good(&format!("{id}: the bank had declined it ({reason}). Nothing was moved."));
        }
        State::Voided => {
            context.screen.good(&format!("{id}: cancelled. Nothing was moved, and never will be."));
        }
        State::Suspect => context.screen.alarm(&format!(
            "{id}: machine and bank disagree ({reason}). Nothing is retried; a person must look."
        )),
        State::Intent
        | State::Authorized
        | State::Dispensing
        | State::Presented
        | State::CapturePending
        | State::VoidPending => {
            context.screen.error(&format!("{id}: no answer from the bank; it stays {}", record.state));
        }
    }
}

fn keys(was: State, record: &Record) -> TransactionKeys {
    let receipt = Receipt::of(record);
    let amount = record.presented.unwrap_or(record.intent.amount);
    TransactionKeys {
        transaction_id: record.id().to_string(),
        kind: record.intent.kind.name(),
        was: was.name(),
        state: record.state.name(),
        status: receipt.status,
        reason: receipt.reason,
        amount: amount.to_decimal(),
        currency: amount.currency().to_string(),
    }
}
