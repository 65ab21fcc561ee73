//! One simulated world: hosts, disks and wires, and the driver that lets time pass and things go wrong.

mod auditor;
mod crash;
mod door;
mod gather;
mod hosts;
mod log;
mod machine;
mod network;
mod observe;
mod services;
mod shared;
mod trouble;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_auth::storage::MemoryStore;
use atm_cli::simulation::SimulatedDisk;
use atm_fault_proxy::{Keepalive, Proxy, Witness};
use atm_ledger::storage::memory::MemoryDisk;
use fastrand::Rng;
use turmoil::Sim;

pub use shared::{Host, mix};

use crate::check::Violation;
use crate::evidence::Evidence;
use crate::plan::{BUSY_AT_MOST, Blow, ENDING_AT_MOST, Plan, Strike, Trouble};
use door::Door;
use machine::{Machine, Script};
use network::SimulatedConnect;
use observe::Observer;
use services::{Secrets, Start, url_of};
use shared::{Death, HostClock, Shared, State};

/// How exactly simulated time is kept; a message takes at least one of these.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// For how long a blow takes a host's network away.
const CUT_OFF: Duration = Duration::from_secs(2);
/// As the gateway's connections: turmoil never sends again what a silence swallowed, so that such a connection is dead in
/// one direction, and nobody else would notice.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(10), timeout: Duration::from_secs(4) };

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that a checker may look at, at the end.
    pub evidence: Evidence,
    /// What happened, in order.
    pub events: Vec<crate::trace::Event>,
    /// The hash of that.
    pub hash: String,
    /// How often each fault point was reached.
    pub points: BTreeMap<&'static str, u64>,
    /// How often before the world was set up.
    pub points_before: BTreeMap<&'static str, u64>,
    /// How often until the faults ended.
    pub points_busy: BTreeMap<&'static str, u64>,
    /// What came before the auditor, who does much on purpose; nothing if he did not come.
    pub unaudited: Option<Unaudited>,
    /// What befell whom at which point.
    pub struck: Vec<(Host, Strike)>,
    /// Points at which a program died.
    pub died_at: Vec<(Host, &'static str)>,
    /// What was wrong as soon as it was durable; the evidence may or may not still show it.
    pub violations: Vec<Violation>,
    /// What must not be and no checker of the evidence can see: panics, services that do not start, time that ran out.
    pub failures: Vec<String>,
    /// Disk faults of which nobody could know whether they took effect, and after which the program started again.
    pub unknown_commits: u64,
}

/// How far a run had come when the auditor came.
#[derive(Clone, Debug)]
pub struct Unaudited {
    /// When.
    pub until: Duration,
    /// How often each fault point was reached.
    pub points: BTreeMap<&'static str, u64>,
    /// The last step of the books.
    pub sequence: u64,
}

/// Why a world could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A secret of the simulation cannot be one.
    #[error("the secrets of the simulated world cannot be used")]
    Secrets,
    /// SQLite has no memory.
    #[error("there is no memory for a simulated disk")]
    Disk,
    /// The rules of a wire make no sense.
    #[error("a wire cannot be made: {0}")]
    Wire(String),
}

/// Everything that survives crashes.
struct World {
    seed: u64,
    plan: Plan,
    shared: Arc<Shared>,
    secrets: Secrets,
    ledger: MemoryDisk,
    auth: MemoryStore,
    machines: Vec<Machine>,
    office: Machine,
    clocks: BTreeMap<Host, HostClock>,
    wires: BTreeMap<Host, Proxy>,
    door: Arc<Door>,
}

/// Runs a plan to its end.
///
/// # Errors
/// [`WorldError`].
pub fn run(seed: u64, plan: Plan) -> Result<Outcome, WorldError> {
    let world = World::new(seed, plan)?;
    let world = Arc::new(world);
    let _watching = crash::watch(&world);
    let _logging = log::keep(Arc::clone(&world.shared));
    Driver::new(world).run()
}

