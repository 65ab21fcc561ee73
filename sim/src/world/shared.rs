//! What all programs of one simulated world share with whoever runs it: who lives, what was seen, what is to come.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atm_types::{Clock, IdSource, SeededIds, Timestamp};
use turmoil::net::TcpStream;

use super::machine::Machine;
use crate::evidence::{Call, LogLine, Pressed, Probe, Told};
use crate::plan::{Blow, CUSTOMERS, Strike};
use crate::trace::Trace;

/// A computer of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The books.
    Ledger,
    /// What is started in its place when it is not heard, on the same store.
    SecondLedger,
    /// Cards and PINs.
    Auth,
    /// Between machines and the two above.
    Gateway,
    /// The wire between machines and gateway.
    WireToGateway,
    /// The wire between gateway and auth.
    WireToAuth,
    /// The wire between gateway and ledger.
    WireToLedger,
    /// Operators who are at no machine.
    Office,
    /// A cash machine, counted from 0.
    Machine(usize),
    /// A second machine with an older copy of the first one's disk.
    Twin,
}

impl Host {
    /// Its name in the simulated network.
    pub fn name(self) -> String {
        match self {
            Self::Ledger => "ledger".to_owned(),
            Self::SecondLedger => "ledger-2".to_owned(),
            Self::Auth => "auth".to_owned(),
            Self::Gateway => "gateway".to_owned(),
            Self::WireToGateway => "wire-gateway".to_owned(),
            Self::WireToAuth => "wire-auth".to_owned(),
            Self::WireToLedger => "wire-ledger".to_owned(),
            Self::Office => "office".to_owned(),
            Self::Machine(index) => format!("atm-{}", index + 1),
            Self::Twin => "twin".to_owned(),
        }
    }

    /// A number that no other host has.
    pub fn number(self) -> u64 {
        match self {
            Self::Ledger => 1,
            Self::Auth => 2,
            Self::Gateway => 3,
            Self::WireToGateway => 4,
            Self::WireToAuth => 5,
            Self::WireToLedger => 6,
            Self::Office => 7,
            Self::Twin => 8,
            Self::SecondLedger => 9,
            Self::Machine(index) => 16 + index as u64,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name())
    }
}

/// One start of a host: from its beginning to its crash.
#[derive(Debug, Default)]
pub(super) struct Life {
    dead: AtomicBool,
    connections: Mutex<Connections>,
}

/// The connections of one life, which are closed in the order in which they were opened when it ends. Tokio drops a
/// dead host's tasks in an order that depends on how many tasks this process has ever had; and each end that is sent
/// over the network draws its delay.
#[derive(Debug, Default)]
struct Connections {
    opened: u64,
    /// Those that no task has let go of yet.
    held: usize,
    /// Those that a dead host's tasks have let go of.
    let_go: BTreeMap<u64, TcpStream>,
}

impl Life {
    /// Counts a connection; its number.
    pub(super) fn opens(&self) -> u64 {
        let mut connections = self.connections();
        connections.opened += 1;
        connections.held += 1;
        connections.opened
    }

