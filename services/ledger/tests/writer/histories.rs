//! The same random history on SQLite and in memory, with kills and restarts anywhere: the same answers, the
//! same end, and nothing acknowledged is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atm_ledger::handle::{Answer, Options};
use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger::storage::sqlite::SqliteStore;
use atm_ledger::storage::{Hash, Store};
use atm_ledger::trial_balance::TrialBalance;
use atm_ledger_core::{AccountKind, Authorization, Capture, Command, Hold, Resolve, Suspend};
use atm_types::{AccountId, Currency, ManualClock, TerminalId, TransactionId};
use proptest::prelude::*;

use crate::books::*;

#[derive(Clone, Debug)]
enum Event {
    Execute(Vec<Command>),
    /// The clock moves on.
    Wait(Duration),
    /// A clean stop and a start.
    Restart,
    /// The process is killed after its last answer, and started again.
    Kill,
}

/// A disk that a ledger runs on, and what a kill leaves of it.
trait Disk {
    fn open(&self) -> Box<dyn Store>;
    fn as_a_kill_leaves_it(&self) -> Self;
}

impl Disk for MemoryDisk {
    fn open(&self) -> Box<dyn Store> {
        Box::new(Self::open(self))
    }

    fn as_a_kill_leaves_it(&self) -> Self {
        self.copy()
    }
}

/// A directory with a number; the next one is made beside it.
struct Directory(PathBuf, u32);

impl Directory {
    fn path(&self) -> PathBuf {
        self.0.join(self.1.to_string())
    }
}

impl Disk for Directory {
    fn open(&self) -> Box<dyn Store> {
        std::fs::create_dir_all(self.path()).unwrap();
        Box::new(SqliteStore::open(&self.path(), 0).expect("the books open"))
    }

    fn as_a_kill_leaves_it(&self) -> Self {
        let copy = Self(self.0.clone(), self.1 + 1);
        copy_files(&self.path(), &copy.path());
        copy
    }
}

/// Copies a data directory whose writer is idle: what a kill at this moment leaves.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["ledger.db", "ledger.db-wal", "acknowledged"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn account_id() -> impl Strategy<Value = AccountId> {
    let nobody = AccountId::from_bytes([1; 16]);
    prop_oneof![4 => Just(CUSTOMER), 3 => Just(CASH), 2 => Just(OPENING), 1 => Just(nobody)]
}

