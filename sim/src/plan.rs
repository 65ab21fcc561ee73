//! What a seed means: how unreliable everything is, what customers want, and what goes wrong when.

use std::time::Duration;

use atm_cli::simulation::{DiskFault, device_faults};
use atm_fault_proxy::{Break, Delay, DelayLength, Moment, Rule, Span};
use fastrand::Rng;

use crate::world::Host;

/// How long a machine's customer waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// After this long whatever is left of the scripts is dropped and the faults end.
pub const BUSY_AT_MOST: Duration = Duration::from_secs(40);
/// In this time everything must have ended then (invariant 23).
pub const ENDING_AT_MOST: Duration = Duration::from_secs(60);

/// A customer of the bank.
#[derive(Clone, Copy, Debug)]
pub struct Customer {
    /// The number of the account.
    pub account: &'static str,
    /// The number of the card.
    pub card: &'static str,
    /// The PIN that the card is issued with.
    pub pin: &'static str,
    /// PINs that she may change it to.
    pub other_pins: [&'static str; 2],
    /// The balance at the beginning, in major units.
    pub opening: i64,
    /// How far below zero it may go.
    pub overdraft: i64,
    /// What may be withdrawn in a day; 0 is anything.
    pub daily_limit: i64,
}

/// Everybody.
pub const CUSTOMERS: [Customer; 3] = [
    Customer {
        account: "Joty",
        card: "5123456789012346",
        pin: "71842",
        other_pins: ["40917736", "86203514"],
        opening: 5_000,
        overdraft: 0,
        daily_limit: 0,
    },
    Customer {
        account: "Ahona",
        card: "5987654321098762",
        pin: "90315",
        other_pins: ["27750938", "61389042"],
        opening: 800,
        overdraft: 300,
        daily_limit: 0,
    },
    Customer {
        account: "Kader",
        card: "5432198765012349",
        pin: "36047",
        other_pins: ["95406281", "13872645"],
        opening: 9_000,
        overdraft: 0,
        daily_limit: 1_500,
    },
];

impl Customer {
    /// All PINs that her card may ever have.
    pub fn pins(&self) -> [&'static str; 3] {
        [self.pin, self.other_pins[0], self.other_pins[1]]
    }
}

/// One thing that happens at a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Cash out.
    Withdraw {
        /// Who.
        customer: usize,
        /// How much, in major units.
        amount: i64,
        /// Whether the PIN is right.
        right_pin: bool,
        /// What the device does wrong.
        fault: Option<&'static str>,
    },
    /// Cash in.
    Deposit {
        /// Who.
        customer: usize,
        /// How much.
        amount: i64,
    },
    /// Money to another customer.
    Transfer {
        /// Who.
        customer: usize,
        /// How much.
        amount: i64,
        /// To whom.
        to: usize,
    },
    /// A look at the balance.
    Balance {
        /// Who.
        customer: usize,
        /// Whether the PIN is right.
        right_pin: bool,
    },
    /// Another PIN.
    ChangePin {
        /// Who.
        customer: usize,
        /// Which of [`Customer::pins`] it is to be.
        to: usize,
    },
    /// A look at the last movements.
    Statement {
        /// Who.
        customer: usize,
    },
    /// The last money command again, with the same id.
    Repeat,
    /// The last money command is cancelled by its customer.
    Cancel,
    /// An id that was never used is cancelled.
    CancelNothing {
        /// Whose card is shown.
        customer: usize,
    },
    /// What is open is settled.
    Recover,
    /// Operators put notes in.
    Load,
    /// Operators empty a bin.
    Unload(&'static str),
    /// Operators count the notes, and find what the device says.
    Count,
    /// Operators decide what is suspect.
    Resolve {
        /// Whether the customer is found to have got the money.
        presented: bool,
    },
    /// An operator lets a locked card in again.
    Unblock {
        /// Whose.
        customer: usize,
    },
}

/// Something that goes wrong at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The host dies, and is up again after a while.
    Crash(Host, Duration),
    /// The host is not heard for a while, and then everything that it said and was told comes at once.
    Pause(Host, Duration),
    /// Two hosts hear nothing of each other for a while; to a connection that outlives it, that is a delay.
    Partition(Host, Host, Duration),
    /// The host's clock is so many seconds ahead from now on.
    Clock(Host, i64),
    /// The journal's or the device's disk of a machine fails.
    MachineDisk {
        /// Which machine.
        machine: usize,
        /// Whether it is the device's.
        device: bool,
        /// After so many commits.
        after: u64,
        /// How.
        fault: DiskFault,
    },
    /// The ledger's disk fails after so many commits: lost, unknown, torn or full.
    LedgerDisk(u64, atm_ledger::storage::memory::Fault),
    /// Auth's disk fails after so many commits.
    AuthDisk(u64, atm_auth::storage::CommitFault),
    /// All disks have room again.
    MakeRoom,
    /// A second machine starts with the disk that the first one had a while ago.
    Twin,
    /// The ledger is not heard for a while; a second one is started on its store and answers in its place until it is
    /// heard again. Both live from then on.
    SecondLedger(Duration),
    /// The wires behave, or do not.
    Wires(bool),
}

