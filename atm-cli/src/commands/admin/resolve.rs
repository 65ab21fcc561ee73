//! `admin resolve`: a person decides a suspect withdrawal.
//!
//! The bank first: it takes one decision and keeps it, whoever asks again. Then the journal, where the withdrawal ends
//! with the cash movements that follow. Whatever dies in between, a repeat or `recover` ends it in the journal.

use atm_proto::gateway::Outcome;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use atm_types::{Currency, Money, TransactionId};
use clap::{ArgGroup, Args};
use serde::Serialize;
use tonic::Code;

use super::super::Context;
use super::{cash, write_failure};
use crate::amount::positive;
use crate::cli::parse_transaction_id;
use crate::client::AdminClient;
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Account, Record, State};
use crate::output::state_name;

const EXAMPLES: &str = "\
Examples:
  atm-cli admin resolve ID --presented 500 --operator 'A. Rahman' --reason 'seen on camera 2'
  atm-cli admin resolve ID --not-presented --operator 'A. Rahman' --reason 'notes found at the shutter'
  atm-cli admin resolve ID --not-presented --found-in reject --operator 'A. Rahman' --reason 'found on the belt'

Posts what the customer got and frees the rest, with who decided and why. A repeat is harmless; another decision is \
refused (exit code 2, reason id_reused). Without the machine's own state directory only the bank's side is done, and \
the machine learns of it by `atm-cli recover`.";

/// Decide a withdrawal of which nobody knew whether its notes left.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("decision").required(true).args(["presented", "not_presented"])))]
pub(super) struct ResolveArgs {
    /// The id of the withdrawal.
    #[arg(value_name = "ID", value_parser = parse_transaction_id)]
    id: TransactionId,
    /// The customer got this much, in major units.
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    presented: Option<String>,
    /// The customer got nothing.
    #[arg(long)]
    not_presented: bool,
    /// Who decides: 1 to 100 characters.
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Why: 1 to 500 characters.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// With --not-presented: where the notes were found, cassettes or reject, if the device does not find them itself.
    #[arg(long, value_name = "PLACE", requires = "not_presented")]
    found_in: Option<String>,
}

#[derive(Serialize)]
struct Keys {
    transaction_id: String,
    /// What the customer got.
    amount: String,
    currency: String,
    /// At the bank.
    state: &'static str,
    /// In this machine's journal; null when it does not know the withdrawal.
    journal_state: Option<&'static str>,
    /// Cash movements that followed, in words.
    notes: Vec<String>,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    args: &ResolveArgs,
) -> Result<Exit, Failure> {
    let before = |error| flow::journal_before(&error);
    let amount = match &args.presented {
        Some(text) => positive(text, context.global.currency)?,
        None => Money::zero(context.global.currency),
    };
    let found_in = args.found_in.as_deref().map(cash::place).transpose()?;
    if found_in.is_some_and(|place| !matches!(place, Account::Cassettes | Account::Reject)) {
        return Err(Failure::invalid("--found-in must be cassettes or reject"));
    }
    let mut machine = cash::own_machine(context)?;
    let mut record = match &machine {
        Some(machine) => machine.journal.find(args.id).map_err(before)?,
        None => None,
    };
    if let (Some(machine), Some(found)) = (&mut machine, &record)
        && found.state == State::SuspendPending
    {
        record = Some(freeze(context, machine, found.clone()).await?);
    }
    let answer = client.resolve(args.id, amount, &args.operator, &args.reason).await;
    let outcome = answer.map_err(|error| failure(&error, args.id))?;
    let decided = decided(&outcome, args.id, amount.currency())?;
    let mut keys = Keys {
        transaction_id: args.id.to_string(),
        amount: decided.to_decimal(),
        currency: decided.currency().to_string(),
        state: state_name(outcome.state()),
        journal_state: None,
        notes: Vec::new(),
    };
    if let (Some(machine), Some(record)) = (&mut machine, record) {
        let ended = end(context, machine, &record, decided, found_in).await?;
        keys.journal_state = Some(ended.state.name());
        keys.notes = where_they_are(machine, &ended)?;
    }
    let what = if decided.minor_units() > 0 {
        format!("the customer got {decided}, and it is posted")
    } else {
        "the customer got nothing, and the money is free again".to_owned()
    };
    context.screen.good(&format!("{}: {what}.", args.id));
    for words in &keys.notes {
        context.screen.result(words);
    }
    if keys.journal_state.is_none() {
        context
            .screen
            .note("This machine's journal does not know it; its own machine learns of it by `recover`.");
    }
    context.screen.object(&keys);
    Ok(Exit::Done)
}

