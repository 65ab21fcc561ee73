//! `withdraw`: cash for a hold, and a capture for the cash.

use clap::Args;

use super::Context;
use super::money::{self, Request};
use crate::cli::{CardArgs, IdArgs};
use crate::exit::{Exit, Failure};
use crate::journal::Kind;

const EXAMPLES: &str = "\
Examples:
  atm-cli withdraw 1000 --card 123456789
  atm-cli withdraw 1280 --card 123456789 --pin-file ./pin --deadline 5s --json
  atm-cli withdraw 500 --card 123456789 --transaction-id 0190b5f0-7c1e-7a3b-9d55-0242ac120002

The id is in the journal before anything is sent. If there is no answer by the deadline the withdrawal is given \
up: exit code 3, nothing is dispensed, and `atm-cli recover` makes sure that nothing is debited. If the cash is \
out and the bank has not yet acknowledged it: exit code 0, status capture_pending. An amount that the machine's \
notes cannot make: exit code 2, with the nearest amounts. If the device does not know whether the notes came out: \
exit code 3, and the money is set aside until the bank decides.";

/// Withdraw cash.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WithdrawArgs {
    /// How much, in major units: 1000. Notes and coins make every whole amount.
    #[arg(allow_negative_numbers = true)]
    amount: String,
    #[command(flatten)]
    card: CardArgs,
    #[command(flatten)]
    id: IdArgs,
}

pub(crate) async fn run(context: &Context, args: &WithdrawArgs) -> Result<Exit, Failure> {
    let request = Request {
        kind: Kind::Withdrawal,
        amount: &args.amount,
        card: &args.card,
        to_account: None,
        id: &args.id,
    };
    money::run(context, &request).await
}
