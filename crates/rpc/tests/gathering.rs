//! Messages that are ready at the same time travel in one write, on both sides of a connection.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use atm_proto::bench::EchoRequest;
use atm_proto::bench::echo_service_client::EchoServiceClient;
use atm_proto::bench::echo_service_server::EchoServiceServer;
use atm_rpc::channel::{ChannelConfig, lazy_channel_over};
use atm_rpc::network::{Connect, Connecting, Listener, Stream};
use atm_rpc::server::{ServerConfig, serve};
use http::Uri;
use support::Echo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const CALLERS: usize = 64;
const CALLS_EACH: usize = 20;

/// A connection that counts its writes.
struct Counting {
    stream: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct CountingListener {
    listener: TcpListener,
    writes: Arc<AtomicUsize>,
}

impl Listener for CountingListener {
    type Stream = Counting;

    async fn accept(&self) -> io::Result<(Counting, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Counting { stream, writes: Arc::clone(&self.writes) }, peer))
    }
}

#[derive(Debug)]
struct CountingConnect {
    address: SocketAddr,
    writes: Arc<AtomicUsize>,
}

impl Connect for CountingConnect {
    fn connect(&self, _: &Uri) -> Connecting {
        let (address, writes) = (self.address, Arc::clone(&self.writes));
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(Counting { stream, writes }) as Box<dyn Stream>)
        })
    }
}

/// A payload of 300 bytes would be sent by itself, since it is above HTTP/2's threshold of 256; and each caller that has
/// its answer wakes the connection for its next call, which would then write at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_at_the_same_time_share_writes() {
    let (served, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = CountingListener { listener, writes: Arc::clone(&served) };
    let shutdown = CancellationToken::new();
    let (mut routes, health) = support::routes();
    routes.add_service(EchoServiceServer::new(Echo::default()));
    let serving =
        tokio::spawn(serve(listener, ServerConfig::default(), routes.routes(), health, shutdown.clone()));

    let network: Arc<dyn Connect> = Arc::new(CountingConnect { address, writes: Arc::clone(&called) });
    let url = format!("http://{address}");
    let channel = lazy_channel_over(&url, &ChannelConfig::default(), Some(&network)).unwrap();
    let request = EchoRequest { payload: vec![0x5a; 300] };
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (mut client, request) = (EchoServiceClient::new(channel.clone()), request.clone());
            tokio::spawn(async move {
                for _ in 0..CALLS_EACH {
                    assert_eq!(
                        client.echo(request.clone()).await.unwrap().get_ref().payload,
                        request.payload
                    );
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let calls = CALLERS * CALLS_EACH;
    let (served, called) = (served.load(Ordering::SeqCst), called.load(Ordering::SeqCst));
    println!("{calls} calls: {called} writes by the client, {served} by the server");
    assert!(called < calls / 4 && served < calls / 4, "{called} and {served} writes for {calls} calls");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
