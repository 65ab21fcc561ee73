//! The deck of rounds: who is killed next, and where.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use atm_lab::bank::Bank;
use atm_lab::process::Process;
use atm_lab::scenario::Victim;
use fastrand::Rng;
use tokio::sync::MutexGuard;
use tokio::time::sleep;

use crate::machine::Kind;
use crate::points::{self, Point, Way};
use crate::scene::{Doom, Scene};
use crate::twin::Twin;

/// Cards for machines in the deck; every fault point of a service has one.
const MACHINE_CARDS: usize = 12;
/// Machines that die at a point in one round, and such that die at random.
const AT_POINTS: usize = 6;
const AT_RANDOM: usize = 2;
/// The longest that a machine lives that is killed at random, in milliseconds: a little longer than a command takes.
const LIFETIME_MS: u64 = 400;
/// The longest that a call has been open when it is cut off at random, in microseconds, unless another has begun since.
const MIDDLE_US: u64 = 20_000;
/// So many commands of each machine bring a service to every point that lies on its way.
const ENOUGH: u64 = 12;
/// How often an answer is made to be lost before its repeat has to come.
const LOSSES: u32 = 30;
/// How many kills at random may come too late in a row.
const MISSES: u32 = 30;
const KILL: i32 = 9;

#[derive(Clone, Debug)]
enum Card {
    Service(Point),
    Machines,
}

/// What has been played.
pub(crate) struct Rounds {
    bank: Bank,
    scene: Arc<Scene>,
    pub(crate) twin: Arc<Twin>,
    dice: Rng,
    deck: Vec<Card>,
    /// The points of machines, and the command that passes each.
    machine_points: Vec<(Kind, String)>,
    machine_deck: Vec<(Kind, String)>,
    /// Services that died at a point, by its name.
    died_at: BTreeMap<String, u32>,
    /// For each service: killed at random, and that with calls in flight; and how many calls.
    at_random: BTreeMap<Victim, (u32, u32)>,
    calls_cut: usize,
}

impl Rounds {
    pub(crate) fn new(
        bank: Bank,
        scene: &Arc<Scene>,
        twin: Twin,
        machine_points: Vec<(Kind, String)>,
        seed: u64,
    ) -> Self {
        Self {
            bank,
            scene: Arc::clone(scene),
            twin: Arc::new(twin),
            dice: Rng::with_seed(seed),
            deck: Vec::new(),
            machine_points,
            machine_deck: Vec::new(),
            died_at: BTreeMap::new(),
            at_random: BTreeMap::new(),
            calls_cut: 0,
        }
    }

    /// One round; what happened in it.
    pub(crate) async fn play(&mut self) -> String {
        if self.deck.is_empty() {
            let services = points::of_services().into_iter().map(Card::Service);
            self.deck = services.chain([const { Card::Machines }; MACHINE_CARDS]).collect();
            self.dice.shuffle(&mut self.deck);
        }
        self.scene.until_served(self.dice.u64(1..=12)).await;
        match self.deck.pop().unwrap() {
            Card::Machines => self.kill_machines().await,
            Card::Service(point) => self.kill_service(&point).await,
        }
    }

    async fn kill_machines(&mut self) -> String {
        let mut dooms = Vec::new();
        for _ in 0..AT_POINTS {
            if self.machine_deck.is_empty() {
                self.machine_deck = self.machine_points.clone();
                self.dice.shuffle(&mut self.machine_deck);
            }
            let (kind, point) = self.machine_deck.pop().unwrap();
            dooms.push(Doom::At(kind, point));
        }
        for _ in 0..AT_RANDOM {
            dooms.push(Doom::After(Duration::from_millis(self.dice.u64(0..LIFETIME_MS))));
        }
        let told = format!("machines: {dooms:?}");
        self.scene.kill_machines(dooms).await;
        told
    }

    /// At random first, then at the point; and a start that lasts.
    async fn kill_service(&mut self, point: &Point) -> String {
        let calls = self.kill_at_random(point.victim).await;
        let (victim, name) = (point.victim, point.name.as_str());
        let nth = self.dice.u32(1..=3);
        let mut refused = None;
        match point.way() {
            Way::Traffic => self.die_at(victim, &format!("{name}:{nth}")).await,
            Way::Start => {
                self.start(victim, name).await;
                self.has_died(victim, name).await;
            }
            Way::Lost(first) => self.die_after(victim, first, name).await,
            Way::LostRefusal(first) => {
                self.scene.refuse_only(true);
                self.die_after(victim, first, name).await;
                self.scene.refuse_only(false);
            }
            Way::WithoutLedger => {
                self.start(victim, name).await;
                self.kill(Victim::Ledger).await;
                self.has_died(victim, name).await;
                self.start_for_good(Victim::Ledger).await;
            }
            Way::Terminated => {
                self.start(victim, name).await;
                self.process(victim).await.serves().await.unwrap();
                self.scene.until_each_served(1).await;
                self.terminate(victim).await;
                self.has_died(victim, name).await;
            }
            Way::Twin => {
                self.start(victim, name).await;
                refused = Some(tokio::spawn(Arc::clone(&self.twin).is_refused()));
                self.has_died(victim, name).await;
            }
        }
        self.start_for_good(victim).await;
        if let Some(refused) = refused {
            refused.await.unwrap();
        }
        format!("{victim:?} at random, {calls} calls in flight; then at {name}")
    }

