//! A cash machine with one customer, who withdraws, pays in, sends money away and asks for more than there is; and who
//! writes down what the machine told.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::Value;

use crate::judge::{Tally, minor_units};
use crate::program::{Fate, PIN, Program, Said};
use crate::scene::{Alarm, Doom, Scene};

/// What every customer begins with, in minor units.
pub(crate) const OPENING: i64 = 500_000;
/// The account to which everybody sends money.
const POT: &str = "pot";
const POT_CARD: &str = "488800000000";
/// So many commands a machine serves until it is judged and another takes its place, long before its notes run out.
const LIFE: u32 = 30;
/// Runs of `recover` after which everything has to be closed.
const RECOVERIES: u32 = 20;

/// Runs of a command until one has to go well that nobody disturbs.
const REHEARSALS: u32 = 5;

/// What a customer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Withdrawal,
    Deposit,
    Transfer,
    /// A transfer of more than there is.
    Refused,
}

impl Kind {
    /// Those that move money.
    pub(crate) const MOVING: [Self; 3] = [Self::Withdrawal, Self::Deposit, Self::Transfer];

    fn arguments(self, card: &str, tens: u32) -> Vec<String> {
        let amount = (tens * 10).to_string();
        let words = match self {
            Self::Withdrawal => vec!["withdraw", &amount],
            Self::Deposit => vec!["deposit", &amount],
            Self::Transfer => vec!["transfer", &amount, "--to", POT],
            Self::Refused => vec!["transfer", "1000000", "--to", POT],
        };
        words.into_iter().chain(["--card", card]).map(str::to_owned).collect()
    }
}

/// Opens the account to which everybody sends money.
pub(crate) async fn open_pot(office: &Program) {
    open_account(office, POT, POT_CARD, 0).await;
}

/// What was sent there.
pub(crate) async fn pot_balance(office: &Program) -> i64 {
    minor_units(&office.insist(&["balance", "--card", POT_CARD]).await["balance"])
}

/// Opens an account, with a card for it.
pub(crate) async fn open_account(office: &Program, account: &str, card: &str, opening: i64) {
    let balance = format!("{}.{:02}", opening / 100, opening % 100);
    office.insist(&["admin", "open-account", account, "--name", "Test", "--opening-balance", &balance]).await;
    office.insist(&["admin", "issue-card", "--card", card, "--account", account]).await;
}

/// What a machine told its customer of one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) minor_units: i64,
}

/// A machine, its customer, and what it told her.
pub(crate) struct Machine {
    index: usize,
    /// The how-manieth machine at this place.
    generation: u32,
    pub(crate) program: Program,
    pub(crate) card: String,
    pub(crate) diary: Vec<Told>,
    served: u32,
    dice: Rng,
}

impl Machine {
    /// A new machine that has been used once, so that it is enrolled and has its notes.
    pub(crate) async fn new(scene: &Arc<Scene>, index: usize, seed: u64) -> Self {
        let dice = Rng::with_seed(seed ^ (u64::try_from(index).unwrap() + 1));
        Self::generation(scene, index, 0, dice).await
    }

    async fn generation(scene: &Arc<Scene>, index: usize, generation: u32, dice: Rng) -> Self {
        let program = Program::new(scene);
        let card = format!("4{index:03}{generation:08}");
        open_account(&program, &format!("K-{index}-{generation}"), &card, OPENING).await;
        let mut machine = Self { index, generation, program, card, diary: Vec::new(), served: 0, dice };
        machine.command(Kind::Withdrawal, &Fate::Live).await;
        machine
    }

    /// The crash points that a command passes when nothing goes wrong.
    pub(crate) async fn rehearse(&mut self) -> Vec<(Kind, String)> {
        let mut passed: Vec<(Kind, String)> = Vec::new();
        for kind in Kind::MOVING {
            let said = self.undisturbed(kind).await;
            for point in said.points {
                if !passed.iter().any(|(_, known)| *known == point) {
                    passed.push((kind, point));
                }
            }
        }
        passed
    }

    /// A command that goes well. Nobody has been killed yet, but a computer may be too busy for a deadline.
    async fn undisturbed(&mut self, kind: Kind) -> Said {
        for _ in 0..REHEARSALS {
            let said = self.command(kind, &Fate::Live).await;
            if said.code == Some(0) {
                return said;
            }
        }
        panic!("{kind:?} never goes well");
    }

