//! The real servers and clients on turmoil's network.
//!
//! Whatever a host still wants to say after its death, in the rest of the tick in which it died, is not heard.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atm_rpc::network::{Connect, Connecting, Listener, Stream};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::shared::{Host, Life, Shared};

/// Where every service of the simulated world listens.
pub(super) const PORT: u16 = 50_051;

/// Where connections of one host come in.
pub(super) struct SimulatedListener {
    listener: TcpListener,
    life: Arc<Life>,
}

impl SimulatedListener {
    /// Listens on the port of the simulated world.
    ///
    /// # Errors
    /// When it is taken.
    pub(super) async fn bind(life: Arc<Life>) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).await?;
        Ok(Self { listener, life })
    }
}

impl Listener for SimulatedListener {
    type Stream = MortalStream;

    async fn accept(&self) -> io::Result<(MortalStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((MortalStream::new(stream, Arc::clone(&self.life)), peer))
    }
}

/// How a host opens connections, each for the start that the host is in.
#[derive(Clone)]
pub(super) struct SimulatedConnect {
    host: Host,
    shared: Arc<Shared>,
}

impl SimulatedConnect {
    /// For this host.
    pub(super) fn new(host: Host, shared: Arc<Shared>) -> Self {
        Self { host, shared }
    }

    /// The host that answers to a name.
    fn answers_to(&self, name: &str) -> String {
        let answering = self.shared.lock().answering.filter(|_| name == Host::Ledger.name());
        answering.map_or_else(|| name.to_owned(), Host::name)
    }
}

impl fmt::Debug for SimulatedConnect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SimulatedConnect")
    }
}

impl Connect for SimulatedConnect {
    fn connect(&self, uri: &Uri) -> Connecting {
        let host = self.answers_to(uri.host().unwrap_or_default());
        let port = uri.port_u16().unwrap_or(PORT);
        let life = self.shared.life(self.host);
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            let stream: Box<dyn Stream> = Box::new(MortalStream::new(stream, life));
            Ok(stream)
        })
    }
}

/// A connection that falls silent when its host dies.
#[derive(Debug)]
pub(super) struct MortalStream {
    /// There until it is let go of.
    stream: Option<TcpStream>,
    number: u64,
    life: Arc<Life>,
}

impl MortalStream {
    fn new(stream: TcpStream, life: Arc<Life>) -> Self {
        Self { stream: Some(stream), number: life.opens(), life }
    }

    /// The connection, as long as anybody hears it.
    fn living(&mut self) -> Option<Pin<&mut TcpStream>> {
        self.stream.as_mut().filter(|_| !self.life.is_dead()).map(Pin::new)
    }
}

impl Drop for MortalStream {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.life.lets_go(self.number, stream);
        }
    }
}

impl AsyncRead for MortalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.living().map_or(Poll::Pending, |stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for MortalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.living().map_or(Poll::Pending, |stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.living().map_or(Poll::Pending, |stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.living().map_or(Poll::Pending, |stream| stream.poll_shutdown(context))
    }
}
