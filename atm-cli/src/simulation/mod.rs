//! The cash machine as a simulator drives it: the same commands, told with the same words, on disks, a network and a
//! clock that are made up.
//!
//! [`run`] is one run of `atm-cli`. What a process would find around itself is in [`Surroundings`]; what it
//! would print comes back as [`Ran`]. Nothing here decides anything.

mod evidence;

use std::ffi::OsString;
use std::sync::Arc;

use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Connect;
use atm_rpc::telemetry::TraceContext;
use atm_types::{Clock, Currency, IdSource, TerminalId};
use tonic::Status;
use zeroize::Zeroizing;

pub use crate::durable::{DiskFault, SimulatedDisk};
pub use evidence::{
    DeviceDispense, DeviceEvidence, JournalEvidence, JournalMovement, JournalRecord, JournalStep,
};

use crate::client::Way;
use crate::commands::{self, Context};
use crate::device::{DeviceError, Fault, Simulated};
use crate::journal::{Journal, JournalError};
use crate::output::{Capture, Screen};
use crate::terminal::Terminal;

/// Who is told of every attempt at a call.
pub trait Witness: Send + Sync {
    /// The number of a new call; its attempts share it.
    fn call(&self) -> u64;
    /// An attempt begins; the number by which its end will be told. `session` is the header that it carries.
    fn began(&self, call: u64, method: &'static str, request: Vec<u8>, session: Option<&str>) -> usize;
    /// An attempt was answered. One that is given up never ends.
    fn ended(&self, attempt: usize, answer: Result<Vec<u8>, &Status>);
}

/// What a run of the program finds around itself.
#[derive(Clone)]
pub struct Surroundings {
    /// The journal's disk.
    pub journal: SimulatedDisk,
    /// The device's disk.
    pub device: SimulatedDisk,
    /// Who the machine is.
    pub terminal_key: [u8; 32],
    /// How connections are opened.
    pub network: Arc<dyn Connect>,
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn IdSource>,
    /// What the jitter of backoffs follows from.
    pub jitter_seed: u64,
    /// Who is told of every attempt at a call.
    pub witness: Arc<dyn Witness>,
    /// What operators show.
    pub operator_token: BearerToken,
    /// What is typed when a PIN is asked for.
    pub pin: String,
    /// What is typed when a PIN is to be set for one's own card.
    pub new_pin: String,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The exit code.
    pub exit: u8,
    /// The one object of `--json`.
    pub object: serde_json::Value,
    /// What it said to people.
    pub lines: Vec<String>,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
#[error("atm-cli does not take these arguments (exit code {0})")]
pub struct NotUnderstood(pub u8);

/// Runs one command to its end; `arguments` follow the program's name, and `--json` is among them.
///
/// The command's disks are opened when it begins, so that a run before it that was dropped is dead by then.
///
/// # Errors
/// [`NotUnderstood`] when clap refuses the arguments.
pub async fn run(arguments: &[String], surroundings: Surroundings) -> Result<Ran, NotUnderstood> {
    let name = std::iter::once(OsString::from("atm-cli"));
    let cli = crate::cli::parse(name.chain(arguments.iter().map(OsString::from))).map_err(NotUnderstood)?;
    let context = Context {
        screen: Screen::new(cli.global.json),
        clock: Arc::clone(&surroundings.clock),
        trace: TraceContext::new(&*surroundings.ids),
        ids: Arc::clone(&surroundings.ids),
        global: cli.global.clone(),
        surroundings: Some(Arc::new(surroundings)),
    };
    let capture = Capture::default();
    let exit = capture.around(commands::run_simulated(cli, context)).await;
    let shown = capture.shown();
    let object = shown.object.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    Ok(Ran { exit: exit as u8, object, lines: shown.lines })
}

/// The names of everything that the device can be told to do wrong.
pub fn device_faults() -> impl Iterator<Item = &'static str> {
    Fault::ALL.iter().map(|(_, name)| *name)
}

/// Every crash point of the program.
pub fn crash_points() -> &'static [&'static str] {
    crate::crash::ALL
}

/// The point that is reached when the device's power goes, which ends the program.
pub const POWER_LOST: &str = "DEVICE_POWER_LOST";

/// The bank's name for the machine with this key.
pub fn terminal_id(key: [u8; 32]) -> TerminalId {
    Terminal::of_key(Zeroizing::new(key)).id()
}

/// What a machine's journal says, whoever has it open.
///
/// # Errors
/// What the journal says when it cannot be read.
pub fn journal_evidence(disk: &SimulatedDisk) -> Result<JournalEvidence, String> {
    Journal::evidence(disk).map_err(|error| error.to_string())
}

/// The steps that a machine's journal has after this one.
///
/// # Errors
/// What the journal says when it cannot be read.
pub fn journal_steps_after(disk: &SimulatedDisk, sequence: i64) -> Result<Vec<JournalStep>, String> {
    Journal::steps_after(disk, sequence).map_err(|error| error.to_string())
}

/// What a machine's device remembers, whoever has it open.
///
/// # Errors
/// What the device says when its memory cannot be read.
pub fn device_evidence(disk: &SimulatedDisk) -> Result<DeviceEvidence, String> {
    Simulated::evidence(disk).map_err(|error| error.to_string())
}

impl Surroundings {
    pub(crate) fn terminal(&self) -> Terminal {
        Terminal::of_key(Zeroizing::new(self.terminal_key))
    }

    pub(crate) fn way(&self, url: &str) -> Way {
        Way {
            url: url.to_owned(),
            network: Some(Arc::clone(&self.network)),
            jitter_seed: Some(self.jitter_seed),
            witness: Some(Arc::clone(&self.witness)),
        }
    }

    pub(crate) fn has_journal(&self) -> bool {
        Journal::steps_after(&self.journal, 0).is_ok_and(|steps| !steps.is_empty())
    }

    pub(crate) fn typed_pin(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pin.clone())
    }

    pub(crate) fn typed_new_pin(&self) -> Zeroizing<String> {
        Zeroizing::new(self.new_pin.clone())
    }

    pub(crate) fn journal(
        &self,
        terminal: TerminalId,
        clock: Arc<dyn Clock>,
    ) -> Result<Journal, JournalError> {
        Journal::open_on(&self.journal, terminal, clock)
    }

    pub(crate) fn device(&self, currency: Currency, ids: &dyn IdSource) -> Result<Simulated, DeviceError> {
        Simulated::open_on(&self.device, currency, ids, power_lost)
    }
}

/// Whoever watches the fault points ends the program here.
fn power_lost() -> DeviceError {
    atm_faults::reached(POWER_LOST);
    DeviceError::PowerLost
}
