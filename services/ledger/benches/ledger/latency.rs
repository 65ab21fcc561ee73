//! Alone: how long one client waits for one durable posting, against an echo and against the disk's own fsync.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::bank::{Bank, median, payload};

const ROUNDS: usize = 7;
const CALLS: u64 = 1_000;

/// Prints the section.
pub(crate) fn print(runtime: &tokio::runtime::Runtime) {
    println!(
        "latency: one client, one call at a time, in microseconds; echo, PostTransaction and fsync take turns"
    );
    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>18}",
        "round", "echo p50", "post p50", "post p99", "post max", "fsync p50", "(post-echo)/fsync"
    );
    let directory = tempfile::tempdir().expect("a directory for the books");
    runtime.block_on(async {
        let bank = Bank::open(directory.path()).await;
        let mut client = bank.client();
        let payload = payload();
        for turn in 0..200 {
            client.echo(&payload).await;
            client.post(turn).await;
        }
        let (mut echoes, mut posts, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let (mut echo, mut post) = (histogram(), histogram());
            for _ in 0..CALLS {
                let start = Instant::now();
                client.echo(&payload).await;
                record(&mut echo, start);
            }
            for turn in 0..CALLS {
                let start = Instant::now();
                client.post(turn).await;
                record(&mut post, start);
            }
            let sync = fsyncs(directory.path());
            let micros = |histogram: &Histogram<u64>, quantile| {
                f64::from(u32::try_from(histogram.value_at_quantile(quantile)).unwrap_or(u32::MAX)) / 1e3
            };
            let (e, p, s) = (micros(&echo, 0.5), micros(&post, 0.5), micros(&sync, 0.5));
            println!(
                "{round:>6} {e:>10.1} {p:>10.1} {:>10.1} {:>10.1} {s:>10.1} {:>18.2}",
                micros(&post, 0.99),
                micros(&post, 1.0),
                (p - e) / s
            );
            echoes.push(e);
            posts.push(p);
            syncs.push(s);
        }
        let (e, p, s) = (median(echoes), median(posts), median(syncs));
        println!("{:>6} {e:>10.1} {p:>10.1} {:>10} {:>10} {s:>10.1} {:>18.2}", "median", "", "", (p - e) / s);
        println!(
            "{{\"bench\":\"latency\",\"echo_p50_us\":{e:.1},\"post_p50_us\":{p:.1},\"fsync_p50_us\":{s:.1},\"fsyncs\":{:.2}}}",
            (p - e) / s
        );
        bank.close().await;
    });
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds make sense")
}

fn record(histogram: &mut Histogram<u64>, start: Instant) {
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    histogram.saturating_record(nanos.max(1_000));
}

/// What the disk takes for a page that is written again and synced, as a write-ahead log does.
fn fsyncs(directory: &Path) -> Histogram<u64> {
    let mut histogram = histogram();
    let mut file = File::create(directory.join("fsync")).expect("a file to sync");
    file.write_all(&[0; 1 << 16]).expect("room for it");
    file.sync_all().expect("a disk that syncs");
    for turn in 0..CALLS {
        let start = Instant::now();
        file.seek(SeekFrom::Start(turn % 15 * 4096)).expect("a place in the file");
        file.write_all(&[1; 4096]).expect("room for it");
        file.sync_data().expect("a disk that syncs");
        record(&mut histogram, start);
    }
    histogram
}
