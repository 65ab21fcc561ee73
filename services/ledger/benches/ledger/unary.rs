//! Saturated: as many durable postings as one server takes, each in a call of its own, against two echoes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::bank::{Bank, Client, median, payload};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
/// A thousand calls in flight: with half of them the processors stand idle now and then, while all wait for the disk.
const CONNECTIONS: usize = 8;
const CALLS_PER_CONNECTION: usize = 128;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    PlainEcho,
    Echo,
    Post,
}

impl Call {
    pub(crate) fn named(word: &str) -> Option<Self> {
        match word {
            "plain-echo" => Some(Self::PlainEcho),
            "echo" => Some(Self::Echo),
            "post" => Some(Self::Post),
            _ => None,
        }
    }
}

/// How long a call runs by itself.
const ALONE: Duration = Duration::from_secs(10);

/// Prints how many of one kind of call were answered.
pub(crate) fn print_alone(runtime: &tokio::runtime::Runtime, call: Call) {
    let directory = tempfile::tempdir().expect("a directory for the books");
    runtime.block_on(async {
        let bank = Bank::open(directory.path()).await;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| bank.client()).collect();
        saturate(&clients, call, WARM_UP).await;
        let (rate, micros) = saturate(&clients, call, ALONE).await;
        println!("{call:?}: {rate:.0} a second, {micros:.1} us of processor time each");
        bank.close().await;
    });
}

/// What some rounds of a call gave.
#[derive(Default)]
struct Figures {
    /// Calls a second.
    rates: Vec<f64>,
    /// Microseconds of processor time for each.
    processor: Vec<f64>,
}

impl Figures {
    async fn add(&mut self, clients: &[Client], call: Call) {
        let (rate, processor) = saturate(clients, call, ROUND).await;
        self.rates.push(rate);
        self.processor.push(processor);
    }
}

/// The middle one of the ratios, round by round, and their ends.
fn ratio(of: &[f64], to: &[f64]) -> (f64, f64, f64) {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    let (low, high) =
        ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
    (median(ratios), low, high)
}

/// Prints the section.
pub(crate) fn print(runtime: &tokio::runtime::Runtime) {
    println!(
        "unary: calls a second over gRPC, {CONNECTIONS} connections with {CALLS_PER_CONNECTION} calls in flight \
         each; client and server share this process; an echo of tonic as it comes, an echo on the ledger's server and \
         PostTransaction take turns"
    );
    println!(
        "{:>6} {:>12} {:>10} {:>10} {:>15} {:>12} {:>12} {:>12}",
        "round",
        "plain echo/s",
        "echo/s",
        "post/s",
        "plain CPU us",
        "echo CPU us",
        "post CPU us",
        "post/echo"
    );
    let directory = tempfile::tempdir().expect("a directory for the books");
    runtime.block_on(async {
        let bank = Bank::open(directory.path()).await;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| bank.client()).collect();
        for call in [Call::PlainEcho, Call::Echo, Call::Post] {
            saturate(&clients, call, WARM_UP).await;
        }
        let (mut plain, mut echo, mut post) = (Figures::default(), Figures::default(), Figures::default());
        for round in 1..=ROUNDS {
            plain.add(&clients, Call::PlainEcho).await;
            echo.add(&clients, Call::Echo).await;
            post.add(&clients, Call::Post).await;
            let last = round - 1;
            println!(
                "{round:>6} {:>12.0} {:>10.0} {:>10.0} {:>15.1} {:>12.1} {:>12.1} {:>12.3}",
                plain.rates[last],
                echo.rates[last],
                post.rates[last],
                plain.processor[last],
                echo.processor[last],
                post.processor[last],
                post.rates[last] / echo.rates[last],
            );
        }
        let (to_echo, low, high) = ratio(&post.rates, &echo.rates);
        let (to_plain, plain_low, plain_high) = ratio(&post.rates, &plain.rates);
        let (processor, _, _) = ratio(&echo.processor, &post.processor);
        println!(
            "medians: post/echo {to_echo:.3} ({low:.3} to {high:.3}), of processor time {processor:.3}; \
             post/plain echo {to_plain:.3} ({plain_low:.3} to {plain_high:.3})"
        );
        println!(
            "{{\"bench\":\"unary\",\"plain_echo_per_second\":{:.0},\"echo_per_second\":{:.0},\
             \"post_per_second\":{:.0},\"ratio\":{to_echo:.3},\"cpu_ratio\":{processor:.3},\
             \"ratio_to_plain\":{to_plain:.3}}}",
            median(plain.rates),
            median(echo.rates),
            median(post.rates),
        );
        bank.close().await;
    });
}

/// Calls without a pause for `duration`: answers a second, and microseconds of processor time for each, client
/// and server together, which other work on the machine does not change.
async fn saturate(clients: &[Client], call: Call, duration: Duration) -> (f64, f64) {
    let over = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicU64::new(0));
    let payload: Arc<[u8]> = payload().into();
    let (start, processor) = (Instant::now(), processor_seconds());
    let callers: Vec<_> = clients
        .iter()
        .flat_map(|client| std::iter::repeat_n(client, CALLS_PER_CONNECTION))
        .map(|client| {
            let (mut client, payload) = (client.clone(), Arc::clone(&payload));
            let (over, turns) = (Arc::clone(&over), Arc::clone(&turns));
            tokio::spawn(async move {
                let mut answers = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    match call {
                        Call::PlainEcho => client.plain_echo(&payload).await,
                        Call::Echo => client.echo(&payload).await,
                        Call::Post => client.post(turns.fetch_add(1, Ordering::Relaxed)).await,
                    }
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    over.store(true, Ordering::Relaxed);
    let mut answers = 0;
    for caller in callers {
        answers += caller.await.expect("no caller panics");
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds' worth of calls")]
    let answers = answers as f64;
    let micros = (processor_seconds() - processor) * 1e6 / answers;
    (answers / start.elapsed().as_secs_f64(), micros)
}

/// What this process has used of the processors so far, in user and system mode (proc(5), `/proc/self/stat`).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u32>().ok()).sum();
    // A hundred ticks a second on every Linux that Rust runs on.
    f64::from(ticks) / 100.0
}
