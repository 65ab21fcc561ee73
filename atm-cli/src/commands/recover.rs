//! `recover`: settles every open transaction of the journal, and tells the story.

use std::path::PathBuf;

use atm_rpc::deadline::Deadline;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine, Redriven};
use crate::journal::{Kind, Plan, Record, State};
use crate::output::{Receipt, Status, tell_story};

const EXAMPLES: &str = "\
Examples:
  atm-cli recover
  atm-cli recover --deadline 30s --json

Needs no card and no PIN: this machine's terminal key is enough. Asks the cash device what came out, sends captures \
until the bank has posted them, cancels what was given up, freezes what nobody knows, and learns what operators \
decided. After the bank was restored from an older backup it is told again what it forgot, and the machine goes \
back into service. Exit code 0: all are settled. Exit code 3: some are open, or wait for a person. Exit code 5: nothing is open, and the \
bank was not heard.";

/// Settle every open transaction in the journal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {
    /// Also tell the bank of cash that operators moved; their token's file, mode 0600.
    #[arg(long, env = "ATM_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Keys {
    settled: usize,
    open: usize,
    transactions: Vec<TransactionKeys>,
    /// Cash movements that the bank does not know yet.
    movements_pending: usize,
    /// Only after the bank went back.
    redriven: Option<RedrivenKeys>,
    /// Null when the bank was not heard, and the journal knows of no outage.
    in_service: Option<bool>,
}

#[derive(Serialize)]
struct RedrivenKeys {
    told: usize,
    alarms: usize,
    silent: usize,
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
    /// Every step that the journal has, in order.
    steps: Vec<String>,
}

/// Whether the bank answered the machine's sign-on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    No,
}

/// After so many in a row that the bank did not answer, the rest would not be answered either.
const SILENCES: u32 = 2;

pub(crate) async fn run(context: &Context, args: &RecoverArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let mut machine = context.machine(&terminal)?;
    let before = |error| flow::journal_before(&error);
    machine.finish_loads().map_err(before)?;
    let open = machine.journal.open_transactions().map_err(before)?;
    let signed_on = machine.sign_on(Deadline::after(context.global.deadline)).await;
    if let Err(failure) = signed_on {
        return not_signed_on(context, &machine, open, failure);
    }
    if machine.must_redrive().map_err(before)? {
        // Without the accounts that they open, a capture of cash that is out would be refused.
        let mut told = Redriven::default();
        machine.redrive_movements(context.global.deadline, &mut told).await.map_err(before)?;
    }
    let transactions = settle_all(context, &mut machine, open).await?;
    let grace = Deadline::after(context.global.deadline);
    machine.settle_movements(grace).await.map_err(before)?;
    let redriven = redrive(context, &mut machine).await?;
    super::admin::finish_movements(context, &mut machine, args.operator_token_file.as_deref()).await?;
    finish(context, &machine, &transactions, redriven, Heard::Yes)
}

/// The bank cannot be reached, or this start may not serve: nothing is sent, and everything stays as it is.
fn not_signed_on(
    context: &Context,
    machine: &Machine,
    open: Vec<Record>,
    failure: Failure,
) -> Result<Exit, Failure> {
    if failure.reason != "unavailable" {
        return Err(failure);
    }
    context.screen.error(&failure.to_string());
    let transactions: Vec<_> = open.into_iter().map(|record| (record.state, record)).collect();
    for (_, record) in &transactions {
        tell_before(context, record);
        tell_after(context, record);
    }
    finish(context, machine, &transactions, None, Heard::No)
}

async fn settle_all(
    context: &Context,
    machine: &mut Machine,
    open: Vec<Record>,
) -> Result<Vec<(State, Record)>, Failure> {
    let mut silences = 0;
    let mut transactions = Vec::new();
    machine.clear_escrow().map_err(|error| flow::journal_before(&error))?;
    for record in open {
        let (was, id) = (record.state, record.id());
        let after = |error| flow::journal_after(&error, id);
        tell_before(context, &record);
        let found = machine.journal.story(id).map_err(after)?.len();
        let record = if silences < SILENCES {
            let deadline = Deadline::after(context.global.deadline);
            let record = machine.settle(record, deadline).await.map_err(after)?;
            machine.ask_resolution(record, deadline).await.map_err(after)?
        } else {
            record
        };
        silences = match record.state.plan() {
            Plan::Nothing | Plan::Operator => 0,
            Plan::Cancel
            | Plan::AskDispenser
            | Plan::Collect
            | Plan::Capture
            | Plan::Suspend
            | Plan::Stack
            | Plan::Return => silences + 1,
        };
        let story = machine.journal.story(id).map_err(after)?;
        let steps: Vec<String> = story.into_iter().map(|(event, _)| event).collect();
        tell_story(context.screen, &record, &steps, found);
        tell_after(context, &record);
        transactions.push((was, record));
    }
    Ok(transactions)
}