    /// In the middle of a call into it; how many calls the kill cut off. A call may be answered before the kill comes:
    /// then once more.
    async fn kill_at_random(&mut self, victim: Victim) -> usize {
        for _ in 0..MISSES {
            let cut = self.kill_in_a_call(victim).await;
            if cut > 0 {
                return cut;
            }
            self.start_for_good(victim).await;
        }
        panic!("{MISSES} kills of {victim:?} in a row hit no call");
    }

    async fn kill_in_a_call(&mut self, victim: Victim) -> usize {
        let open = loop {
            self.scene.until("machines call", |state| !state.calls_to(victim).is_empty()).await;
            sleep(Duration::from_micros(self.dice.u64(0..MIDDLE_US))).await;
            let open = self.scene.look(|state| state.calls_to(victim));
            if !open.is_empty() {
                break open;
            }
        };
        self.kill(victim).await;
        let still = self.scene.look(|state| state.calls_to(victim));
        let cut = open.iter().filter(|call| still.contains(call)).count();
        let (kills, hits) = self.at_random.entry(victim).or_default();
        *kills += 1;
        *hits += u32::from(cut > 0);
        self.calls_cut += cut;
        cut
    }

    /// Dies at `name`, to which traffic brings it.
    async fn die_at(&mut self, victim: Victim, doom: &str) {
        assert!(self.dies(victim, doom, ENOUGH).await, "{victim:?} never came to {doom}: is it armed?");
    }

    /// Dies at `first`, which loses an answer, until the question that comes again brings it to `name`.
    async fn die_after(&mut self, victim: Victim, first: &str, name: &str) {
        for _ in 0..LOSSES {
            self.die_at(victim, first).await;
            if self.dies(victim, name, 2).await {
                return;
            }
            self.kill(victim).await;
        }
        panic!("{victim:?} never came to {name} after it had died at {first}");
    }

    /// Starts a service that is to die; whether it did before every machine had ended so many commands.
    async fn dies(&mut self, victim: Victim, doom: &str, commands: u64) -> bool {
        self.start(victim, doom).await;
        let status = {
            let mut process = self.process(victim).await;
            tokio::select! {
                biased;
                status = process.ended() => Some(status.unwrap()),
                () = self.scene.until_each_served(commands) => None,
            }
        };
        if let Some(status) = status {
            assert_eq!(status.signal(), Some(KILL), "{victim:?} ended by itself: {status}");
            self.count(victim, doom);
        }
        status.is_some()
    }

    async fn has_died(&mut self, victim: Victim, name: &str) {
        let status = self.process(victim).await.ended().await.unwrap();
        assert_eq!(status.signal(), Some(KILL), "{victim:?} did not die at {name}: {status}");
        self.count(victim, name);
    }

    fn count(&mut self, victim: Victim, doom: &str) {
        let name = doom.split(':').next().unwrap();
        *self.died_at.entry(name.to_owned()).or_default() += 1;
        self.killed(victim);
    }

    fn killed(&self, victim: Victim) {
        self.scene.change(|state| *state.killed.entry(victim).or_default() += 1);
    }

    async fn process(&self, victim: Victim) -> MutexGuard<'_, Process> {
        self.bank.process(victim).lock().await
    }

    async fn kill(&self, victim: Victim) {
        self.process(victim).await.kill().await.unwrap();
        self.killed(victim);
    }

    async fn terminate(&self, victim: Victim) {
        let pid = self.process(victim).await.pid().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    async fn start(&self, victim: Victim, doom: &str) {
        self.process(victim).await.start_again(&[("ATM_DIE_AT", doom)]).await.unwrap();
    }

    async fn start_for_good(&self, victim: Victim) {
        let mut process = self.process(victim).await;
        process.start_again(&[]).await.unwrap();
        process.serves().await.unwrap();
    }

    /// Counts of everything.
    pub(crate) fn report(&self) -> String {
        let mut report = String::new();
        for (victim, (kills, hits)) in &self.at_random {
            let _ =
                writeln!(report, "{victim:?}: killed at random {kills} times, {hits} with calls in flight");
        }
        let _ = writeln!(report, "{} calls were cut off by these kills", self.calls_cut);
        for (name, times) in &self.died_at {
            let _ = writeln!(report, "{name}: {times}");
        }
        for (name, why) in points::ELSEWHERE {
            let _ = writeln!(report, "{name}: not here, {why}");
        }
        self.scene.look(|state| {
            let (at_points, at_random) = (state.died_at.values().sum::<u32>(), state.died_at_random);
            let _ = writeln!(
                report,
                "machines: {at_points} died at {} of {} points, {} to {} times each; {at_random} at random; {} of all with \
                 a call in flight",
                state.died_at.len(),
                self.machine_points.len(),
                state.died_at.values().min().unwrap_or(&0),
                state.died_at.values().max().unwrap_or(&0),
                state.died_calling,
            );
        });
        report
    }

    /// Whether every point was reached each time that the deck was dealt.
    pub(crate) fn check(&self, rounds: u64) {
        assert!(self.machine_points.len() >= 50, "machines pass few points: {:?}", self.machine_points);
        let least = u32::try_from(rounds / size_of_deck()).unwrap();
        let died = |counts: &BTreeMap<String, u32>, name: &str| counts.get(name).copied().unwrap_or(0);
        for Point { name, .. } in points::of_services() {
            assert!(died(&self.died_at, &name) >= least, "{name} was reached fewer than {least} times");
        }
        self.scene.look(|state| {
            for (_, name) in &self.machine_points {
                assert!(died(&state.died_at, name) >= least, "{name} was reached fewer than {least} times");
            }
        });
    }
}

/// So many rounds take everything at least once.
pub(crate) fn size_of_deck() -> u64 {
    u64::try_from(points::of_services().len() + MACHINE_CARDS).unwrap()
}
