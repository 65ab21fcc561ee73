//! The edges of the wire: sizes, garbage, health, reflection, and leaving.

use atm_proto::gateway::*;
use atm_rpc::server::check_health;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codegen::{Bytes, http};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use crate::support::*;

/// Sends raw bytes as one gRPC message, past tonic's client, which would have a mind of its own about
/// deadlines, and reads the status.
async fn send(world: &World, path: &str, headers: &[(&str, String)], message: &[u8]) -> Option<String> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    let mut request = http::Request::post(format!("{}{path}", world.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let stream = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let header = response.headers().get("grpc-status").cloned();
    let trailers = response.into_body().collect().await.ok().and_then(|body| body.trailers().cloned());
    connection.abort();
    let status = header.or_else(|| trailers.and_then(|trailers| trailers.get("grpc-status").cloned()));
    status.map(|status| status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn row_20_a_deadline_that_is_over_is_answered_and_has_no_effect() {
    let world = World::new().await;
    let machine = world.customer("ATM-1", CARD).await;
    let path = "/atm.gateway.v1.AtmService/Withdraw";
    let request = WithdrawRequest { transaction_id: new_id(), amount: bdt(5) };
    let with_timeout = |timeout: &str| {
        [
            ("grpc-timeout", timeout.to_owned()),
            ("atm-terminal-key", hex::encode(machine.key)),
            ("authorization", format!("Bearer {}", machine.session.as_ref().unwrap())),
        ]
    };
    let message = request.encode_to_vec();
    assert_eq!(send(&world, path, &with_timeout("0n"), &message).await.as_deref(), Some("4"));
    assert_eq!(world.ledger.log.count("PostTransaction"), 0);
    assert_eq!(send(&world, path, &with_timeout("5S"), &message).await.as_deref(), Some("0"));
    assert_eq!(world.ledger.log.count("PostTransaction"), 1, "the same call with time left");
}

#[tokio::test]
async fn row_18_an_oversized_message_is_refused_on_every_service() {
    let world = World::new().await;
    let machine = world.machine("ATM-1");
    let request = LogInRequest { pin: "1".repeat(70_000), ..machine.log_in_request(CARD, PIN) };
    let status = machine.client.clone().log_in(machine.request(request)).await.err().unwrap();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let request = BlockCardRequest { card_number: "1".repeat(3 << 20), order_id: order_id() };
    let status = world.admin().block_card(as_operator(request)).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
}

#[tokio::test]
async fn row_19_garbage_is_internal_and_an_unknown_method_unimplemented() {
    let world = World::new().await;
    let log_in = "/atm.gateway.v1.AtmService/LogIn";
    assert_eq!(send(&world, log_in, &[], &[0xff; 20]).await.as_deref(), Some("13"));
    // Field 1 as a string that is not UTF-8 (row 23).
    assert_eq!(
        send(&world, "/atm.text.v1.TextService/Lowercase", &[], &[0x0a, 1, 0xff]).await.as_deref(),
        Some("13")
    );
    assert_eq!(send(&world, "/atm.gateway.v1.AtmService/Steal", &[], &[]).await.as_deref(), Some("12"));
    assert_eq!(send(&world, "/no.such.Service/Call", &[], &[]).await.as_deref(), Some("12"));
}

#[tokio::test]
async fn the_services_are_healthy_and_found_by_reflection() {
    let world = World::new().await;
    assert!(check_health(&world.url).await);
    let mut client = ServerReflectionClient::new(channel(&world.url));
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut stream = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = stream.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|ServiceResponse { name }| name).collect();
    let served = [
        "atm.gateway.v1.AtmService",
        "atm.gateway.v1.AdminService",
        "atm.text.v1.TextService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, served);
}

#[tokio::test]
async fn the_gateway_stops_when_it_is_told_to() {
    let world = World::new().await;
    let machine = world.customer("ATM-1", CARD).await;
    assert!(machine.session.is_some());
    let url = world.url.clone();
    world.stop().await;
    assert!(!check_health(&url).await);
}
