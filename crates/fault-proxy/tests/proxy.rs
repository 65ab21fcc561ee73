//! Each fault against a small echo server: what the client hears, and what reached the server.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_fault_proxy::{
    Break, Calls, Delay, DelayLength, Fault, Glob, Heard, Keepalive, Moment, Proxy, Reorder, Rule, Span, Tcp,
    Window,
};
use atm_proto::bench::echo_service_client::EchoServiceClient;
use atm_proto::bench::echo_service_server::{EchoService, EchoServiceServer};
use atm_proto::bench::{EchoRequest, EchoResponse};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::retry::is_retryable;
use atm_rpc::server::{HealthHandle, ServerConfig, base_routes, serve};
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const ECHO: &str = "/atm.bench.v1.EchoService/Echo";
/// Long enough that nothing but a fault makes an answer late.
const LONG: Duration = Duration::from_secs(30);
/// Short enough to wait for in a test that expects silence.
const SHORT: Duration = Duration::from_millis(500);

/// Remembers in which order it heard what.
#[derive(Clone, Default)]
struct Echo {
    heard: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let payload = request.into_inner().payload;
        if payload.starts_with(b"refuse") {
            return Err(Status::failed_precondition("as told"));
        }
        self.heard.lock().unwrap().push(String::from_utf8(payload.clone()).unwrap());
        Ok(Response::new(EchoResponse { payload }))
    }
}

/// An echo server behind a proxy.
struct Scene {
    echo: Echo,
    health: HealthHandle,
    proxy: Proxy,
    url: String,
    server: CancellationToken,
    _stop: DropGuard,
}

impl Scene {
    async fn new(rule: Rule) -> Self {
        Self::with(vec![rule], 1).await
    }

    async fn with(rules: Vec<Rule>, seed: u64) -> Self {
        let echo = Echo::default();
        let (mut routes, health) = base_routes(&["atm.bench.v1.EchoService"], &[]);
        routes.add_service(EchoServiceServer::new(echo.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let (server, stop) = (CancellationToken::new(), CancellationToken::new());
        let config = ServerConfig { drain_delay: Duration::ZERO, ..ServerConfig::default() };
        tokio::spawn(serve(listener, config, routes.routes(), health.clone(), server.clone()));

        let proxy = Proxy::new(&upstream, Arc::new(Tcp), rules, Rng::with_seed(seed)).unwrap();
        let url = start(&proxy, stop.clone()).await;
        Self { echo, health, proxy, url, server, _stop: stop.drop_guard() }
    }

    fn channel(&self) -> Channel {
        lazy_channel(&self.url, &ChannelConfig::default()).unwrap()
    }

    fn client(&self) -> EchoServiceClient<Channel> {
        EchoServiceClient::new(self.channel())
    }

    fn heard(&self) -> Vec<String> {
        self.echo.heard.lock().unwrap().clone()
    }

    fn count(&self, fault: Fault) -> u64 {
        self.proxy.counters().total(fault)
    }
}

/// Has the proxy serve until it is stopped; its URL.
async fn start(proxy: &Proxy, stopped: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = proxy.clone();
    tokio::spawn(async move { serving.serve(listener, stopped).await });
    url
}

async fn say(
    client: &mut EchoServiceClient<Channel>,
    text: &str,
    within: Duration,
) -> Result<String, Status> {
    let mut request = Request::new(EchoRequest { payload: text.into() });
    request.set_timeout(within);
    let answer = tokio::time::timeout(within, client.echo(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("silence"))??;
    Ok(String::from_utf8(answer.into_inner().payload).unwrap())
}

fn is_silence(answer: &Result<String, Status>) -> bool {
    // tonic ends a call at its own deadline as CANCELLED.
    answer.as_ref().is_err_and(|status| matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled))
}

fn millis(millis: u64) -> Span {
    Span(Duration::from_millis(millis))
}

fn certain(moment: Moment) -> Option<Break> {
    Some(Break { probability: 1.0, moment })
}

fn only(n: u64) -> Option<Calls> {
    Some(Calls::only(n))
}

#[tokio::test]
async fn an_upstream_that_has_gone_silent_is_given_up_with_pings_and_waited_for_without() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", silent.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            kept.push(stream);
        }
    });
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    for (keepalive, within) in [
        (None, SHORT),
        (Some(Keepalive { interval: Duration::from_millis(50), timeout: Duration::from_millis(50) }), LONG),
    ] {
        let proxy = Proxy::new(&upstream, Arc::new(Tcp), Vec::new(), Rng::with_seed(1)).unwrap();
        let proxy = keepalive.into_iter().fold(proxy, Proxy::keeping_alive);
        let url = start(&proxy, stop.clone()).await;
        let mut client = EchoServiceClient::new(lazy_channel(&url, &ChannelConfig::default()).unwrap());
        let answer = say(&mut client, "hello", within).await;
        assert_eq!(is_silence(&answer), keepalive.is_none(), "{answer:?}");
    }
}

