//! Leaving in good order: health first, then streams, then calls in flight, and never for ever.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod support;

use std::sync::atomic::Ordering;

use atm_rpc::server::{ServerConfig, check_health, shutdown_on_signals};
use support::{NEVER, SOON, TestServer, say, until};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn whole_server() -> HealthCheckRequest {
    HealthCheckRequest::default()
}

#[tokio::test]
async fn not_serving_is_said_before_calls_are_refused() {
    let server = TestServer::start(ServerConfig { drain_delay: NEVER, ..ServerConfig::default() }).await;
    let mut client = server.client();
    server.shutdown.cancel();
    let mut health = HealthClient::new(server.channel());
    for service in ["", "atm.bench.v1.EchoService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        while health.check(request.clone()).await.unwrap().get_ref().status() != ServingStatus::NotServing {
            tokio::time::sleep(SOON).await;
        }
    }
    client.echo(say("during the delay")).await.unwrap();
    server.serving.abort();
}

#[tokio::test]
async fn a_call_in_flight_is_finished_and_nobody_new_gets_in() {
    let config = ServerConfig { drain_delay: SOON, drain_timeout: NEVER, ..ServerConfig::default() };
    let server = TestServer::start(config).await;
    let mut client = server.client();
    let call = tokio::spawn(async move { client.echo(say("hang")).await });
    until(|| server.echo.inside.load(Ordering::SeqCst) == 1).await;
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(SOON).await;
    }
    assert!(!server.serving.is_finished());
    server.echo.release.cancel();
    assert_eq!(call.await.unwrap().unwrap().get_ref().payload, say("hang").payload);
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_health_watch_does_not_hold_up_the_shutdown() {
    let config = ServerConfig { drain_delay: SOON, drain_timeout: NEVER, ..ServerConfig::default() };
    let server = TestServer::start(config).await;
    let mut watch = HealthClient::new(server.channel()).watch(whole_server()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    // The drain timeout is an hour: only the end of the stream can have ended the server.
    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_at_the_drain_timeout() {
    let config = ServerConfig {
        default_deadline: NEVER,
        drain_delay: SOON,
        drain_timeout: SOON,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config).await;
    let mut client = server.client();
    let call = tokio::spawn(async move { client.echo(say("hang")).await });
    until(|| server.echo.inside.load(Ordering::SeqCst) == 1).await;
    server.shutdown.cancel();
    server.serving.await.unwrap().unwrap();
    assert!(call.await.unwrap().is_err());
    until(|| server.echo.inside.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_peer_in_the_middle_of_its_handshake_does_not_hold_up_the_shutdown() {
    let config = ServerConfig {
        handshake_timeout: NEVER,
        drain_delay: SOON,
        drain_timeout: NEVER,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    assert!(check_health(&server.url()).await, "the silent one was accepted before this one");
    server.stop().await;
}

#[tokio::test]
async fn sigterm_and_sigint_both_end_it() {
    for name in ["TERM", "INT"] {
        let shutdown = shutdown_on_signals();
        let pid = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
        shutdown.cancelled().await;
    }
}
