//! `admin issue-card`, `block-card` and `unblock-card`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::{order_id, write_failure};
use crate::cli::parse_card;
use crate::client::AdminClient;
use crate::exit::{Exit, Failure};

const ISSUE_EXAMPLES: &str = "\
Examples:
  atm-cli admin issue-card --card 123456789 --account Joty
  ATM_PIN=1234 atm-cli admin issue-card --card 123456789 --account Joty
  atm-cli admin issue-card --card 123456789 --account Joty --pin-later

Again for the same account: sets a PIN that was missing, and changes nothing else.";

/// Issue a card for an account.
#[derive(Debug, Args)]
#[command(after_help = ISSUE_EXAMPLES)]
pub(super) struct IssueCardArgs {
    /// The card's number, 8 to 19 digits.
    #[arg(long, value_name = "NUMBER", value_parser = parse_card)]
    card: String,
    /// The account's number, or its id.
    #[arg(long, value_name = "ACCOUNT")]
    account: String,
    /// Read the PIN from this file instead of asking for it; ATM_PIN in the environment does the same.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// Issue the card without a PIN; it cannot be used until it has one.
    #[arg(long, conflicts_with = "pin_file")]
    pin_later: bool,
}

const BLOCK_EXAMPLES: &str = "\
Example:
  atm-cli admin block-card --card 123456789";

/// Block a card and end its sessions.
#[derive(Debug, Args)]
#[command(after_help = BLOCK_EXAMPLES)]
pub(super) struct BlockCardArgs {
    /// The card's number, 8 to 19 digits.
    #[arg(long, value_name = "NUMBER", value_parser = parse_card)]
    card: String,
}

const UNBLOCK_EXAMPLES: &str = "\
Example:
  atm-cli admin unblock-card --card 123456789";

/// Unblock a card and forget its wrong PINs.
#[derive(Debug, Args)]
#[command(after_help = UNBLOCK_EXAMPLES)]
pub(super) struct UnblockCardArgs {
    /// The card's number, 8 to 19 digits.
    #[arg(long, value_name = "NUMBER", value_parser = parse_card)]
    card: String,
}

#[derive(Serialize)]
struct IssueKeys {
    changed: bool,
}

#[derive(Serialize)]
struct BlockKeys {
    blocked: bool,
}

pub(super) async fn issue(
    context: &Context,
    client: &AdminClient,
    args: &IssueCardArgs,
) -> Result<Exit, Failure> {
    let pin = if args.pin_later {
        String::new()
    } else {
        context.pin(args.pin_file.as_deref(), "PIN of the new card:")?.digits().to_owned()
    };
    let changed = client
        .issue_card(args.card.clone(), args.account.clone(), pin)
        .await
        .map_err(|error| write_failure(&error))?;
    context.screen.object(&IssueKeys { changed });
    let card = last_four(&args.card);
    context.screen.good(&if changed {
        format!("Card …{card} is issued for {}", args.account)
    } else {
        format!("Card …{card} was issued for {} before; nothing changed", args.account)
    });
    Ok(Exit::Done)
}

pub(super) async fn block(
    context: &Context,
    client: &AdminClient,
    args: &BlockCardArgs,
) -> Result<Exit, Failure> {
    client.block_card(order_id(context), args.card.clone()).await.map_err(|error| write_failure(&error))?;
    context.screen.object(&BlockKeys { blocked: true });
    context.screen.good(&format!("Card …{} is blocked", last_four(&args.card)));
    Ok(Exit::Done)
}

pub(super) async fn unblock(
    context: &Context,
    client: &AdminClient,
    args: &UnblockCardArgs,
) -> Result<Exit, Failure> {
    client.unblock_card(order_id(context), args.card.clone()).await.map_err(|error| write_failure(&error))?;
    context.screen.object(&BlockKeys { blocked: false });
    context.screen.good(&format!("Card …{} is unblocked", last_four(&args.card)));
    Ok(Exit::Done)
}

fn last_four(card: &str) -> &str {
    card.get(card.len().saturating_sub(4)..).unwrap_or_default()
}
