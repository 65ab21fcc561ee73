//! The retry loop against real servers that are absent, die, or come late.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod support;

use std::time::Duration;

use atm_proto::bench::EchoResponse;
use atm_proto::bench::echo_service_client::EchoServiceClient;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, retry};
use atm_rpc::server::{ServerConfig, bind, serve};
use atm_rpc::throttle::Throttle;
use support::{TestServer, routes, say};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

const POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(5),
    max_backoff: Duration::from_millis(20),
    multiplier: 2.0,
    attempt_timeout: Duration::from_secs(5),
    max_attempts: Some(3),
};

async fn echo(channel: Channel, policy: &RetryPolicy) -> Result<EchoResponse, RetryError> {
    let deadline = Deadline::after(Duration::from_secs(60));
    let client = EchoServiceClient::new(channel);
    retry(policy, &Throttle::default(), deadline, say("hello"), |request| {
        let mut client = client.clone();
        async move { client.echo(request).await }
    })
    .await
}

fn channel_to(listener: &TcpListener) -> Channel {
    let url = format!("http://{}", listener.local_addr().unwrap());
    lazy_channel(&url, &ChannelConfig::default()).unwrap()
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let listener = bind(([127, 0, 0, 1], 0).into(), false).await.unwrap();
    let channel = channel_to(&listener);
    drop(listener);
    let error = echo(channel, &POLICY).await.unwrap_err();
    assert_eq!((error.status.code(), error.attempts), (Code::Unavailable, 3));
    assert!(!error.maybe_sent);
}

#[tokio::test]
async fn a_server_that_reads_and_dies_may_have_been_sent_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel_to(&listener);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let error = echo(channel, &POLICY).await.unwrap_err();
    assert_eq!(error.attempts, 3, "a broken connection is retried: {error:?}");
    assert!(error.maybe_sent);
    server.abort();
}

#[tokio::test]
async fn a_server_cut_off_in_the_middle_of_a_call_is_retried_as_maybe_sent() {
    let config = ServerConfig {
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config).await;
    let client = EchoServiceClient::new(server.channel());
    let once = RetryPolicy { max_attempts: Some(2), ..POLICY };
    let deadline = Deadline::after(Duration::from_secs(60));
    let call = tokio::spawn(async move {
        retry(&once, &Throttle::default(), deadline, say("hang"), |request| {
            let mut client = client.clone();
            async move { client.echo(request).await }
        })
        .await
    });
    support::until(|| server.echo.inside.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    server.stop().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.attempts, 2, "the second attempt found nobody: {error:?}");
    assert!(error.maybe_sent, "what the first attempt did is not known");
}

#[tokio::test]
async fn a_server_that_comes_late_is_found_by_the_next_attempt() {
    let reserved = bind(([127, 0, 0, 1], 0).into(), false).await.unwrap();
    let address = reserved.local_addr().unwrap();
    let channel = channel_to(&reserved);
    drop(reserved);
    let patient = RetryPolicy { max_attempts: None, ..POLICY };
    let throttle =
        Throttle::new(atm_rpc::throttle::ThrottleConfig { max_tokens: 1000, ..Default::default() });
    let client = EchoServiceClient::new(channel);
    let mut attempts = 0;
    let shutdown = CancellationToken::new();
    let deadline = Deadline::after(Duration::from_secs(60));
    retry(&patient, &throttle, deadline, say("hello"), |request| {
        attempts += 1;
        let (mut client, shutdown) = (client.clone(), shutdown.clone());
        async move {
            if attempts == 3 {
                let listener = bind(address, false).await.unwrap();
                let (mut routes, health) = routes();
                let echo = support::Echo::default();
                routes.add_service(atm_proto::bench::echo_service_server::EchoServiceServer::new(echo));
                tokio::spawn(serve(listener, ServerConfig::default(), routes.routes(), health, shutdown));
            }
            client.echo(request).await
        }
    })
    .await
    .unwrap();
    assert!(attempts >= 3, "{attempts}");
    shutdown.cancel();
}