/// What befalls a program at a fault point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blow {
    /// It dies.
    Crash,
    /// It is not heard for a while, and then everything that it said and was told comes at once.
    Pause,
    /// Everything between it and everybody else is lost for a while: the answer that it is about to give, too.
    Silence,
    /// Its next commit never reaches the disk, and fails.
    CommitLost,
    /// Its next commit reaches the disk, and fails all the same.
    CommitUnknown,
    /// Its next commit finds the disk full.
    DiskFull,
}

impl Blow {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Crash, Self::Pause, Self::Silence, Self::CommitLost, Self::CommitUnknown, Self::DiskFull];

    /// Whether it makes sense for a program with no disk, or whose disk is never full.
    pub fn befalls(self, point: &str) -> bool {
        match self {
            Self::Crash | Self::Pause | Self::Silence => true,
            Self::CommitLost | Self::CommitUnknown => !point.starts_with("GATEWAY_"),
            Self::DiskFull => !point.starts_with("GATEWAY_") && !point.starts_with("AUTH_"),
        }
    }
}

/// What befalls whichever program reaches a fault point for the so-manieth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The point.
    pub point: &'static str,
    /// Which time, counted from 1 when the world is set up.
    pub nth: u64,
    /// What.
    pub blow: Blow,
}

/// How the wires misbehave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wire {
    /// What comes before everything else.
    pub first: Vec<Rule>,
    /// Loss of a request.
    pub lose_request: f64,
    /// Loss of an answer.
    pub lose_answer: f64,
    /// Second copies.
    pub duplicate: f64,
    /// Delays, each way.
    pub delay: f64,
    /// The longest delay.
    pub delay_at_most: Duration,
    /// Cut connections.
    pub reset: f64,
    /// Requests for money that reach the ledger only after their machine has lost its patience.
    pub late: f64,
}

impl Wire {
    /// Makes sure that there are second copies, and that some come later than the first.
    fn copy_often(&mut self) {
        self.duplicate = self.duplicate.max(0.5);
        self.delay = self.delay.max(0.2);
        self.delay_at_most = self.delay_at_most.max(Duration::from_millis(200));
    }

