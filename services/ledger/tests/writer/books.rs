//! The plumbing of these tests: books with a customer, a cash machine and an opening balance, and short words
//! for what is done to them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_ledger::handle::{Answer, ExecuteError, Ledger, Options, WriterGuard};
use atm_ledger::storage::Store;
use atm_ledger_core::{
    AccountKind, AccountTerms, Balance, Capture, Command, Decline, DeclineReason, Hold, Resolve, Step,
    Suspend, TransactionState, Transfer,
};
use atm_types::{AccountId, Currency, ManualClock, TerminalId, Timestamp, TransactionId};

/// A running ledger, and the clock it runs on.
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) writer: WriterGuard,
    pub(crate) clock: ManualClock,
}

pub(crate) fn options(data: &Path) -> Options {
    Options { reserve_bytes: 0, ..Options::new(data) }
}

impl Books {
    pub(crate) fn start(store: impl Store + 'static) -> Self {
        Self::start_with(Box::new(store), options(Path::new("unused")))
    }

    pub(crate) fn start_with(store: Box<dyn Store>, options: Options) -> Self {
        let clock = ManualClock::new(Timestamp::from_seconds(1_790_000_000));
        let (ledger, writer) =
            Ledger::start(store, options, Arc::new(clock.clone())).expect("the books are read");
        Self { ledger, writer, clock }
    }

    pub(crate) fn open(options: Options) -> Self {
        let clock = ManualClock::new(Timestamp::from_seconds(1_790_000_000));
        let (ledger, writer) = Ledger::open(options, Arc::new(clock.clone())).expect("the books open");
        Self { ledger, writer, clock }
    }

    /// Opens the accounts, and gives the customer `balance`.
    pub(crate) async fn fund(&self, balance: i64) {
        let commands = vec![
            open_account(OPENING, AccountKind::OpeningBalance),
            open_account(CASH, AccountKind::Cash),
            open_account(CUSTOMER, AccountKind::Customer),
            post(1, OPENING, CUSTOMER, balance),
        ];
        let answers = self.ledger.execute(commands, None).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Recorded { replayed: false, .. })));
    }

    pub(crate) async fn one(&self, command: Command) -> Result<Answer, ExecuteError> {
        let mut answers = self.ledger.execute(vec![command], None).await?;
        assert_eq!(answers.len(), 1);
        Ok(answers.remove(0))
    }

    pub(crate) async fn balance(&self, account: AccountId) -> Balance {
        self.ledger.account(account).await.unwrap().expect("the account is open").account.balance()
    }

    /// What is pending on an account: debits, credits.
    pub(crate) async fn pending(&self, account: AccountId) -> (i64, i64) {
        let totals = self.ledger.account(account).await.unwrap().expect("the account is open").account.totals;
        (totals.debits_pending, totals.credits_pending)
    }

    pub(crate) async fn findings(&self) -> Vec<String> {
        let mut verification = self.ledger.verify();
        let mut findings = Vec::new();
        let mut complete = false;
        while let Some(progress) = verification.recv().await {
            findings.extend(progress.findings);
            complete = progress.complete;
        }
        if !complete {
            findings.push("the verification did not end".to_owned());
        }
        findings
    }
}

pub(crate) const OPENING: AccountId = AccountId::from_bytes([0xa0; 16]);
pub(crate) const CASH: AccountId = AccountId::from_bytes([0xa1; 16]);
pub(crate) const CUSTOMER: AccountId = AccountId::from_bytes([0xa2; 16]);
pub(crate) const SUSPENSE: AccountId = AccountId::from_bytes([0xa3; 16]);
pub(crate) const TERMINAL: TerminalId = TerminalId::from_bytes([0x77; 32]);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A time-ordered id: the greater the number, the later.
pub(crate) fn id(number: u64) -> TransactionId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(0x019c_0000_0000 + number).to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    TransactionId::from_bytes(bytes)
}

pub(crate) fn terms(account_id: AccountId, kind: AccountKind) -> AccountTerms {
    AccountTerms {
        account_id,
        kind,
        currency: Currency::BDT,
        number: "".into(),
        holder_name: "".into(),
        overdraft_limit: 0,
        daily_withdrawal_limit: 0,
    }
}

pub(crate) fn open_account(account_id: AccountId, kind: AccountKind) -> Command {
    Command::OpenAccount(terms(account_id, kind))
}

pub(crate) fn transfer(debit: AccountId, credit: AccountId, amount: i64) -> Transfer {
    Transfer { debit, credit, amount, currency: Currency::BDT }
}

pub(crate) fn post(number: u64, debit: AccountId, credit: AccountId, amount: i64) -> Command {
    Command::Post { id: id(number), terminal: TERMINAL, transfer: transfer(debit, credit, amount) }
}

/// The customer's withdrawal, in two steps.
pub(crate) fn hold(number: u64, amount: i64) -> Command {
    let transfer = transfer(CUSTOMER, CASH, amount);
    Command::Hold(Hold { id: id(number), terminal: TERMINAL, transfer, lifetime: DAY })
}

pub(crate) fn capture(number: u64, amount: i64) -> Command {
    Command::Capture(Capture {
        id: id(number),
        terminal: TERMINAL,
        amount,
        currency: Currency::BDT,
        authorization: None,
    })
}

pub(crate) fn cancel(number: u64) -> Command {
    Command::Cancel { id: id(number), terminal: TERMINAL }
}

/// Freezes a withdrawal, on an account that is to be opened with [`open_suspense`].
pub(crate) fn suspend(number: u64) -> Command {
    Command::Suspend(Suspend { id: id(number), terminal: TERMINAL, suspense: SUSPENSE, authorization: None })
}

pub(crate) fn open_suspense() -> Command {
    open_account(SUSPENSE, AccountKind::Suspense)
}

pub(crate) fn resolve(number: u64, amount: i64) -> Command {
    let (operator, reason) = ("Nadia".into(), "counted".into());
    Command::Resolve(Resolve { id: id(number), amount, currency: Currency::BDT, operator, reason })
}

/// The step of an answer.
pub(crate) fn step(answer: &Answer) -> &Step {
    match answer {
        Answer::Recorded { step, .. } => step,
        other => panic!("nothing was recorded: {other:?}"),
    }
}

/// Where the transaction of an answer stands.
pub(crate) fn state(answer: &Answer) -> Option<TransactionState> {
    match answer {
        Answer::Recorded { state, .. } => *state,
        other => panic!("nothing was recorded: {other:?}"),
    }
}

pub(crate) fn is_replay(answer: &Answer) -> bool {
    matches!(answer, Answer::Recorded { replayed: true, .. })
}

/// Why a command was declined.
pub(crate) fn declined(answer: &Answer) -> Option<DeclineReason> {
    match &step(answer).action {
        atm_ledger_core::Action::Decline { decline: Decline { reason, .. }, .. } => Some(*reason),
        _ => None,
    }
}
