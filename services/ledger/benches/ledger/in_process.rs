//! The durable rate through the writer, with no network: statements, chain and checkpoints included.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_ledger::handle::{Answer, Ledger, Options};
use atm_ledger_core::{AccountKind, AccountTerms, Command, Transfer};
use atm_types::{AccountId, Clock, Currency, IdSource, SystemClock, SystemIds, TerminalId, TransactionId};
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
    /// Processor time of the whole process for each transfer, callers included: unlike the rate, it hardly depends
    /// on what else the machine does.
    pub(crate) processor_each: Duration,
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
        "CPU each",
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
            figures.processor_each.as_secs_f64() * 1e6,
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
    let accounts: Arc<[AccountId]> = (0..load.accounts).map(account).collect();
    open_accounts(&ledger, &accounts).await;
    let before = bytes_in(directory);
    let processor_before = processor_time();
    let started = Instant::now();
    let calls = load.transfers / load.call;
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..load.in_flight {
        let (ledger, next, accounts) = (ledger.clone(), Arc::clone(&next), Arc::clone(&accounts));
        clients.push(tokio::spawn(async move {
            let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (client as u64));
            let mut slowest = Duration::ZERO;
            while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < calls {
                let commands = transfers(&mut random, &accounts, load.call);
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
    let processor_each = (processor_time() - processor_before).div_f64(done);
    let resident_kib = resident_kib();
    drop(ledger);
    writer.stop().await;
    let bytes_each = (bytes_in(directory) - before) as f64 / done;
    Figures { per_second: done / seconds, slowest, bytes_each, processor_each, resident_kib }
}

async fn open_accounts(ledger: &Ledger, accounts: &[AccountId]) {
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
    for chunk in accounts.chunks(4_000) {
        let commands = chunk.iter().flat_map(|id| {
            let transfer =
                Transfer { debit: source, credit: *id, amount: 1_000_000_000, currency: Currency::BDT };
            [
                Command::OpenAccount(terms(*id, AccountKind::Customer)),
                Command::Post { id: SystemIds.transaction_id(), terminal: TerminalId::SERVICE, transfer },
            ]
        });
        ledger.execute(commands.collect(), None).await.expect("the writer answers");
    }
}

/// The account with a number: an id as the bank derives it.
fn account(number: u32) -> AccountId {
    AccountId::of_number(&number.to_string())
}

fn transfers(random: &mut Random, accounts: &[AccountId], count: usize) -> Vec<Command> {
    let terminal = TerminalId::from_bytes([7; 32]);
    let number = accounts.len();
    let mut commands = Vec::with_capacity(count);
    for _ in 0..count {
        let debit = random.below(number);
        let credit = (debit + 1 + random.below(number - 1)) % number;
        let transfer = Transfer {
            debit: accounts[debit],
            credit: accounts[credit],
            amount: 1 + i64::from(random.below(100) == 0),
            currency: Currency::BDT,
        };
        commands.push(Command::Post { id: random.transaction_id(), terminal, transfer });
    }
    commands
}

/// Xorshift (Marsaglia, 2003): what a caller spends on randomness is not what is measured.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// A UUIDv7 of this millisecond.
    fn transaction_id(&mut self) -> TransactionId {
        let millis = u64::try_from(SystemClock.now().as_nanos() / 1_000_000).unwrap_or(0);
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes()[..2]);
        TransactionId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }
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

/// Processor time that this process has used, callers included, to a hundredth of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let numbers = stat.rsplit_once(") ").map_or("", |(_, numbers)| numbers);
    let ticks = numbers.split(' ').skip(11).take(2).filter_map(|number| number.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
