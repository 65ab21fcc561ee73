//! `admin open-account`.

use atm_proto::gateway::NewAccount;
use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::write_failure;
use crate::amount::not_negative;
use crate::client::{AdminClient, wire};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  atm-cli admin open-account Farhan --name 'Farhan Khan' --opening-balance 1169
  atm-cli admin open-account BD-0042 --name Joty --overdraft-limit 500 --daily-withdrawal-limit 20000

Running it again posts nothing twice.";

/// Open a customer's account with its opening balance.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct OpenAccountArgs {
    /// The number that customers know it by: 1 to 34 characters of A-Z a-z 0-9 . _ -.
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// Who holds it, up to 100 characters.
    #[arg(long, visible_alias = "holder", value_name = "NAME")]
    name: String,
    /// What it is opened with, in major units.
    #[arg(
        long,
        visible_alias = "balance",
        value_name = "AMOUNT",
        default_value = "0",
        allow_negative_numbers = true
    )]
    opening_balance: String,
    /// How far below zero it may go, in major units.
    #[arg(
        long,
        visible_alias = "overdraft",
        value_name = "AMOUNT",
        default_value = "0",
        allow_negative_numbers = true
    )]
    overdraft_limit: String,
    /// The most that may be withdrawn in cash in a day, in major units; 0 means no limit.
    #[arg(
        long,
        visible_alias = "daily-limit",
        value_name = "AMOUNT",
        default_value = "0",
        allow_negative_numbers = true
    )]
    daily_withdrawal_limit: String,
}

#[derive(Serialize)]
struct Keys<'a> {
    account: &'a str,
    account_id: &'a str,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    args: &OpenAccountArgs,
) -> Result<Exit, Failure> {
    let currency = context.global.currency;
    let opening_balance = not_negative("opening balance", &args.opening_balance, currency)?;
    let overdraft = not_negative("overdraft limit", &args.overdraft_limit, currency)?;
    let daily_limit = not_negative("daily withdrawal limit", &args.daily_withdrawal_limit, currency)?;
    let account_id = client
        .open_account(NewAccount {
            account_number: args.account.clone(),
            holder_name: args.name.clone(),
            opening_balance: Some(wire(opening_balance)),
            overdraft_limit_minor_units: overdraft.minor_units(),
            daily_withdrawal_limit_minor_units: daily_limit.minor_units(),
        })
        .await
        .map_err(|error| write_failure(&error))?;
    context.screen.object(&Keys { account: &args.account, account_id: &account_id });
    context
        .screen
        .good(&format!("Account {} is open with {opening_balance}; its id is {account_id}", args.account));
    Ok(Exit::Done)
}
