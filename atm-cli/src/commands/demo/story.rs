//! The story itself: what happens, in order, and what must come of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_proto::gateway::{CashBin, ImportAccountsRequest};
use atm_rpc::credentials::BearerToken;
use atm_rpc::deadline::Deadline;
use atm_types::{Currency, Money, TransactionId};
use zeroize::Zeroizing;

use super::super::Context;
use super::StepKeys;
use super::wire::Wire;
use crate::bank::{Bank, BankConfig, BankError};
use crate::client::{AdminClient, Case, Gateway, Session, TextClient, read_failure};
use crate::device::{Fault, Simulated};
use crate::exit::{Exit, Failure};
use crate::flow::{self, Machine, Order, Parts};
use crate::import;
use crate::journal::{CardTag, Intent, Journal, Kind};
use crate::output::{Receipt, Status};
use crate::pin::Pin;
use crate::terminal::Terminal;

/// The accounts of the source systems, as the repository ships them.
const ACCOUNTS: &str = include_str!("../../../../examples/accounts.csv");
/// Joty's card, and what is on it at the start.
const CARD: &str = "123456789";
const PIN: &str = "1234";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Story<'a> {
    context: &'a Context,
    home: &'a Path,
    steps: Vec<StepKeys>,
}

/// What the customer's side of the story needs.
struct Stage {
    machine: Machine,
    terminal: Terminal,
    wire: Wire,
}

impl<'a> Story<'a> {
    pub(super) fn new(context: &'a Context, home: &'a Path) -> Self {
        Self { context, home, steps: Vec::new() }
    }

    pub(super) fn into_steps(self) -> Vec<StepKeys> {
        self.steps
    }

    /// Plays it from the opening of the bank to its close. What goes wrong in the middle ends it.
    pub(super) async fn play(&mut self) -> Result<(), Failure> {
        let config = BankConfig::new(self.home.join("bank"));
        let bank = Bank::start(config, Arc::clone(&self.context.clock), Arc::clone(&self.context.ids))
            .await
            .map_err(|error| bank_failure(&error))?;
        self.tell(&format!(
            "A bank opens in this process: gateway {}, auth {}, ledger {}.",
            bank.gateway_url(),
            bank.auth_url(),
            bank.ledger_url()
        ));
        let admin = self.operator(&bank)?;
        self.import(&admin).await?;
        let mut stage = self.stage(&bank).await?;
        self.day_at_the_machine(&mut stage).await?;
        self.lost_answers(&mut stage).await?;
        self.text(&bank).await?;
        self.books(&admin, &mut stage).await?;
        drop(stage);
        bank.stop().await.map_err(|error| bank_failure(&error))?;
        Ok(())
    }

    async fn import(&mut self, admin: &AdminClient) -> Result<(), Failure> {
        let lines = import::read(ACCOUNTS, Currency::BDT, false)
            .map_err(|problems| Failure::invalid(format!("examples/accounts.csv: {problems:?}")))?;
        let rows: Vec<_> = lines.into_iter().map(|line| line.row).collect();
        let count = rows.len();
        for rerun in [false, true] {
            let request = ImportAccountsRequest { rows: rows.clone() };
            let answer =
                admin.import(request, Duration::from_secs(60)).await.map_err(|error| read_failure(&error))?;
            let changed =
                answer.results.iter().filter(|result| result.error.is_none() && result.changed).count();
            if rerun {
                self.check("importing the same file again changes so many of them", 0, changed);
            } else {
                self.check("accounts imported from examples/accounts.csv", count, changed);
            }
        }
        Ok(())
    }

