//! `balance`: what is there and what of it may be spent, in one consistent view.

use atm_proto::gateway::GetBalanceResponse;
use atm_types::{Currency, Money};
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::cli::CardArgs;
use crate::client::read_failure;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  atm-cli balance --card 123456789
  ATM_PIN=1234 atm-cli balance --card 123456789 --json";

/// Show balance and available balance.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BalanceArgs {
    #[command(flatten)]
    card: CardArgs,
}

#[derive(Serialize)]
struct Keys<'a> {
    account: &'a str,
    holder: &'a str,
    balance: String,
    available: String,
    currency: String,
}

pub(crate) async fn run(context: &Context, args: &BalanceArgs) -> Result<Exit, Failure> {
    let terminal = context.terminal()?;
    let gateway = context.gateway(&terminal)?;
    let (session, deadline) = context.log_in(&gateway, &args.card).await?;
    let answer = gateway.balance(&session, deadline).await;
    gateway.log_out(&session).await;
    show(context, &answer.map_err(|error| read_failure(&error))?);
    Ok(Exit::Done)
}

fn show(context: &Context, answer: &GetBalanceResponse) {
    let currency: Currency = answer.currency_code.parse().unwrap_or(context.global.currency);
    let balance = answer.balance.unwrap_or_default();
    let (balance, available) = (
        Money::new(balance.balance_minor_units, currency),
        Money::new(balance.available_minor_units, currency),
    );
    context.screen.object(&Keys {
        account: &answer.account_number,
        holder: &answer.holder_name,
        balance: balance.to_decimal(),
        available: available.to_decimal(),
        currency: currency.to_string(),
    });
    context.screen.result(&format!("{} ({})", answer.holder_name, answer.account_number));
    context.screen.good(&format!("Balance {balance}, available {available}"));
}
