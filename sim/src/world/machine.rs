//! A cash machine and whoever stands before it: one run of `atm-cli` after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atm_cli::simulation::{self, Ran, SimulatedDisk, Surroundings, Witness};
use atm_types::TransactionId;
use tonic::Status;

use super::services::{Secrets, Start, url_of};
use super::shared::{Host, mix};
use crate::evidence::{Call, CallStatus, Pressed, Told};
use crate::plan::{Action, CUSTOMERS, PATIENCE};

/// What survives the crash of a machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The journal's disk.
    pub(super) journal: SimulatedDisk,
    /// The device's disk.
    pub(super) device: SimulatedDisk,
    /// Who it is.
    pub(super) key: [u8; 32],
    /// What its customers and operators are still going to do.
    pub(super) script: Arc<Mutex<Script>>,
}

/// See [`Machine::script`].
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What is to come, the next first.
    pub(super) actions: Vec<(Duration, Action)>,
    /// The last money command, to be repeated or cancelled.
    pub(super) last: Option<(TransactionId, Action)>,
    /// How many ids were handed out.
    pub(super) ids: u64,
}

/// Tells the world of every attempt at a call.
struct Recorder {
    start: Start,
}

impl Witness for Recorder {
    fn call(&self) -> u64 {
        let mut state = self.start.shared.lock();
        state.next_call += 1;
        state.next_call
    }

    fn began(&self, call: u64, method: &'static str, request: Vec<u8>, session: Option<&str>) -> usize {
        let began = self.start.shared.now();
        let mut state = self.start.shared.lock();
        let before = state.calls.iter().rev().take_while(|known| known.began + PATIENCE * 4 >= began);
        let attempt = 1 + before.filter(|known| known.call == call).count();
        state.calls.push(Call {
            caller: self.start.host.name(),
            start: self.start.number,
            call,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            method,
            request,
            session: session.map(str::to_owned),
            began,
            answer: None,
        });
        state.calls.len() - 1
    }

    fn ended(&self, attempt: usize, answer: Result<Vec<u8>, &Status>) {
        let now = self.start.shared.now();
        let answer = answer.map_err(|status| CallStatus {
            code: status.code(),
            message: status.message().to_owned(),
            reason: atm_rpc::status::reason(status),
        });
        if let Some(call) = self.start.shared.lock().calls.get_mut(attempt) {
            call.answer = Some((now, answer));
        }
    }
}

/// Everything that `atm-cli` finds around itself on this host.
pub(super) fn surroundings(start: &Start, secrets: &Secrets, machine: &Machine, pin: &str) -> Surroundings {
    Surroundings {
        journal: machine.journal.clone(),
        device: machine.device.clone(),
        terminal_key: machine.key,
        network: start.network(),
        clock: Arc::new(start.clock.clone()),
        ids: Arc::clone(&start.ids) as Arc<dyn atm_types::IdSource>,
        jitter_seed: mix(start.seed ^ mix(start.host.number()) ^ u64::from(start.number)),
        witness: Arc::new(Recorder { start: start.clone() }),
        operator_token: secrets.operator_token.clone(),
        pin: pin.to_owned(),
        new_pin: String::new(),
    }
}

/// One run of `atm-cli` with these words.
pub(super) async fn command(
    start: &Start,
    secrets: &Secrets,
    machine: &Machine,
    pin: &str,
    words: &[&str],
) -> Option<Ran> {
    command_amid(start, surroundings(start, secrets, machine, pin), words).await
}

async fn command_amid(start: &Start, surroundings: Surroundings, words: &[&str]) -> Option<Ran> {
    let name = start.host.name();
    // The twin is the first machine, as far as it knows.
    let name = if start.host == Host::Twin { Host::Machine(0).name() } else { name };
    let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let patience = format!("{}ms", PATIENCE.as_millis());
    for word in
        ["--json", "--gateway", &url_of(Host::WireToGateway), "--atm-id", &name, "--deadline", &patience]
    {
        arguments.push(word.to_owned());
    }
    match simulation::run(&arguments, surroundings).await {
        Ok(ran) => Some(ran),
        Err(error) => {
            start.shared.tell(start.host, format!("{error}: {arguments:?}"));
            None
        }
    }
}

