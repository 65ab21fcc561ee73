//! A network between the tellers and the ledger that loses requests, loses answers, repeats and delays,
//! as dice decide whose seed is known.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use atm_proto::ledger::PostTransactionResponse;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::server::{self, ServerConfig};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

/// How often each fault happens, in percent of all calls.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub lose_request: u8,
    pub lose_answer: u8,
    pub repeat: u8,
    pub delay: u8,
}

/// How often each fault happened.
#[derive(Debug, Default)]
pub struct Counts {
    pub calls: AtomicU64,
    pub lost_requests: AtomicU64,
    pub lost_answers: AtomicU64,
    pub repeated: AtomicU64,
    pub delayed: AtomicU64,
    /// Pairs of answers to the same bytes that were not the same outcome.
    pub contradictions: AtomicU64,
}

/// The proxy, listening.
pub struct Proxy {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    repeats: TaskTracker,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug)]
struct Fate {
    lose_request: bool,
    lose_answer: bool,
    /// A second copy is sent so much later than the first.
    repeat: Option<Duration>,
    delay: Duration,
    /// A loss is heard of at once, as a broken connection, or never.
    silent: bool,
}

impl Proxy {
    /// Puts itself in front of the ledger at `url`.
    pub async fn start(url: &str, rates: Rates, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let repeats = TaskTracker::new();
        let network = Network {
            ledger: lazy_channel(url, &ChannelConfig::default()).unwrap(),
            dice: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            rates,
            counts: Arc::clone(&counts),
            repeats: repeats.clone(),
        };
        // Not tonic's own server, which answers CANCELLED, a final status, where a network would be silent.
        let (mut routes, health) = server::base_routes(&[], &[]);
        routes.add_service(network);
        let forever = CancellationToken::new();
        tokio::spawn(server::serve(listener, ServerConfig::default(), routes.routes(), health, forever));
        Self { address, counts, repeats }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the copies that are still under way.
    pub async fn quiet(&self) {
        self.repeats.close();
        self.repeats.wait().await;
    }
}

#[derive(Clone)]
struct Network {
    ledger: Channel,
    dice: Arc<Mutex<fastrand::Rng>>,
    rates: Rates,
    counts: Arc<Counts>,
    repeats: TaskTracker,
}

impl tonic::server::NamedService for Network {
    const NAME: &'static str = "atm.ledger.v1.LedgerService";
}

impl Service<Request<Body>> for Network {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let network = self.clone();
        Box::pin(async move { Ok(network.carry(request).await) })
    }
}

/// An answer, read to its end.
#[derive(Clone)]
struct Answer {
    parts: http::response::Parts,
    body: Bytes,
    trailers: HeaderMap,
}

impl Network {
    async fn carry(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return broken() };
        let call = || Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
        let fate = self.roll();
        tokio::time::sleep(fate.delay).await;
        if fate.lose_request {
            return lost(fate).await;
        }
        // The call lives on when whoever made it has gone away: that is what networks do.
        let first = tokio::spawn(self.clone().forward(call()));
        if let Some(later) = fate.repeat {
            let (network, again) = (self.clone(), call());
            let cancels = parts.uri.path().ends_with("/CancelTransaction");
            let (sender, first_answer) = tokio::sync::oneshot::channel();
            self.repeats.spawn(async move {
                tokio::time::sleep(later).await;
                let second = network.clone().forward(again).await;
                if let (Ok(Some(first)), Some(second)) = (first_answer.await, second) {
                    network.compare(&first, &second, cancels);
                }
            });
            let answer = first.await.ok().flatten();
            let _ = sender.send(answer.clone());
            return if fate.lose_answer { lost(fate).await } else { deliver(answer) };
        }
        let answer = first.await.ok().flatten();
        if fate.lose_answer { lost(fate).await } else { deliver(answer) }
    }

    async fn forward(self, request: Request<Body>) -> Option<Answer> {
        let response = self.ledger.oneshot(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.ok()?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Some(Answer { parts, body: collected.to_bytes(), trailers })
    }

    fn roll(&self) -> Fate {
        let mut dice = self.dice.lock().unwrap();
        let mut happens = |percent: u8, count: &AtomicU64| {
            let happens = dice.u8(0..100) < percent;
            count.fetch_add(u64::from(happens), Ordering::Relaxed);
            happens
        };
        let (rates, counts) = (self.rates, &self.counts);
        counts.calls.fetch_add(1, Ordering::Relaxed);
        let lose_request = happens(rates.lose_request, &counts.lost_requests);
        let lose_answer = !lose_request && happens(rates.lose_answer, &counts.lost_answers);
        let repeat = !lose_request && happens(rates.repeat, &counts.repeated);
        let delay = happens(rates.delay, &counts.delayed);
        let mut millis = |wanted: bool| Duration::from_millis(if wanted { dice.u64(0..60) } else { 0 });
        let (later, delay) = (millis(repeat), millis(delay));
        Fate { lose_request, lose_answer, repeat: repeat.then_some(later), delay, silent: dice.bool() }
    }

    /// Two answers to the same bytes: the outcome in them must be the same.
    fn compare(&self, first: &Answer, second: &Answer, cancels: bool) {
        let read = |answer: &Answer| PostTransactionResponse::decode(answer.body.get(5..)?).ok();
        let (Some(first), Some(second)) = (read(first), read(second)) else { return };
        // A cancel tells of the last step, and another may have followed.
        let step =
            |answer: &PostTransactionResponse| answer.outcome.as_ref().map(|told| told.commit_sequence);
        let moved_on = cancels && step(&first) != step(&second);
        if first.outcome != second.outcome && !moved_on {
            self.counts.contradictions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn deliver(answer: Option<Answer>) -> Response<Body> {
    let Some(Answer { parts, body, trailers }) = answer else { return broken() };
    let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
    Response::from_parts(parts, Body::new(body))
}

async fn lost(fate: Fate) -> Response<Body> {
    if fate.silent {
        std::future::pending::<()>().await;
    }
    broken()
}

fn broken() -> Response<Body> {
    Status::unavailable("the network broke").into_http()
}
