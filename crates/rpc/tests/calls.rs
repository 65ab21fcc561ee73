//! What a caller sees of the layers, over real connections.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use atm_proto::bench::echo_service_server::EchoServiceServer;
use atm_rpc::admission::{self, AdmissionConfig, Priority};
use atm_rpc::credentials::{AttachToken, BearerToken, RequireToken};
use atm_rpc::server::{ServerConfig, bind, check_health};
use atm_rpc::status;
use support::{Echo, NEVER, TestServer, routes, say, until};
use tonic::{Code, Request};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

#[tokio::test]
async fn a_call_gets_its_answer_and_health_says_serving() {
    let server = TestServer::start(ServerConfig::default()).await;
    let answer = server.client().echo(say("hello")).await.unwrap();
    assert_eq!(answer.get_ref().payload, say("hello").payload);
    assert!(check_health(&server.url()).await);
    server.health.set_serving(false);
    assert!(!check_health(&server.url()).await);
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_healthy_where_nobody_listens() {
    assert!(!check_health("http://127.0.0.1:1").await);
    assert!(!check_health("no url").await);
}

#[tokio::test]
async fn a_caller_without_a_deadline_gets_one() {
    let config = ServerConfig { default_deadline: Duration::from_millis(100), ..ServerConfig::default() };
    let server = TestServer::start(config).await;
    let status = server.client().echo(say("hang")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    server.stop().await;
}

#[tokio::test]
async fn a_panic_costs_its_own_call_and_no_other_on_the_same_connection() {
    let server = TestServer::start(ServerConfig::default()).await;
    let client = server.client();
    let (mut first, mut second) = (client.clone(), client);
    let waiting = tokio::spawn(async move { second.echo(say("hang")).await });
    until(|| server.echo.inside.load(Ordering::SeqCst) == 1).await;

    let status = first.echo(say("panic")).await.unwrap_err();
    assert_eq!((status.code(), status::reason(&status).as_deref()), (Code::Internal, Some("INTERNAL")));
    assert!(!status.message().contains("as told"), "{}", status.message());

    server.echo.release.cancel();
    waiting.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_never_reaches_the_handler() {
    let server = TestServer::start(ServerConfig::default()).await;
    let mut client = server.client();
    let status = client.echo(say(&"x".repeat(64 * 1024 + 1))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(server.echo.begun.load(Ordering::SeqCst), 0);
    client.echo(say("small")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn headers_over_sixteen_kibibytes_are_refused_and_the_connection_lives_on() {
    let server = TestServer::start(ServerConfig::default()).await;
    let mut client = server.client();
    let mut request = Request::new(say("hello"));
    request.metadata_mut().insert("filler", "x".repeat(20 * 1024).parse().unwrap());
    client.echo(request).await.unwrap_err();
    assert_eq!(server.echo.begun.load(Ordering::SeqCst), 0);
    client.echo(say("small")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_crowd_is_refused_with_the_time_to_come_back_while_health_still_answers() {
    let admission = AdmissionConfig {
        max_in_flight: 3,
        reserved_for_critical: 1,
        reserved_for_normal: 0,
        ..AdmissionConfig::default()
    };
    let server = TestServer::start(ServerConfig { admission, ..ServerConfig::default() }).await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut client = server.client();
        calls.push(tokio::spawn(async move { client.echo(say("hang")).await }));
    }
    until(|| server.echo.inside.load(Ordering::SeqCst) == 2).await;

    let refusal = server.client().echo(say("one too many")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert_eq!(status::retry_delay(&refusal), Some(admission.retry_after));
    assert!(check_health(&server.url()).await);

    server.echo.release.cancel();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    server.client().echo(say("now there is room")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_reserved_place_is_open_to_what_is_critical() {
    fn everything_is_critical(path: &str) -> Priority {
        if admission::is_exempt(path) { Priority::Exempt } else { Priority::Critical }
    }
    let admission = AdmissionConfig {
        max_in_flight: 1,
        reserved_for_critical: 1,
        classify: everything_is_critical,
        ..AdmissionConfig::default()
    };
    let server = TestServer::start(ServerConfig { admission, ..ServerConfig::default() }).await;
    server.client().echo(say("capture")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_required_of_the_service_but_not_of_health() {
    let token = BearerToken::new("canary-token").unwrap();
    let echo = Echo::default();
    let (mut builder, health) = routes();
    let required = RequireToken::new(token.clone());
    builder.add_service(EchoServiceServer::with_interceptor(echo.clone(), required));
    let server = TestServer::start_with(ServerConfig::default(), builder, health, echo).await;

    let status = server.client().echo(say("stranger")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(server.echo.begun.load(Ordering::SeqCst), 0);
    let attached = AttachToken::new(token);
    let mut client = atm_proto::bench::echo_service_client::EchoServiceClient::with_interceptor(
        server.channel(),
        attached,
    );
    client.echo(say("friend")).await.unwrap();
    assert!(check_health(&server.url()).await);
    server.stop().await;
}

/// Asks reflection v1 for something and returns the one answer.
async fn reflect(server: &TestServer, question: MessageRequest) -> ServerReflectionResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(server.channel());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap()
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_of_its_own_versions() {
    let server = TestServer::start(ServerConfig::default()).await;
    let answer = reflect(&server, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    // What is served, and not all that the descriptor set describes.
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    let served = ["atm.bench.v1.EchoService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];
    assert_eq!(names, served);

    use tonic_reflection::pb::v1alpha;
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer
    else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    let itself = "grpc.reflection.v1alpha.ServerReflection";
    assert_eq!(names, ["atm.bench.v1.EchoService", "grpc.health.v1.Health", itself]);
    server.stop().await;
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_use_up_the_connection_and_too_many_are_refused() {
    // Nothing but the end of the streams may end the server in time.
    let config = ServerConfig {
        max_streaming_calls_per_connection: 2,
        drain_timeout: NEVER,
        ..ServerConfig::default()
    };
    let server = TestServer::start(config).await;
    let client = ServerReflectionClient::new(server.channel());
    let mut open = Vec::new();
    for _ in 0..2 {
        let silence = tokio_stream::pending::<ServerReflectionRequest>();
        open.push(client.clone().server_reflection_info(silence).await.unwrap());
    }
    let silence = tokio_stream::pending::<ServerReflectionRequest>();
    let refusal = client.clone().server_reflection_info(silence).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    server.client().echo(say("unary calls are not affected")).await.unwrap();
    server.stop().await;
    drop(open);
}

#[tokio::test]
async fn only_loopback_may_be_listened_on_without_insecure() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refusal = bind(address.parse().unwrap(), false).await.unwrap_err();
        assert!(refusal.to_string().contains("--insecure"), "{refusal}");
    }
    bind("0.0.0.0:0".parse().unwrap(), true).await.unwrap();
    bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    bind("127.8.8.8:0".parse().unwrap(), false).await.unwrap();
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = TestServer::start(ServerConfig { default_deadline: NEVER, ..ServerConfig::default() }).await;
    let mut grpc = tonic::client::Grpc::new(server.channel());
    let codec =
        atm_proto::codec::MessageCodec::<atm_proto::bench::EchoRequest, atm_proto::bench::EchoResponse>::default();
    for path in ["/atm.bench.v1.EchoService/Missing", "/atm.missing.v1.Service/Echo"] {
        let path = http::uri::PathAndQuery::from_static(path);
        grpc.ready().await.unwrap();
        let status = grpc.unary(Request::new(say("?")), path, codec.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
    server.stop().await;
}
