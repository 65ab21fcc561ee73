//! What happens at a machine while it is killed: a new machine each time, its own customer, and one command.

use rusqlite::Connection;

use crate::support::glass_bank::{GlassBank, customer};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Atm, Customer, Said, said, text, wait_until};

/// A way to one or more crash points. Together they pass all of them, save those of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A new machine's first withdrawal.
    Withdrawal,
    Deposit,
    Transfer,
    /// The withdrawal goes wrong in the device.
    WithdrawalWith(&'static str),
    /// `recover` cancels a withdrawal whose hold was never answered.
    RecoverSilence,
    /// `recover` cancels a deposit that was never answered, and hands the notes back.
    RecoverDeposit,
    /// `recover` learns that an operator decided about a suspect.
    RecoverResolved,
    /// `recover` captures although the bank was told to cancel meanwhile.
    RecoverLate,
    /// An id is cancelled that never began.
    CancelUnknown,
    /// Forty days later the journal forgets.
    Forgetting,
    /// The journal is of the version before.
    Migration,
}

pub(crate) const ALL: [Scenario; 15] = [
    Scenario::Withdrawal,
    Scenario::Deposit,
    Scenario::Transfer,
    Scenario::WithdrawalWith("jam-pick"),
    Scenario::WithdrawalWith("short"),
    Scenario::WithdrawalWith("partly-taken"),
    Scenario::WithdrawalWith("not-taken-uncounted"),
    Scenario::WithdrawalWith("status-unknown"),
    Scenario::RecoverSilence,
    Scenario::RecoverDeposit,
    Scenario::RecoverResolved,
    Scenario::RecoverLate,
    Scenario::CancelUnknown,
    Scenario::Forgetting,
    Scenario::Migration,
];

/// One machine, its wire and its customer.
pub(crate) struct Stage<'a> {
    pub(crate) bank: &'a GlassBank,
    pub(crate) wire: Proxy,
    pub(crate) atm: Atm,
    pub(crate) customer: Customer,
    /// An id that this machine never began.
    pub(crate) unknown_id: String,
}

impl<'a> Stage<'a> {
    /// A stage for the customer with this number.
    pub(crate) fn new(bank: &'a GlassBank, number: u32) -> Self {
        let wire = Proxy::to(&bank.gateway, bank.runtime.handle(), u64::from(number));
        let atm = Atm::new(&wire.url());
        let unknown_id = format!("018f4e9a-5b2c-7def-8123-{number:012x}");
        Self { bank, wire, atm, customer: customer(number), unknown_id }
    }

    fn card(&self, arguments: &[&str]) -> Said {
        self.atm.run(&[arguments, &["--card", &self.customer.card]].concat())
    }

    /// Runs the scenario's command with some more arguments.
    pub(crate) fn act(&self, scenario: Scenario, more: &[&str]) -> Said {
        self.atm.run(&[&self.arguments(scenario)[..], more].concat())
    }

