//! The durable rate through the writer, with no network: statements, chain and checkpoints included.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_ledger::handle::{Answer, Ledger, Options};
use atm_ledger_core::{AccountKind, AccountTerms, Command, Transfer};
use atm_types::{AccountId, Currency, IdSource, SystemClock, SystemIds, TerminalId};
use tokio::time::Instant;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Customer accounts that transfers go between.
    pub(crate) accounts: u32,
    /// Transfers in one call.
    pub(crate) call: usize,
    /// Calls in flight at once.
    pub(crate) in_flight: usize,
    /// Transfers in all.
    pub(crate) transfers: usize,
}

/// One run's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Durable transfers per second.
    pub(crate) per_second: f64,
    /// The slowest call.
    pub(crate) slowest: Duration,
    /// Bytes of the data directory for each transfer.
    pub(crate) bytes_each: f64,
    /// Processor time of the writer's thread for each transfer: unlike the rate, it hardly depends on what else
    /// the machine does.
    pub(crate) writer_each: Duration,
    /// Resident memory of this process at the end.
    pub(crate) resident_kib: u64,
}

/// Prints the section.
pub(crate) fn print(runtime: &tokio::runtime::Runtime) {
    println!("in process: durable transfers through the writer (SQLite, WAL, synchronous=FULL, hash chain)");
    println!(
        "{:>10} {:>6} {:>9} {:>10} {:>12} {:>15} {:>13} {:>9} {:>9}",
        "accounts",
        "call",
        "in flight",
        "transfers",
        "transfers/s",
        "writer CPU each",
        "slowest call",
        "disk each",
        "RSS"
    );
    let loads = [
        Load { accounts: 10_000, call: 8_190, in_flight: 3, transfers: 4_000_000 },
        Load { accounts: 2, call: 8_190, in_flight: 3, transfers: 2_000_000 },
        Load { accounts: 1_000_000, call: 8_190, in_flight: 3, transfers: 4_000_000 },
        Load { accounts: 10_000, call: 1, in_flight: 256, transfers: 200_000 },
        Load { accounts: 10_000, call: 1, in_flight: 1, transfers: 10_000 },
    ];
    // For a quick look: ATM_BENCH_DIVISOR=20 does a twentieth of the work.
    let divisor = std::env::var("ATM_BENCH_DIVISOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for mut load in loads {
        load.transfers /= divisor;
        let directory = tempfile::tempdir().expect("a directory for the books");
        let figures = runtime.block_on(run(directory.path(), load));
        println!(
            "{:>10} {:>6} {:>9} {:>10} {:>12.0} {:>12.2} µs {:>10.1} ms {:>7.0} B {:>5.0} MiB",
            load.accounts,
            load.call,
            load.in_flight,
            load.transfers,
            figures.per_second,
            figures.writer_each.as_secs_f64() * 1e6,
            figures.slowest.as_secs_f64() * 1e3,
            figures.bytes_each,
            figures.resident_kib as f64 / 1024.0,
        );
    }
}

/// Runs one load on new books in `directory`.
pub(crate) async fn run(directory: &Path, load: Load) -> Figures {
    let (ledger, writer) =
        Ledger::open(Options::new(directory), Arc::new(SystemClock)).expect("new books open");
    open_accounts(&ledger, load.accounts).await;
    let before = bytes_in(directory);
    let writer_before = writer_time();
    let started = Instant::now();
    let calls = load.transfers / load.call;
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..load.in_flight {
        let (ledger, next) = (ledger.clone(), Arc::clone(&next));
        clients.push(tokio::spawn(async move {
            let mut seed = 0x9E37_79B9_7F4A_7C15 ^ (client as u64);
            let mut slowest = Duration::ZERO;
            while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < calls {
                let commands = transfers(&mut seed, load);
                let sent = Instant::now();
                let answers = ledger.execute(commands, None).await.expect("the writer answers");
                slowest = slowest.max(sent.elapsed());
                let posted = |answer: &Answer| matches!(answer, Answer::Recorded { replayed: false, .. });
                assert!(answers.iter().all(posted), "every transfer is recorded");
            }
            slowest
        }));
    }
    let mut slowest = Duration::ZERO;
    for client in clients {
        slowest = slowest.max(client.await.expect("the client ends"));
    }
    let seconds = started.elapsed().as_secs_f64();
    let done = (calls * load.call) as f64;
    let writer_each = (writer_time() - writer_before).div_f64(done);
    let resident_kib = resident_kib();
    drop(ledger);
    writer.stop().await;
    let bytes_each = (bytes_in(directory) - before) as f64 / done;
    Figures { per_second: done / seconds, slowest, bytes_each, writer_each, resident_kib }
}

async fn open_accounts(ledger: &Ledger, count: u32) {
    let terms = |id, kind| AccountTerms {
        account_id: id,
        kind,
        currency: Currency::BDT,
        number: "".into(),
        holder_name: "".into(),
        overdraft_limit: 0,
        daily_withdrawal_limit: 0,
    };
    let source = AccountId::of_opening_balances(Currency::BDT);
    let open = Command::OpenAccount(terms(source, AccountKind::OpeningBalance));
    ledger.execute(vec![open], None).await.expect("the writer answers");
    let numbers: Vec<u32> = (0..count).collect();
    for chunk in numbers.chunks(4_000) {
        let commands = chunk.iter().flat_map(|number| {
            let id = account(u64::from(*number));
            let transfer =
                Transfer { debit: source, credit: id, amount: 1_000_000_000, currency: Currency::BDT };
            [
                Command::OpenAccount(terms(id, AccountKind::Customer)),
                Command::Post { id: SystemIds.transaction_id(), terminal: TerminalId::SERVICE, transfer },
            ]
        });
        ledger.execute(commands.collect(), None).await.expect("the writer answers");
    }
}

/// The account with a number: scattered, like real ids.
fn account(number: u64) -> AccountId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes)
}

fn transfers(seed: &mut u64, load: Load) -> Vec<Command> {
    let accounts = u64::from(load.accounts);
    let mut random = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let terminal = TerminalId::from_bytes([7; 32]);
    let mut commands = Vec::with_capacity(load.call);
    for _ in 0..load.call {
        let debit = random() % accounts;
        let credit = (debit + 1 + random() % (accounts - 1)) % accounts;
        let transfer = Transfer {
            debit: account(debit),
            credit: account(credit),
            amount: 1 + i64::from((random() % 100) as u8),
            currency: Currency::BDT,
        };
        commands.push(Command::Post { id: SystemIds.transaction_id(), terminal, transfer });
    }
    commands
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let length = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.and_then(|entry| entry.metadata()).map_or(0, |metadata| metadata.len())
    };
    entries.map(length).sum()
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Processor time that the writer's thread has used, to a hundredth of a second.
fn writer_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ticks = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, numbers) = stat.rsplit_once(") ")?;
        let mut numbers = numbers.split(' ').skip(11).map(|number| number.parse::<u64>().ok());
        name.ends_with("(ledger-writer").then_some(numbers.next()?? + numbers.next()??)
    });
    Duration::from_millis(10 * ticks.sum::<u64>())
}
