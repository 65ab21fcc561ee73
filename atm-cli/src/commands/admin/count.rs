//! `admin count`: what a person counted by hand, against the device's counters and the books.

use std::collections::BTreeMap;

use atm_types::{Currency, TransactionId};
use clap::Args;
use serde::Serialize;

use super::super::Context;
use super::cash::{self, MovementKeys, NoteKeys, PLACES};
use crate::client::AdminClient;
use crate::device::{Notes, denominations};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine};
use crate::journal::{Account, Counts, Movement, Record, State};
use crate::output::Table;

const EXAMPLES: &str = "\
Examples:
  atm-cli admin count                           what the device counts, ready to be typed
  atm-cli admin count cassettes:1000=199 cassettes:500=200 reject:500=1
  atm-cli admin count deposit:100=0 --json

Only what is typed was counted; everything else stays as it is. Where the device counts something else, its counter \
becomes what was counted. Where the books have something else, the difference goes to this machine's SUSPENSE account, \
once: run it again if it is cut off. While a withdrawal is open whose notes may or may not have left, a difference is \
only shown (exit code 1): settle it (`atm-cli recover`) or decide it (`atm-cli admin resolve`) first. Exit code 3: the \
counters are right, and the bank does not know yet.";

/// Count this machine's notes by hand.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CountArgs {
    /// What was counted, such as cassettes:1000=199. Places: cassettes, reject, retract, deposit.
    #[arg(value_name = "PLACE:DENOMINATION=COUNT")]
    counts: Vec<String>,
    /// Post differences although withdrawals are open that may explain them.
    #[arg(long)]
    although_open: bool,
}

/// What was counted, by place and denomination.
type Counted = BTreeMap<&'static str, BTreeMap<i64, u32>>;

#[derive(Serialize)]
struct Keys {
    currency: String,
    /// Whether device, journal and count agreed before anything was corrected.
    agreed: bool,
    lines: Vec<LineKeys>,
    /// What was posted because of it.
    movements: Vec<MovementKeys>,
    /// Withdrawals that may explain a difference, which was not posted because of them.
    open: Vec<String>,
}

#[derive(Serialize)]
struct LineKeys {
    place: &'static str,
    denomination: String,
    device: i64,
    journal: i64,
    /// Null without a count.
    counted: Option<i64>,
}

#[derive(Serialize)]
struct ShownKeys {
    currency: String,
    places: Vec<PlaceKeys>,
    /// What to type to confirm it.
    confirm: String,
}

#[derive(Serialize)]
struct PlaceKeys {
    place: &'static str,
    notes: Vec<NoteKeys>,
    amount: String,
}

pub(super) async fn run(context: &Context, client: &AdminClient, args: &CountArgs) -> Result<Exit, Failure> {
    let counted = parse(&args.counts, context.global.currency)?;
    let mut machine = cash::open(context)?;
    if counted.is_empty() {
        return show(context, &machine);
    }
    cash::check_bank(context, &mut machine, client).await?;
    let lines = compare(&machine, &counted)?;
    let agreed = lines.iter().all(|line| line.device == line.journal && line.counted == Some(line.device));
    show_lines(context, &lines);
    let open = in_the_way(&machine)?;
    if !agreed && !open.is_empty() && !args.although_open {
        return Ok(refuse(context, &machine, lines, &open));
    }
    let own = correct(&mut machine, &counted)?;
    let (exit, movements) = cash::tell(context, &mut machine, client, &own).await?;
    for keys in &movements {
        context.screen.result(&keys.in_words());
    }
    match exit {
        Exit::Done if agreed => context.screen.good("Agreed: nothing to correct."),
        Exit::Done => context.screen.good("Corrected: device and books say what was counted."),
        Exit::Declined | Exit::WrongUse | Exit::Unknown | Exit::NotAuthenticated | Exit::Unavailable => {}
    }
    let currency = machine.currency.to_string();
    context.screen.object(&Keys { currency, agreed, lines, movements, open: Vec::new() });
    Ok(exit)
}