    async fn day_at_the_machine(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        stage.machine.sign_on_for_business(Deadline::after(PATIENCE)).await?;
        let session = log_in(self.context, stage, PIN).await?;
        stage.machine.enrol().map_err(|error| flow::journal_before(&error))?;
        self.tell("A new machine signs on; after its first right PIN it is enrolled, and cash goes into its cassettes.");
        self.tell(
            "Joty puts card 123456789 in and types her PIN: the gateway asks auth, and opens a session.",
        );
        self.check("her balance", "10000.00", balance(stage, &session).await?);

        let receipt = self.order(stage, &session, Kind::Withdrawal, 1000).await?;
        self.tell("She withdraws 1000: the ledger holds it, the cash comes out, the hold is captured.");
        self.check_receipt("the withdrawal", Status::Captured, "9000.00", &receipt);

        let receipt = self.order(stage, &session, Kind::Deposit, 500).await?;
        self.tell("She pays 500 in.");
        self.check_receipt("the deposit", Status::Posted, "9500.00", &receipt);

        let receipt = self.order(stage, &session, Kind::Withdrawal, 20_000).await?;
        self.tell("She asks for 20000, which she does not have: a recorded answer, not an error.");
        self.check("the withdrawal is", Status::Declined, receipt.status);
        self.check("because of", "insufficient_funds", receipt.reason.unwrap_or_default());
        self.check("her balance is still", "9500.00", balance(stage, &session).await?);

        let receipt = self.order(stage, &session, Kind::Withdrawal, 150_000).await.err();
        self.tell("Nor can the machine pay 150000 in one bundle: refused before anything is sent.");
        let exit = receipt.map_or(Exit::Done, |failure| failure.exit);
        self.check("the exit code would be", Exit::WrongUse as u8, exit as u8);

        stage
            .machine
            .device
            .set_fault(Fault::JamStack)
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        let receipt = self.order(stage, &session, Kind::Withdrawal, 300).await?;
        self.tell("She asks for 300 and the notes jam inside: they go to the reject bin, and the hold is cancelled.");
        self.check("the withdrawal is", Status::Cancelled, receipt.status);
        self.check("her balance is still", "9500.00", balance(stage, &session).await?);
        stage.machine.bank.log_out(&session).await;

        let refused = log_in(self.context, stage, "9999").await.err();
        self.tell("Somebody tries her card with PIN 9999.");
        let exit = refused.map_or(Exit::Done, |failure| failure.exit);
        self.check("the exit code would be", Exit::NotAuthenticated as u8, exit as u8);
        Ok(())
    }

    /// The heart of it: both answers of a withdrawal are lost on the wire after the bank has done the work.
    async fn lost_answers(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        let session = log_in(self.context, stage, PIN).await?;
        let before = statement(stage, &session).await?;
        self.tell("She withdraws 700; the answers to hold and capture are lost on the wire, so both are sent again.");
        stage.wire.lose(&[true, false, true, false]);
        let receipt = self.order(stage, &session, Kind::Withdrawal, 700).await?;
        self.check("answers that were lost on the way", 2, stage.wire.lost());
        self.check_receipt("the withdrawal", Status::Captured, "8800.00", &receipt);
        let after = statement(stage, &session).await?;
        let debits = after.iter().filter(|id| **id == receipt.id.to_string()).count();
        self.check("debits under its id on her statement", 1, debits);
        self.check("lines that it added to her statement", 1, after.len() - before.len());
        self.tell("The same id a third time, as after a crash: the first answer comes back, nothing moves.");
        let again = self.order_again(stage, &session, 700, receipt.id).await?;
        self.check_receipt("the repeat", Status::Captured, "8800.00", &again);
        self.check("her balance", "8800.00", balance(stage, &session).await?);
        stage.machine.bank.log_out(&session).await;
        Ok(())
    }

    async fn text(&mut self, bank: &Bank) -> Result<(), Failure> {
        let client = TextClient::new(bank.gateway_url(), PATIENCE)?;
        self.tell("The text utility behind the same gateway:");
        let lowered = client.convert(Case::Lower, "HELLOW".to_owned()).await;
        self.check("HELLOW in small letters", "hellow", lowered.map_err(|error| read_failure(&error))?);
        for (number, prime) in [("13", true), ("1", false), ("170141183460469231731687303715884105727", true)]
        {
            let found = client.is_prime(number.to_owned()).await.map_err(|error| read_failure(&error))?;
            self.check(&format!("{number} is a prime"), prime, found);
        }
        for (number, palindrome) in [("12321", true), ("13", false)] {
            let found =
                client.is_palindrome(number.to_owned()).await.map_err(|error| read_failure(&error))?;
            self.check(&format!("{number} is a palindrome"), palindrome, found);
        }
        Ok(())
    }

