//! `admin suspect`: everything that is known of one withdrawal, as evidence for who has to decide it.

use atm_proto::gateway::{InspectTransactionResponse, Outcome};
use atm_types::{Currency, Money, Timestamp, TransactionId};
use clap::Args;
use serde::Serialize;
use tonic::Code;

use super::super::Context;
use super::cash;
use crate::cli::parse_transaction_id;
use crate::client::{AdminClient, read_failure};
use crate::device::{Dispense, PresentStatus};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Account, Counts, Record, State};
use crate::output::{Table, state_name};

const EXAMPLES: &str = "\
Examples:
  atm-cli admin suspect 0198a6b0-7c2e-7a11-8f00-3c2f5d1e9a01
  atm-cli admin suspect 0198a6b0-7c2e-7a11-8f00-3c2f5d1e9a01 --json

Shows what the journal wrote and when, what the cash device remembers, its counters before and now, what the ledger \
recorded, and what the counters suggest. Changes nothing. Of another machine's withdrawal only the ledger's part.";

/// Show the evidence about one withdrawal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SuspectArgs {
    /// The id of the withdrawal.
    #[arg(value_name = "ID", value_parser = parse_transaction_id)]
    id: TransactionId,
}

#[derive(Serialize)]
struct Keys {
    transaction_id: String,
    /// Null when this machine's journal does not know it.
    journal: Option<JournalKeys>,
    /// Null when the device was never told of it.
    device: Option<DeviceKeys>,
    /// Null when the ledger never heard of it.
    ledger: Option<LedgerKeys>,
    /// What the counters say, in words.
    suggests: Vec<String>,
}

#[derive(Serialize)]
struct JournalKeys {
    kind: &'static str,
    state: &'static str,
    reason: Option<String>,
    amount: String,
    currency: String,
    card_last_four: String,
    plan: String,
    cassettes_before: String,
    steps: Vec<StepKeys>,
}

#[derive(Serialize)]
struct StepKeys {
    event: String,
    time: String,
}

#[derive(Serialize)]
struct DeviceKeys {
    dispense_id: String,
    step: &'static str,
    /// `presented`, `not_presented` or `unknown`.
    status: &'static str,
    planned: String,
    stacked: String,
    rejected: String,
    presented: String,
    retracted: String,
    retract_counted: bool,
    cassettes_now: String,
}

#[derive(Serialize)]
struct LedgerKeys {
    current_state: &'static str,
    terminal_id: String,
    resolved_by: String,
    resolved_because: String,
    steps: Vec<LedgerStepKeys>,
}

#[derive(Serialize)]
struct LedgerStepKeys {
    state: &'static str,
    amount: Option<String>,
    commit_sequence: u64,
    time: Option<String>,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    args: &SuspectArgs,
) -> Result<Exit, Failure> {
    let before = |error| flow::journal_before(&error);
    let machine = cash::own_machine(context)?;
    let record = machine.as_ref().map(|machine| machine.journal.find(args.id)).transpose().map_err(before)?;
    let found = match client.inspect(args.id).await {
        Ok(found) => Some(found),
        Err(error) if error.status.code() == Code::NotFound => None,
        Err(error) => return Err(read_failure(&error)),
    };
    let own = machine.as_ref().zip(record.flatten());
    if own.is_none() && found.is_none() {
        let message = format!("neither this machine's journal nor the bank knows transaction {}", args.id);
        return Err(Failure::new(Exit::Declined, "not_found", message));
    }
    let (mut journal, mut device, mut suggests) = (None, None, Vec::new());
    if let Some((machine, record)) = &own {
        journal = Some(of_journal(machine, record)?);
        let dispense = match record.dispense_id.filter(|_| machine.device_is_ours) {
            Some(id) => machine.device.recall(id).map_err(|error| before(error.into()))?,
            None => None,
        };
        suggests = suggestions(machine, record, dispense.as_ref())?;
        let now = machine.counted(Account::Cassettes).map_err(before)?;
        let now = now.in_words(machine.currency);
        device = dispense.map(|dispense| of_device(&dispense, machine.currency, now));
    }
    let ledger = found.as_ref().map(of_ledger);
    let keys = Keys { transaction_id: args.id.to_string(), journal, device, ledger, suggests };
    show(context, &keys);
    context.screen.object(&keys);
    Ok(Exit::Done)
}

fn of_journal(machine: &Machine, record: &Record) -> Result<JournalKeys, Failure> {
    let steps = machine.journal.story(record.id()).map_err(|error| flow::journal_before(&error))?;
    let currency = record.intent.amount.currency();
    Ok(JournalKeys {
        kind: record.intent.kind.name(),
        state: record.state.name(),
        reason: record.reason.clone(),
        amount: record.intent.amount.to_decimal(),
        currency: currency.to_string(),
        card_last_four: record.intent.card.last_four.clone(),
        plan: record.plan.in_words(currency),
        cassettes_before: record.cassettes_before.in_words(currency),
        steps: steps.into_iter().map(|(event, at)| StepKeys { event, time: time(at) }).collect(),
    })
}

fn of_device(dispense: &Dispense, currency: Currency, cassettes_now: String) -> DeviceKeys {
    DeviceKeys {
        dispense_id: dispense.id.to_string(),
        step: dispense.step.name(),
        status: match dispense.status() {
            PresentStatus::Presented => "presented",
            PresentStatus::NotPresented => "not_presented",
            PresentStatus::Unknown => "unknown",
        },
        planned: dispense.planned.in_words(currency),
        stacked: dispense.stacked.in_words(currency),
        rejected: dispense.rejected.in_words(currency),
        presented: dispense.presented.in_words(currency),
        retracted: dispense.retracted.in_words(currency),
        retract_counted: dispense.counted,
        cassettes_now,
    }
}

