//! The seam of the dispenser: devices that answer in every way, against a real bank in this process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_proto::gateway::{ImportRow, NewAccount};
use atm_rpc::credentials::BearerToken;
use atm_types::{Currency, Money, SystemClock, SystemIds};
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::bank::{Bank, BankConfig};
use crate::client::{AdminClient, Session};
use crate::dispenser::Dispensed;
use crate::journal::{CardTag, Event, Intent, Kind, State};
use crate::output::Status;
use crate::pin::Pin;
use crate::terminal::Terminal;

const CARD: &str = "123456789";
const PATIENCE: Duration = Duration::from_secs(20);

/// A device that does what it is told to, and remembers which dispense ids it was given.
struct Scripted {
    answer: Dispensed,
    memory: Dispensed,
    dispensed: Arc<Mutex<Vec<Uuid>>>,
}

impl Dispenser for Scripted {
    fn dispense(&mut self, dispense_id: Uuid, _amount: Money) -> Dispensed {
        self.dispensed.lock().unwrap().push(dispense_id);
        self.answer
    }

    fn status(&self, _dispense_id: Uuid, _amount: Money) -> Dispensed {
        self.memory
    }
}

/// A bank with one customer who has 1000.00, and a machine with a scripted device.
struct Scene {
    machine: Machine,
    terminal: Terminal,
    dispensed: Arc<Mutex<Vec<Uuid>>>,
    _bank: Bank,
    _home: TempDir,
}

fn bdt(major: i64) -> Money {
    Money::new(major * 100, Currency::BDT)
}

impl Scene {
    async fn new(answer: Dispensed, memory: Dispensed) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = BankConfig { cheap_pins: true, ..BankConfig::new(home.path().join("bank")) };
        let bank = Bank::start(config, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap();
        let token = BearerToken::load(bank.operator_token_file()).unwrap();
        let admin = AdminClient::new(bank.gateway_url(), token, PATIENCE).unwrap();
        let row = ImportRow {
            account: Some(NewAccount {
                account_number: "Joty".into(),
                holder_name: "Joty".into(),
                opening_balance: Some(crate::client::wire(bdt(1000))),
                ..NewAccount::default()
            }),
            card_number: CARD.into(),
            pin: "1234".into(),
        };
        let request = atm_proto::gateway::ImportAccountsRequest { rows: vec![row] };
        let imported = admin.import(request, PATIENCE).await.unwrap();
        assert!(imported.results[0].changed);

        let directory = home.path().join("atm");
        let terminal = Terminal::load(&directory, &SystemIds).unwrap();
        let dispensed = Arc::new(Mutex::new(Vec::new()));
        let machine = Machine {
            journal: Journal::open(&directory, terminal.id(), Arc::new(SystemClock)).unwrap(),
            bank: Gateway::new(bank.gateway_url(), &terminal, "ATM-1", PATIENCE).unwrap(),
            dispenser: Box::new(Scripted { answer, memory, dispensed: Arc::clone(&dispensed) }),
            ids: Arc::new(SystemIds),
            screen: Screen::new(true),
            patience: PATIENCE,
        };
        Self { machine, terminal, dispensed, _bank: bank, _home: home }
    }

    async fn log_in(&self) -> Session {
        let pin = Pin::new(Zeroizing::new("1234".to_owned())).unwrap();
        self.machine.bank.log_in(CARD, &pin, SystemIds.attempt_id(), Deadline::after(PATIENCE)).await.unwrap()
    }

    fn intent(&self, major: i64) -> Intent {
        Intent {
            id: SystemIds.transaction_id(),
            kind: Kind::Withdrawal,
            amount: bdt(major),
            card: CardTag::new(self.terminal.key(), CARD),
            to_account: None,
            trace_id: String::new(),
        }
    }

    /// Balance and available balance, in major units.
    async fn balance(&self, session: &Session) -> (i64, i64) {
        let answer = self.machine.bank.balance(session, Deadline::after(PATIENCE)).await.unwrap();
        let balance = answer.balance.unwrap();
        (balance.balance_minor_units / 100, balance.available_minor_units / 100)
    }

