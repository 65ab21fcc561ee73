//! What everybody sees: who is calling whom, who has to die, and when it is over.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atm_lab::process::within;
use atm_lab::scenario::Victim;
use tokio::sync::watch;

use crate::machine::Kind;

/// In which something happens, however often somebody dies.
const PATIENCE: Duration = Duration::from_secs(120);

/// How one command of a machine is to end.
#[derive(Clone, Debug)]
pub(crate) enum Doom {
    /// At a crash point, in a command that passes it.
    At(Kind, String),
    /// So long after its start.
    After(Duration),
}

/// Where everything stands.
#[derive(Debug, Default)]
pub(crate) struct State {
    next_call: u64,
    /// The calls of machines that are open, and which service has to answer them.
    calls: BTreeMap<u64, Victim>,
    /// Commands that each machine has ended.
    ended: Vec<u64>,
    dooms: VecDeque<Doom>,
    /// Machines that died at a point, by its name, and at random.
    pub(crate) died_at: BTreeMap<String, u32>,
    pub(crate) died_at_random: u32,
    /// Of these, with a call in flight.
    pub(crate) died_calling: u32,
    /// How often each service was killed.
    pub(crate) killed: BTreeMap<Victim, u32>,
    /// Machines ask for nothing but what is refused.
    refused_only: bool,
    over: bool,
    failed: bool,
}

impl State {
    /// The open calls that this service has to answer; those into the gateway are all.
    pub(crate) fn calls_to(&self, victim: Victim) -> Vec<u64> {
        let concerns = |called: Victim| victim == Victim::Gateway || victim == called;
        self.calls.iter().filter(|(_, called)| concerns(**called)).map(|(call, _)| *call).collect()
    }

    pub(crate) fn machines_died(&self) -> u32 {
        self.died_at.values().sum::<u32>() + self.died_at_random
    }
}

/// The one place that all tasks share.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) gateway: String,
    pub(crate) operator_token_file: PathBuf,
    state: watch::Sender<State>,
}

impl Scene {
    pub(crate) fn new(gateway: &str, operator_token_file: PathBuf, machines: usize) -> Self {
        let state = State { ended: vec![0; machines], ..State::default() };
        Self { gateway: gateway.to_owned(), operator_token_file, state: watch::Sender::new(state) }
    }

    /// Reads the state as it is now.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.borrow())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        result.unwrap()
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let waiting = state.wait_for(|state| state.failed || holds(state));
        let Some(reached) = within(PATIENCE, waiting).await else { panic!("waited in vain: {what}") };
        assert!(!reached.unwrap().failed, "somebody failed; see above");
    }

    /// Waits until each machine has ended so many commands more.
    pub(crate) async fn until_each_served(&self, more: u64) {
        let before = self.look(|state| state.ended.clone());
        let all = |state: &State| state.ended.iter().zip(&before).all(|(now, then)| *now >= then + more);
        self.until("every machine goes on", all).await;
    }

    /// Waits until all machines together have ended so many commands more.
    pub(crate) async fn until_served(&self, more: u64) {
        let sum = |state: &State| state.ended.iter().sum::<u64>();
        let enough = self.look(sum) + more;
        self.until("machines go on", |state| sum(state) >= enough).await;
    }

    /// A machine has ended a command.
    pub(crate) fn served(&self, machine: usize) {
        self.change(|state| state.ended[machine] += 1);
    }

    /// Has so many machines die, each in its next command; returns when they are dead.
    pub(crate) async fn kill_machines(&self, dooms: Vec<Doom>) {
        let enough = self.look(State::machines_died) + u32::try_from(dooms.len()).unwrap();
        self.change(|state| state.dooms.extend(dooms));
        self.until("machines die", |state| state.machines_died() >= enough).await;
    }

    /// What a machine has to die of.
    pub(crate) fn next_doom(&self) -> Option<Doom> {
        self.change(|state| state.dooms.pop_front())
    }

    /// The command ended before it could be killed: somebody else has to try.
    pub(crate) fn escaped(&self, doom: Doom) {
        self.change(|state| state.dooms.push_back(doom));
    }

    pub(crate) fn refuse_only(&self, only: bool) {
        self.change(|state| state.refused_only = only);
    }

    pub(crate) fn is_refused_only(&self) -> bool {
        self.look(|state| state.refused_only)
    }

    pub(crate) fn end(&self) {
        self.change(|state| state.over = true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.look(|state| state.over)
    }
}

/// A call that is open as long as this lives.
#[derive(Debug)]
pub(crate) struct Call {
    scene: Arc<Scene>,
    number: u64,
}

impl Call {
    pub(crate) fn begin(scene: &Arc<Scene>, called: Victim) -> Self {
        let number = scene.change(|state| {
            state.next_call += 1;
            state.calls.insert(state.next_call, called);
            state.next_call
        });
        Self { scene: Arc::clone(scene), number }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.scene.change(|state| state.calls.remove(&self.number));
    }
}

/// Lets nobody wait for a task that has panicked.
#[derive(Debug)]
pub(crate) struct Alarm(pub(crate) Arc<Scene>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.change(|state| state.failed = true);
        }
    }
}