    /// A task lets go of a connection: it is closed at once, or with all others if its host is dead.
    pub(super) fn lets_go(&self, number: u64, stream: TcpStream) {
        let mut connections = self.connections();
        connections.held -= 1;
        if !self.is_dead() {
            return;
        }
        connections.let_go.insert(number, stream);
        if connections.held == 0 {
            std::mem::take(&mut connections.let_go).into_values().for_each(drop);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it crashed. What is left of its tasks until the end of the tick must not be heard.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// It crashes.
    pub(super) fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

/// Why a host went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It died at a fault point.
    AtPoint(&'static str),
    /// Its program ended by itself and says why.
    Ended(String),
    /// Something panicked that must not.
    Panicked(String),
}

/// Everything that is shared.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

/// See [`Shared`].
#[derive(Debug, Default)]
pub(super) struct State {
    /// Simulated time at the end of the last tick.
    pub(super) now: Duration,
    /// What happened, in order.
    pub(super) trace: Trace,
    /// How often each fault point was reached.
    pub(super) points: BTreeMap<&'static str, u64>,
    /// What befalls whoever reaches a point for the so-manieth time, counted from the very beginning.
    pub(super) strikes: Vec<Strike>,
    /// What befell whom.
    pub(super) struck: Vec<(Host, Strike)>,
    /// Hosts that are to be cut off at the end of this tick.
    pub(super) cut_off: Vec<(Host, Blow)>,
    /// Hosts that went down in this tick.
    pub(super) deaths: Vec<(Host, Death)>,
    /// The current start of each host, and how many there were.
    pub(super) lives: BTreeMap<Host, (Arc<Life>, u32)>,
    /// Every attempt at a call.
    pub(super) calls: Vec<Call>,
    /// Numbers for calls.
    pub(super) next_call: u64,
    /// What customers were told.
    pub(super) told: Vec<Told>,
    /// What customers began.
    pub(super) pressed: Vec<Pressed>,
    /// What was logged.
    pub(super) log: Vec<LogLine>,
    /// PINs that were really verified.
    pub(super) verifications: Vec<(Duration, String)>,
    /// The PINs that each customer thinks of, the likeliest first; the one that the card was issued with as long as
    /// nothing is said.
    pub(super) pins: BTreeMap<usize, Vec<&'static str>>,
    /// Which host each tokio runtime is.
    pub(super) runtimes: HashMap<tokio::runtime::Id, Host>,
    /// Which ledger answers to the name of both; nothing as long as the second one was not started.
    pub(super) answering: Option<Host>,
    /// A machine that starts with the first one's older disks.
    pub(super) twin: Option<Machine>,
    /// What was decided when operators set the world up.
    pub(super) set_up: bool,
    /// Whether the machines are to settle what is open and begin nothing new.
    pub(super) ending: bool,
    /// Whether the run is over, and fault points mean nothing any more.
    pub(super) over: bool,
    /// Whether the auditor is to come.
    pub(super) audit: bool,
    /// What he tried, once he is done.
    pub(super) probes: Option<Vec<Probe>>,
    /// Machines whose scripts are done.
    pub(super) idle: BTreeMap<usize, bool>,
}

impl State {
    /// The PIN that a customer takes for hers.
    pub(super) fn pin(&self, customer: usize) -> &'static str {
        let known = self.pins.get(&customer).and_then(|pins| pins.first());
        known.copied().unwrap_or(CUSTOMERS[customer].pin)
    }

    /// All PINs that may be hers, as far as she knows.
    pub(super) fn pins(&mut self, customer: usize) -> &mut Vec<&'static str> {
        self.pins.entry(customer).or_insert_with(|| vec![CUSTOMERS[customer].pin])
    }

    /// This PIN was refused: another one comes first, if there is one.
    pub(super) fn doubt(&mut self, customer: usize, pin: &str) {
        let pins = self.pins(customer);
        if pins.first() == Some(&pin) {
            pins.rotate_left(1);
        }
    }

    /// This PIN may be hers from now on.
    pub(super) fn consider(&mut self, customer: usize, pin: &'static str) {
        let pins = self.pins(customer);
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }

    /// This PIN is the likeliest now.
    pub(super) fn believe(&mut self, customer: usize, pin: &'static str) {
        let pins = self.pins(customer);
        pins.retain(|known| *known != pin);
        pins.insert(0, pin);
    }
}

impl Shared {
    /// The state, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, as exactly as it is known where this is called.
    pub(super) fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.lock().now)
    }

    /// A new start of a host.
    pub(super) fn begin_life(&self, host: Host) -> (Arc<Life>, u32) {
        let mut state = self.lock();
        let starts = state.lives.get(&host).map_or(0, |(_, starts)| *starts) + 1;
        let life = Arc::new(Life::default());
        state.lives.insert(host, (Arc::clone(&life), starts));
        (life, starts)
    }

    /// The start that a host is in.
    pub(super) fn life(&self, host: Host) -> Arc<Life> {
        self.lock().lives.get(&host).map(|(life, _)| Arc::clone(life)).unwrap_or_default()
    }

    /// A line of the trace.
    pub(super) fn tell(&self, host: Host, what: impl Into<String>) {
        let now = self.now();
        self.lock().trace.add(now, host, what.into());
    }

    /// A host goes down.
    pub(super) fn die(&self, host: Host, death: Death) {
        let mut state = self.lock();
        if let Some((life, _)) = state.lives.get(&host) {
            life.end();
        }
        state.deaths.push((host, death));
    }
}

/// When the simulated world begins: 2026-01-01T00:00:00Z.
const BEGINNING: i64 = 1_767_225_600;

/// The clock of a host: right at the beginning, and then as wrong as it is made.
#[derive(Clone, Debug, Default)]
pub(super) struct HostClock {
    ahead_nanos: Arc<AtomicI64>,
    shared: Arc<Shared>,
}

impl HostClock {
    /// A clock that is right.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { ahead_nanos: Arc::default(), shared }
    }

    /// Sets it so many seconds ahead of the right time, or behind it.
    pub(super) fn set_ahead(&self, seconds: i64) {
        self.ahead_nanos.store(seconds.saturating_mul(1_000_000_000), Ordering::SeqCst);
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.shared.now().as_nanos()).unwrap_or(i64::MAX);
        let right = Timestamp::from_seconds(BEGINNING).as_nanos().saturating_add(elapsed);
        Timestamp::from_nanos(right.saturating_add(self.ahead_nanos.load(Ordering::SeqCst)))
    }
}

/// Ids that follow from a seed, with the time of a host's clock in them.
pub(super) struct HostIds {
    random: SeededIds,
    clock: HostClock,
}

impl HostIds {
    /// The ids of one start of a host.
    pub(super) fn new(seed: u64, host: Host, start: u32, clock: HostClock) -> Self {
        let own = mix(seed ^ mix(host.number()).wrapping_add(mix(u64::from(start) + 1000)));
        Self { random: SeededIds::new(own), clock }
    }
}

impl IdSource for HostIds {
    fn fill(&self, buffer: &mut [u8]) {
        self.random.fill(buffer);
    }

    fn time(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