#[tokio::test]
async fn without_faults_answers_errors_and_large_messages_pass_unchanged() {
    let scene = Scene::with(Vec::new(), 1).await;
    let mut client = scene.client();
    assert_eq!(say(&mut client, "hello", LONG).await.unwrap(), "hello");
    let large = "x".repeat(1 << 20);
    assert_eq!(say(&mut client, &large, LONG).await.unwrap(), large);
    let refused = say(&mut client, "refuse", LONG).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "as told"));
    let counted = scene.proxy.counters().snapshot()[ECHO].clone();
    assert_eq!((counted.calls, counted.forwarded, counted.answered), (3, 3, 3));
    assert!(counted.faults.is_empty());
}

#[tokio::test]
async fn a_stream_of_answers_passes_as_it_comes() {
    let delayed = Delay { probability: 1.0, length: DelayLength::Fixed(millis(1)) };
    // With a fault as well as without one, since the two go different ways.
    for rule in [Rule::default(), Rule { delay_answer: Some(delayed), ..Rule::default() }] {
        let scene = Scene::new(rule).await;
        let mut client = HealthClient::new(scene.channel());
        let service = "atm.bench.v1.EchoService".to_owned();
        let mut watch = client.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap().status;
        scene.health.set_serving(first != 1);
        assert_ne!(watch.message().await.unwrap().unwrap().status, first);
    }
}

#[tokio::test]
async fn a_lost_request_never_reaches_the_server_and_the_client_hears_nothing() {
    let scene = Scene::new(Rule { calls: only(1), ..Rule::lossy(1.0, 0.0) }).await;
    let mut client = scene.client();
    assert!(is_silence(&say(&mut client, "lost", SHORT).await));
    assert_eq!(say(&mut client, "found", LONG).await.unwrap(), "found");
    assert_eq!(scene.heard(), ["found"]);
    assert_eq!((scene.count(Fault::LostRequest), scene.count(Fault::LostAnswer)), (1, 0));
}

#[tokio::test]
async fn a_lost_answer_comes_after_the_effect() {
    let scene = Scene::new(Rule { calls: only(1), ..Rule::lossy(0.0, 1.0) }).await;
    let mut client = scene.client();
    assert!(is_silence(&say(&mut client, "done", SHORT).await));
    assert_eq!(say(&mut client, "again", LONG).await.unwrap(), "again");
    assert_eq!(scene.heard(), ["done", "again"]);
    assert_eq!((scene.count(Fault::LostRequest), scene.count(Fault::LostAnswer)), (0, 1));
}

#[tokio::test]
async fn an_answer_that_never_was_is_not_counted_as_lost_or_late() {
    let late = Delay { probability: 1.0, length: DelayLength::Fixed(millis(1)) };
    for rule in [
        Rule { heard: Heard::Reset, ..Rule::lossy(0.0, 1.0) },
        Rule { delay_answer: Some(late), ..Rule::default() },
    ] {
        let proxy = Proxy::new("http://127.0.0.1:1", Arc::new(Tcp), vec![rule], Rng::with_seed(1)).unwrap();
        let stop = CancellationToken::new();
        let url = start(&proxy, stop.clone()).await;
        let mut client = EchoServiceClient::new(lazy_channel(&url, &ChannelConfig::default()).unwrap());
        say(&mut client, "hello", LONG).await.unwrap_err();
        let counted = proxy.counters().snapshot()[ECHO].clone();
        assert_eq!((counted.forwarded, counted.unreachable), (1, 1));
        assert!(counted.faults.is_empty(), "{counted:?}");
        stop.cancel();
    }
}

#[tokio::test]
async fn a_loss_may_be_heard_as_a_reset_stream_and_the_connection_lives_on() {
    for rule in [Rule::lossy(1.0, 0.0), Rule::lossy(0.0, 1.0)] {
        let asked = rule.lose_answer > 0.0;
        let scene = Scene::new(Rule { heard: Heard::Reset, calls: only(1), ..rule }).await;
        let mut client = scene.client();
        let status = say(&mut client, "one", LONG).await.unwrap_err();
        assert!(is_retryable(&status), "{status:?}");
        assert_eq!(say(&mut client, "two", LONG).await.unwrap(), "two");
        assert_eq!(scene.heard(), if asked { vec!["one", "two"] } else { vec!["two"] });
    }
}

