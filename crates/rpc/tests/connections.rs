//! What connections may and may not do: strangers, sleepers, crowds and floods, over raw sockets.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atm_rpc::server::ServerConfig;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use support::{NEVER, SOON, TestServer, say, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame (RFC 9113 §6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A server on which only the one limit under test is short.
fn patient() -> ServerConfig {
    ServerConfig {
        handshake_timeout: NEVER,
        first_call_timeout: NEVER,
        idle_timeout: NEVER,
        keepalive_interval: NEVER,
        drain_timeout: SOON,
        ..ServerConfig::default()
    }
}

/// Sends bytes and reads until the server closes the connection; what it said.
async fn send_and_wait_for_the_end(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    said
}

/// A raw HTTP/2 client; the task ends with the connection.
async fn http2(address: SocketAddr) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn echo_request(timeout: &str) -> Request<()> {
    Request::post("http://test/atm.bench.v1.EchoService/Echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .unwrap()
}

#[tokio::test]
async fn garbage_is_closed_at_once_and_others_are_served() {
    let server = TestServer::start(patient()).await;
    let long = [b'A'; 100_000];
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: bank\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0",
        b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n",
        &long,
    ] {
        send_and_wait_for_the_end(server.address, garbage).await;
    }
    let after_the_preface = [PREFACE, &[0xff; 64]].concat();
    send_and_wait_for_the_end(server.address, &after_the_preface).await;
    server.client().echo(say("still here")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_never_introduces_itself_is_closed() {
    let server = TestServer::start(ServerConfig { handshake_timeout: SOON, ..patient() }).await;
    send_and_wait_for_the_end(server.address, b"").await;
    send_and_wait_for_the_end(server.address, &PREFACE[..10]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_never_calls_is_closed() {
    let server = TestServer::start(ServerConfig { first_call_timeout: SOON, ..patient() }).await;
    send_and_wait_for_the_end(server.address, PREFACE).await;
    send_and_wait_for_the_end(server.address, &[PREFACE, SETTINGS].concat()).await;
    // Headers that never end: a HEADERS frame without END_HEADERS.
    let unfinished = [PREFACE, SETTINGS, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat();
    send_and_wait_for_the_end(server.address, &unfinished).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_pings_is_closed() {
    let config = ServerConfig { keepalive_interval: SOON, keepalive_timeout: SOON, ..patient() };
    let server = TestServer::start(config).await;
    send_and_wait_for_the_end(server.address, &[PREFACE, SETTINGS].concat()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays_until_it_is_idle_for_long() {
    let config =
        ServerConfig { keepalive_interval: SOON, first_call_timeout: SOON, idle_timeout: SOON, ..patient() };
    let server = TestServer::start(config).await;
    let (mut requests, connection) = http2(server.address).await;
    let (response, _body) = requests.send_request(echo_request("1S"), false).unwrap();
    // The call is in flight for twenty times the idle timeout, and is answered all the same.
    assert_eq!(response.await.unwrap().headers()["grpc-status"], "4");
    connection.await.unwrap().unwrap();
    assert!(requests.ready().await.is_err(), "the idle connection was closed by GOAWAY");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_never_reads_its_answer_is_closed() {
    let config = ServerConfig { first_call_timeout: SOON, idle_timeout: SOON, ..patient() };
    let server = TestServer::start(config).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    // With a window of no bytes the server may never send the body of its answer.
    let (requests, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let (_response, mut body) = requests.send_request(echo_request("1S"), false).unwrap();
    body.send_data(Bytes::from_static(b"\0\0\0\0\x04\x0a\x02hi"), true).unwrap();
    let _ = connection.await.unwrap();
    assert_eq!(server.echo.begun.load(Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_with_an_open_stream_is_not_idle() {
    let config = ServerConfig { first_call_timeout: SOON, idle_timeout: SOON, ..patient() };
    let server = TestServer::start(config).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(server.channel());
    let mut watch = client.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    for serving in [false, true, false] {
        tokio::time::sleep(SOON * 4).await;
        server.health.set_serving(serving);
        assert!(watch.message().await.unwrap().is_some(), "the stream goes on");
    }
    server.stop().await;
}

/// The echo's request "hang", with its length prefix.
const HANG: Bytes = Bytes::from_static(b"\0\0\0\0\x06\x0a\x04hang");

#[tokio::test]
async fn a_deadline_is_answered_by_the_server_as_deadline_exceeded_and_ends_the_handler() {
    let server = TestServer::start(patient()).await;
    let (requests, _connection) = http2(server.address).await;
    let mut requests = requests.ready().await.unwrap();
    // tonic's client has a timer of its own for this header; a raw one hears the server's word.
    let (response, mut body) = requests.send_request(echo_request("500m"), false).unwrap();
    body.send_data(HANG, true).unwrap();
    until(|| server.echo.begun.load(Ordering::SeqCst) == 1).await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    until(|| server.echo.inside.load(Ordering::SeqCst) == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_never_comes_is_bounded_by_the_deadline() {
    let config = ServerConfig { default_deadline: Duration::from_millis(100), ..patient() };
    let server = TestServer::start(config).await;
    let (requests, _connection) = http2(server.address).await;
    let mut requests = requests.ready().await.unwrap();
    let mut without_timeout = echo_request("1S");
    without_timeout.headers_mut().remove("grpc-timeout");
    for request in [echo_request("50m"), without_timeout] {
        let (response, mut body) = requests.send_request(request, false).unwrap();
        // The length prefix of a message of four bytes, and the first of them.
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 4, b'x']), false).unwrap();
        assert_eq!(response.await.unwrap().headers()["grpc-status"], "4");
    }
    assert_eq!(server.echo.begun.load(Ordering::SeqCst), 0);
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_until_one_has_gone() {
    let server = TestServer::start(ServerConfig { max_connections: 2, ..patient() }).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let mut second = server.client();
    second.echo(say("in")).await.unwrap();

    send_and_wait_for_the_end(server.address, PREFACE).await;
    second.echo(say("those inside are not disturbed")).await.unwrap();

    drop(first);
    // Until the server has noticed, newcomers are still closed.
    while server.client().echo(say("now there is room")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_is_told_how_many_streams_it_may_open() {
    let server = TestServer::start(patient()).await;
    let (requests, _connection) = http2(server.address).await;
    let requests = requests.ready().await.unwrap();
    until(|| requests.current_max_send_streams() == 256).await;
    server.stop().await;
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST http://t/` in HPACK, from the static table.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b't'];

/// Opens stream after stream and resets each, `burst` at a time, until the server has enough.
async fn reset_until_closed(address: SocketAddr, burst: usize) {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    writer.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut streams = (1..).step_by(2);
    while !reading.is_finished() {
        let mut bytes = Vec::new();
        for stream in streams.by_ref().take(burst) {
            bytes.extend(frame(1, 4, stream, POST));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_own_connection_only() {
    let server = TestServer::start(patient()).await;
    let mut bystander = server.client();
    bystander.echo(say("before")).await.unwrap();
    reset_until_closed(server.address, 100).await;
    bystander.echo(say("after")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_patient_flood_of_abandoned_calls_ends_its_own_connection_too() {
    let server = TestServer::start(patient()).await;
    let mut bystander = server.client();
    bystander.echo(say("before")).await.unwrap();
    let (mut requests, connection) = http2(server.address).await;
    let mut abandoned = 0;
    while let Ok(ready) = requests.ready().await {
        requests = ready;
        let Ok((_response, mut body)) = requests.send_request(echo_request("1M"), false) else { break };
        // A call that hangs in the handler, so that it is the reset that ends it.
        body.send_data(HANG, true).unwrap();
        abandoned += 1;
        let begun = &server.echo.begun;
        until(|| begun.load(Ordering::SeqCst) > abandoned || connection.is_finished()).await;
        body.send_reset(h2::Reason::CANCEL);
    }
    assert!((1000..1100).contains(&abandoned), "{abandoned}");
    bystander.echo(say("after")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn headers_continued_for_ever_end_their_connection() {
    let server = TestServer::start(patient()).await;
    let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    writer.write_all(&[PREFACE, SETTINGS, &frame(1, 0, 1, POST)].concat()).await.unwrap();
    // A literal field that is not indexed: its name is `x`, its value 1000 times `x`.
    let field = [&[0, 1, b'x', 0x7f, 0xe9, 0x06][..], &[b'x'; 1000]].concat();
    while !reading.is_finished() && writer.write_all(&frame(9, 0, 1, &field)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.client().echo(say("still here")).await.unwrap();
    server.stop().await;
}
