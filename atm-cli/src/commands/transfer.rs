//! `transfer`: money to another account of the bank.

use clap::Args;

use super::Context;
use super::money::{self, Request};
use crate::cli::{CardArgs, IdArgs};
use crate::exit::{Exit, Failure};
use crate::journal::Kind;

const EXAMPLES: &str = "\
Examples:
  atm-cli transfer 100 --card 123456789 --to Ahona
  atm-cli transfer 100 --card 123456789 --to BD-0042 --json";

/// Send money to another account.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TransferArgs {
    /// How much, in major units: 1000 or 1000.50.
    #[arg(allow_negative_numbers = true)]
    amount: String,
    #[command(flatten)]
    card: CardArgs,
    /// The receiving account: its number, or its id.
    #[arg(long, value_name = "ACCOUNT", value_parser = parse_account)]
    to: String,
    #[command(flatten)]
    id: IdArgs,
}

pub(crate) async fn run(context: &Context, args: &TransferArgs) -> Result<Exit, Failure> {
    let request = Request {
        kind: Kind::Transfer,
        amount: &args.amount,
        card: &args.card,
        to_account: Some(&args.to),
        id: &args.id,
    };
    money::run(context, &request).await
}

/// An account number, or a UUID, which is 36 characters of the same alphabet.
fn parse_account(text: &str) -> Result<String, String> {
    let alphabet = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if alphabet && (1..=36).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("an account number has 1 to 34 characters of A-Z a-z 0-9 . _ -".to_owned())
    }
}
