//! Runs a scenario: for each point of its sweep a proxy, a customer, many transactions, and the books afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use atm_fault_proxy::{Fault, Heard, Proxy, Tcp};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_types::{IdSource, SystemIds};
use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bank::Bank;
use crate::books;
use crate::client::{Client, Sample};
use crate::row::Row;
use crate::scenario::{Call, Kill, Scenario, Series, millis};
use crate::stats::{Mean, quantile};

/// What an error says of books that are not right.
pub const WRONG_BOOKS: &str = "NOT exactly once";

/// What all points of a run share.
pub struct Run {
    /// The bank.
    pub bank: Bank,
    /// What everything that is drawn follows from.
    pub seed: u64,
    /// The commit that runs.
    pub commit: String,
    /// Told of each transaction that has ended.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
}

/// Runs all points of a scenario: at each loss rate all its series at once, each with a proxy and a customer of its
/// own.
///
/// # Errors
/// When anything goes wrong that was not done on purpose; above all when the books are not right.
pub async fn run(run: &Run, scenario: &Scenario) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (place, loss) in scenario.losses.iter().enumerate() {
        let mut points = Vec::new();
        for (which, series) in scenario.series.iter().enumerate() {
            let point = u32::try_from(place * 100 + which)?;
            points.push(Point::prepare(run, scenario, series, *loss, point).await?);
        }
        let stop = CancellationToken::new();
        let killing = kill_now_and_then(run, scenario.kill, stop.clone());
        let measuring = async {
            let measured = try_join_all(points.iter_mut().map(|point| point.transactions(run))).await;
            stop.cancel();
            measured
        };
        let (kills, measured) = tokio::join!(killing, measuring);
        let kills = kills?;
        for (mut point, ended) in points.into_iter().zip(measured?) {
            let settled = point.settle(run, &ended).await.with_context(|| point.name())?;
            rows.push(Row { kills, ..point.row(run, &ended, &settled) });
        }
    }
    // One curve after the other.
    let place = |row: &Row| scenario.series.iter().position(|series| series.name == row.series);
    rows.sort_by_key(place);
    Ok(rows)
}

