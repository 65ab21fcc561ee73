//! `admin suspects`: the withdrawals that wait for a person, by the journal and by the bank.

use std::collections::BTreeMap;

use atm_proto::gateway::Suspect;
use atm_types::{Currency, Money};
use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::{cash, compare};
use crate::client::{AdminClient, read_failure};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Record, State};
use crate::output::Table;

const EXAMPLES: &str = "\
Examples:
  atm-cli admin suspects
  atm-cli admin suspects --json
  atm-cli admin suspects --atm-id ATM-0042      of another machine, by the bank alone

Lists withdrawals of which the cash device could not say whether the notes left. `atm-cli admin suspect ID` shows the \
evidence, `atm-cli admin resolve ID` decides. Exit code 1: journal and bank disagree about which they are.";

/// List the withdrawals that wait for a person.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SuspectsArgs {}

#[derive(Serialize)]
struct Keys {
    atm_id: String,
    /// Whether the journal was there to be asked.
    journal_asked: bool,
    suspects: Vec<SuspectKeys>,
    /// Whether the bank listed all of them.
    complete: bool,
    agrees: bool,
}

#[derive(Default, Serialize)]
struct SuspectKeys {
    transaction_id: String,
    amount: String,
    currency: String,
    /// What the journal says of it; null when it does not list it.
    journal_state: Option<&'static str>,
    reason: Option<String>,
    /// Whether the bank lists it.
    at_bank: bool,
    /// In words, where they disagree.
    disagreement: Option<String>,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    _args: &SuspectsArgs,
) -> Result<Exit, Failure> {
    let (atm_id, machine) = asked(context)?;
    let answer = client.suspects(&atm_id).await.map_err(|error| read_failure(&error))?;
    let suspects = join(machine.as_ref(), &answer.suspects, answer.complete)?;
    let mut table = Table::new(&["transaction", ">amount", "journal", "bank", "reason"]);
    for suspect in &suspects {
        table.row(vec![
            suspect.transaction_id.clone(),
            suspect.amount.clone(),
            suspect.journal_state.unwrap_or("-").to_owned(),
            if suspect.at_bank { "SUSPECT" } else { "-" }.to_owned(),
            suspect.reason.clone().unwrap_or_default(),
        ]);
    }
    if suspects.is_empty() {
        context.screen.good(&format!("{atm_id} has no suspects."));
    } else {
        context.screen.result(&table.to_string());
    }
    for suspect in &suspects {
        if let Some(words) = &suspect.disagreement {
            context.screen.alarm(&format!("{}: {words}", suspect.transaction_id));
        }
    }
    if !answer.complete {
        context.screen.note("The bank did not list all of them: resolve these, and ask again.");
    }
    let agrees = suspects.iter().all(|suspect| suspect.disagreement.is_none());
    let (journal_asked, complete) = (machine.is_some(), answer.complete);
    context.screen.object(&Keys { atm_id, journal_asked, suspects, complete, agrees });
    Ok(if agrees { Exit::Done } else { Exit::Declined })
}

/// Whose suspects: this machine's with its journal, or another one's without.
fn asked(context: &Context) -> Result<(String, Option<Machine>), Failure> {
    let machine = cash::own_machine(context)?;
    let named = context.global.atm_id.clone();
    let Some(machine) = machine else {
        let named = named.ok_or_else(|| {
            Failure::invalid(
                "there is no machine in this state directory; name one with --atm-id, or give --state",
            )
        })?;
        return Ok((named, None));
    };
    let status = machine.journal.status().map_err(|error| flow::journal_before(&error))?;
    let own = machine.bank.atm_id().to_owned();
    let is_own = status.enrolled_as.as_ref().is_none_or(|name| *name == own);
    Ok((own, is_own.then_some(machine)))
}

fn join(machine: Option<&Machine>, at_bank: &[Suspect], complete: bool) -> Result<Vec<SuspectKeys>, Failure> {
    let mut joined: BTreeMap<String, SuspectKeys> = BTreeMap::new();
    for suspect in at_bank {
        let (amount, currency) = in_decimals(suspect);
        let transaction_id = suspect.transaction_id.clone();
        let keys = SuspectKeys { transaction_id, amount, currency, at_bank: true, ..SuspectKeys::default() };
        joined.insert(suspect.transaction_id.clone(), keys);
    }
    let Some(machine) = machine else { return Ok(joined.into_values().collect()) };
    let expected = machine.journal.expected().map_err(|error| flow::journal_before(&error))?;
    for record in compare::suspects(&expected) {
        let id = record.id().to_string();
        let keys = joined.entry(id.clone()).or_insert_with(|| SuspectKeys {
            transaction_id: id,
            amount: record.intent.amount.to_decimal(),
            currency: record.intent.amount.currency().to_string(),
            ..SuspectKeys::default()
        });
        keys.journal_state = Some(record.state.name());
        keys.reason.clone_from(&record.reason);
        if !keys.at_bank && complete && record.state == State::Suspect {
            keys.disagreement = Some(
                "SUSPECT in the journal and not at the bank: it was resolved there, or refused. Run `atm-cli recover`"
                    .to_owned(),
            );
        }
    }
    for keys in joined.values_mut().filter(|keys| keys.journal_state.is_none()) {
        let record = expected.records.iter().find(|record| record.id().to_string() == keys.transaction_id);
        keys.disagreement = Some(not_in_journal(record));
    }
    Ok(joined.into_values().collect())
}

fn not_in_journal(record: Option<&Record>) -> String {
    match record {
        Some(record) => format!("SUSPECT at the bank, and {} in the journal", record.state),
        None => "SUSPECT at the bank, and this machine's journal does not know it".to_owned(),
    }
}

fn in_decimals(suspect: &Suspect) -> (String, String) {
    let Some(money) = &suspect.amount else { return (String::new(), String::new()) };
    let decimal = money.currency_code.parse::<Currency>().map_or_else(
        |_| money.minor_units.to_string(),
        |currency| Money::new(money.minor_units, currency).to_decimal(),
    );
    (decimal, money.currency_code.clone())
}