fn of_ledger(found: &InspectTransactionResponse) -> LedgerKeys {
    let amount = |outcome: &Outcome| {
        let money = outcome.amount.as_ref()?;
        let currency: Currency = money.currency_code.parse().ok()?;
        Some(Money::new(money.minor_units, currency).to_decimal())
    };
    let at = |outcome: &Outcome| {
        let at = outcome.commit_time?;
        let nanos = at.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(at.nanos))?;
        Some(time(Timestamp::from_nanos(nanos)))
    };
    let step = |outcome: &Outcome| LedgerStepKeys {
        state: state_name(outcome.state()),
        amount: amount(outcome),
        commit_sequence: outcome.commit_sequence,
        time: at(outcome),
    };
    LedgerKeys {
        current_state: state_name(found.current_state()),
        terminal_id: found.terminal_id.clone(),
        resolved_by: found.resolved_by.clone(),
        resolved_because: found.resolved_because.clone(),
        steps: found.outcomes.iter().map(step).collect(),
    }
}

/// What the device and its counters say about the notes, for a person to weigh.
fn suggestions(
    machine: &Machine,
    record: &Record,
    dispense: Option<&Dispense>,
) -> Result<Vec<String>, Failure> {
    let before = |error| flow::journal_before(&error);
    let currency = machine.currency;
    let mut words = Vec::new();
    match dispense.map(Dispense::status) {
        None => words.push("the device was never told to pay this out: no notes left for it".to_owned()),
        Some(PresentStatus::NotPresented) => words.push("the device says that nothing was presented".to_owned()),
        Some(PresentStatus::Presented) if record.retract_uncounted => words.push(
            "the device presented the notes and took some or all of them back without counting: count the retract bin"
                .to_owned(),
        ),
        Some(PresentStatus::Presented) => words.push("the device says that the notes were presented".to_owned()),
        Some(PresentStatus::Unknown) => words.push(
            "the device does not know on which side of the shutter the notes are: if they are neither there nor in a \
             bin, the customer has them"
                .to_owned(),
        ),
    }
    if record.state == State::Done || record.state == State::Voided {
        return Ok(words);
    }
    let expected = machine.journal.expected().map_err(before)?;
    for place in [Account::Cassettes, Account::Reject, Account::Retract] {
        let counted = Counts::of_notes(&machine.counted(place).map_err(before)?);
        let differs = counted.less(&expected.notes(place));
        let worth = Money::new(differs.minor_units().saturating_abs(), currency);
        let notes = cash::in_words(&differs, currency);
        if differs.is_zero() {
            words
                .push(format!("{place}: the device counts what the journal expects without this withdrawal"));
        } else if differs.minor_units() < 0 {
            let left = if place == Account::Cassettes && worth == record.intent.amount {
                ": the notes of this withdrawal left the cassettes"
            } else {
                ""
            };
            words.push(format!("{place}: {worth} short of what the journal expects ({notes}){left}"));
        } else {
            words.push(format!("{place}: {worth} more than the journal expects ({notes})"));
        }
    }
    Ok(words)
}

fn show(context: &Context, keys: &Keys) {
    let say = |line: &str| context.screen.result(line);
    say(&format!("Transaction {}", keys.transaction_id));
    match &keys.journal {
        None => say("The journal of this machine does not know it."),
        Some(journal) => {
            say(&format!(
                "\nJournal: {} of {} {}, card …{}, {} ({})",
                journal.kind,
                journal.amount,
                journal.currency,
                journal.card_last_four,
                journal.state,
                journal.reason.as_deref().unwrap_or("no reason")
            ));
            say(&format!("  to be paid out: {}", journal.plan));
            say(&format!("  cassettes before: {}", journal.cassettes_before));
            let mut table = Table::new(&["time", "event"]);
            for step in &journal.steps {
                table.row(vec![step.time.clone(), step.event.clone()]);
            }
            say(&table.to_string());
        }
    }
    if let Some(device) = &keys.device {
        say(&format!(
            "\nDevice: dispense {} is {} (status {})",
            device.dispense_id, device.step, device.status
        ));
        say(&format!("  stacked: {}; rejected: {}", device.stacked, device.rejected));
        say(&format!("  presented: {}; taken back: {}", device.presented, device.retracted));
        say(&format!("  cassettes now: {}", device.cassettes_now));
    }
    match &keys.ledger {
        None => say("\nLedger: it never heard of it."),
        Some(ledger) => {
            say(&format!("\nLedger: {}", ledger.current_state));
            let mut table = Table::new(&["time", "state", ">amount", ">sequence"]);
            for step in &ledger.steps {
                table.row(vec![
                    step.time.clone().unwrap_or_default(),
                    step.state.to_owned(),
                    step.amount.clone().unwrap_or_default(),
                    step.commit_sequence.to_string(),
                ]);
            }
            say(&table.to_string());
            if !ledger.resolved_by.is_empty() {
                say(&format!("  resolved by {}: {}", ledger.resolved_by, ledger.resolved_because));
            }
        }
    }
    if !keys.suggests.is_empty() {
        say("\nWhat the counters suggest:");
        keys.suggests.iter().for_each(|words| say(&format!("  {words}")));
    }
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()))
        .map_or_else(|_| at.as_nanos().to_string(), |at| format!("{at:.3}"))
}
