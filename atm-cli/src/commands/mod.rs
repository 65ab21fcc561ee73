//! One file for each command, and what they share: who the machine is, and how a customer is let in.

pub(crate) mod admin;
pub(crate) mod balance;
pub(crate) mod crash_points;
pub(crate) mod demo;
pub(crate) mod deposit;
pub(crate) mod dispenser;
mod money;
pub(crate) mod pin;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod statement;
pub(crate) mod text;
pub(crate) mod transaction;
pub(crate) mod transfer;
pub(crate) mod withdraw;
pub(crate) mod wrong_use;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atm_rpc::deadline::Deadline;
use atm_rpc::server::shutdown_on_signals;
use atm_rpc::telemetry::{self, TraceContext};
use atm_types::{Clock, IdSource, SystemClock, SystemIds, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::{CardArgs, Cli, Command, Global};
use crate::client::{Gateway, Session, Way};
use crate::crash;
use crate::device::Simulated;
use crate::exit::{Exit, Failure, with_causes};
use crate::flow::{self, Machine, Parts};
use crate::journal::{self, Journal};
use crate::output::{self, Screen};
use crate::pin::Pin;
use crate::simulation::Surroundings;
use crate::terminal::Terminal;

/// Everything a command gets from outside.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) screen: Screen,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// The trace of this key press.
    pub(crate) trace: TraceContext,
    /// What stands in for disks, network and hands where everything is simulated.
    pub(crate) surroundings: Option<Arc<Surroundings>>,
}

/// Runs a command to its exit code.
pub(crate) fn run(cli: Cli) -> Exit {
    let serving = matches!(cli.command, Command::Serve(_));
    // A machine's screen belongs to its customer; whoever wants the log asks for it.
    if serving || std::env::var_os("RUST_LOG").is_some() {
        telemetry::init("atm-cli");
    }
    let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
    let screen = Screen::new(cli.global.json);
    if let Some(point) = cli.global.crash_at.as_deref() {
        crash::choose(point);
    }
    let context = Context {
        screen,
        clock: Arc::new(DaysAhead(cli.global.days_ahead.unwrap_or(0))),
        global: cli.global,
        trace: TraceContext::new(&*ids),
        ids,
        surroundings: None,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return show(&context, &Failure::unavailable(format!("no runtime: {error}")));
        }
    };
    let unheard = exit_unheard(&cli.command);
    let done = runtime.block_on(telemetry::scope(context.trace, dispatch(cli.command, &context)));
    // Whatever still runs in the background (a connection, a name look-up) is nothing to wait for.
    runtime.shutdown_background();
    let exit = done.unwrap_or_else(|failure| show(&context, &failure));
    match output::lost() {
        // Any other code says already that there is something to look at.
        Some(why) if exit == Exit::Done => {
            context.screen.error(&format!("the result cannot be written to standard output: {why}"));
            unheard
        }
        Some(_) | None => exit,
    }
}

/// What a command ends with that did everything but could not say so: its outcome is unknown to whoever waits for it,
/// unless nothing happened at all.
fn exit_unheard(command: &Command) -> Exit {
    let only_reads = match command {
        Command::Balance(_)
        | Command::Statement(_)
        | Command::Text(_)
        | Command::Demo(_)
        | Command::CrashPoints(_) => true,
        Command::Transaction(args) => args.only_reads(),
        Command::Dispenser(args) => args.only_reads(),
        Command::Admin(args) => args.only_reads(),
        // What it printed when it began was for people.
        Command::Serve(_) => return Exit::Done,
        Command::Withdraw(_)
        | Command::Deposit(_)
        | Command::Transfer(_)
        | Command::Pin(_)
        | Command::Recover(_) => false,
    };
    if only_reads { Exit::Unavailable } else { Exit::Unknown }
}

/// Runs a command where everything is simulated; `serve` and `demo` are not for there.
pub(crate) async fn run_simulated(cli: Cli, context: Context) -> Exit {
    let done = telemetry::scope(context.trace, dispatch(cli.command, &context)).await;
    done.unwrap_or_else(|failure| show(&context, &failure))
}

fn show(context: &Context, failure: &Failure) -> Exit {
    let message = failure.to_string();
    context.screen.object(&FailureKeys { reason: failure.reason, message: &message });
    context.screen.error(&message);
    failure.exit
}

/// The machine's clock, set wrong on purpose where a developer asked for it.
struct DaysAhead(u32);

impl Clock for DaysAhead {
    fn now(&self) -> Timestamp {
        SystemClock.now().saturating_add(Duration::from_secs(u64::from(self.0) * 24 * 60 * 60))
    }
}