#[tokio::test]
async fn a_duplicate_reaches_the_server_twice_and_is_answered_once() {
    let rule = Rule { duplicate: 1.0, calls: only(1), ..Rule::default() };
    let scene = Scene::new(rule).await;
    let mut client = scene.client();
    assert_eq!(say(&mut client, "twice", LONG).await.unwrap(), "twice");
    assert_eq!(say(&mut client, "once", LONG).await.unwrap(), "once");
    scene.proxy.quiet().await;
    let mut heard = scene.heard();
    heard.sort_unstable();
    assert_eq!(heard, ["once", "twice", "twice"]);
    assert_eq!(scene.count(Fault::Duplicated), 1);
}

#[tokio::test]
async fn a_late_second_copy_arrives_after_the_client_has_its_answer() {
    let later = DelayLength::Fixed(millis(800));
    let rule = Rule { duplicate: 1.0, duplicate_after: Some(later), calls: only(1), ..Rule::default() };
    let scene = Scene::new(rule).await;
    let mut client = scene.client();
    assert_eq!(say(&mut client, "twice", LONG).await.unwrap(), "twice");
    assert_eq!(say(&mut client, "between", LONG).await.unwrap(), "between");
    scene.proxy.quiet().await;
    assert_eq!(scene.heard(), ["twice", "between", "twice"]);
}

#[tokio::test]
async fn a_delayed_request_arrives_although_its_client_has_gone() {
    let delay = Delay { probability: 1.0, length: DelayLength::Fixed(millis(2000)) };
    let scene = Scene::new(Rule { delay_request: Some(delay), calls: only(1), ..Rule::default() }).await;
    let mut client = scene.client();
    assert!(is_silence(&say(&mut client, "late", SHORT).await));
    assert_eq!(say(&mut client, "early", LONG).await.unwrap(), "early");
    assert_eq!(scene.heard(), ["early"]);
    scene.proxy.quiet().await;
    assert_eq!(scene.heard(), ["early", "late"]);
    assert_eq!(scene.count(Fault::DelayedRequest), 1);
}

#[tokio::test]
async fn a_delayed_answer_comes_after_the_effect_and_in_the_end() {
    let delay = Delay { probability: 1.0, length: DelayLength::Exponential(millis(50)) };
    let scene = Scene::new(Rule { delay_answer: Some(delay), ..Rule::default() }).await;
    assert_eq!(say(&mut scene.client(), "slow", LONG).await.unwrap(), "slow");
    assert_eq!(scene.count(Fault::DelayedAnswer), 1);
}

#[tokio::test]
async fn a_call_is_held_back_until_later_ones_were_answered() {
    let reorder = Reorder { probability: 1.0, calls: 2, at_most: Span(LONG) };
    let scene = Scene::new(Rule { reorder: Some(reorder), calls: only(1), ..Rule::default() }).await;
    let mut client = scene.client();
    let mut other = scene.client();
    let first = tokio::spawn(async move { say(&mut other, "first", LONG).await });
    while scene.count(Fault::HeldBack) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for text in ["second", "third"] {
        say(&mut client, text, LONG).await.unwrap();
    }
    assert_eq!(first.await.unwrap().unwrap(), "first");
    assert_eq!(scene.heard(), ["second", "third", "first"]);
}

#[tokio::test]
async fn a_call_that_nobody_overtakes_is_let_go_in_time() {
    let reorder = Reorder { probability: 1.0, calls: 2, at_most: millis(20) };
    let scene = Scene::new(Rule { reorder: Some(reorder), ..Rule::default() }).await;
    assert_eq!(say(&mut scene.client(), "alone", LONG).await.unwrap(), "alone");
}

#[tokio::test]
async fn a_reset_cuts_the_connection_with_all_its_calls_before_or_after_the_effect() {
    for (moment, heard) in
        [(Moment::BeforeEffect, vec!["next"]), (Moment::AfterEffect, vec!["struck", "next"])]
    {
        // The neighbour shares the connection and hears nothing of its own.
        let neighbour = Rule { calls: only(1), ..Rule::lossy(1.0, 0.0) };
        let reset = Rule { calls: only(2), reset: certain(moment), ..Rule::default() };
        let scene = Scene::with(vec![neighbour, reset], 1).await;
        let mut client = scene.client();
        let mut same = client.clone();
        let waiting = tokio::spawn(async move { say(&mut same, "neighbour", LONG).await });
        while scene.count(Fault::LostRequest) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let status = say(&mut client, "struck", LONG).await.unwrap_err();
        assert!(is_retryable(&status), "{status:?}");
        assert!(is_retryable(&waiting.await.unwrap().unwrap_err()));
        assert_eq!(say(&mut client, "next", LONG).await.unwrap(), "next");
        assert_eq!(scene.heard(), heard);
        assert_eq!(scene.count(Fault::Reset), 1);
    }
}