impl World {
    fn new(seed: u64, plan: Plan) -> Result<Self, WorldError> {
        let shared = Arc::new(Shared::default());
        let secrets = Secrets::new().ok_or(WorldError::Secrets)?;
        let clock = || HostClock::new(Arc::clone(&shared));
        let machine = |name: &str, key: u8| {
            let disk = |what| SimulatedDisk::new(&format!("{name} {what}")).map_err(|_| WorldError::Disk);
            Ok(Machine {
                journal: disk("journal")?,
                device: disk("device")?,
                key: [key; 32],
                script: Arc::new(Mutex::new(Script::default())),
            })
        };
        let mut machines = Vec::new();
        for (index, actions) in plan.scripts.iter().enumerate() {
            let key = u8::try_from(index).unwrap_or(u8::MAX).wrapping_add(0x11);
            let machine = machine(&Host::Machine(index).name(), key)?;
            if let Ok(mut script) = machine.script.lock() {
                script.actions.clone_from(actions);
            }
            machines.push(machine);
        }
        let office = machine("office", 0x10)?;
        let hosts = [Host::Ledger, Host::Auth, Host::Gateway, Host::Office];
        let all = hosts.into_iter().chain(WIRES.iter().map(|(wire, _)| *wire));
        // Each host costs time in each tick, and few plans have these.
        let has = |wanted: fn(&Trouble) -> bool| plan.troubles.iter().any(|(_, trouble)| wanted(trouble));
        let all = all.chain(has(|it| *it == Trouble::Twin).then_some(Host::Twin));
        let second = has(|it| matches!(it, Trouble::SecondLedger(_)));
        let all = all.chain(second.then_some(Host::SecondLedger));
        let all = all.chain((0..machines.len()).map(Host::Machine));
        let clocks = all.map(|host| (host, clock())).collect();
        let door = Arc::new(Door::new(&secrets.ledger_key));
        let mut wires = BTreeMap::new();
        for (wire, upstream) in WIRES {
            let network = Arc::new(SimulatedConnect::new(wire, Arc::clone(&shared)));
            let dice = Rng::with_seed(mix(seed ^ mix(wire.number())));
            let witness = (wire == Host::WireToLedger).then(|| Arc::clone(&door) as Arc<dyn Witness>);
            let proxy = Proxy::watched(&url_of(upstream), network, (Vec::new(), dice), witness);
            let proxy = proxy.map_err(|error| WorldError::Wire(error.to_string()))?;
            wires.insert(wire, proxy.keeping_alive(KEEPALIVE));
        }
        let (ledger, auth) = (MemoryDisk::new(), MemoryStore::new());
        Ok(Self { seed, plan, shared, secrets, ledger, auth, machines, office, clocks, wires, door })
    }

    fn start(&self, host: Host) -> Start {
        let clock = self.clocks.get(&host).cloned().unwrap_or_default();
        Start::new(self.seed, host, &self.shared, &clock)
    }
}

/// Each wire, and what it leads to.
const WIRES: [(Host, Host); 3] = [
    (Host::WireToGateway, Host::Gateway),
    (Host::WireToAuth, Host::Auth),
    (Host::WireToLedger, Host::Ledger),
];

/// Lets time pass.
struct Driver<'a> {
    world: Arc<World>,
    sim: Sim<'a>,
    observer: Observer,
    /// Hosts that are down, and when each is up again.
    down: Vec<(Duration, Host)>,
    /// What ends at which time: pauses and partitions.
    later: Vec<(Duration, Later)>,
    /// Troubles that are still to come; their time counts from `begun`.
    troubles: Vec<(Duration, Trouble)>,
    begun: Option<Duration>,
    ended_busy: Option<Duration>,
    points_before: BTreeMap<&'static str, u64>,
    points_busy: BTreeMap<&'static str, u64>,
    unaudited: Option<Unaudited>,
    died_at: Vec<(Host, &'static str)>,
    failures: Vec<String>,
    unknown_commits: u64,
    /// Copies of the first machine's disks, and the journal's last step on them.
    twin: Option<(i64, Machine)>,
}

enum Later {
    Release(Host),
    Repair(Host, Host),
    RepairAll(Host),
    BackToFirstLedger,
}

impl<'a> Driver<'a> {
    fn new(world: Arc<World>) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(world.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(world.plan.latency.max(Duration::from_millis(2)))
            .tcp_capacity(4096)
            .build();
        let troubles = world.plan.troubles.clone();
        let observer = Observer::new(world.machines.len());
        Self {
            world,
            sim,
            observer,
            down: Vec::new(),
            later: Vec::new(),
            troubles,
            begun: None,
            ended_busy: None,
            points_before: BTreeMap::new(),
            points_busy: BTreeMap::new(),
            unaudited: None,
            died_at: Vec::new(),
            failures: Vec::new(),
            unknown_commits: 0,
            twin: None,
        }
    }

