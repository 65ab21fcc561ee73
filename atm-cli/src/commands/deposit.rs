//! `deposit`: cash into escrow, posted in one step, then stored.

use clap::Args;

use super::Context;
use super::money::{self, Request};
use crate::cli::{CardArgs, IdArgs};
use crate::exit::{Exit, Failure};
use crate::journal::Kind;

const EXAMPLES: &str = "\
Examples:
  atm-cli deposit 250 --card 123456789
  ATM_PIN=1234 atm-cli deposit 275 --card 123456789 --json

If there is no answer by the deadline: exit code 3. `atm-cli recover` then asks the bank to cancel it and says \
which of the two is true: it counts, or it never will, and then the notes are handed back.";

/// Pay cash in.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DepositArgs {
    /// How much, in major units: 1000. Notes and coins make every whole amount.
    #[arg(allow_negative_numbers = true)]
    amount: String,
    #[command(flatten)]
    card: CardArgs,
    #[command(flatten)]
    id: IdArgs,
}

pub(crate) async fn run(context: &Context, args: &DepositArgs) -> Result<Exit, Failure> {
    let request = Request {
        kind: Kind::Deposit,
        amount: &args.amount,
        card: &args.card,
        to_account: None,
        id: &args.id,
    };
    money::run(context, &request).await
}