#[tokio::test]
async fn in_a_black_hole_the_connection_stays_and_nothing_comes_out_of_it() {
    for (moment, heard) in
        [(Moment::BeforeEffect, vec!["other way"]), (Moment::AfterEffect, vec!["swallowed", "other way"])]
    {
        let rule = Rule { calls: only(1), blackhole: certain(moment), ..Rule::default() };
        let scene = Scene::new(rule).await;
        let mut client = scene.client();
        assert!(is_silence(&say(&mut client, "swallowed", SHORT).await));
        assert!(is_silence(&say(&mut client, "swallowed too", SHORT).await), "the same connection");
        assert_eq!(say(&mut scene.client(), "other way", LONG).await.unwrap(), "other way");
        assert_eq!(scene.heard(), heard);
        assert_eq!(scene.count(Fault::Blackholed), 1);
    }
}

#[tokio::test]
async fn rules_choose_by_method_and_time_and_can_be_changed_while_it_runs() {
    let other = Rule { method: Glob::new("/atm.ledger.*"), ..Rule::lossy(1.0, 0.0) };
    let later = Window { from: Span(LONG), to: Span(2 * LONG) };
    let not_yet = Rule { during: Some(later), ..Rule::lossy(1.0, 0.0) };
    let scene = Scene::with(vec![other, not_yet], 1).await;
    let mut client = scene.client();
    say(&mut client, "passes", LONG).await.unwrap();
    let all = Rule { heard: Heard::Reset, ..Rule::lossy(1.0, 0.0) };
    scene.proxy.set_rules(vec![all]).unwrap();
    say(&mut client, "lost", LONG).await.unwrap_err();
    assert!(scene.proxy.set_rules(vec![Rule::lossy(2.0, 0.0)]).is_err());
    say(&mut client, "lost", LONG).await.unwrap_err();
    scene.proxy.set_rules(Vec::new()).unwrap();
    say(&mut client, "passes", LONG).await.unwrap();
    assert_eq!(scene.heard(), ["passes", "passes"]);
}

#[tokio::test]
async fn the_same_seed_does_the_same_to_the_same_calls() {
    let run = async |seed| {
        let rule = Rule { duplicate: 0.3, heard: Heard::Reset, ..Rule::lossy(0.3, 0.3) };
        let scene = Scene::with(vec![rule], seed).await;
        let mut client = scene.client();
        let mut arrived = Vec::new();
        for number in 0..60 {
            arrived.push(say(&mut client, &number.to_string(), LONG).await.is_ok());
        }
        scene.proxy.quiet().await;
        (arrived, scene.proxy.counters().snapshot())
    };
    let (first, again, other) = (run(5).await, run(5).await, run(6).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.0.contains(&true) && first.0.contains(&false));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_found_again_when_it_is() {
    let scene = Scene::with(Vec::new(), 1).await;
    let mut client = scene.client();
    say(&mut client, "before", LONG).await.unwrap();
    scene.server.cancel();
    let status = loop {
        if let Err(status) = say(&mut client, "nobody", LONG).await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(scene.proxy.counters().snapshot()[ECHO].unreachable, 1);
    assert!(is_retryable(&say(&mut client, "still nobody", LONG).await.unwrap_err()));
}

#[tokio::test]
async fn nothing_is_left_behind_by_calls_that_waited_in_silence() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for rule in [
        Rule::lossy(1.0, 0.0),
        Rule::lossy(0.0, 1.0),
        Rule { reset: certain(Moment::AfterEffect), ..Rule::default() },
        Rule { blackhole: certain(Moment::AfterEffect), ..Rule::default() },
    ] {
        let scene = Scene::new(rule.clone()).await;
        let before = tasks();
        for _ in 0..20 {
            // Dropped, and its connection with it.
            let mut client = scene.client();
            let _ =
                tokio::time::timeout(Duration::from_millis(20), client.echo(EchoRequest::default())).await;
        }
        let all_gone = async {
            while tasks() > before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, all_gone).await.is_ok(), "{} tasks are left by {rule:?}", tasks());
    }
}

#[tokio::test]
async fn only_http_urls_can_be_stood_in_front_of() {
    for url in ["https://127.0.0.1:1", "127.0.0.1:1", "http://", ""] {
        let refused = Proxy::new(url, Arc::new(Tcp), Vec::new(), Rng::with_seed(1)).err().unwrap();
        assert!(refused.to_string().contains("http://"), "{refused}");
    }
}