async fn redrive(context: &Context, machine: &mut Machine) -> Result<Option<Redriven>, Failure> {
    let before = |error| flow::journal_before(&error);
    if !machine.must_redrive().map_err(before)? {
        return Ok(None);
    }
    context.screen.result("The bank was restored from an older backup: telling it again what it forgot");
    let redriven = machine.redrive(context.global.deadline).await.map_err(before)?;
    let Redriven { told, alarms, silent } = redriven;
    if silent == 0 {
        context
            .screen
            .good(&format!("{told} told again, {alarms} for a person to look at. Back in service."));
    } else {
        context
            .screen
            .error(&format!("{told} told again; then no answer. The machine stays out of service."));
    }
    Ok(Some(redriven))
}

fn finish(
    context: &Context,
    machine: &Machine,
    transactions: &[(State, Record)],
    redriven: Option<Redriven>,
    heard: Heard,
) -> Result<Exit, Failure> {
    let before = |error| flow::journal_before(&error);
    let still_open = transactions.iter().filter(|(_, record)| record.state.plan() != Plan::Nothing).count();
    let settled = transactions.len() - still_open;
    if transactions.is_empty() && heard == Heard::No {
        context.screen.result("Nothing is open here; whether the bank lets this machine serve is not known.");
    } else if transactions.is_empty() {
        context.screen.good("Nothing is open.");
    } else {
        context.screen.result(&format!("{settled} settled, {still_open} still open"));
    }
    let by_operators = machine.journal.operators_movements().map_err(before)?.len();
    let movements_pending = machine.journal.pending_movements().map_err(before)?.len() + by_operators;
    if movements_pending > 0 {
        context.screen.result(&format!("{movements_pending} cash movements are not yet known to the bank"));
    }
    if by_operators > 0 {
        context.screen.result(&format!(
            "{by_operators} of them were moved by operators: give --operator-token-file, or run `atm-cli admin load`"
        ));
    }
    let outage = machine.journal.status().map_err(before)?.outage.is_some();
    let in_service = (heard == Heard::Yes || outage).then_some(!outage);
    let keys = transactions.iter().map(|(was, record)| keys(machine, *was, record));
    context.screen.object(&Keys {
        settled,
        open: still_open,
        transactions: keys.collect::<Result<_, _>>()?,
        movements_pending,
        redriven: redriven.map(|Redriven { told, alarms, silent }| RedrivenKeys { told, alarms, silent }),
        in_service,
    });
    let alarms = redriven.is_some_and(|redriven| redriven.alarms > 0);
    Ok(match heard {
        _ if still_open > 0 || movements_pending > 0 || alarms => Exit::Unknown,
        Heard::No => Exit::Unavailable,
        Heard::Yes if outage => Exit::Unknown,
        Heard::Yes => Exit::Done,
    })
}

fn tell_before(context: &Context, record: &Record) {
    let Record { intent, state, .. } = record;
    let doing = match state.plan() {
        Plan::Cancel => "nothing was paid out: telling the bank to cancel it",
        Plan::AskDispenser => "asking the dispenser what came out",
        Plan::Collect => "the cash was presented: asking the dispenser what was taken",
        Plan::Capture => "the cash is out: telling the bank to post it",
        Plan::Suspend => "nobody knows whether the cash is out: telling the bank to freeze the hold",
        Plan::Stack => "the bank has credited it: storing the notes",
        Plan::Return => "the bank did not credit it: handing the notes back",
        Plan::Operator => "a person must decide at the bank: asking whether somebody did",
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
        State::Done if record.intent.kind == Kind::Withdrawal => context.screen.good(&format!(
            "{id}: the customer got {}, and the bank has posted it. It counts, once.",
            record.taken()
        )),
        State::Done => context.screen.good(&format!("{id}: the bank has posted it. It counts, once.")),
        State::Voided if record.ending == Some(crate::journal::Ending::Declined) => {
            context.screen.good(&format!("{id}: the bank had declined it ({reason}). Nothing was moved."));
        }
        State::Voided => {
            context.screen.good(&format!("{id}: cancelled. Nothing was moved, and never will be."));
        }
        State::Suspect => {
            context
                .screen
                .alarm(&format!("{id}: SUSPECT ({reason}). Nothing is retried; a person must look."));
        }
        State::Intent
        | State::Authorized
        | State::Dispensing
        | State::Presented
        | State::CapturePending
        | State::VoidPending
        | State::SuspendPending
        | State::StackPending
        | State::ReturnPending => {
            context.screen.error(&format!("{id}: no answer from the bank; it stays {}", record.state));
        }
    }
}

fn keys(machine: &Machine, was: State, record: &Record) -> Result<TransactionKeys, Failure> {
    let receipt = Receipt::of(record);
    let amount = record.taken();
    let story = machine.journal.story(record.id()).map_err(|error| flow::journal_before(&error))?;
    Ok(TransactionKeys {
        transaction_id: record.id().to_string(),
        kind: record.intent.kind.name(),
        was: was.name(),
        state: record.state.name(),
        status: receipt.status,
        reason: receipt.reason,
        amount: amount.to_decimal(),
        currency: amount.currency().to_string(),
        steps: story.into_iter().map(|(event, _)| event).collect(),
    })
}
