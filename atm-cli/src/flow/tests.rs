//! The flows with a device that fails in every way, against a real bank in this process.

use std::sync::Arc;
use std::time::Duration;

use atm_proto::gateway::{ImportRow, NewAccount};
use atm_proto::types::TransactionState;
use atm_rpc::credentials::BearerToken;
use atm_types::{Currency, Money, SystemClock, SystemIds};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::bank::{Bank, BankConfig};
use crate::client::{AdminClient, Session};
use crate::device::{CashUnits, Fault, Simulated};
use crate::journal::{Account, CardTag, Event, Intent, Kind, MovementState, Record, State};
use crate::output::{Receipt, Status, When};
use crate::pin::Pin;
use crate::terminal::Terminal;

const CARD: &str = "123456789";
const PATIENCE: Duration = Duration::from_secs(20);

/// A bank with one customer who has 1000.00, and a machine with a device that fails as it is told to.
struct Scene {
    machine: Machine,
    terminal: Terminal,
    bank: Bank,
    home: TempDir,
}

fn bdt(major: i64) -> Money {
    Money::new(major * 100, Currency::BDT)
}

impl Scene {
    async fn new() -> Self {
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

        let terminal = Terminal::load(&home.path().join("atm"), &SystemIds).unwrap();
        let machine = start(&bank, &terminal, &home);
        let mut scene = Self { machine, terminal, bank, home };
        scene.machine.sign_on_for_business(Deadline::after(PATIENCE)).await.unwrap();
        scene
    }

    /// The process dies and another one starts.
    async fn restart(self) -> Self {
        self.restart_with(|| ()).await
    }

    /// The same, and meanwhile something is done to its files.
    async fn restart_with(self, meanwhile: impl FnOnce()) -> Self {
        let Self { machine, terminal, bank, home } = self;
        drop(machine);
        meanwhile();
        let machine = start(&bank, &terminal, &home);
        let mut scene = Self { machine, terminal, bank, home };
        scene.machine.sign_on(Deadline::after(PATIENCE)).await.unwrap();
        scene
    }

    /// What goes wrong with the next dispense.
    fn fault(&mut self, fault: Fault) {
        self.machine.device.set_fault(fault).unwrap();
    }

    async fn withdraw(&mut self, session: &Session, major: i64) -> Result<Receipt, Failure> {
        let order = Order { intent: self.intent(major), id_given: false };
        self.machine.perform(session, &order, Deadline::after(PATIENCE)).await
    }

    fn units(&self) -> CashUnits {
        self.machine.device.cash_units().unwrap()
    }

