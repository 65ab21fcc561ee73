//! `admin trial-balance`: do debits equal credits?

use atm_proto::gateway::{GetTrialBalanceResponse, TrialBalanceLine};
use atm_rpc::retry::RetryError;
use atm_types::{Currency, Money};
use clap::Args;
use serde::Serialize;
use tonic::Code;

use super::super::Context;
use crate::client::{AdminClient, read_failure};
use crate::exit::{Exit, Failure};
use crate::output::Table;

const EXAMPLES: &str = "\
Example:
  atm-cli admin trial-balance --json

Exit code 0: debits equal credits in every currency. Exit code 1: they do not, or the \
books cannot be read.";

/// Sum all accounts by kind and currency.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TrialBalanceArgs {}

#[derive(Serialize)]
struct Keys {
    balanced: bool,
    commit_sequence: u64,
    lines: Vec<LineKeys>,
}

#[derive(Serialize)]
struct LineKeys {
    kind: String,
    currency: String,
    accounts: u64,
    debits_posted: String,
    credits_posted: String,
    debits_pending: String,
    credits_pending: String,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    _args: &TrialBalanceArgs,
) -> Result<Exit, Failure> {
    let answer = client.trial_balance().await.map_err(|error| failure(&error))?;
    show(context, &answer);
    if answer.balanced {
        context.screen.good("Balanced: debits equal credits.");
        Ok(Exit::Done)
    } else {
        context.screen.alarm("NOT balanced: debits and credits differ.");
        Ok(Exit::Declined)
    }
}

/// The ledger answers so when a row is damaged; its own log names the row.
fn failure(error: &RetryError) -> Failure {
    // Without the reason it may be the network's own word for a connection that broke.
    let internal = atm_rpc::status::reason(&error.status).as_deref() == Some("INTERNAL");
    match error.status.code() {
        code if code == Code::DataLoss || code == Code::Internal && internal => Failure::new(
            Exit::Declined,
            "books_unreadable",
            format!(
                "the books cannot be read, so nothing is known of their balance: {}. `atm-cli admin verify` looks at \
                 every step, and the ledger's log names what is damaged",
                error.status.message()
            ),
        ),
        _ => read_failure(error),
    }
}

fn show(context: &Context, answer: &GetTrialBalanceResponse) {
    let lines: Vec<LineKeys> = answer.lines.iter().map(keys).collect();
    let mut table = Table::new(&[
        "kind",
        "currency",
        ">accounts",
        ">debits",
        ">credits",
        ">debits on hold",
        ">credits on hold",
    ]);
    for line in &lines {
        table.row(vec![
            line.kind.clone(),
            line.currency.clone(),
            line.accounts.to_string(),
            line.debits_posted.clone(),
            line.credits_posted.clone(),
            line.debits_pending.clone(),
            line.credits_pending.clone(),
        ]);
    }
    context.screen.result(&table.to_string());
    let (balanced, commit_sequence) = (answer.balanced, answer.commit_sequence);
    context.screen.object(&Keys { balanced, commit_sequence, lines });
}

fn keys(line: &TrialBalanceLine) -> LineKeys {
    let decimal = |text: &str| sum_to_decimal(text, &line.currency_code);
    LineKeys {
        kind: line.kind.to_ascii_lowercase(),
        currency: line.currency_code.clone(),
        accounts: line.account_count,
        debits_posted: decimal(&line.debits_posted_minor_units),
        credits_posted: decimal(&line.credits_posted_minor_units),
        debits_pending: decimal(&line.debits_pending_minor_units),
        credits_pending: decimal(&line.credits_pending_minor_units),
    }
}

/// Minor units to decimal major units. A sum may be too large for an amount; then the point is set by hand.
fn sum_to_decimal(minor_units: &str, currency_code: &str) -> String {
    let Ok(currency) = currency_code.parse::<Currency>() else { return minor_units.to_owned() };
    if let Ok(units) = minor_units.parse() {
        return Money::new(units, currency).to_decimal();
    }
    let decimals = usize::try_from(currency.decimals()).unwrap_or(0);
    let digits = !minor_units.is_empty() && minor_units.bytes().all(|byte| byte.is_ascii_digit());
    match minor_units.len().checked_sub(decimals) {
        Some(point) if decimals > 0 && point > 0 && digits => {
            format!("{}.{}", &minor_units[..point], &minor_units[point..])
        }
        Some(_) | None => minor_units.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn books_that_cannot_be_read_are_no_books_that_were_not_asked_for() {
        let told = |status: Status| {
            failure(&RetryError { status, attempts: 1, maybe_sent: true, deadline_over: false })
        };
        let internal = atm_rpc::status::with_reason(Code::Internal, "internal error 42", "INTERNAL", &[]);
        for status in [internal, Status::data_loss("internal error 42")] {
            let failure = told(status);
            assert_eq!((failure.exit, failure.reason), (Exit::Declined, "books_unreadable"));
            assert!(failure.message.contains("internal error 42"), "{failure}");
        }
        for status in [Status::unavailable("gone"), Status::internal("h2 protocol error")] {
            let silent = told(status);
            assert_eq!(silent.exit, Exit::Unavailable);
            assert!(silent.message.contains("1 attempt)"), "{silent}");
        }
    }

    #[test]
    fn sums_are_shown_in_major_units_even_beyond_64_bits() {
        assert_eq!(sum_to_decimal("116900", "BDT"), "1169.00");
        assert_eq!(sum_to_decimal("123456789012345678901234", "BDT"), "1234567890123456789012.34");
        assert_eq!(sum_to_decimal("123456789012345678901234", "JPY"), "123456789012345678901234");
    }
}
