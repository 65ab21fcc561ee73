//! A bank small enough to read: some accounts, two terminals, and helpers that make a test a story.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::time::Duration;

use atm_ledger_core::{
    AccountKind, AccountTerms, Authorization, Capture, Command, Decision, Hold, LIFETIME_DEFAULT, Moment,
    Refusal, Resolve, State, Step, Suspend, Transfer, decide,
};
use atm_types::{AccountId, Currency, TerminalId, Timestamp, TransactionId};

pub const HERE: TerminalId = TerminalId::from_bytes([1; 32]);
pub const ELSEWHERE: TerminalId = TerminalId::from_bytes([2; 32]);

pub fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 16])
}

pub fn id(n: u8) -> TransactionId {
    TransactionId::from_bytes([0x80 | n; 16])
}

pub const ALICE: u8 = 1;
pub const BOB: u8 = 2;
/// May go 50 below zero.
pub const OVERDRAWN: u8 = 3;
/// May withdraw 100 a day.
pub const LIMITED: u8 = 4;
pub const DOLLARS: u8 = 5;
pub const CASH: u8 = 10;
pub const OPENING: u8 = 11;
/// Never opened.
pub const NOBODY: u8 = 12;
pub const SUSPENSE: u8 = 13;
/// Another machine's.
pub const SUSPENSE_ELSEWHERE: u8 = 14;
pub const SUSPENSE_DOLLARS: u8 = 15;
/// All accounts that are open.
pub const OPEN: [u8; 10] =
    [ALICE, BOB, OVERDRAWN, LIMITED, DOLLARS, CASH, OPENING, SUSPENSE, SUSPENSE_ELSEWHERE, SUSPENSE_DOLLARS];

pub fn terms(n: u8) -> AccountTerms {
    let (kind, currency, overdraft_limit, daily_withdrawal_limit) = match n {
        CASH => (AccountKind::Cash, "BDT", 0, 0),
        OPENING => (AccountKind::OpeningBalance, "BDT", 0, 0),
        SUSPENSE | SUSPENSE_ELSEWHERE => (AccountKind::Suspense, "BDT", 0, 0),
        SUSPENSE_DOLLARS => (AccountKind::Suspense, "USD", 0, 0),
        OVERDRAWN => (AccountKind::Customer, "BDT", 50, 0),
        LIMITED => (AccountKind::Customer, "BDT", 0, 100),
        DOLLARS => (AccountKind::Customer, "USD", 0, 0),
        _ => (AccountKind::Customer, "BDT", 0, 0),
    };
    AccountTerms {
        account_id: account(n),
        kind,
        currency: currency.parse().unwrap(),
        number: format!("account-{n}").into(),
        holder_name: "".into(),
        overdraft_limit,
        daily_withdrawal_limit,
    }
}

pub fn transfer(debit: u8, credit: u8, amount: i64) -> Transfer {
    Transfer { debit: account(debit), credit: account(credit), amount, currency: Currency::BDT }
}

pub fn post(n: u8, transfer: Transfer) -> Command {
    Command::Post { id: id(n), terminal: HERE, transfer }
}

pub fn hold(n: u8, transfer: Transfer) -> Command {
    hold_for(n, transfer, LIFETIME_DEFAULT)
}

pub fn hold_for(n: u8, transfer: Transfer, lifetime: Duration) -> Command {
    Command::Hold(Hold { id: id(n), terminal: HERE, transfer, lifetime })
}

pub fn capture(n: u8, amount: i64) -> Command {
    Command::Capture(Capture {
        id: id(n),
        terminal: HERE,
        amount,
        currency: Currency::BDT,
        authorization: None,
    })
}

pub fn capture_authorized(n: u8, amount: i64, held: Transfer) -> Command {
    Command::Capture(Capture {
        id: id(n),
        terminal: HERE,
        amount,
        currency: Currency::BDT,
        authorization: Some(Authorization { transfer: held }),
    })
}

pub fn cancel(n: u8) -> Command {
    Command::Cancel { id: id(n), terminal: HERE }
}

pub fn suspend(n: u8) -> Command {
    suspend_into(n, SUSPENSE)
}

pub fn suspend_into(n: u8, suspense: u8) -> Command {
    Command::Suspend(Suspend { id: id(n), terminal: HERE, suspense: account(suspense), authorization: None })
}

pub fn suspend_authorized(n: u8, held: Transfer) -> Command {
    let authorization = Some(Authorization { transfer: held });
    Command::Suspend(Suspend { id: id(n), terminal: HERE, suspense: account(SUSPENSE), authorization })
}

pub fn resolve(n: u8, amount: i64) -> Command {
    resolve_by(n, amount, "Nadia", "the cassettes were counted")
}

pub fn resolve_by(n: u8, amount: i64, operator: &str, reason: &str) -> Command {
    Command::Resolve(Resolve {
        id: id(n),
        amount,
        currency: Currency::BDT,
        operator: operator.into(),
        reason: reason.into(),
    })
}

/// What a command got, with nothing borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Recorded(Step),
    Replayed(Step),
    Refused(Refusal),
}

impl Got {
    pub fn step(&self) -> &Step {
        match self {
            Self::Recorded(step) | Self::Replayed(step) => step,
            Self::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }
}

/// The core with a clock in hand and every step kept.
pub struct Bank {
    pub state: State,
    pub steps: Vec<Step>,
    pub seconds: i64,
    pub day: i32,
}

impl Bank {
    /// Books with all accounts open; ALICE, OVERDRAWN and LIMITED have 1,000 each.
    pub fn open() -> Self {
        let mut bank = Self { state: State::new(), steps: Vec::new(), seconds: 0, day: 0 };
        for n in OPEN {
            bank.run(&Command::OpenAccount(terms(n)));
        }
        for n in [ALICE, OVERDRAWN, LIMITED] {
            bank.run(&post(100 + n, transfer(OPENING, n, 1000)));
        }
        bank
    }

    pub fn run(&mut self, command: &Command) -> Got {
        self.seconds += 1;
        let moment = Moment { commit_time: Timestamp::from_seconds(self.seconds), day: self.day };
        match decide(&self.state, command, moment) {
            Decision::Record(step) => {
                self.state.apply(&step).unwrap();
                self.steps.push(step.clone());
                Got::Recorded(step)
            }
            Decision::Replay(step) => Got::Replayed(step.clone()),
            Decision::Refuse(refusal) => Got::Refused(refusal),
        }
    }

    /// Lets time pass and records every expiry that is due then.
    pub fn wait(&mut self, duration: Duration) {
        self.seconds += i64::try_from(duration.as_secs()).unwrap();
        for due in self.state.due_expiries(Timestamp::from_seconds(self.seconds), usize::MAX) {
            let got = self.run(&Command::Expire { id: due });
            assert!(matches!(got, Got::Recorded(_)), "{got:?}");
        }
    }

    /// What is pending on an account: debits, credits.
    pub fn pending(&self, n: u8) -> (i64, i64) {
        let totals = self.state.account(account(n)).unwrap().totals;
        (totals.debits_pending, totals.credits_pending)
    }

    pub fn balance(&self, n: u8) -> (i64, i64) {
        let balance = self.state.account(account(n)).unwrap().balance();
        (balance.posted, balance.available)
    }
}