    fn run(mut self) -> Result<Outcome, WorldError> {
        self.make_hosts();
        let mut at_end = false;
        loop {
            if let Err(error) = self.sim.step() {
                self.failures.push(format!("the simulation stopped: {error}"));
                break;
            }
            let now = self.sim.elapsed();
            self.state().now = now;
            self.observer.look(&self.world, now);
            self.bury(now);
            self.cut_off(now);
            self.raise(now);
            self.trouble(now);
            self.wake_twin();
            if let Some(begun) = self.ended_busy {
                if !self.state().audit && self.observer.what_is_open(&self.world).is_empty() {
                    self.begin_audit(now);
                }
                if self.state().audit {
                    if self.state().probes.is_some() {
                        at_end = true;
                        break;
                    }
                    if now > begun + ENDING_AT_MOST * 3 {
                        self.failures.push("the audit did not come to its end".to_owned());
                        break;
                    }
                } else if now > begun + ENDING_AT_MOST {
                    let open = self.observer.what_is_open(&self.world);
                    self.failures.push(format!("not everything ended in 60 s without faults: {open}"));
                    break;
                }
            } else if let Some(begun) = self.begun {
                let idle =
                    (0..self.world.machines.len()).all(|index| self.state().idle.get(&index) == Some(&true));
                if idle || now > begun + BUSY_AT_MOST {
                    self.end_faults(now);
                }
            } else if self.state().set_up {
                self.begin(now);
            } else if now > Duration::from_secs(20) {
                self.failures.push("the world was not set up".to_owned());
                break;
            }
        }
        self.failures.append(&mut self.observer.unreadable);
        let evidence = gather::evidence(&self.world, &self.observer, at_end);
        let state = self.state();
        Ok(Outcome {
            evidence,
            events: state.trace.events().to_vec(),
            hash: state.trace.hash(),
            points: state.points.clone(),
            points_before: self.points_before.clone(),
            points_busy: self.points_busy.clone(),
            unaudited: self.unaudited.clone(),
            struck: state.struck.clone(),
            died_at: self.died_at.clone(),
            violations: self.observer.violations.clone(),
            failures: self.failures.clone(),
            unknown_commits: self.unknown_commits,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.world.shared.lock()
    }

    /// The world is set up: from now on things go wrong.
    fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
        let strikes = self.world.plan.strikes.clone();
        let world = Arc::clone(&self.world);
        let mut state = world.shared.lock();
        self.points_before = state.points.clone();
        for strike in strikes {
            let reached = state.points.get(strike.point).copied().unwrap_or(0);
            state.strikes.push(Strike { nth: reached + strike.nth, ..strike });
        }
    }

    fn begin_audit(&mut self, until: Duration) {
        let mut state = self.world.shared.lock();
        let (points, sequence) = (state.points.clone(), self.observer.ledger_sequence);
        self.unaudited = Some(Unaudited { until, points, sequence });
        state.audit = true;
    }

    /// Takes down the hosts that died in this tick.
    fn bury(&mut self, now: Duration) {
        let deaths = std::mem::take(&mut self.state().deaths);
        for (host, death) in deaths {
            if self.down.iter().any(|(_, other)| *other == host) {
                continue;
            }
            match &death {
                Death::AtPoint(point) => self.died_at.push((host, *point)),
                Death::Panicked(what) => self.failures.push(format!("{host} panicked: {what}")),
                Death::Ended(_) => self.unknown_commits += 1,
            }
            self.crash(host, now + self.world.plan.down_for);
        }
    }

    /// Takes the network away from hosts that were struck so in this tick.
    fn cut_off(&mut self, now: Duration) {
        let cut_off = std::mem::take(&mut self.state().cut_off);
        for (host, blow) in cut_off {
            let until = now + CUT_OFF;
            if blow == Blow::Silence {
                self.for_neighbours(host, Sim::partition);
                self.later.push((until, Later::RepairAll(host)));
            } else {
                self.for_neighbours(host, Sim::hold);
                self.later.push((until, Later::Release(host)));
            }
        }
    }

    fn crash(&mut self, host: Host, until: Duration) {
        if self.down.iter().any(|(_, other)| *other == host) {
            return;
        }
        self.end_life(host);
        if let Host::Machine(index) = host
            && let Some(machine) = self.world.machines.get(index)
        {
            machine.journal.cut_power();
            machine.device.cut_power();
        }
        self.sim.crash(host.name());
        self.down.push((until, host));
    }

    /// Nothing is heard of this start of a host any more. It comes before its tasks are dropped.
    fn end_life(&self, host: Host) {
        if let Some((life, _)) = self.state().lives.get(&host) {
            life.end();
        }
    }

    /// Starts hosts again whose time has come, and ends pauses and partitions.
    fn raise(&mut self, now: Duration) {
        let (up, down): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.down).into_iter().partition(|(at, _)| *at <= now);
        self.down = down;
        for (_, host) in up {
            self.world.shared.tell(host, "starts again");
            self.sim.bounce(host.name());
        }
        let (over, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, what) in over {
            match what {
                Later::Release(host) => self.for_neighbours(host, Sim::release),
                Later::RepairAll(host) => self.for_neighbours(host, Sim::repair),
                Later::BackToFirstLedger => self.lead_to(Host::Ledger),
                Later::Repair(one, other) => self.sim.release(one.name(), other.name()),
            }
        }
    }

    fn for_neighbours(&mut self, host: Host, what: impl Fn(&Sim<'a>, String, String)) {
        let all: Vec<Host> = self.world.clocks.keys().copied().collect();
        for other in all.into_iter().filter(|other| *other != host) {
            what(&self.sim, host.name(), other.name());
        }
    }

    /// No more faults: everything has to end now.
    fn end_faults(&mut self, now: Duration) {
        self.ended_busy = Some(now);
        self.points_busy = self.world.shared.lock().points.clone();
        self.troubles.clear();
        self.set_wires(false);
        self.make_room();
        self.world.ledger.clear_faults();
        self.world.auth.clear_faults();
        for (at, _) in &mut self.later {
            *at = now;
        }
        for (at, _) in &mut self.down {
            *at = now;
        }
        {
            let mut state = self.state();
            state.strikes.clear();
            state.cut_off.clear();
            state.ending = true;
        }
        self.world.shared.tell(Host::Office, "no more faults");
    }
}
