//! `admin trial-balance`: do debits equal credits?

use atm_proto::gateway::{GetTrialBalanceResponse, TrialBalanceLine};
use atm_types::{Currency, Money};
use clap::Args;
use serde::Serialize;

use super::super::Context;
use crate::client::{AdminClient, read_failure};
use crate::exit::{Exit, Failure};
use crate::output::Table;

const EXAMPLES: &str = "\
Example:
  atm-cli admin trial-balance --json

Exit code 0: debits equal credits in every currency. Exit code 1: they do not.";

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
    let answer = client.trial_balance().await.map_err(|error| read_failure(&error))?;
    show(context, &answer);
    if answer.balanced {
        context.screen.good("Balanced: debits equal credits.");
        Ok(Exit::Done)
    } else {
        context.screen.alarm("NOT balanced: debits and credits differ.");
        Ok(Exit::Declined)
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
    use super::*;

    #[test]
    fn sums_are_shown_in_major_units_even_beyond_64_bits() {
        assert_eq!(sum_to_decimal("116900", "BDT"), "1169.00");
        assert_eq!(sum_to_decimal("123456789012345678901234", "BDT"), "1234567890123456789012.34");
        assert_eq!(sum_to_decimal("123456789012345678901234", "JPY"), "123456789012345678901234");
    }
}