    async fn books(&mut self, admin: &AdminClient, stage: &mut Stage) -> Result<(), Failure> {
        self.tell("In the evening the books are closed.");
        let movements = stage.machine.settle_movements(Deadline::after(PATIENCE)).await;
        movements.map_err(|error| flow::journal_before(&error))?;
        let trial = admin.trial_balance().await.map_err(|error| read_failure(&error))?;
        self.check("debits equal credits", true, trial.balanced);
        let sum = |line: &atm_proto::gateway::TrialBalanceLine| {
            let units = |text: &str| text.parse::<i64>().unwrap_or(i64::MIN);
            units(&line.debits_posted_minor_units) - units(&line.credits_posted_minor_units)
        };
        let cash: i64 = trial.lines.iter().filter(|line| line.kind == "CASH").map(sum).sum();
        // What went into the cassettes came out of the vault; 500 came in; 1000 and 700 went out.
        let cash = Money::new(cash, Currency::BDT).to_decimal();
        self.check("what the books say about all cash, the vault included", "-1200.00", cash);
        self.cash(admin, stage).await?;
        let open = stage.machine.journal.open_transactions().map_err(|error| flow::journal_before(&error))?;
        self.check("transactions open in the machine's journal", 0, open.len());
        Ok(())
    }

    /// The device's counters against the books, place by place.
    async fn cash(&mut self, admin: &AdminClient, stage: &Stage) -> Result<(), Failure> {
        let units =
            stage.machine.device.cash_units().map_err(|error| Failure::unavailable(error.to_string()))?;
        let atm_id = stage.machine.bank.atm_id();
        let position = admin.cash_position(atm_id, PATIENCE).await.map_err(|error| read_failure(&error))?;
        for (bin, what, notes) in [
            (
                CashBin::Cassettes,
                "what the books say is in the cassettes, and the device counts",
                &units.cassettes,
            ),
            (CashBin::Reject, "in the reject bin", &units.reject),
            (CashBin::Deposit, "in the deposit box", &units.deposit),
        ] {
            let line = position.positions.iter().find(|line| line.bin() == bin);
            let books = line.map_or(i64::MIN, |line| line.balance_minor_units);
            let decimal = |units| Money::new(units, Currency::BDT).to_decimal();
            self.check(what, decimal(notes.minor_units()), decimal(books));
        }
        Ok(())
    }

    async fn order(
        &mut self,
        stage: &mut Stage,
        session: &Session,
        kind: Kind,
        major: i64,
    ) -> Result<Receipt, Failure> {
        let id = self.context.ids.transaction_id();
        let order = self.new_order(stage, kind, major, id, false);
        stage.machine.perform(session, &order, Deadline::after(PATIENCE)).await
    }

    async fn order_again(
        &mut self,
        stage: &mut Stage,
        session: &Session,
        major: i64,
        id: TransactionId,
    ) -> Result<Receipt, Failure> {
        let order = self.new_order(stage, Kind::Withdrawal, major, id, true);
        stage.machine.perform(session, &order, Deadline::after(PATIENCE)).await
    }

    fn new_order(&self, stage: &Stage, kind: Kind, major: i64, id: TransactionId, id_given: bool) -> Order {
        Order {
            id_given,
            intent: Intent {
                id,
                kind,
                amount: Money::new(major * 100, Currency::BDT),
                card: CardTag::new(stage.terminal.key(), CARD),
                to_account: None,
                trace_id: self.context.trace.to_string(),
            },
        }
    }

    fn operator(&self, bank: &Bank) -> Result<AdminClient, Failure> {
        let token = BearerToken::load(bank.operator_token_file())
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        AdminClient::new(bank.gateway_url(), token, PATIENCE)
    }

