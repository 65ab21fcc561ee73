//! `admin reconcile`: do the device, the journal and the books agree, to the note?

use atm_proto::gateway::GetCashPositionResponse;
use atm_types::Money;
use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::cash::{self, NoteKeys, PLACES};
use super::compare::{self, Book, Evidence, Finding};
use crate::client::{AdminClient, read_failure};
use crate::device::Notes;
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Account, Counts};
use crate::output::Table;

const EXAMPLES: &str = "\
Examples:
  atm-cli admin reconcile
  atm-cli admin reconcile --json

Compares what this machine's device counts, what its journal says must be there, and what the books say, for every \
place; and names the transaction behind each difference. Moves nothing. Exit code 0: everything agrees, or each \
difference is explained by a transaction that is still open and is named. Exit code 1: something is unexplained.";

/// How often the books are read again while they change.
const READINGS: usize = 5;

/// Compare the device, the journal and the books.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReconcileArgs {}

#[derive(Serialize)]
struct Keys {
    atm_id: String,
    currency: String,
    /// Whether nothing differs at all.
    agrees: bool,
    /// Whether nothing differs that no open transaction explains.
    explained: bool,
    places: Vec<PlaceKeys>,
    findings: Vec<FindingKeys>,
    /// Withdrawals that wait for a person: they may be the difference.
    suspects: Vec<SuspectKeys>,
    commit_sequence: u64,
}

#[derive(Serialize)]
struct PlaceKeys {
    place: &'static str,
    /// Null for suspense, where there are no notes.
    device: Option<String>,
    journal: String,
    books: String,
    /// What holds or suspects have set aside there.
    pending: String,
    /// The device's notes less the journal's.
    notes_differ: Vec<NoteKeys>,
}

#[derive(Serialize)]
struct FindingKeys {
    place: &'static str,
    what: &'static str,
    transaction_id: Option<String>,
    amount: String,
    notes: Vec<NoteKeys>,
    explained: bool,
    message: String,
}

#[derive(Serialize)]
struct SuspectKeys {
    transaction_id: String,
    amount: String,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    _args: &ReconcileArgs,
) -> Result<Exit, Failure> {
    let machine = cash::open(context)?;
    let before = |error| flow::journal_before(&error);
    let (books, commit_sequence) = read_books(context, &machine, client).await?;
    let expected = machine.journal.expected().map_err(before)?;
    let counted: Vec<(Account, Notes)> = PLACES
        .into_iter()
        .map(|place| Ok((place, machine.counted(place).map_err(before)?)))
        .collect::<Result<_, Failure>>()?;
    let history = machine.device.history().map_err(|error| before(error.into()))?;
    let evidence = Evidence {
        currency: machine.currency,
        expected: &expected,
        effects: &expected.effects(),
        counted: &counted,
        history: &history,
        books: &books,
    };
    let findings = compare::findings(&evidence);
    Ok(show(context, machine.bank.atm_id(), &evidence, &findings, commit_sequence))
}

/// What the books say of every place, once two readings around the entries agree.
async fn read_books(
    context: &Context,
    machine: &Machine,
    client: &AdminClient,
) -> Result<(Vec<(Account, Book)>, u64), Failure> {
    let atm_id = machine.bank.atm_id();
    let position = || client.cash_position(atm_id, context.global.deadline);
    let mut before = position().await.map_err(|error| read_failure(&error))?;
    for _ in 0..READINGS {
        let mut books = Vec::new();
        for place in compare::booked() {
            let mut book = of_place(&before, place);
            let mut page_token = String::new();
            loop {
                let page = client.cash_entries(atm_id, place, page_token).await;
                let page = page.map_err(|error| read_failure(&error))?;
                for entry in page.entries {
                    let amount = book.entries.entry(entry.transaction_id).or_default();
                    *amount = amount.saturating_add(entry.amount_minor_units);
                }
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            books.push((place, book));
        }
        let after = position().await.map_err(|error| read_failure(&error))?;
        if after.positions == before.positions {
            return Ok((books, after.commit_sequence));
        }
        before = after;
    }
    Err(Failure::unavailable("the books of this machine keep changing; ask again"))
}

fn of_place(position: &GetCashPositionResponse, place: Account) -> Book {
    let line = position.positions.iter().find(|line| line.bin() == place.wire());
    line.map_or_else(Book::default, |line| Book {
        balance: line.balance_minor_units,
        pending: line.pending_minor_units,
        ..Book::default()
    })
}

fn show(
    context: &Context,
    atm_id: &str,
    evidence: &Evidence<'_>,
    findings: &[Finding],
    commit_sequence: u64,
) -> Exit {
    let Evidence { currency, expected, counted, books, .. } = *evidence;
    let decimal = |units| Money::new(units, currency).to_decimal();
    let mut table =
        Table::new(&["place", ">device", ">journal", ">books", ">pending", "device against journal"]);
    let mut places = Vec::new();
    for (place, book) in books {
        let notes = counted.iter().find(|(at, _)| at == place).map(|(_, notes)| notes);
        let differ =
            notes.map(|notes| Counts::of_notes(notes).less(&expected.notes(*place))).unwrap_or_default();
        let keys = PlaceKeys {
            place: place.name(),
            device: notes.map(|notes| decimal(notes.minor_units())),
            journal: decimal(expected.value(*place)),
            books: decimal(book.balance),
            pending: decimal(book.pending),
            notes_differ: cash::keys(&differ, currency),
        };
        table.row(vec![
            keys.place.to_owned(),
            keys.device.clone().unwrap_or_default(),
            keys.journal.clone(),
            keys.books.clone(),
            keys.pending.clone(),
            if differ.is_zero() { String::new() } else { cash::in_words(&differ, currency) },
        ]);
        places.push(keys);
    }
    context.screen.result(&table.to_string());
    let suspects = compare::suspects(expected);
    for record in &suspects {
        context.screen.note(&format!(
            "SUSPECT: withdrawal {} of {}; `atm-cli admin suspect {}` shows the evidence",
            record.id(),
            record.intent.amount,
            record.id()
        ));
    }
    for finding in findings {
        let id = finding.id.as_ref().map(|id| format!(" [{id}]")).unwrap_or_default();
        let line = format!("{}: {}{id}", finding.place, finding.words);
        if finding.explained { context.screen.result(&line) } else { context.screen.alarm(&line) }
    }
    let explained = findings.iter().all(|finding| finding.explained);
    match (findings.is_empty(), explained) {
        (true, _) => context.screen.good("Reconciled: device, journal and books agree to the note."),
        (false, true) => context.screen.good("Every difference is explained by the open transactions above."),
        (false, false) => context.screen.alarm("NOT reconciled: something is unexplained."),
    }
    context.screen.object(&Keys {
        atm_id: atm_id.to_owned(),
        currency: currency.to_string(),
        agrees: findings.is_empty(),
        explained,
        places,
        findings: findings.iter().map(|finding| finding_keys(finding, currency)).collect(),
        suspects: suspects
            .iter()
            .map(|record| SuspectKeys {
                transaction_id: record.id().to_string(),
                amount: record.intent.amount.to_decimal(),
            })
            .collect(),
        commit_sequence,
    });
    if explained { Exit::Done } else { Exit::Declined }
}

fn finding_keys(finding: &Finding, currency: atm_types::Currency) -> FindingKeys {
    FindingKeys {
        place: finding.place.name(),
        what: finding.what,
        transaction_id: finding.id.clone(),
        amount: Money::new(finding.minor_units, currency).to_decimal(),
        notes: cash::keys(&finding.notes, currency),
        explained: finding.explained,
        message: finding.words.clone(),
    }
}
