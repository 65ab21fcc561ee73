//! `dispenser`: what the cash device counts, and what is to go wrong with it next.

use atm_rpc::process::{DirectoryLock, LockError};
use atm_types::{Currency, Money};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use crate::device::{self, CashDevice, CashUnits, DeviceError, Fault, Notes, Simulated};
use crate::exit::{Exit, Failure, with_causes};
use crate::output::Table;

const STATUS_EXAMPLES: &str = "\
Examples:
  atm-cli dispenser status
  atm-cli dispenser status --json";

const FAULT_EXAMPLES: &str = "\
Examples:
  atm-cli dispenser fault jam-stack
  atm-cli dispenser fault power-while-presenting
  atm-cli dispenser fault none

The device is simulated. What is set here happens once, to the next dispense.";

const EXAMPLES: &str = "\
Examples:
  atm-cli dispenser status
  atm-cli dispenser fault jam-stack";

/// Look at the cash device, or make it fail.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DispenserArgs {
    #[command(subcommand)]
    command: DispenserCommand,
}

#[derive(Debug, Subcommand)]
enum DispenserCommand {
    /// Show what the device counts in each of its places.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Choose what goes wrong with the next dispense.
    #[command(after_help = FAULT_EXAMPLES)]
    Fault {
        /// What goes wrong; `none` takes it back.
        #[arg(value_name = "KIND", value_parser = faults())]
        fault: Fault,
    },
}

impl DispenserArgs {
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.command, DispenserCommand::Status)
    }
}

fn faults() -> impl TypedValueParser<Value = Fault> {
    PossibleValuesParser::new(Fault::ALL.iter().map(|(_, name)| PossibleValue::new(*name)))
        .map(|name| Fault::of_name(&name).unwrap_or(Fault::None))
}

pub(crate) fn run(context: &Context, args: &DispenserArgs) -> Result<Exit, Failure> {
    let _lock = match &context.surroundings {
        // Nobody else can open a simulated disk while it is open.
        Some(_) => None,
        None => Some(DirectoryLock::acquire(&context.state_directory()?).map_err(|error| locked(&error))?),
    };
    let mut device = context.device()?;
    match &args.command {
        DispenserCommand::Status => show(context, &device).map_err(|error| failure(&error))?,
        DispenserCommand::Fault { fault } => {
            device.set_fault(*fault).map_err(|error| failure(&error))?;
            context.screen.good(&format!("The next dispense: {}", fault.name()));
            context.screen.object(&FaultKeys { fault: fault.name() });
        }
    }
    Ok(Exit::Done)
}

fn failure(error: &DeviceError) -> Failure {
    Failure::new(Exit::Unavailable, "device", with_causes(error))
}

fn locked(error: &LockError) -> Failure {
    Failure::new(Exit::Unavailable, "journal_locked", with_causes(error))
}

#[derive(Serialize)]
struct FaultKeys {
    fault: &'static str,
}

#[derive(Serialize)]
struct StatusKeys {
    serial: String,
    currency: String,
    next_fault: &'static str,
    cassettes: Vec<NoteKeys>,
    places: Vec<PlaceKeys>,
}

#[derive(Serialize)]
struct NoteKeys {
    denomination: String,
    count: u32,
}

#[derive(Serialize)]
struct PlaceKeys {
    place: &'static str,
    amount: String,
    notes: Vec<NoteKeys>,
}

fn show(context: &Context, device: &Simulated) -> Result<(), DeviceError> {
    let (units, currency, fault) = (device.cash_units()?, device.currency(), device.fault()?);
    let mut table = Table::new(&["cassette", ">count", ">worth"]);
    for denomination in device::denominations(currency) {
        let count = units.cassettes.of(denomination);
        let worth = Money::new(denomination.saturating_mul(i64::from(count)), currency);
        table.row(vec![
            Money::new(denomination, currency).to_decimal(),
            count.to_string(),
            worth.to_decimal(),
        ]);
    }
    context.screen.result(&table.to_string());
    let mut table = Table::new(&["place", ">worth", "notes"]);
    for (name, notes) in places(&units) {
        table.row(vec![
            name.replace('_', " "),
            notes.worth(currency).to_decimal(),
            if name == "cassettes" { String::new() } else { notes.in_words(currency) },
        ]);
    }
    context.screen.result(&table.to_string());
    if fault != Fault::None {
        context.screen.note(&format!("The next dispense: {}", fault.name()));
    }
    context.screen.object(&StatusKeys {
        serial: device.serial().to_string(),
        currency: currency.to_string(),
        next_fault: fault.name(),
        cassettes: keys(&units.cassettes, currency),
        places: places(&units)
            .into_iter()
            .map(|(place, notes)| PlaceKeys {
                place,
                amount: notes.worth(currency).to_decimal(),
                notes: keys(notes, currency),
            })
            .collect(),
    });
    Ok(())
}

fn places(units: &CashUnits) -> [(&'static str, &Notes); 6] {
    [
        ("cassettes", &units.cassettes),
        ("reject", &units.reject),
        ("retract", &units.retract),
        ("deposit", &units.deposit),
        ("escrow", &units.escrow),
        ("unknown", &units.unknown),
    ]
}

fn keys(notes: &Notes, currency: Currency) -> Vec<NoteKeys> {
    let key = |(denomination, count)| NoteKeys {
        denomination: Money::new(denomination, currency).to_decimal(),
        count,
    };
    notes.iter().map(key).collect()
}
