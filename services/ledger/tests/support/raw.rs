//! gRPC without generated code: any method, any bytes.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use http::Request;
use http::uri::PathAndQuery;
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// Takes and gives bytes as they are.
#[derive(Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends the bytes to the method at `path`.
pub async fn call(
    channel: &Channel,
    path: &str,
    request: tonic::Request<Bytes>,
) -> Result<Response<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    grpc.unary(request, PathAndQuery::try_from(path).unwrap(), RawCodec).await
}

/// What a server said, without a client's opinion about it.
#[derive(Debug)]
pub struct Said {
    pub code: Option<Code>,
    pub message: String,
}

/// Sends one unary call over a connection of its own, without any of tonic's client in between: with just these
/// headers, and the body as it is, length prefix included.
pub async fn h2_call(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: Bytes) -> Said {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = sender.ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    // A refused request's body may not be wanted any more.
    let _ = stream.send_data(body, true);
    let (parts, mut body) = response.await.unwrap().into_parts();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    let text = |name| {
        let value = trailers.get(name).or(parts.headers.get(name))?;
        value.to_str().ok().map(str::to_owned)
    };
    drop(sender);
    connection.abort();
    Said {
        code: text("grpc-status").and_then(|code| code.parse().ok()).map(Code::from_i32),
        message: text("grpc-message").unwrap_or_default(),
    }
}

/// A message as it travels: not compressed, with its length.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

/// Begins a call of a unary method whose request never comes, and waits for what the server says to it.
pub async fn stall(
    channel: &Channel,
    path: &str,
    request: tonic::Request<()>,
) -> Result<Response<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let request = request.map(|()| futures_util::stream::pending::<Bytes>());
    grpc.client_streaming(request, PathAndQuery::try_from(path).unwrap(), RawCodec).await
}