    /// Brings a withdrawal to DISPENSING and stops there, as a crash would.
    async fn crash_while_dispensing(&mut self, session: &Session) -> Intent {
        let intent = self.intent(100);
        self.machine.journal.begin(&intent).unwrap();
        let answer = self.machine.send(session, &intent, Deadline::after(PATIENCE)).await.unwrap();
        self.machine.journal.apply(intent.id, &judge::answered(&intent, &answer)).unwrap();
        let dispensing = Event::DispenseBegun { dispense_id: SystemIds.uuid_v7() };
        assert_eq!(self.machine.journal.apply(intent.id, &dispensing).unwrap().state, State::Dispensing);
        intent
    }

    fn state(&self, intent: &Intent) -> State {
        self.machine.journal.find(intent.id).unwrap().unwrap().state
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_device_presented_is_what_is_captured_also_when_it_is_less() {
    let mut scene = Scene::new(Dispensed::Presented(bdt(60)), Dispensed::Unknown).await;
    let session = scene.log_in().await;
    let order = Order { intent: scene.intent(100), id_given: false };
    let receipt = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!((receipt.status, receipt.amount), (Status::Captured, Some(bdt(60))));
    assert_eq!(scene.balance(&session).await, (940, 940), "the rest of the hold is free again");

    // The same id again asks the device for nothing.
    let again = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(again, receipt);
    assert_eq!(scene.dispensed.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_presents_nothing_leads_to_a_cancel() {
    let mut scene = Scene::new(Dispensed::NotPresented, Dispensed::Unknown).await;
    let session = scene.log_in().await;
    let order = Order { intent: scene.intent(100), id_given: false };
    let receipt = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!((receipt.status, receipt.reason.as_deref()), (Status::Cancelled, Some("not_presented")));
    assert_eq!(scene.balance(&session).await, (1000, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_not_know_makes_it_suspect_and_the_money_stays_held() {
    let mut scene = Scene::new(Dispensed::Unknown, Dispensed::Unknown).await;
    let session = scene.log_in().await;
    let order = Order { intent: scene.intent(100), id_given: false };
    let receipt = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert!(receipt.suspect);
    assert_eq!((receipt.status, receipt.exit()), (Status::Unknown, Exit::Unknown));
    assert_eq!(scene.balance(&session).await, (1000, 900));
    assert_eq!(scene.state(&order.intent), State::Suspect);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_while_dispensing_the_device_is_believed_and_never_asked_to_pay_again() {
    for (memory, state, available) in [
        (Dispensed::Presented(bdt(100)), State::Done, (900, 900)),
        (Dispensed::Presented(bdt(40)), State::Done, (960, 960)),
        (Dispensed::NotPresented, State::Voided, (1000, 1000)),
        (Dispensed::Unknown, State::Suspect, (1000, 900)),
    ] {
        let mut scene = Scene::new(Dispensed::Presented(bdt(100)), memory).await;
        let session = scene.log_in().await;
        let intent = scene.crash_while_dispensing(&session).await;
        scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
        assert_eq!(scene.state(&intent), state, "{memory:?}");
        assert_eq!(scene.balance(&session).await, available, "{memory:?}");
        assert!(scene.dispensed.lock().unwrap().is_empty(), "{memory:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_refuses_a_single_attempt_and_the_same_id_can_begin_again() {
    let mut scene = Scene::new(Dispensed::Presented(bdt(100)), Dispensed::Unknown).await;
    let session = scene.log_in().await;
    scene.machine.bank.log_out(&session).await;
    let order = Order { intent: scene.intent(100), id_given: false };
    let failure = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap_err();
    assert_eq!((failure.exit, failure.reason), (Exit::NotAuthenticated, "not_authenticated"));
    assert!(scene.dispensed.lock().unwrap().is_empty());

    let session = scene.log_in().await;
    let receipt = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(receipt.status, Status::Captured);
    assert_eq!(scene.balance(&session).await, (900, 900));
}
