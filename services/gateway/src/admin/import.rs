//! The import of accounts with their opening balances and cards, a chunk at a time.
//!
//! A chunk is one batch for the ledger and one for auth. Each row has its own result, and rows are keyed by
//! account and card number, so that a chunk that was cut off is simply sent again.

use std::collections::{BTreeSet, HashMap};

use atm_proto::auth::{CardToIssue, IssueCardsRequest};
use atm_proto::gateway::{ImportAccountsRequest, ImportAccountsResponse, ImportResult, ImportRow};
use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::batch_result::Result as Answer;
use atm_proto::ledger::{BatchCommand, BatchExecuteRequest, BatchResult, ListEntriesRequest, Outcome};
use atm_proto::types::CommandError;
use atm_rpc::deadline::Deadline;
use atm_types::Currency;
use tonic::Code;

use super::issue_card;
use super::open_account::{Opening, Settlement, settlement_failure};
use crate::failure::{Defect, Failure};
use crate::gateway::Gateway;
use crate::grpc::status::command_error;
use crate::upstream::{Asked, refusal};

/// The most rows of one chunk.
const MAX_ROWS: usize = 1_000;

/// What is known of one row so far: whether anything of it was missing, or why it could not be applied.
type Progress = Result<bool, Failure>;

/// A row that may be applied.
struct Row {
    opening: Opening,
    card: Option<CardToIssue>,
}

/// Applies a chunk of rows, each with its own result.
///
/// # Errors
/// [`Failure::Invalid`] for the number of rows, and those of the upstreams when nothing is known of any row.
pub async fn import(
    gateway: &Gateway,
    deadline: Deadline,
    request: ImportAccountsRequest,
) -> Result<ImportAccountsResponse, Failure> {
    if !(1..=MAX_ROWS).contains(&request.rows.len()) {
        return Err(Failure::invalid("rows", "must be 1 to 1000"));
    }
    let rows: Vec<Result<Row, Failure>> = request.rows.into_iter().map(Row::of).collect();
    let good: Vec<&Row> = rows.iter().flatten().collect();
    let mut opened = open(gateway, deadline, &good).await?;
    issue(gateway, deadline, &good, &mut opened).await.map_err(Failure::after_a_part)?;

    let mut opened = opened.into_iter();
    let results = rows.into_iter().map(|row| match row {
        Ok(_) => opened.next().unwrap_or_else(|| Err(Failure::missing("ledger", "result"))),
        Err(failure) => Err(failure),
    });
    let results = results.map(|progress| match progress {
        Ok(changed) => ImportResult { error: None, changed },
        Err(failure) => {
            ImportResult { error: Some(command_error(gateway.ids.as_ref(), failure)), changed: false }
        }
    });
    Ok(ImportAccountsResponse { results: results.collect() })
}

impl Row {
    fn of(row: ImportRow) -> Result<Self, Failure> {
        let opening = Opening::of(row.account)?;
        if row.card_number.is_empty() {
            if row.pin.is_empty() {
                return Ok(Self { opening, card: None });
            }
            return Err(Failure::invalid("pin", "must be empty without a card number"));
        }
        issue_card::check(&row.card_number, &row.pin)?;
        let account_id = opening.account_id.to_string();
        let card = CardToIssue { card_number: row.card_number, account_id, pin: row.pin };
        Ok(Self { opening, card: Some(card) })
    }
}

