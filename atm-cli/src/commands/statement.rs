//! `statement`: the account's movements, newest first.

use atm_proto::gateway::{MovementKind, StatementLine};
use atm_types::{Currency, Money};
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::cli::CardArgs;
use crate::client::read_failure;
use crate::exit::{Exit, Failure};
use crate::output::{Table, state_name};

const EXAMPLES: &str = "\
Examples:
  atm-cli statement --card 123456789
  atm-cli statement --card 123456789 --limit 100 --json";

/// A page that stays far below the size of an answer.
const PAGE: u32 = 100;

/// Show the account's movements, newest first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatementArgs {
    #[command(flatten)]
    card: CardArgs,
    /// How many lines at most, 1 to 100000.
    #[arg(long, value_name = "LINES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Serialize)]
struct Keys {
    lines: Vec<LineKeys>,
}

#[derive(Serialize)]
struct LineKeys {
    transaction_id: String,
    kind: &'static str,
    state: &'static str,
    amount: String,
    balance: String,
    available: String,
    currency: String,
    time: String,
    commit_sequence: u64,
}

pub(crate) async fn run(context: &Context, args: &StatementArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let gateway = context.gateway(&terminal)?;
    let (session, deadline) = context.log_in(&gateway, &args.card).await?;
    let mut lines: Vec<StatementLine> = Vec::new();
    let mut page_token = String::new();
    let read = loop {
        let missing = args.limit - u32::try_from(lines.len()).unwrap_or(args.limit).min(args.limit);
        let page_size = i32::try_from(missing.min(PAGE)).unwrap_or(1);
        match gateway.statement(&session, page_size, page_token, deadline).await {
            Ok(page) => {
                lines.extend(page.lines);
                page_token = page.next_page_token;
                let enough = lines.len() >= usize::try_from(args.limit).unwrap_or(usize::MAX);
                if page_token.is_empty() || enough {
                    break Ok(());
                }
            }
            Err(error) => break Err(read_failure(&error)),
        }
    };
    gateway.log_out(&session).await;
    read?;
    show(context, &lines);
    Ok(Exit::Done)
}

fn show(context: &Context, lines: &[StatementLine]) {
    let lines: Vec<LineKeys> = lines.iter().map(|line| keys(context, line)).collect();
    let mut table = Table::new(&["time", "what", ">amount", ">balance", "transaction"]);
    for line in &lines {
        table.row(vec![
            line.time.clone(),
            line.kind.replace('_', " "),
            line.amount.clone(),
            line.balance.clone(),
            line.transaction_id.clone(),
        ]);
    }
    context.screen.result(&table.to_string());
    context.screen.object(&Keys { lines });
}

fn keys(context: &Context, line: &StatementLine) -> LineKeys {
    let amount = line.amount.clone().unwrap_or_default();
    let currency: Currency = amount.currency_code.parse().unwrap_or(context.global.currency);
    let balance = line.balance.unwrap_or_default();
    LineKeys {
        transaction_id: line.transaction_id.clone(),
        kind: match line.kind() {
            MovementKind::Unspecified => "unspecified",
            MovementKind::Withdrawal => "withdrawal",
            MovementKind::Deposit => "deposit",
            MovementKind::TransferOut => "transfer_out",
            MovementKind::TransferIn => "transfer_in",
            MovementKind::OpeningBalance => "opening_balance",
        },
        state: state_name(line.state()),
        amount: Money::new(amount.minor_units, currency).to_decimal(),
        balance: Money::new(balance.balance_minor_units, currency).to_decimal(),
        available: Money::new(balance.available_minor_units, currency).to_decimal(),
        currency: currency.to_string(),
        time: super::transaction::time_text(line.commit_time.as_ref()),
        commit_sequence: line.commit_sequence,
    }
}