fn transaction_id() -> impl Strategy<Value = TransactionId> {
    prop_oneof![
        4 => (2..14_u64).prop_map(id),
        1 => (0..3_u8).prop_map(|byte| TransactionId::from_bytes([byte * 0x77; 16])),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let terminal = prop_oneof![4 => Just(TERMINAL), 1 => Just(TerminalId::SERVICE)];
    let parts = (transaction_id(), terminal, account_id(), account_id(), -1..700_i64, 0..100_u32);
    parts.prop_map(|(id, terminal, debit, credit, amount, choice)| match choice {
        0..30 => Command::Post { id, terminal, transfer: transfer(debit, credit, amount) },
        30..60 => {
            let lifetime = Duration::from_secs(u64::from(choice - 29) * 100);
            Command::Hold(Hold { id, terminal, transfer: transfer(CUSTOMER, CASH, amount), lifetime })
        }
        60..72 => {
            let currency = Currency::BDT;
            Command::Capture(Capture { id, terminal, amount, currency, authorization: None })
        }
        72..80 => Command::Cancel { id, terminal },
        80..88 => {
            let suspense = if choice == 80 { CASH } else { SUSPENSE };
            let held = Authorization { transfer: transfer(CUSTOMER, CASH, amount.max(1)) };
            let authorization = (choice > 86).then_some(held);
            Command::Suspend(Suspend { id, terminal, suspense, authorization })
        }
        88..95 => {
            let amount = if choice < 91 { 0 } else { amount };
            let (operator, reason) = ("Nadia".into(), "counted".into());
            Command::Resolve(Resolve { id, amount, currency: Currency::BDT, operator, reason })
        }
        _ => open_account(debit, AccountKind::Customer),
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => prop::collection::vec(command(), 0..6).prop_map(Event::Execute),
        2 => (0..2_000_u64).prop_map(|seconds| Event::Wait(Duration::from_secs(seconds))),
        1 => Just(Event::Restart),
        1 => Just(Event::Kill),
    ]
}

#[derive(Debug, PartialEq)]
struct End {
    answers: Vec<Vec<Answer>>,
    findings: Vec<String>,
    chain_head: Option<Hash>,
    balance: TrialBalance,
    steps: Vec<atm_ledger_core::Step>,
}

async fn live(mut disk: impl Disk, events: &[Event], checkpoint_every: u64) -> End {
    let clock = ManualClock::new(atm_types::Timestamp::from_seconds(1_790_000_000));
    let start = |disk: &dyn Fn() -> Box<dyn Store>, clock: &ManualClock| {
        let options = Options { checkpoint_every, accounts_in_memory: 1, ..options(Path::new("unused")) };
        let shared = std::sync::Arc::new(clock.clone());
        let (ledger, writer) = atm_ledger::handle::Ledger::start(disk(), options, shared).expect("it starts");
        Books { ledger, writer, clock: clock.clone() }
    };
    let mut books = start(&|| disk.open(), &clock);
    books.fund(1_000).await;
    books.one(open_suspense()).await.unwrap();
    let mut answers = Vec::new();
    for event in events {
        match event {
            Event::Execute(commands) => {
                answers.push(books.ledger.execute(commands.clone(), None).await.unwrap());
            }
            Event::Wait(time) => {
                clock.advance(*time);
                // Whoever is first, this read or the writer's own alarm: the same holds expire in one batch.
                books.balance(CUSTOMER).await;
            }
            Event::Restart => {
                drop(books);
                books = start(&|| disk.open(), &clock);
            }
            Event::Kill => {
                let left = disk.as_a_kill_leaves_it();
                drop(books);
                disk = left;
                books = start(&|| disk.open(), &clock);
            }
        }
        // Everything acknowledged is there.
        let recorded = answers.iter().flatten().filter_map(|answer| match answer {
            Answer::Recorded { step, .. } => Some(step.commit_sequence),
            _ => None,
        });
        assert!(*books.ledger.committed().borrow() >= recorded.max().unwrap_or(0));
    }
    let steps = books.ledger.steps_after(0, 10_000).await.unwrap().steps;
    for answer in answers.iter().flatten() {
        if let Answer::Recorded { step, .. } = answer {
            let index = usize::try_from(step.commit_sequence - 1).unwrap();
            assert_eq!(steps[index], *step);
        }
    }
    let mut verification = books.ledger.verify();
    let (mut findings, mut chain_head) = (Vec::new(), None);
    while let Some(progress) = verification.recv().await {
        findings.extend(progress.findings);
        chain_head = progress.chain_head;
    }
    let balance = books.ledger.trial_balance().await.unwrap();
    End { answers, findings, chain_head, balance, steps }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_history_ends_the_same_on_sqlite_and_in_memory_whatever_is_killed(
        events in prop::collection::vec(event(), 1..24),
        checkpoint_every in 1..12_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let on_sqlite = Directory(directory.path().to_owned(), 0);
        let sqlite = runtime.block_on(live(on_sqlite, &events, checkpoint_every));
        // Other checkpoints and no kills change nothing either.
        let memory = runtime.block_on(live(MemoryDisk::new(), &events, 1_000));
        prop_assert!(sqlite.chain_head.is_some());
        prop_assert!(sqlite.findings.is_empty(), "{:?}", sqlite.findings);
        prop_assert!(sqlite.balance.balanced);
        prop_assert_eq!(sqlite, memory);
    }
}