/// The bank does not know yet that it is suspect, or its answer was lost.
async fn freeze(context: &Context, machine: &mut Machine, record: Record) -> Result<Record, Failure> {
    let id = record.id();
    machine.sign_on(Deadline::after(context.global.deadline)).await?;
    let deadline = Deadline::after(context.global.deadline);
    machine.settle(record, deadline).await.map_err(|error| flow::journal_after(&error, id))
}

/// What the bank has recorded.
fn decided(outcome: &Outcome, id: TransactionId, currency: Currency) -> Result<Money, Failure> {
    use atm_proto::types::TransactionState as Bank;
    let amount = outcome.amount.as_ref().filter(|amount| amount.currency_code == currency.code());
    match outcome.state() {
        Bank::Captured | Bank::CapturedLate => amount.map(|amount| Money::new(amount.minor_units, currency)),
        Bank::Cancelled => Some(Money::zero(currency)),
        Bank::Unspecified | Bank::Posted | Bank::Declined | Bank::Held | Bank::Expired | Bank::Suspect => {
            None
        }
    }
    .filter(|_| outcome.transaction_id == id.to_string())
    .ok_or_else(|| {
        let message = format!("the bank's answer about {id} makes no sense; run the same command again");
        Failure::new(Exit::Unknown, "unexpected_answer", message)
    })
}

/// Ends it in the journal and tells the bank of what the device found.
async fn end(
    context: &Context,
    machine: &mut Machine,
    record: &Record,
    amount: Money,
    found_in: Option<Account>,
) -> Result<Record, Failure> {
    let after = |error| {
        let message = format!(
            "{error}. The bank has recorded the decision, and the journal has not: run the same command again, or \
             `atm-cli recover`"
        );
        Failure::new(Exit::Unknown, "journal", message)
    };
    let ended = machine.end_suspect(record, amount, found_in).map_err(after)?;
    if !machine.journal.pending_movements().map_err(after)?.is_empty() {
        // What is not told now is told at the machine's next start.
        match machine.sign_on(Deadline::after(context.global.deadline)).await {
            Ok(()) => {
                let deadline = Deadline::after(context.global.deadline);
                machine.settle_movements(deadline).await.map_err(after)?;
            }
            Err(failure) => context.screen.note(&format!(
                "{failure}. Cash movements wait to be told to the bank by the machine's next start."
            )),
        }
    }
    Ok(ended)
}

/// Where the notes of it are, as far as that is known now.
fn where_they_are(machine: &Machine, record: &Record) -> Result<Vec<String>, Failure> {
    let all = machine.journal.all_movements().map_err(|error| flow::journal_before(&error))?;
    let about = all.iter().filter(|movement| movement.about == Some(record.id()));
    let mut words: Vec<String> = about
        .map(|movement| {
            let notes = movement.notes.in_words(machine.currency);
            format!("{notes} ({}) went from {} to {}", movement.amount, movement.from, movement.to)
        })
        .collect();
    for place in [Account::Cassettes, Account::Reject, Account::Retract] {
        let expected = machine.journal.expected().map_err(|error| flow::journal_before(&error))?;
        let counted = machine.counted(place).map_err(|error| flow::journal_before(&error))?;
        let differs = crate::journal::Counts::of_notes(&counted).less(&expected.notes(place));
        if !differs.is_zero() {
            words.push(format!(
                "{place}: the device counts {} against the journal; count it by hand (`atm-cli admin count`)",
                cash::in_words(&differs, machine.currency)
            ));
        }
    }
    Ok(words)
}

fn failure(error: &RetryError, id: TransactionId) -> Failure {
    let message = error.status.message();
    match error.status.code() {
        Code::AlreadyExists => Failure::new(
            Exit::WrongUse,
            "id_reused",
            format!("transaction {id} was decided otherwise before ({message}); that decision stands"),
        ),
        Code::FailedPrecondition => {
            Failure::new(Exit::Declined, "not_suspect", format!("the bank refused: {message}"))
        }
        _ => write_failure(error),
    }
}
