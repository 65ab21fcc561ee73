//! Saturated: as many durable postings as one server takes, each in a call of its own, against an echo.

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
    Echo,
    Post,
}

impl Call {
    pub(crate) fn named(word: &str) -> Option<Self> {
        match word {
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

/// Prints the section.
pub(crate) fn print(runtime: &tokio::runtime::Runtime) {
    println!(
        "unary: calls a second over gRPC, {CONNECTIONS} connections with {CALLS_PER_CONNECTION} calls in flight \
         each; client and server share this process; echo and PostTransaction take turns"
    );
    println!(
        "{:>6} {:>10} {:>18} {:>7} {:>12} {:>12} {:>9}",
        "round", "echo/s", "PostTransaction/s", "ratio", "echo CPU us", "post CPU us", "CPU ratio"
    );
    let directory = tempfile::tempdir().expect("a directory for the books");
    runtime.block_on(async {
        let bank = Bank::open(directory.path()).await;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| bank.client()).collect();
        saturate(&clients, Call::Echo, WARM_UP).await;
        saturate(&clients, Call::Post, WARM_UP).await;
        let (mut echoes, mut posts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut processor = Vec::new();
        for round in 1..=ROUNDS {
            let (echo, echo_micros) = saturate(&clients, Call::Echo, ROUND).await;
            let (post, post_micros) = saturate(&clients, Call::Post, ROUND).await;
            println!(
                "{round:>6} {echo:>10.0} {post:>18.0} {:>7.3} {echo_micros:>12.1} {post_micros:>12.1} {:>9.3}",
                post / echo,
                echo_micros / post_micros
            );
            echoes.push(echo);
            posts.push(post);
            ratios.push(post / echo);
            processor.push(echo_micros / post_micros);
        }
        let (low, high) = (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
        let (echo, post, ratio) = (median(echoes), median(posts), median(ratios));
        let processor = median(processor);
        println!(
            "{:>6} {echo:>10.0} {post:>18.0} {ratio:>7.3} {:>12} {:>12} {processor:>9.3}  (ratios {low:.3} to {high:.3})",
            "median", "", ""
        );
        println!(
            "{{\"bench\":\"unary\",\"echo_per_second\":{echo:.0},\"post_per_second\":{post:.0},\"ratio\":{ratio:.3},\"cpu_ratio\":{processor:.3}}}"
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