    /// For the proxy.
    pub fn rules(&self) -> Vec<Rule> {
        let delay = (self.delay > 0.0).then(|| Delay {
            probability: self.delay,
            length: DelayLength::Uniform(Span(Duration::from_millis(5)), Span(self.delay_at_most)),
        });
        let of = |path: &str, rule: Rule| Rule { method: atm_fault_proxy::Glob::new(path), ..rule };
        // A stream has no end of its request or answer that could be lost; connections it shares are cut.
        let stream = of("/atm.auth.v1.AuthService/WatchRevocations", Rule::default());
        let mut rules = vec![stream];
        rules.extend(self.first.iter().cloned());
        if self.late > 0.0 {
            let length = DelayLength::Uniform(Span(PATIENCE), Span(PATIENCE * 3));
            let delay_request = Some(Delay { probability: self.late, length });
            let late = Rule { delay_request, ..Rule::default() };
            rules.push(of("*/HoldTransaction", late.clone()));
            rules.push(of("*/PostTransaction", late));
        }
        rules.push(of(
            "*",
            Rule {
                lose_request: self.lose_request,
                lose_answer: self.lose_answer,
                duplicate: self.duplicate,
                duplicate_after: delay.map(|delay| delay.length),
                delay_request: delay,
                delay_answer: delay,
                reset: (self.reset > 0.0)
                    .then_some(Break { probability: self.reset, moment: Moment::AfterEffect }),
                ..Rule::default()
            },
        ));
        rules
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What each machine does, in order, each after a pause.
    pub scripts: Vec<Vec<(Duration, Action)>>,
    /// What goes wrong, in the order of time.
    pub troubles: Vec<(Duration, Trouble)>,
    /// How the wires misbehave while they do.
    pub wire: Wire,
    /// What befalls programs at fault points.
    pub strikes: Vec<Strike>,
    /// How long the ledger takes for a commit.
    pub ledger_pace: Duration,
    /// How many steps follow a checkpoint of the ledger.
    pub checkpoint_every: u64,
    /// The longest that a message takes on the network.
    pub latency: Duration,
    /// How long a host that died stays down.
    pub down_for: Duration,
}

impl Plan {
    /// What the seed means. `points` are the fault points there are.
    pub fn of(seed: u64, points: &[&'static str]) -> Self {
        let mut dice = Rng::with_seed(crate::world::mix(seed));
        // One run in eight is spared everything.
        let spared = dice.u8(..8) == 0;
        let machines = 1 + usize::from(dice.u8(..3) > 0);
        let mut scripts: Vec<_> = (0..machines).map(|_| script(&mut dice)).collect();
        let mut wire = if spared || dice.u8(..4) == 0 { Wire::default() } else { wire(&mut dice) };
        let mut troubles = if spared { Vec::new() } else { troubles(&mut dice, machines) };
        let mut strikes = Vec::new();
        if !spared && !points.is_empty() {
            for _ in 0..dice.u8(..6) {
                let point = points[dice.usize(..points.len())];
                // Half of them are crashes.
                let drawn = Blow::ALL[dice.usize(..Blow::ALL.len())];
                let blow = if dice.bool() || !drawn.befalls(point) { Blow::Crash } else { drawn };
                strikes.push(Strike { point, nth: 1 + u64::from(dice.u8(..6)), blow });
            }
        }
        let (ledger_pace, checkpoint_every) = (Duration::from_millis(dice.u64(1..30)), dice.u64(3..60));
        let latency = Duration::from_millis(dice.u64(1..40));
        let down_for = Duration::from_millis(dice.u64(20..3_000));
        // Drawn last, so that everything else in a seed's plan is what it was before PINs were changed.
        scripts.iter_mut().for_each(|script| change_pins(&mut dice, script));
        if !spared && dice.u8(..8) == 0 {
            troubles.extend(restless_sessions(&mut dice));
            wire.copy_often();
            troubles.sort_by_key(|(at, _)| *at);
        }
        if !spared {
            rarely(&mut dice, &mut scripts[0], &mut wire);
        }
        Self { scripts, troubles, wire, strikes, ledger_pace, checkpoint_every, latency, down_for }
    }

    /// A run in which nothing goes wrong but what is asked for.
    pub fn quiet(scripts: Vec<Vec<(Duration, Action)>>) -> Self {
        Self {
            scripts,
            troubles: Vec::new(),
            wire: Wire::default(),
            strikes: Vec::new(),
            ledger_pace: Duration::from_millis(2),
            checkpoint_every: 20,
            latency: Duration::from_millis(1),
            down_for: Duration::from_millis(50),
        }
    }
}

fn script(dice: &mut Rng) -> Vec<(Duration, Action)> {
    let length = dice.usize(4..12);
    let mut script = Vec::new();
    for _ in 0..length {
        script.push((Duration::from_millis(dice.u64(0..600)), action(dice)));
    }
    script
}

/// In one run of three, something that would hardly ever happen by itself.
fn rarely(dice: &mut Rng, script: &mut Vec<(Duration, Action)>, wire: &mut Wire) {
    let customer = dice.usize(..CUSTOMERS.len());
    let place = dice.usize(..=script.len());
    let mut then = |actions: &[Action]| {
        let pause = Duration::from_millis(100);
        script.splice(place..place, actions.iter().map(|action| (pause, action.clone())));
    };
    match dice.u8(..9) {
        // A request is overtaken by the cancel of whoever gave it up.
        0 => {
            wire.late = 0.8;
            then(&[Action::Withdraw { customer, amount: 50, right_pin: true, fault: None }]);
        }
        // Somebody guesses until the card is locked.
        1 => then(&vec![Action::Balance { customer, right_pin: false }; 4]),
        // Somebody asks for more than he has, and more than once.
        2 => {
            wire.copy_often();
            let too_much = Action::Withdraw { customer, amount: 1_200, right_pin: true, fault: None };
            then(&[too_much.clone(), too_much, Action::Repeat]);
        }
        _ => {}
    }
}

/// Up to two changes of PIN among whatever else happens.
fn change_pins(dice: &mut Rng, script: &mut Vec<(Duration, Action)>) {
    for _ in 0..dice.u8(..3) {
        let customer = dice.usize(..CUSTOMERS.len());
        let to = dice.usize(..CUSTOMERS[customer].pins().len());
        let pause = Duration::from_millis(dice.u64(0..600));
        script.insert(dice.usize(..=script.len()), (pause, Action::ChangePin { customer, to }));
    }
}

fn action(dice: &mut Rng) -> Action {
    let customer = dice.usize(..CUSTOMERS.len());
    let right_pin = dice.u8(..8) > 0;
    match dice.u8(..35) {
        0..=13 => {
            let faults: Vec<&'static str> = device_faults().filter(|name| *name != "none").collect();
            let fault = (dice.u8(..2) == 0).then(|| faults[dice.usize(..faults.len())]);
            let amount = [20, 50, 120, 300, 480, 700, 1_200][dice.usize(..7)];
            Action::Withdraw { customer, amount, right_pin, fault }
        }
        14..=16 => Action::Deposit { customer, amount: i64::from(dice.u16(1..900)) },
        17..=18 => {
            let to = (customer + 1 + dice.usize(..2)) % CUSTOMERS.len();
            Action::Transfer { customer, amount: i64::from(dice.u16(1..900)), to }
        }
        19..=20 => Action::Balance { customer, right_pin: dice.u8(..2) > 0 },
        21..=23 => Action::Repeat,
        24 => Action::Cancel,
        25..=26 => Action::Recover,
        27 => Action::Load,
        28 => Action::Unload(["reject", "retract", "deposit"][dice.usize(..3)]),
        32..=33 => Action::Statement { customer },
        34 => Action::Count,
        29..=30 => Action::Resolve { presented: dice.bool() },
        _ => Action::Unblock { customer },
    }
}

fn wire(dice: &mut Rng) -> Wire {
    // The patience of a customer is one deadline.
    let longest = PATIENCE * 10;
    let part = |dice: &mut Rng, most: f64| if dice.bool() { dice.f64() * most } else { 0.0 };
    Wire {
        lose_request: part(dice, 0.3),
        lose_answer: part(dice, 0.3),
        duplicate: part(dice, 0.5),
        delay: part(dice, 0.3),
        delay_at_most: longest.mul_f64(dice.f64().powi(3)).max(Duration::from_millis(20)),
        reset: part(dice, 0.1),
        late: 0.0,
        first: Vec::new(),
    }
}

fn troubles(dice: &mut Rng, machines: usize) -> Vec<(Duration, Trouble)> {
    let mut troubles = Vec::new();
    let at = |dice: &mut Rng| Duration::from_millis(dice.u64(..15_000));
    let hosts = |dice: &mut Rng| match dice.usize(..3 + machines) {
        0 => Host::Ledger,
        1 => Host::Auth,
        2 => Host::Gateway,
        machine => Host::Machine(machine - 3),
    };
    for _ in 0..dice.u8(..4) {
        let down = Duration::from_millis(dice.u64(20..3_000));
        troubles.push((at(dice), Trouble::Crash(hosts(dice), down)));
    }
    for _ in 0..dice.u8(..2) {
        let away = Duration::from_millis(dice.u64(100..6_000));
        troubles.push((at(dice), Trouble::Pause(hosts(dice), away)));
    }
    for _ in 0..dice.u8(..2) {
        let away = Duration::from_millis(dice.u64(100..4_000));
        let wires = [
            (Host::Machine(dice.usize(..machines)), Host::WireToGateway),
            (Host::Gateway, Host::WireToAuth),
            (Host::WireToLedger, Host::Ledger),
        ];
        let (one, other) = wires[dice.usize(..3)];
        troubles.push((at(dice), Trouble::Partition(one, other, away)));
    }
    for _ in 0..dice.u8(..2) {
        troubles.push((at(dice), Trouble::Clock(hosts(dice), dice.i64(-3_600..3_600))));
    }
    // More than a day ahead: every hold that stands expires.
    if dice.u8(..6) == 0 {
        troubles.push((at(dice), Trouble::Clock(Host::Ledger, 25 * 3_600)));
    }
    for _ in 0..dice.u8(..3) {
        use atm_ledger::storage::memory::Fault;
        let machine = dice.usize(..machines);
        let after = dice.u64(..20);
        let fault = [DiskFault::Lost, DiskFault::Unknown, DiskFault::Full][dice.usize(..3)];
        let trouble = match dice.u8(..5) {
            0 | 1 => Trouble::MachineDisk { machine, device: false, after, fault },
            2 => Trouble::MachineDisk { machine, device: true, after, fault },
            3 => {
                let faults = [Fault::Lost, Fault::Unknown, Fault::Torn(1), Fault::Full];
                Trouble::LedgerDisk(dice.u64(..12), faults[dice.usize(..4)])
            }
            _ => {
                use atm_auth::storage::CommitFault;
                let faults = [CommitFault::Lost, CommitFault::Kept];
                Trouble::AuthDisk(dice.u64(..6), faults[dice.usize(..2)])
            }
        };
        troubles.push((at(dice), trouble));
    }
    troubles.push((Duration::from_secs(10), Trouble::MakeRoom));
    if dice.u8(..6) == 0 {
        troubles.push((at(dice), Trouble::Twin));
    }
    if dice.u8(..6) == 0 {
        let away = Duration::from_millis(dice.u64(500..15_000));
        troubles.push((at(dice), Trouble::SecondLedger(away)));
    }
    // A quarter of the time is quiet.
    let mut second = 0;
    while second < BUSY_AT_MOST.as_secs() {
        troubles.push((Duration::from_secs(second), Trouble::Wires(dice.u8(..4) > 0)));
        second += dice.u64(1..4);
    }
    troubles.sort_by_key(|(at, _)| *at);
    troubles
}

/// For some seconds the gateway's clock goes to and fro, so that sessions are over one moment and good the next: of two
/// copies of a request one is let in and the other is not.
fn restless_sessions(dice: &mut Rng) -> Vec<(Duration, Trouble)> {
    let longer_than_a_session = 3_600;
    let end = Duration::from_secs(dice.u64(5..15));
    let mut at = end.mul_f64(dice.f64());
    let mut troubles = Vec::new();
    while at < end {
        for ahead in [longer_than_a_session, 0] {
            troubles.push((at, Trouble::Clock(Host::Gateway, ahead)));
            at += Duration::from_millis(dice.u64(10..200));
        }
    }
    troubles
}