fn parse(texts: &[String], currency: Currency) -> Result<Counted, Failure> {
    let mut counted = Counted::new();
    for text in texts {
        let wrong = || {
            let message = format!("{text:?} must be PLACE:DENOMINATION=COUNT, such as cassettes:1000=199");
            Failure::invalid(message)
        };
        let (place, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (denomination, count) = rest.split_once('=').ok_or_else(wrong)?;
        let (place, denomination) = (cash::place(place)?, cash::denomination(denomination, currency)?);
        let of_place = counted.entry(place.name()).or_default();
        if of_place.insert(denomination, cash::count(count)?).is_some() {
            return Err(Failure::invalid(format!("{text:?}: this was counted before")));
        }
    }
    Ok(counted)
}

/// Each thing that was counted, as device and journal have it.
fn compare(machine: &Machine, counted: &Counted) -> Result<Vec<LineKeys>, Failure> {
    let before = |error| flow::journal_before(&error);
    let expected = machine.journal.expected().map_err(before)?;
    let mut lines = Vec::new();
    for place in PLACES {
        let Some(of_place) = counted.get(place.name()) else { continue };
        let (device, journal) = (machine.counted(place).map_err(before)?, expected.notes(place));
        for (denomination, count) in of_place.iter().rev() {
            lines.push(LineKeys {
                place: place.name(),
                denomination: cash::in_short(*denomination, machine.currency),
                device: i64::from(device.of(*denomination)),
                journal: journal.of(*denomination),
                counted: Some(i64::from(*count)),
            });
        }
    }
    Ok(lines)
}

/// Withdrawals and deposits whose notes may be where the journal does not expect them.
fn in_the_way(machine: &Machine) -> Result<Vec<Record>, Failure> {
    let mut open = machine.journal.open_transactions().map_err(|error| flow::journal_before(&error))?;
    open.retain(|record| match record.state {
        State::Dispensing | State::Presented | State::SuspendPending | State::StackPending => true,
        State::Suspect => record.dispense_id.is_some(),
        State::Intent
        | State::Authorized
        | State::CapturePending
        | State::Done
        | State::VoidPending
        | State::Voided
        | State::ReturnPending => false,
    });
    Ok(open)
}

/// Journals what the journal had not expected, and sets the counters. Returns the movements to be posted.
fn correct(machine: &mut Machine, counted: &Counted) -> Result<Vec<TransactionId>, Failure> {
    let before = |error| flow::journal_before(&error);
    let mut own = Vec::new();
    for place in PLACES {
        let Some(of_place) = counted.get(place.name()) else { continue };
        let expected = machine.journal.expected().map_err(before)?.notes(place);
        let (mut should, mut is) = (Counts::default(), Counts::default());
        for (denomination, count) in of_place {
            should.change(*denomination, expected.of(*denomination));
            is.change(*denomination, i64::from(*count));
        }
        let (too_much, too_little) = is.less(&should).apart();
        for (places, notes) in
            [((place, Account::Suspense), too_little), ((Account::Suspense, place), too_much)]
        {
            if notes.is_empty() {
                continue;
            }
            let movement =
                Movement::by_operators(machine.ids.transaction_id(), places, &notes, machine.currency);
            cash::move_notes(machine, &movement)?;
            own.push(movement.id);
        }
        // The journal was right, and the device's counter was not.
        let device = machine.counted(place).map_err(before)?;
        let of = |denomination| of_place.get(&denomination).copied().unwrap_or(device.of(denomination));
        let target: Notes = denominations(machine.currency).map(|of_it| (of_it, of(of_it))).collect();
        if target != device {
            let id = machine.ids.uuid_v7();
            machine.set_counter(id, place, &target).map_err(before)?;
        }
    }
    Ok(own)
}

fn refuse(context: &Context, machine: &Machine, lines: Vec<LineKeys>, open: &[Record]) -> Exit {
    for record in open {
        context.screen.error(&format!(
            "{} {} of {} is {}: its notes may explain the difference",
            record.intent.kind,
            record.id(),
            record.intent.amount,
            record.state
        ));
    }
    context.screen.error(
        "nothing was corrected. Settle these (`atm-cli recover`) or decide them (`atm-cli admin resolve`), and count again",
    );
    context.screen.object(&Keys {
        currency: machine.currency.to_string(),
        agreed: false,
        lines,
        movements: Vec::new(),
        open: open.iter().map(|record| record.id().to_string()).collect(),
    });
    Exit::Declined
}

fn show_lines(context: &Context, lines: &[LineKeys]) {
    let mut table = Table::new(&["place", ">denomination", ">counted", ">device", ">journal"]);
    for line in lines {
        table.row(vec![
            line.place.to_owned(),
            line.denomination.clone(),
            line.counted.map(|count| count.to_string()).unwrap_or_default(),
            line.device.to_string(),
            line.journal.to_string(),
        ]);
    }
    context.screen.result(&table.to_string());
}

/// What the device counts, and the command that confirms it.
fn show(context: &Context, machine: &Machine) -> Result<Exit, Failure> {
    let currency = machine.currency;
    let mut table = Table::new(&["place", ">denomination", ">device"]);
    let (mut places, mut confirm) = (Vec::new(), "atm-cli admin count".to_owned());
    for place in PLACES {
        let notes = machine.counted(place).map_err(|error| flow::journal_before(&error))?;
        for (denomination, count) in notes.iter() {
            let denomination = cash::in_short(denomination, currency);
            confirm.push_str(&format!(" {place}:{denomination}={count}"));
            table.row(vec![place.to_string(), denomination, count.to_string()]);
        }
        places.push(PlaceKeys {
            place: place.name(),
            amount: notes.worth(currency).to_decimal(),
            notes: cash::keys(&Counts::of_notes(&notes), currency),
        });
    }
    context.screen.result(&table.to_string());
    context
        .screen
        .result(&format!("This is what the device says. Count, and type what you found:\n{confirm}"));
    context.screen.object(&ShownKeys { currency: currency.to_string(), places, confirm });
    Ok(Exit::Done)
}