/// The exit code of a recovery that could not end everything.
const STILL_OPEN: u8 = 3;

/// Lives the machine's life: its script, and at the end whatever is still open.
pub(super) async fn live(start: Start, secrets: Secrets, machine: Machine, index: usize) {
    while !start.shared.lock().set_up {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    loop {
        let ending = start.shared.lock().ending;
        let next = {
            let mut script = machine.script.lock().unwrap_or_else(PoisonError::into_inner);
            if ending {
                script.actions.clear();
            }
            // Taken before it begins: a customer whose machine died does not do the same again by himself.
            if script.actions.is_empty() { None } else { Some(script.actions.remove(0)) }
        };
        match next {
            Some((pause, action)) => {
                tokio::time::sleep(pause).await;
                Scene { start: &start, secrets: &secrets, machine: &machine }.act(&action).await;
            }
            None if ending => {
                let ran = command(&start, &secrets, &machine, "", &["recover"]).await;
                if let Some(ran) = ran {
                    start.shared.tell(start.host, format!("recover: exit {}", ran.exit));
                    // What an operator left unfinished only an operator may finish.
                    if ran.exit == STILL_OPEN {
                        Scene { start: &start, secrets: &secrets, machine: &machine }
                            .act(&Action::Recover)
                            .await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            None => {
                start.shared.lock().idle.insert(index, true);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Scene<'a> {
    start: &'a Start,
    secrets: &'a Secrets,
    machine: &'a Machine,
}

impl Scene<'_> {
    async fn act(&self, action: &Action) {
        match action {
            Action::Withdraw { .. } | Action::Deposit { .. } | Action::Transfer { .. } => {
                let id = self.next_id(action);
                self.money(action, id).await;
            }
            Action::Repeat => {
                let last = self.script().last.clone();
                if let Some((id, action)) = last {
                    self.money(&action, id).await;
                }
            }
            Action::Balance { customer, right_pin } => {
                let who = &CUSTOMERS[*customer];
                let words = ["balance", "--card", who.card];
                let ran = self.customer(*customer, *right_pin, &words).await;
                self.told("balance", who.card, None, None, ran);
            }
            Action::Statement { customer } => {
                let words = ["statement", "--card", CUSTOMERS[*customer].card, "--limit", "3"];
                self.customer(*customer, true, &words).await;
            }
            Action::ChangePin { customer, to } => self.change_pin(*customer, *to).await,
            Action::Cancel => {
                let last = self.script().last.clone();
                if let Some((id, action)) = last {
                    let customer = customer_of(&action);
                    let who = &CUSTOMERS[customer];
                    let words = ["transaction", "cancel", &id.to_string(), "--card", who.card];
                    self.pressed(id);
                    let ran = self.customer(customer, true, &words).await;
                    self.told("cancel", who.card, Some(id), None, ran);
                }
            }
            Action::CancelNothing { customer } => {
                let id = atm_types::IdSource::transaction_id(&*self.start.ids);
                let who = &CUSTOMERS[*customer];
                let words = ["transaction", "cancel", &id.to_string(), "--card", who.card];
                self.pressed(id);
                let ran = self.customer(*customer, true, &words).await;
                self.told("cancel", who.card, Some(id), None, ran);
            }
            Action::Recover => self.operators(&["recover", "--operator-token-file", "-"]).await,
            Action::Load => self.operators(&["admin", "load", "100=20", "20=10", TOKEN, "-"]).await,
            Action::Unload(place) => self.operators(&["admin", "unload", place, TOKEN, "-"]).await,
            Action::Count => self.count().await,
            Action::Resolve { presented } => self.resolve(*presented).await,
            Action::Unblock { customer } => {
                let card = CUSTOMERS[*customer].card;
                self.operators(&["admin", "unblock-card", "--card", card, TOKEN, "-"]).await;
            }
        }
    }

    async fn money(&self, action: &Action, id: TransactionId) {
        let who = &CUSTOMERS[customer_of(action)];
        let (kind, amount, to, right_pin) = match action {
            Action::Withdraw { amount, right_pin, fault, .. } => {
                if let Some(fault) = fault {
                    self.run("", &["dispenser", "fault", fault]).await;
                }
                ("withdraw", *amount, None, *right_pin)
            }
            Action::Deposit { amount, .. } => ("deposit", *amount, None, true),
            Action::Transfer { amount, to, .. } => ("transfer", *amount, Some(CUSTOMERS[*to].account), true),
            _ => return,
        };
        let (amount_text, id_text) = (amount.to_string(), id.to_string());
        let mut words = vec![kind, &amount_text, "--card", who.card, "--transaction-id", &id_text];
        if let Some(to) = to {
            words.extend(["--to", to]);
        }
        self.start.shared.tell(self.start.host, format!("{} wants to {kind} {amount}, {id}", who.account));
        self.pressed(id);
        let ran = self.customer(customer_of(action), right_pin, &words).await;
        let kind = if kind == "withdraw" { "withdrawal" } else { kind };
        self.told(kind, who.card, Some(id), Some(amount * 100), ran);
    }

    /// A customer who is not answered tries the new PIN first from then on.
    async fn change_pin(&self, customer: usize, to: usize) {
        let who = &CUSTOMERS[customer];
        let (old, new) = (self.start.shared.lock().pin(customer), who.pins()[to]);
        // The machine may die before it says anything.
        self.start.shared.lock().consider(customer, new);
        self.start.shared.tell(self.start.host, format!("{} wants another PIN", who.account));
        let typed = surroundings(self.start, self.secrets, self.machine, old);
        let typed = Surroundings { new_pin: new.to_owned(), ..typed };
        let ran = command_amid(self.start, typed, &["pin", "change", "--card", who.card]).await;
        match ran.as_ref().map(reason) {
            Some("wrong_card_or_pin") => self.start.shared.lock().doubt(customer, old),
            // Done, or nobody knows.
            Some("-" | "unknown") => self.start.shared.lock().believe(customer, new),
            Some(_) | None => {}
        }
        self.told("change_pin", who.card, None, None, ran);
    }

    /// A command of a customer, who types the PIN that she takes for hers, or one that never is anybody's.
    async fn customer(&self, customer: usize, right_pin: bool, words: &[&str]) -> Option<Ran> {
        if !right_pin {
            return self.run("0000", words).await;
        }
        let pin = self.start.shared.lock().pin(customer);
        let ran = self.run(pin, words).await;
        if ran.as_ref().map(reason) == Some("wrong_card_or_pin") {
            self.start.shared.lock().doubt(customer, pin);
        }
        ran
    }

    /// What the device says is typed as what was counted.
    async fn count(&self) {
        let shown = self.run("", &["admin", "count", TOKEN, "-"]).await;
        let object = shown.map(|shown| shown.object).unwrap_or_default();
        let Some(confirm) = object.get("confirm").and_then(|confirm| confirm.as_str()) else { return };
        let counted = confirm.split(' ').filter(|word| word.contains('='));
        let words: Vec<&str> = ["admin", "count"].into_iter().chain(counted).chain([TOKEN, "-"]).collect();
        self.operators(&words).await;
    }

    async fn resolve(&self, presented: bool) {
        let Ok(journal) = simulation::journal_evidence(&self.machine.journal) else { return };
        let waiting = ["SUSPECT", "SUSPEND_PENDING"];
        for record in journal.records.iter().filter(|record| waiting.contains(&record.state)) {
            let (id, amount) = (record.id.to_string(), (record.amount / 100).to_string());
            let mut words = vec!["admin", "resolve", &id, "--operator", "Rahman", "--reason", "looked"];
            if presented {
                words.extend(["--presented", &amount]);
            } else {
                words.push("--not-presented");
            }
            words.extend([TOKEN, "-"]);
            self.operators(&words).await;
        }
    }

    async fn operators(&self, words: &[&str]) {
        if let Some(ran) = self.run("", words).await {
            self.start.shared.tell(self.start.host, format!("{}: exit {}", words.join(" "), ran.exit));
        }
    }

    async fn run(&self, pin: &str, words: &[&str]) -> Option<Ran> {
        command(self.start, self.secrets, self.machine, pin, words).await
    }

    fn pressed(&self, transaction: TransactionId) {
        let at = self.start.shared.now();
        self.start.shared.lock().pressed.push(Pressed { at, transaction });
    }

    fn told(
        &self,
        kind: &'static str,
        card: &str,
        transaction: Option<TransactionId>,
        asked: Option<i64>,
        ran: Option<Ran>,
    ) {
        let Some(ran) = ran else { return };
        let text = |key: &str| ran.object.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let minor = |key: &str| text(key).and_then(|decimal| decimal.replace('.', "").parse::<i64>().ok());
        let status = text("status").or_else(|| text("reason")).unwrap_or_else(|| "shown".to_owned());
        let told = Told {
            at: self.start.shared.now(),
            machine: self.start.host.name(),
            card: card.to_owned(),
            kind,
            transaction,
            status,
            reason: text("reason"),
            amount: minor("amount").or(asked),
            balance: minor("balance").zip(minor("available")),
            exit: ran.exit,
        };
        let reason = told.reason.as_deref().unwrap_or("-");
        let amount = told.amount.map(|amount| format!(" {amount}")).unwrap_or_default();
        let line = format!("told of {kind}{amount}: {} ({reason}), exit {}", told.status, told.exit);
        self.start.shared.tell(self.start.host, line);
        self.start.shared.lock().told.push(told);
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.machine.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self, action: &Action) -> TransactionId {
        let id = atm_types::IdSource::transaction_id(&*self.start.ids);
        let mut script = self.script();
        script.ids += 1;
        script.last = Some((id, action.clone()));
        id
    }
}

const TOKEN: &str = "--operator-token-file";

/// Why a command did not do what it was told; `-` if it did.
fn reason(ran: &Ran) -> &str {
    ran.object.get("reason").and_then(|reason| reason.as_str()).unwrap_or("-")
}

fn customer_of(action: &Action) -> usize {
    match action {
        Action::Withdraw { customer, .. }
        | Action::Deposit { customer, .. }
        | Action::Transfer { customer, .. }
        | Action::Balance { customer, .. }
        | Action::CancelNothing { customer }
        | Action::Statement { customer }
        | Action::ChangePin { customer, .. }
        | Action::Unblock { customer } => *customer,
        _ => 0,
    }
}

/// A second machine with the first one's older disks: it asks the bank, which must not let it in.
pub(super) async fn be_twin(start: Start, secrets: Secrets) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let machine = start.shared.lock().twin.clone();
        let Some(machine) = machine else { continue };
        for _ in 0..2 {
            if let Some(ran) = command(&start, &secrets, &machine, "", &["recover"]).await {
                start.shared.tell(start.host, format!("recover: exit {} ({})", ran.exit, reason(&ran)));
            }
        }
        return;
    }
}

/// Opens the accounts and issues the cards, before anything goes wrong.
pub(super) async fn set_up(start: Start, secrets: Secrets, machine: Machine) {
    for who in &CUSTOMERS {
        let (opening, overdraft, limit) =
            (who.opening.to_string(), who.overdraft.to_string(), who.daily_limit.to_string());
        let open = [
            "admin",
            "open-account",
            who.account,
            "--name",
            who.account,
            "--opening-balance",
            &opening,
            "--overdraft-limit",
            &overdraft,
            "--daily-withdrawal-limit",
            &limit,
            TOKEN,
            "-",
        ];
        until_done(&start, &secrets, &machine, "", &open).await;
        let issue = ["admin", "issue-card", "--card", who.card, "--account", who.account, TOKEN, "-"];
        until_done(&start, &secrets, &machine, who.pin, &issue).await;
    }
    start.shared.tell(start.host, "accounts are open and cards are issued");
    start.shared.lock().set_up = true;
}

async fn until_done(start: &Start, secrets: &Secrets, machine: &Machine, pin: &str, words: &[&str]) {
    loop {
        match command(start, secrets, machine, pin, words).await {
            Some(ran) if ran.exit == 0 => return,
            Some(ran) => {
                start.shared.tell(start.host, format!("{}: exit {}", words[1], ran.exit));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            None => return,
        }
    }
}