/// The one object of a command that failed and moves no money.
#[derive(Serialize)]
struct FailureKeys<'a> {
    reason: &'a str,
    message: &'a str,
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Balance(args) => balance::run(context, &args).await,
        Command::Withdraw(args) => withdraw::run(context, &args).await,
        Command::Deposit(args) => deposit::run(context, &args).await,
        Command::Transfer(args) => transfer::run(context, &args).await,
        Command::Statement(args) => statement::run(context, &args).await,
        Command::Pin(args) => pin::run(context, &args).await,
        Command::Transaction(args) => transaction::run(context, &args).await,
        Command::Recover(args) => recover::run(context, &args).await,
        Command::Text(args) => text::run(context, args).await,
        Command::Admin(args) => admin::run(context, args).await,
        Command::Serve(args) => serve::run(context, &args).await,
        Command::Demo(args) => demo::run(context, &args).await,
        Command::Dispenser(args) => dispenser::run(context, &args),
        Command::CrashPoints(args) => crash_points::run(context, &args),
    }
}

impl Context {
    /// The state directory: given, or the user's own.
    fn state_directory(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.global.state {
            return Ok(directory.clone());
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("XDG_STATE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/state")))
            .map(|directory| directory.join("atm"))
            .ok_or_else(|| Failure::invalid("no state directory: give --state DIR, or set HOME"))
    }

    fn terminal(&self) -> Result<Terminal, Failure> {
        if let Some(surroundings) = &self.surroundings {
            return Ok(surroundings.terminal());
        }
        Terminal::load(&self.state_directory()?, &*self.ids)
            .map_err(|error| Failure::unavailable(with_causes(&error)).assuring("nothing was sent"))
    }

    fn gateway(&self, terminal: &Terminal) -> Result<Gateway, Failure> {
        let atm_id = self.global.atm_id.clone().unwrap_or_else(|| terminal.default_atm_id());
        Gateway::new(self.way(), terminal, &atm_id, self.global.deadline)
    }

    /// How the gateway is reached.
    fn way(&self) -> Way {
        match &self.surroundings {
            Some(surroundings) => surroundings.way(&self.global.gateway),
            None => Way::from(self.global.gateway.as_str()),
        }
    }

    /// Whether there is a machine where this command is told to look for it.
    fn has_journal(&self) -> Result<bool, Failure> {
        match &self.surroundings {
            Some(surroundings) => Ok(surroundings.has_journal()),
            None => Ok(journal::exists_in(&self.state_directory()?)),
        }
    }

    fn pin(&self, file: Option<&Path>, prompt: &str) -> Result<Pin, Failure> {
        match &self.surroundings {
            Some(surroundings) => Pin::new(surroundings.typed_pin()),
            None => Pin::obtain(file, prompt),
        }
    }

    fn new_pin(&self, file: Option<&Path>) -> Result<Pin, Failure> {
        match &self.surroundings {
            Some(surroundings) => Pin::new(surroundings.typed_new_pin()),
            None => Pin::obtain_new(file),
        }
    }

    fn journal(&self, terminal: &Terminal) -> Result<Journal, Failure> {
        let clock = Arc::clone(&self.clock);
        let opened = match &self.surroundings {
            Some(surroundings) => surroundings.journal(terminal.id(), clock),
            None => Journal::open(&self.state_directory()?, terminal.id(), clock),
        };
        opened.map_err(|error| flow::journal_before(&error))
    }

    fn device(&self) -> Result<Simulated, Failure> {
        let opened = match &self.surroundings {
            Some(surroundings) => surroundings.device(self.global.currency, &*self.ids),
            None => Simulated::open(&self.state_directory()?, self.global.currency, &*self.ids),
        };
        opened.map_err(|error| {
            Failure::new(Exit::Unavailable, "device", with_causes(&error)).assuring("nothing was sent")
        })
    }

    /// The whole machine, with its journal locked. Fails at once when another process works with it.
    fn machine(&self, terminal: &Terminal) -> Result<Machine, Failure> {
        let journal = self.journal(terminal)?;
        let device = self.device()?;
        let parts = Parts {
            journal,
            bank: self.gateway(terminal)?,
            currency: device.currency(),
            device: Box::new(device),
            ids: Arc::clone(&self.ids),
            screen: self.screen,
            patience: self.global.deadline,
        };
        Machine::new(parts).map_err(|error| flow::journal_before(&error))
    }

    /// Cancelled when somebody ends the program. From then on no signal ends it by itself: whoever calls this looks.
    fn stop(&self) -> CancellationToken {
        match &self.surroundings {
            // Who is simulated dies otherwise.
            Some(_) => CancellationToken::new(),
            None => shutdown_on_signals(),
        }
    }

    /// Lets a customer in who wants to see something: PIN first, then the deadline begins, then the bank is asked. The
    /// journal is not needed for that, so no start of the machine is named.
    async fn log_in(&self, gateway: &Gateway, card: &CardArgs) -> Result<(Session, Deadline), Failure> {
        let pin = self.pin(card.pin_file.as_deref(), "PIN:")?;
        let deadline = Deadline::after(self.global.deadline);
        let session = gateway.log_in(&card.card, &pin, self.ids.attempt_id(), None, deadline).await?;
        Ok((session, deadline))
    }
}
