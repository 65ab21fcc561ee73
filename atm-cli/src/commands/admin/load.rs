//! `admin load`: notes into the cassettes, and `admin unload`: notes out of a place.

use atm_types::TransactionId;
use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::cash::{self, MovementKeys, NoteKeys};
use crate::cli::IdArgs;
use crate::client::AdminClient;
use crate::device::{MOST_NOTES, Notes};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Account, Counts, Movement};

const LOAD_EXAMPLES: &str = "\
Examples:
  atm-cli admin load 1000=50 500=100
  atm-cli admin load 1000=50 --transaction-id 0198a6b0-7c2e-7a11-8f00-3c2f5d1e9a01 --json
  atm-cli admin load                            only finishes what an earlier command left

The notes go from the vault into this machine's cassettes, and the books follow. It is written into the journal first. \
If it is cut off, run it again: a load that the bank does not know yet is finished, and none is done twice. With \
--transaction-id that also holds once the bank knows it. Exit code 3: the notes are in, and the bank does not know yet.";

const UNLOAD_EXAMPLES: &str = "\
Examples:
  atm-cli admin unload reject
  atm-cli admin unload deposit --json
  atm-cli admin unload cassettes:1000           one cassette

Takes out all that the device counts there: it goes to the vault, and the books follow. Count first if you doubt the \
counter (`atm-cli admin count`). If it is cut off, run it again. Exit code 3: the notes are out, and the bank does not \
know yet.";

/// Load notes into this machine's cassettes.
#[derive(Debug, Args)]
#[command(after_help = LOAD_EXAMPLES)]
pub(super) struct LoadArgs {
    /// How many notes of which denomination, in major units, such as 1000=50.
    #[arg(value_name = "CASSETTE=COUNT")]
    notes: Vec<String>,
    #[command(flatten)]
    id: IdArgs,
}

/// Empty a place of this machine into the vault.
#[derive(Debug, Args)]
#[command(after_help = UNLOAD_EXAMPLES)]
pub(super) struct UnloadArgs {
    /// cassettes, reject, retract or deposit; or one cassette, such as cassettes:1000.
    #[arg(value_name = "PLACE")]
    place: String,
    #[command(flatten)]
    id: IdArgs,
}

#[derive(Serialize)]
struct Keys {
    /// Null when there was nothing to move.
    movement: Option<MovementKeys>,
    /// Whether an earlier run of the same command had moved the notes.
    finished_an_earlier_run: bool,
    place: &'static str,
    /// What the device counts there now.
    notes: Vec<NoteKeys>,
    amount: String,
    currency: String,
}

pub(super) async fn load(context: &Context, client: &AdminClient, args: &LoadArgs) -> Result<Exit, Failure> {
    let currency = context.global.currency;
    let mut notes = Notes::none();
    for text in &args.notes {
        let (denomination, count) = text
            .split_once('=')
            .ok_or_else(|| Failure::invalid(format!("{text:?} must be CASSETTE=COUNT, such as 1000=50")))?;
        let (denomination, count) = (cash::denomination(denomination, currency)?, cash::count(count)?);
        if notes.of(denomination) > 0 {
            return Err(Failure::invalid(format!("{text:?}: this cassette was named before")));
        }
        if count == 0 {
            return Err(Failure::invalid(format!("{text:?}: a load is more than 0 notes")));
        }
        notes.add(denomination, count);
    }
    let mut machine = cash::open(context)?;
    cash::check_bank(context, &mut machine, client).await?;
    let places = (Account::Vault, Account::Cassettes);
    let same = |known: &Movement| (known.from, known.to) == places && known.notes == notes;
    let begun = cash::begun_before(&machine, client, args.id.transaction_id, same).await?;
    if begun.is_none() {
        let there = machine.counted(Account::Cassettes).map_err(|error| flow::journal_before(&error))?;
        let full = notes.iter().find(|(of, count)| there.of(*of).saturating_add(*count) > MOST_NOTES);
        if let Some((of, _)) = full {
            let of = cash::in_short(of, currency);
            return Err(Failure::invalid(format!("the cassette of {of} does not hold so many notes")));
        }
    }
    carry(context, &mut machine, client, (begun, args.id.transaction_id), places, &notes).await
}

pub(super) async fn unload(
    context: &Context,
    client: &AdminClient,
    args: &UnloadArgs,
) -> Result<Exit, Failure> {
    let currency = context.global.currency;
    let (place, only) = match args.place.split_once(':') {
        None => (cash::place(&args.place)?, None),
        Some((place, denomination)) => {
            (cash::place(place)?, Some(cash::denomination(denomination, currency)?))
        }
    };
    let mut machine = cash::open(context)?;
    cash::check_bank(context, &mut machine, client).await?;
    let mut notes = machine.counted(place).map_err(|error| flow::journal_before(&error))?;
    if let Some(only) = only {
        notes = [(only, notes.of(only))].into_iter().collect();
    }
    let places = (place, Account::Vault);
    let of_it = |known: &Movement| match only {
        None => true,
        Some(only) => known.notes.iter().all(|(denomination, _)| denomination == only),
    };
    let same = |known: &Movement| (known.from, known.to) == places && of_it(known);
    let begun = cash::begun_before(&machine, client, args.id.transaction_id, same).await?;
    carry(context, &mut machine, client, (begun, args.id.transaction_id), places, &notes).await
}

/// Moves the notes, unless an earlier run has begun to, and tells the bank.
async fn carry(
    context: &Context,
    machine: &mut Machine,
    client: &AdminClient,
    (begun, id): (Option<Movement>, Option<TransactionId>),
    (from, to): (Account, Account),
    notes: &Notes,
) -> Result<Exit, Failure> {
    let currency = machine.currency;
    let finished_an_earlier_run = begun.is_some();
    let movement = match begun {
        Some(movement) => Some(movement),
        None if notes.is_empty() => None,
        None => {
            let id = id.unwrap_or_else(|| machine.ids.transaction_id());
            let movement = Movement::by_operators(id, (from, to), notes, currency);
            cash::move_notes(machine, &movement)?;
            Some(movement)
        }
    };
    let own: Vec<TransactionId> = movement.iter().map(|movement| movement.id).collect();
    let (exit, mut keys) = cash::tell(context, machine, client, &own).await?;
    let place = if from == Account::Vault { to } else { from };
    let there = machine.counted(place).map_err(|error| flow::journal_before(&error))?;
    match &movement {
        None => context.screen.result(&format!("Nothing was moved from {from} to {to}.")),
        Some(movement) => {
            let what = format!(
                "{} ({}) from {from} to {to}, transaction {}",
                movement.notes.in_words(currency),
                movement.amount,
                movement.id
            );
            match (exit, finished_an_earlier_run) {
                (Exit::Done, false) => context.screen.good(&format!("Moved {what}.")),
                (Exit::Done, true) => context.screen.good(&format!(
                    "An earlier run had moved {what}; the bank knows it, and nothing else was moved."
                )),
                _ => context.screen.result(&format!("Moved {what}; see above.")),
            }
        }
    }
    let (worth, words) = (there.worth(currency), there.in_words(currency));
    context.screen.result(&format!("Now in {place}: {words} ({worth})"));
    context.screen.object(&Keys {
        movement: keys.pop(),
        finished_an_earlier_run,
        place: place.name(),
        notes: cash::keys(&Counts::of_notes(&there), currency),
        amount: worth.to_decimal(),
        currency: currency.to_string(),
    });
    Ok(exit)
}