/// Opens the accounts and settles their opening balances.
async fn open(gateway: &Gateway, deadline: Deadline, rows: &[&Row]) -> Result<Vec<Progress>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let currencies: BTreeSet<Currency> =
        rows.iter().map(|row| row.opening.opening_balance.currency()).collect();
    for currency in currencies {
        gateway.accounts.opening_balances(&gateway.ledger, deadline, currency).await?;
    }
    // What is recorded after this was missing before.
    let before = ListEntriesRequest { after_sequence: 0, page_size: 1 };
    let before = gateway.ledger.list_entries(deadline, Asked::Books, before).await?.last_sequence;

    let commands = rows.iter().flat_map(|row| {
        let settle = match row.opening.settle() {
            Settlement::Post(post) => Command::Post(post),
            Settlement::Never(cancel) => Command::Cancel(cancel),
        };
        [Command::OpenAccount(row.opening.open()), settle]
    });
    let commands = commands.map(|command| BatchCommand { command: Some(command) }).collect();
    let answer =
        gateway.ledger.batch_execute(deadline, Asked::Books, BatchExecuteRequest { commands }).await?;
    if answer.results.len() != 2 * rows.len() {
        return Err(Failure::missing("ledger", "result for each command"));
    }
    let mut results = answer.results.into_iter();
    let mut next = || results.next().and_then(|result: BatchResult| result.result);
    Ok(rows.iter().map(|row| opened(&row.opening, next(), next(), before)).collect())
}

fn opened(opening: &Opening, open: Option<Answer>, settle: Option<Answer>, before: u64) -> Progress {
    match open {
        Some(Answer::OpenAccount(_)) => {}
        Some(Answer::Error(error)) => return Err(refused(&error, Asked::Opening)),
        Some(
            Answer::Post(_)
            | Answer::Hold(_)
            | Answer::Capture(_)
            | Answer::Cancel(_)
            | Answer::Suspend(_)
            | Answer::Resolve(_),
        )
        | None => {
            return Err(Failure::missing("ledger", "result of its own kind"));
        }
    }
    let outcome: Option<Outcome> = match settle {
        Some(Answer::Post(answer)) => answer.outcome,
        Some(Answer::Cancel(answer)) => answer.outcome,
        Some(Answer::Error(error)) => {
            return Err(settlement_failure(refused(&error, Asked::Transaction)));
        }
        Some(
            Answer::OpenAccount(_)
            | Answer::Hold(_)
            | Answer::Capture(_)
            | Answer::Suspend(_)
            | Answer::Resolve(_),
        )
        | None => {
            return Err(Failure::missing("ledger", "result of its own kind"));
        }
    };
    opening.settled(outcome.as_ref())?;
    Ok(outcome.is_some_and(|outcome| outcome.commit_sequence > before))
}

/// What the ledger said of one command, as it would be said of the single call.
fn refused(error: &CommandError, asked: Asked) -> Failure {
    let field = Some(error.field.as_str()).filter(|field| !field.is_empty());
    match Code::from(error.code) {
        Code::AlreadyExists => refusal::already_exists(field, asked),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Failure::Defect(Defect {
            upstream: "ledger",
            code: Code::from(error.code),
            message: format!("{} ({}, {})", error.message, error.reason, error.field),
        }),
    }
}

/// Issues the cards of the rows whose accounts stand.
async fn issue(
    gateway: &Gateway,
    deadline: Deadline,
    rows: &[&Row],
    progress: &mut [Progress],
) -> Result<(), Failure> {
    let mut places = Vec::new();
    let mut cards = Vec::new();
    let mut accounts_of_cards = HashMap::new();
    for (place, row) in rows.iter().enumerate() {
        let (Some(card), Ok(_)) = (&row.card, &progress[place]) else { continue };
        // Within one chunk the first row with a card number wins, as it would across chunks.
        let first = accounts_of_cards.entry(&card.card_number).or_insert(&card.account_id);
        if *first == &card.account_id {
            places.push(place);
            cards.push(card.clone());
        } else {
            progress[place] = Err(Failure::CardOfAnotherAccount);
        }
    }
    if cards.is_empty() {
        return Ok(());
    }
    let answer = gateway.auth.issue_cards(deadline, IssueCardsRequest { cards }).await?;
    if answer.results.len() != places.len() {
        return Err(Failure::missing("auth", "result for each card"));
    }
    for (place, result) in places.into_iter().zip(answer.results) {
        progress[place] = match (&progress[place], issue_card::changed(result.kind())) {
            (Ok(before), Ok(now)) => Ok(*before || now),
            (_, Err(failure)) => Err(failure),
            (Err(failure), Ok(_)) => Err(failure.clone()),
        };
    }
    Ok(())
}