    async fn stage(&self, bank: &Bank) -> Result<Stage, Failure> {
        let target: SocketAddr = bank
            .gateway_url()
            .trim_start_matches("http://")
            .parse()
            .map_err(|_| Failure::unavailable("the gateway has no address"))?;
        let wire =
            Wire::lay(target).await.map_err(|error| Failure::unavailable(format!("no wire: {error}")))?;
        let directory = self.home.join("atm");
        let terminal = Terminal::load(&directory, &*self.context.ids)
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        let journal = Journal::open(&directory, terminal.id(), Arc::clone(&self.context.clock))
            .map_err(|error| flow::journal_before(&error))?;
        let device = Simulated::open(&directory, Currency::BDT, &*self.context.ids)
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        let machine = Machine::new(Parts {
            journal,
            bank: Gateway::new(wire.url().as_str(), &terminal, &terminal.default_atm_id(), PATIENCE)?,
            device: Box::new(device),
            currency: Currency::BDT,
            ids: Arc::clone(&self.context.ids),
            screen: self.context.screen,
            patience: PATIENCE,
        })
        .map_err(|error| flow::journal_before(&error))?;
        Ok(Stage { machine, terminal, wire })
    }

    fn tell(&self, line: &str) {
        self.context.screen.result(line);
    }

    fn check_receipt(&mut self, what: &str, status: Status, balance: &str, receipt: &Receipt) {
        let found = receipt.balance.map(|found| Money::new(found.balance, Currency::BDT).to_decimal());
        let expected = format!("{status:?}, balance {balance}");
        let found = format!("{:?}, balance {}", receipt.status, found.as_deref().unwrap_or("unknown"));
        self.check(what, expected, found);
    }

    /// One number: what it must be and what it is.
    fn check(&mut self, what: &str, expected: impl Into<Shown>, found: impl Into<Shown>) {
        let (Shown(expected), Shown(found)) = (expected.into(), found.into());
        let right = expected == found;
        if right {
            self.context.screen.good(&format!("  ✓ {what}: {found}"));
        } else {
            self.context.screen.error(&format!("{what}: {found}, but it must be {expected}"));
        }
        self.steps.push(StepKeys { what: what.to_owned(), expected, found, right });
    }
}

/// What can be compared and printed.
struct Shown(String);

impl From<Status> for Shown {
    fn from(status: Status) -> Self {
        Self(format!("{status:?}"))
    }
}

macro_rules! shown {
    ($($type:ty),+) => {
        $(impl From<$type> for Shown {
            fn from(value: $type) -> Self {
                Self(value.to_string())
            }
        })+
    };
}
shown!(&str, String, bool, usize, u8, u32, i32);

async fn log_in(context: &Context, stage: &Stage, pin: &str) -> Result<Session, Failure> {
    let pin = Pin::new(Zeroizing::new(pin.to_owned()))?;
    let (attempt, boot) = (context.ids.attempt_id(), stage.machine.boot());
    stage.machine.bank.log_in(CARD, &pin, attempt, boot, Deadline::after(PATIENCE)).await
}

async fn balance(stage: &Stage, session: &Session) -> Result<String, Failure> {
    let answer = stage.machine.bank.balance(session, Deadline::after(PATIENCE)).await;
    let balance = answer.map_err(|error| read_failure(&error))?.balance.unwrap_or_default();
    Ok(Money::new(balance.balance_minor_units, Currency::BDT).to_decimal())
}

/// The ids on the customer's statement.
async fn statement(stage: &Stage, session: &Session) -> Result<Vec<String>, Failure> {
    let page = stage.machine.bank.statement(session, 100, String::new(), Deadline::after(PATIENCE)).await;
    let page = page.map_err(|error| read_failure(&error))?;
    Ok(page.lines.into_iter().map(|line| line.transaction_id).collect())
}

fn bank_failure(error: &BankError) -> Failure {
    Failure::unavailable(error.to_string())
}