    /// Serves until it is over, and is judged now and then; what was found.
    pub(crate) async fn work(mut self) -> Tally {
        let scene = Arc::clone(&self.program.scene);
        let _alarm = Alarm(Arc::clone(&scene));
        let mut tally = Tally::default();
        while !scene.is_over() {
            match scene.next_doom() {
                None => {
                    let kind = self.next_kind();
                    self.command(kind, &Fate::Live).await;
                }
                Some(doom) => self.die(doom).await,
            }
            scene.served(self.index);
            if self.served >= LIFE {
                tally.add(&self.judge().await);
                self = Self::generation(&scene, self.index, self.generation + 1, self.dice.fork()).await;
            }
        }
        tally.add(&self.judge().await);
        tally
    }

    fn next_kind(&mut self) -> Kind {
        if self.program.scene.is_refused_only() {
            return Kind::Refused;
        }
        let [withdrawal, deposit, transfer] = Kind::MOVING;
        // Cash is what this is about.
        *self.dice.choice([withdrawal, withdrawal, deposit, deposit, transfer, Kind::Refused].iter()).unwrap()
    }

    async fn die(&mut self, doom: Doom) {
        let (kind, fate) = match &doom {
            Doom::At(kind, point) => (*kind, Fate::At(point.clone())),
            Doom::After(time) => (self.next_kind(), Fate::After(*time)),
        };
        let said = self.command(kind, &fate).await;
        if said.code.is_some() {
            // The bank was still on its way back, or the command was done before the time was over.
            return self.program.scene.escaped(match doom {
                Doom::At(..) => doom,
                Doom::After(time) => Doom::After(time / 2),
            });
        }
        self.program.scene.change(|state| {
            state.died_calling += u32::from(said.calling);
            match doom {
                Doom::At(_, point) => *state.died_at.entry(point).or_default() += 1,
                Doom::After(_) => state.died_at_random += 1,
            }
        });
    }

    /// One key press. Whatever it leaves open is settled before the next.
    pub(crate) async fn command(&mut self, kind: Kind, fate: &Fate) -> Said {
        self.served += 1;
        let arguments = kind.arguments(&self.card, self.dice.u32(1..=9));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = self.program.run_until(&arguments, PIN, fate).await;
        check_service(&said);
        if !said.text("transaction_id").is_empty() {
            self.diary.push(Told {
                id: said.text("transaction_id").to_owned(),
                status: said.text("status").to_owned(),
                minor_units: minor_units(&said.json["amount"]),
            });
        }
        match said.code {
            Some(0) if said.text("status") != "capture_pending" => {}
            Some(1) => {}
            Some(0 | 3 | 5) | None => drop(self.recover().await),
            Some(_) => panic!("{arguments:?}: {said:?}"),
        }
        said
    }

    /// Settles everything that a bank and a device can settle; the ids of those that wait for a person.
    pub(crate) async fn recover(&self) -> Vec<String> {
        let mut last = None;
        for _ in 0..RECOVERIES {
            let said = self.program.run(&["recover"]).await;
            assert!(matches!(said.code, Some(0 | 3 | 5)), "recover: {said:?}");
            check_service(&said);
            if let Some(transactions) = said.json["transactions"].as_array()
                && transactions.iter().all(|transaction| is_settled(transaction) || is_suspect(transaction))
                && said.json["movements_pending"] == 0
            {
                let suspects = transactions.iter().filter(|transaction| is_suspect(transaction));
                return suspects
                    .map(|suspect| suspect["transaction_id"].as_str().unwrap().to_owned())
                    .collect();
            }
            last = Some(said);
        }
        panic!("it never ended: {last:?}");
    }
}

/// A bank that forgets, or takes a machine for its own copy, would be healed by what the machine tells it again; here
/// that must never be needed.
fn check_service(said: &Said) {
    let in_service = said.json["in_service"] != false && said.json["redriven"].is_null();
    let taken_out = ["bank_went_back", "fenced_off"].contains(&said.text("reason"));
    assert!(in_service && !taken_out, "out of service: {said:?}");
}

fn is_settled(transaction: &Value) -> bool {
    transaction["state"] == "DONE" || transaction["state"] == "VOIDED"
}

fn is_suspect(transaction: &Value) -> bool {
    transaction["state"] == "SUSPECT"
}