async fn kill_now_and_then(run: &Run, kill: Option<Kill>, stop: CancellationToken) -> anyhow::Result<u32> {
    let Some(kill) = kill else { return Ok(0) };
    let mut kills = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(kills),
            () = sleep(kill.every.0) => {
                run.bank.kill(kill.service).await?;
                kills += 1;
            }
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(mut sum: u64) -> u64 {
    sum = (sum ^ (sum >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    sum = (sum ^ (sum >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    sum ^ (sum >> 31)
}

/// What the unknown ones turned out to be, and whether the books were looked at.
struct Settled {
    unknown_applied: u32,
    unknown_never: u32,
    books: &'static str,
}

/// One transaction as it ended, before what is unknown was settled.
struct Ended {
    id: String,
    sample: Sample,
}

/// One point of the sweep on one curve: a proxy and a customer of its own.
struct Point<'a> {
    scenario: &'a Scenario,
    series: &'a Series,
    loss: f64,
    dice: Rng,
    proxy: Proxy,
    client: Client,
    _stop: DropGuard,
}

impl<'a> Point<'a> {
    async fn prepare(
        run: &Run,
        scenario: &'a Scenario,
        series: &'a Series,
        loss: f64,
        number: u32,
    ) -> anyhow::Result<Self> {
        // Every point of every scenario has a sequence of its own, whatever else is run.
        let place = format!("{} {number}", scenario.name);
        let mut dice = Rng::with_seed(place.bytes().fold(run.seed, |sum, byte| mixed(sum ^ u64::from(byte))));
        let rules = vec![scenario.rule(series, loss)];
        let proxy = Proxy::new(run.bank.gateway_url(), Arc::new(Tcp), rules, dice.fork())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let (serving, stopped) = (proxy.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopped).await });
        let client = Client {
            channel: lazy_channel(&url, &ChannelConfig::default())?,
            policy: scenario.policy(),
            deadline: scenario.deadline.map(|span| scenario.scaled(span)),
            customer: run.bank.customer(number).await?,
            call: scenario.call,
        };
        Ok(Self { scenario, series, loss, dice, proxy, client, _stop: stop.drop_guard() })
    }

    fn name(&self) -> String {
        format!("{}, {}, loss {}", self.scenario.name, self.series.name, self.loss)
    }

    /// Runs all transactions, so many at once and so many in a second at most.
    async fn transactions(&mut self, run: &Run) -> anyhow::Result<Vec<Ended>> {
        let scenario = self.scenario;
        let places = Arc::new(Semaphore::new(scenario.concurrency));
        let mut pace = interval(Duration::from_secs(1) / scenario.per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        let mut ended = Vec::new();
        let mut keep = |done: Result<anyhow::Result<Ended>, JoinError>| -> anyhow::Result<()> {
            ended.push(done??);
            (run.progress)(1);
            Ok(())
        };
        for _ in 0..scenario.transactions_at(self.series, self.loss) {
            pace.tick().await;
            let place = loop {
                tokio::select! {
                    biased;
                    Some(done) = under_way.next(), if !under_way.is_empty() => keep(done)?,
                    place = Arc::clone(&places).acquire_owned() => break place?,
                }
            };
            let (client, id, seed) =
                (self.client.clone(), SystemIds.transaction_id().to_string(), self.dice.u64(..));
            under_way.push(tokio::spawn(async move {
                let sample = client.run(&id, seed).await;
                drop(place);
                Ok(Ended { sample: sample.with_context(|| id.clone())?, id })
            }));
        }
        while let Some(done) = under_way.next().await {
            keep(done)?;
        }
        Ok(ended)
    }

    /// Fences off what is unknown, and then checks the books against what the client knows.
    async fn settle(&mut self, run: &Run, ended: &[Ended]) -> anyhow::Result<Settled> {
        // Requests that are under way may still be applied; then nothing gets lost any more.
        self.proxy.quiet().await;
        if self.client.call == Call::Lowercase {
            ensure!(ended.iter().all(|it| it.sample.known), "a text without an answer");
            return Ok(Settled { unknown_applied: 0, unknown_never: 0, books: "none" });
        }
        let customer = &self.client.customer;
        let mut applied = BTreeSet::new();
        let mut settled = Settled { unknown_applied: 0, unknown_never: 0, books: "ok" };
        for Ended { id, sample } in ended {
            if sample.known {
                applied.insert(id.clone());
            } else if run.bank.settle(customer, id).await? {
                applied.insert(id.clone());
                settled.unknown_applied += 1;
            } else {
                settled.unknown_never += 1;
            }
        }
        let mut books = run.bank.books()?;
        books::check_customer(&mut books, customer, &applied).await.context(WRONG_BOOKS)?;
        books::check_ledger(&mut books).await.context(WRONG_BOOKS)?;
        Ok(settled)
    }

    fn row(&mut self, run: &Run, ended: &[Ended], settled: &Settled) -> Row {
        let (scenario, series, dice) = (self.scenario, self.series, &mut self.dice);
        let samples = || ended.iter().map(|it| &it.sample);
        let attempts: Vec<f64> = samples().map(|it| f64::from(it.attempts)).collect();
        let times: Vec<f64> = samples().filter(|it| it.known).map(|it| millis(it.elapsed)).collect();
        let services: Vec<f64> = samples().filter(|it| it.known).map(|it| millis(it.service)).collect();
        let failed: (Duration, u32) =
            samples().fold((Duration::ZERO, 0), |sum, it| (sum.0 + it.failures.0, sum.1 + it.failures.1));
        let (attempts, time) = (Mean::of(&attempts, dice), Mean::of(&times, dice));
        let resend = scenario.resend();
        let known = ended.iter().filter(|it| it.sample.known).count();
        Row {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            series: series.name.clone(),
            call: match scenario.call {
                Call::Withdraw => "withdraw".to_owned(),
                Call::Lowercase => "lowercase".to_owned(),
            },
            time_scale: scenario.time_scale,
            loss: self.loss,
            lose_request: series.lose_request.at(self.loss),
            lose_answer: series.lose_answer.at(self.loss),
            heard: match scenario.heard {
                Heard::Never => "never".to_owned(),
                Heard::Reset => "reset".to_owned(),
            },
            attempt_timeout_ms: resend.attempt_timeout_ms,
            initial_backoff_ms: resend.initial_backoff_ms,
            max_backoff_ms: resend.max_backoff_ms,
            multiplier: resend.multiplier,
            deadline_ms: scenario.deadline.map(|span| millis(scenario.scaled(span))),
            seed: run.seed,
            commit: run.commit.clone(),
            n: u32::try_from(ended.len()).unwrap_or(u32::MAX),
            requests_lost: self.proxy.counters().total(Fault::LostRequest),
            answers_lost: self.proxy.counters().total(Fault::LostAnswer),
            kills: 0,
            attempts: attempts.mean,
            attempts_low: attempts.low,
            attempts_high: attempts.high,
            time_ms: time.mean,
            time_low_ms: time.low,
            time_high_ms: time.high,
            time_median_ms: quantile(&times, 50, 100),
            time_p95_ms: quantile(&times, 95, 100),
            service_ms: Mean::of(&services, dice).mean,
            failure_ms: millis(failed.0.checked_div(failed.1).unwrap_or_default()),
            known: u32::try_from(known).unwrap_or(u32::MAX),
            unknown_applied: settled.unknown_applied,
            unknown_never: settled.unknown_never,
            books: settled.books.to_owned(),
            explained: scenario.explained.clone().unwrap_or_default(),
        }
    }
}