    /// Runs it so that it says which crash points it passes.
    pub(crate) fn points_of(&self, scenario: Scenario) -> Vec<String> {
        let mut command = self.atm.command(&self.arguments(scenario));
        let said = said(command.env("RUST_LOG", "crash_point=trace"));
        let lines = said.stderr.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &serde_json::Value| line["point"].is_string())
            .map(|line| text(&line, "point"))
            .collect()
    }

    /// The first request of its command that carries money: sign-on comes before it, and log-in where there is a
    /// customer.
    pub(crate) fn first_money_call(scenario: Scenario) -> u32 {
        match scenario {
            Scenario::Withdrawal
            | Scenario::Deposit
            | Scenario::Transfer
            | Scenario::WithdrawalWith(_)
            | Scenario::CancelUnknown
            | Scenario::Migration
            // After the sign-on the bank is asked whether it remembers what it said last.
            | Scenario::RecoverResolved
            | Scenario::Forgetting => 3,
            Scenario::RecoverSilence | Scenario::RecoverDeposit | Scenario::RecoverLate => 2,
        }
    }

    fn arguments(&self, scenario: Scenario) -> Vec<&str> {
        match scenario {
            Scenario::Withdrawal | Scenario::WithdrawalWith(_) | Scenario::Migration => {
                vec!["withdraw", "180", "--card", &self.customer.card]
            }
            Scenario::Deposit => vec!["deposit", "180", "--card", &self.customer.card],
            Scenario::Transfer => vec!["transfer", "5.50", "--to", "C-0", "--card", &self.customer.card],
            Scenario::RecoverSilence
            | Scenario::RecoverDeposit
            | Scenario::RecoverLate
            | Scenario::RecoverResolved => vec!["recover"],
            Scenario::CancelUnknown => {
                vec!["transaction", "cancel", &self.unknown_id, "--card", &self.customer.card]
            }
            Scenario::Forgetting => vec!["recover", "--days-ahead", "40"],
        }
    }

    /// Everything that has to be before the command.
    pub(crate) fn prepare(&self, scenario: Scenario) {
        match scenario {
            Scenario::Withdrawal | Scenario::Deposit | Scenario::Transfer | Scenario::CancelUnknown => {}
            Scenario::WithdrawalWith(fault) => self.fault(fault),
            Scenario::RecoverSilence => self.silence("withdraw"),
            Scenario::RecoverDeposit => self.silence("deposit"),
            Scenario::RecoverResolved => {
                self.fault("power-while-presenting");
                let said = self.card(&["withdraw", "180"]);
                assert_eq!(said.code, -1, "the power went: {said:?}");
                assert_eq!(self.atm.run(&["recover"]).code, 3);
                // Whoever opens the machine finds the notes at the shutter.
                self.bank.resolve(&self.atm.journaled()[0].id, 0);
            }
            Scenario::RecoverLate => {
                let said = self.card(&["withdraw", "180", "--crash-at", "PRESENTED"]);
                assert_eq!(said.code, -1, "{said:?}");
                // Somebody got hold of the machine's key.
                self.bank.cancel(&self.atm, &self.atm.journaled()[0].id);
            }
            Scenario::Migration => {
                // A start that reaches nobody makes the machine's key.
                let said = said(self.atm.command(&["recover"]).env("ATM_GATEWAY", "http://127.0.0.1:1"));
                assert_eq!(said.code, 5, "{said:?}");
                make_journal_of_schema_1(&self.atm);
            }
            Scenario::Forgetting => {
                assert_eq!(self.card(&["withdraw", "180"]).code, 0);
            }
        }
    }

    /// The bank falls silent once the customer is in.
    fn silence(&self, command: &str) {
        self.wire.set(Mode::SwallowRequestsAfter(2));
        let said = self.card(&[command, "180", "--deadline", "1s"]);
        assert_eq!(said.code, 3, "{said:?}");
        self.wire.set(Mode::Clean);
    }

    pub(crate) fn fault(&self, kind: &str) {
        let said = self.atm.run(&["dispenser", "fault", kind]);
        assert_eq!(said.code, 0, "{said:?}");
    }
}

/// A fault of the network or of a service that comes in pair with a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    LostRequest,
    LostAnswer,
    DeadGateway,
    DeadLedger,
}

pub(crate) const FAULTS: [Fault; 4] =
    [Fault::LostRequest, Fault::LostAnswer, Fault::DeadGateway, Fault::DeadLedger];

impl Stage<'_> {
    /// How much was lost or refused so far between the gateway and the ledger, which serves one stage after the other.
    pub(crate) fn lost_at_ledger(&self) -> u32 {
        let counts = self.bank.ledger_wire.counts();
        counts.refused + counts.lost_requests
    }

    /// Lets a fault happen from the request with this number on.
    pub(crate) fn strike(&self, fault: Fault, number: u32) {
        match fault {
            Fault::LostRequest => self.wire.set(Mode::LoseRequest(number)),
            Fault::LostAnswer => self.wire.set(Mode::LoseAnswer(number)),
            Fault::DeadGateway => self.wire.set(Mode::DeadAfter(number - 1)),
            Fault::DeadLedger => self.bank.ledger_wire.set(Mode::DeadAfter(number - 1)),
        }
    }

    /// Everything works again. Says whether anything was lost or refused until then.
    pub(crate) fn heal(&self, before: u32) -> bool {
        self.wire.set(Mode::Clean);
        self.bank.ledger_wire.set(Mode::Clean);
        let struck = self.wire.counts().struck() || self.lost_at_ledger() > before;
        // The gateway's connection to the ledger comes back by itself.
        wait_until("the bank is back", || self.bank.try_booked());
        struck
    }
}

/// Puts an empty journal of the version before this one in the place of a machine's journal.
fn make_journal_of_schema_1(atm: &Atm) {
    let terminal: String = {
        let journal = Connection::open(atm.journal()).unwrap();
        journal.query_row("SELECT terminal_id FROM terminal", [], |row| row.get(0)).unwrap()
    };
    std::fs::remove_file(atm.journal()).unwrap();
    std::fs::remove_file(atm.journal().with_extension("acknowledged")).unwrap();
    let journal = Connection::open(atm.journal()).unwrap();
    journal.execute_batch(include_str!("../data/journal_schema_1.sql")).unwrap();
    journal.execute("INSERT INTO terminal VALUES (1, ?1)", [terminal]).unwrap();
}