    async fn log_in(&mut self) -> Session {
        let pin = Pin::new(Zeroizing::new("1234".to_owned())).unwrap();
        let (attempt, boot) = (SystemIds.attempt_id(), self.machine.boot());
        let deadline = Deadline::after(PATIENCE);
        let session = self.machine.bank.log_in(CARD, &pin, attempt, boot, deadline).await.unwrap();
        self.machine.enrol().unwrap();
        session
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

    fn state(&self, id: TransactionId) -> State {
        self.machine.journal.find(id).unwrap().unwrap().state
    }

    fn only(&self) -> Record {
        self.machine.journal.all_transactions().unwrap().pop().unwrap()
    }
}

fn start(bank: &Bank, terminal: &Terminal, home: &TempDir) -> Machine {
    let directory = home.path().join("atm");
    Machine::new(Parts {
        journal: Journal::open(&directory, terminal.id(), Arc::new(SystemClock)).unwrap(),
        bank: Gateway::new(bank.gateway_url(), terminal, "ATM-1", PATIENCE).unwrap(),
        device: Box::new(Simulated::open_for_tests(&directory)),
        currency: Currency::BDT,
        ids: Arc::new(SystemIds),
        screen: Screen::new(true),
        patience: PATIENCE,
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misfortune_of_the_device_ends_as_the_books_need_it() {
    // 680 = 500 + 100 + 50 + 20 + 10: of five notes three go wrong, or two are taken.
    for (fault, state, status, taken, balance) in [
        (Fault::None, State::Done, Status::Captured, 680, (320, 320)),
        (Fault::JamPick, State::Voided, Status::Cancelled, 680, (1000, 1000)),
        (Fault::JamStack, State::Voided, Status::Cancelled, 680, (1000, 1000)),
        (Fault::JamPresent, State::Voided, Status::Cancelled, 680, (1000, 1000)),
        (Fault::Short, State::Done, Status::Captured, 30, (970, 970)),
        (Fault::NotTaken, State::Done, Status::Cancelled, 680, (1000, 1000)),
        (Fault::PartlyTaken, State::Done, Status::Captured, 600, (400, 400)),
        (Fault::NotTakenUncounted, State::Suspect, Status::Unknown, 680, (1000, 320)),
        (Fault::StatusUnknown, State::Suspect, Status::Unknown, 680, (1000, 320)),
    ] {
        let mut scene = Scene::new().await;
        let session = scene.log_in().await;
        let loaded = scene.units().cassettes.minor_units();
        scene.fault(fault);
        let receipt = scene.withdraw(&session, 680).await.unwrap();
        assert_eq!((receipt.status, receipt.amount), (status, Some(bdt(taken))), "{fault:?}");
        assert_eq!(receipt.suspect, state == State::Suspect, "{fault:?}");
        assert_eq!(scene.state(receipt.id), state, "{fault:?}");
        assert_eq!(scene.balance(&session).await, balance, "{fault:?}");

        // The movements in the journal are the counters of the device.
        scene.machine.settle_movements(Deadline::after(PATIENCE)).await.unwrap();
        let moved = |to| {
            let all = scene.machine.journal.all_movements().unwrap();
            let all =
                all.iter().filter(|movement| movement.to == to && movement.state == MovementState::Posted);
            all.map(|movement| movement.amount.minor_units()).sum::<i64>()
        };
        let units = scene.units();
        assert_eq!(moved(Account::Reject), units.reject.minor_units(), "{fault:?}");
        assert_eq!(moved(Account::Retract), units.retract.minor_units(), "{fault:?}");
        assert_eq!(moved(Account::Cassettes), loaded, "{fault:?}");

        // The same id again pays nothing out.
        let order = Order { intent: scene.only().intent, id_given: true };
        let again = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
        let receipt = Receipt { when: When::Before, ..receipt };
        assert_eq!((again, scene.units()), (receipt, units), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_loss_of_power_the_device_is_believed_and_never_asked_to_pay_again() {
    for (fault, state, balance) in [
        (Fault::PowerAfterAccept, State::Voided, (1000, 1000)),
        (Fault::PowerAfterPick, State::Voided, (1000, 1000)),
        (Fault::PowerAfterStack, State::Voided, (1000, 1000)),
        (Fault::PowerWhilePresenting, State::Suspect, (1000, 320)),
        (Fault::PowerAfterPresent, State::Done, (320, 320)),
        (Fault::PowerAfterTake, State::Done, (320, 320)),
    ] {
        let mut scene = Scene::new().await;
        let session = scene.log_in().await;
        scene.fault(fault);
        let failure = scene.withdraw(&session, 680).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unknown, "{fault:?}");
        let mut scene = scene.restart().await;
        scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
        let record = scene.only();
        assert_eq!(record.state, state, "{fault:?}");
        let session = scene.log_in().await;
        assert_eq!(scene.balance(&session).await, balance, "{fault:?}");
        let before = scene.units();
        scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
        assert_eq!(scene.units(), before, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_is_refused_before_anything_is_sent_and_names_what_can() {
    let mut scene = Scene::new().await;
    let session = scene.log_in().await;
    let mut order = Order { intent: scene.intent(10), id_given: false };
    order.intent.amount = Money::new(1050, Currency::BDT);
    for kind in [Kind::Withdrawal, Kind::Deposit] {
        order.intent.kind = kind;
        let failure = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap_err();
        assert_eq!((failure.exit, failure.reason), (Exit::WrongUse, "amount_not_payable"));
        let words = &failure.message;
        assert!(words.contains("10.00 BDT") && words.contains("11.00 BDT"), "{words}");
    }
    assert!(scene.machine.journal.all_transactions().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_waits_in_escrow_until_the_bank_has_spoken() {
    let mut scene = Scene::new().await;
    let session = scene.log_in().await;
    let mut order = Order { intent: scene.intent(300), id_given: false };
    order.intent.kind = Kind::Deposit;
    let receipt = scene.machine.perform(&session, &order, Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!((receipt.status, scene.state(receipt.id)), (Status::Posted, State::Done));
    assert_eq!(scene.units().deposit.minor_units(), 30_000);
    assert!(scene.units().escrow.is_empty());

    // Counted in, and then the machine dies before the INTENT: it is the customer's.
    scene.machine.count_in("1x10000".parse().unwrap()).unwrap();
    let mut scene = scene.restart().await;
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    assert!(scene.units().escrow.is_empty());

    // Counted in and begun, and then the machine dies before it is sent: cancelled first, then handed back.
    let paid_in = scene.machine.count_in("1x10000".parse().unwrap()).unwrap();
    let intent = Intent { kind: Kind::Deposit, ..scene.intent(100) };
    scene.machine.journal.begin(&intent, Some(&paid_in)).unwrap();
    let mut scene = scene.restart().await;
    assert_eq!(scene.units().escrow.minor_units(), 10_000);
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(scene.state(intent.id), State::Voided);
    assert_eq!((scene.units().escrow.minor_units(), scene.units().deposit.minor_units()), (0, 30_000));
    let session = scene.log_in().await;
    assert_eq!(scene.balance(&session).await, (1300, 1300));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_escrow_of_a_deposit_waits_for_its_own_device_and_another_ones_is_left_alone() {
    let mut scene = Scene::new().await;
    let atm = scene.home.path().join("atm");
    let aside = scene.home.path().join("aside");
    let files = ["dispenser.sqlite3", "dispenser.sqlite3-wal", "dispenser.sqlite3-shm"];
    let carry = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::create_dir_all(to).unwrap();
        for name in files {
            let _ = std::fs::remove_file(to.join(name));
            let _ = std::fs::rename(from.join(name), to.join(name));
        }
    };
    // Credited, and then the machine dies before the notes are stored.
    let session = scene.log_in().await;
    let paid_in = scene.machine.count_in("1x10000".parse().unwrap()).unwrap();
    let intent = Intent { kind: Kind::Deposit, ..scene.intent(100) };
    scene.machine.journal.begin(&intent, Some(&paid_in)).unwrap();
    scene.machine.send(&session, &intent, Deadline::after(PATIENCE)).await.unwrap();
    scene.machine.journal.apply(intent.id, &Event::Posted { balance: None }).unwrap();
    let exchange = || {
        carry(&atm, &aside);
        // A device with another serial number.
        drop(Simulated::open(&atm, Currency::BDT, &SystemIds).unwrap());
    };
    scene = scene.restart_with(exchange).await;

    scene.machine.count_in("1x5000".parse().unwrap()).unwrap();
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!((scene.state(intent.id), scene.units().escrow.minor_units()), (State::StackPending, 5_000));

    scene = scene.restart_with(|| carry(&aside, &atm)).await;
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(scene.state(intent.id), State::Done);
    let units = scene.units();
    assert_eq!(
        (units.escrow.minor_units(), units.deposit.minor_units()),
        (0, 10_000),
        "stored, not handed back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_refused_and_its_id_is_fenced_off() {
    let mut scene = Scene::new().await;
    for kind in [Kind::Withdrawal, Kind::Deposit] {
        let session = scene.log_in().await;
        scene.machine.bank.log_out(&session).await;
        let before = scene.units();
        let order = Order { intent: Intent { kind, ..scene.intent(100) }, id_given: false };
        let deadline = Deadline::after(PATIENCE);
        let failure = scene.machine.perform(&session, &order, deadline).await.unwrap_err();
        assert_eq!((failure.exit, failure.reason), (Exit::NotAuthenticated, "not_authenticated"));
        assert_eq!(scene.units(), before, "what was paid in is handed back");

        // A copy of the request that comes only now meets the cancel.
        scene = scene.restart().await;
        let session = scene.log_in().await;
        let copy = scene.machine.send(&session, &order.intent, deadline).await.unwrap();
        assert_eq!(copy.current_state, TransactionState::Cancelled);
        let receipt = scene.machine.perform(&session, &order, deadline).await.unwrap();
        assert_eq!(
            (receipt.status, receipt.reason.as_deref()),
            (Status::Cancelled, Some("not_authenticated"))
        );
        assert_eq!(scene.balance(&session).await, (1000, 1000));
    }
    let session = scene.log_in().await;
    assert_eq!(scene.withdraw(&session, 10).await.unwrap().status, Status::Captured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_the_journals_own_serves_nobody_and_its_silence_is_unknown() {
    let mut scene = Scene::new().await;
    let session = scene.log_in().await;
    scene.fault(Fault::PowerAfterPresent);
    scene.withdraw(&session, 100).await.unwrap_err();
    for name in ["dispenser.sqlite3", "dispenser.sqlite3-wal", "dispenser.sqlite3-shm"] {
        let _ = std::fs::remove_file(scene.home.path().join("atm").join(name));
    }
    // A device with another serial number.
    drop(Simulated::open(&scene.home.path().join("atm"), Currency::BDT, &SystemIds).unwrap());
    let mut scene = scene.restart().await;
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    assert_eq!(scene.only().state, State::Suspect);
    let failure = scene.withdraw(&session, 100).await.unwrap_err();
    assert_eq!((failure.exit, failure.reason), (Exit::Unavailable, "other_device"));
    // What its cassettes lack is not why: the customer hears this before the PIN.
    let failure = scene.machine.notes_for(Kind::Withdrawal, bdt(100)).unwrap_err();
    assert_eq!((failure.exit, failure.reason), (Exit::Unavailable, "other_device"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_older_withdrawal_of_a_card_is_open_nothing_is_paid_out_on_it_unless_it_is_suspect() {
    let mut scene = Scene::new().await;
    let session = scene.log_in().await;
    let older = scene.intent(50);
    scene.machine.journal.begin(&older, None).unwrap();
    let failure = scene.withdraw(&session, 60).await.unwrap_err();
    assert_eq!((failure.exit, failure.reason), (Exit::Unavailable, "earlier_open"));
    assert_eq!(scene.machine.journal.all_transactions().unwrap().len(), 1, "nothing was begun");
    scene.machine.settle_all_before(Deadline::after(PATIENCE)).await.unwrap();
    scene.fault(Fault::StatusUnknown);
    assert!(scene.withdraw(&session, 60).await.unwrap().suspect);
    assert_eq!(scene.withdraw(&session, 70).await.unwrap().status, Status::Captured);
}

/// The network makes two copies of the machine's one request: the first is let in, and the machine hears of the second.
#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_one_copy_is_not_the_fate_of_the_other() {
    let deadline = Deadline::after(PATIENCE);
    let mut scene = Scene::new().await;
    let turned_away = async |scene: &mut Scene, kind| {
        let session = scene.log_in().await;
        let to_account = (kind == Kind::Transfer).then(|| "Nobody".to_owned());
        let order = Order { intent: Intent { kind, to_account, ..scene.intent(100) }, id_given: false };
        let copy = scene.machine.send(&session, &order.intent, deadline).await.unwrap();
        scene.machine.bank.log_out(&session).await;
        (copy.current_state, scene.machine.perform(&session, &order, deadline).await)
    };

    let (copy, failure) = turned_away(&mut scene, Kind::Withdrawal).await;
    let failure = failure.unwrap_err();
    assert_eq!((copy, failure.exit), (TransactionState::Held, Exit::NotAuthenticated));
    let session = scene.log_in().await;
    assert_eq!(scene.balance(&session).await, (1000, 1000), "the hold is released before anybody is told");

    let (copy, receipt) = turned_away(&mut scene, Kind::Deposit).await;
    assert_eq!((copy, receipt.unwrap().status), (TransactionState::Posted, Status::Posted));
    assert_eq!(scene.units().deposit.minor_units(), 10_000, "what was credited is not handed back");
    let session = scene.log_in().await;
    assert_eq!(scene.balance(&session).await, (1100, 1100));

    let (copy, receipt) = turned_away(&mut scene, Kind::Transfer).await;
    assert_eq!((copy, receipt.unwrap().status), (TransactionState::Declined, Status::Declined));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_id_that_never_left_this_machine_a_cancel_that_nobody_hears_knows_that_nothing_happened() {
    let mut scene = Scene::new().await;
    let intent = scene.intent(10);
    let card = CardTag::new(scene.terminal.key(), CARD);
    let not_let_in = |scene: &Scene, reason, exit| {
        scene
            .machine
            .cancel_not_let_in(intent.id, &card, Failure::new(exit, reason, "text"))
            .unwrap_err()
            .exit
    };
    assert_eq!(not_let_in(&scene, "unavailable", Exit::Unavailable), Exit::Unknown, "never heard of");
    scene.machine.journal.begin(&intent, None).unwrap();
    assert_eq!(not_let_in(&scene, "unavailable", Exit::Unavailable), Exit::Unknown, "begun");
    scene.machine.journal.apply(intent.id, &Event::NotSent).unwrap();
    assert_eq!(not_let_in(&scene, "unavailable", Exit::Unavailable), Exit::Unavailable);
    assert_eq!(not_let_in(&scene, "wrong_card_or_pin", Exit::NotAuthenticated), Exit::NotAuthenticated);
    // On a disk that is out of date it may have been sent since.
    assert_eq!(not_let_in(&scene, "fenced_off", Exit::Unavailable), Exit::Unknown);
}
