//! A wire with faults between cash machines and the gateway.
//!
//! It works on TCP connections and reads only HTTP/2 frame headers (RFC 9113 §4.1), to know where a request begins
//! (a HEADERS frame from the client) and where an answer is (a DATA or HEADERS frame from the server). Losing means
//! cutting the connection at that place: before a request has left, or after the bank has done the work. A
//! duplicate is everything the client has sent on its connection, sent once more on another one, later.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::House;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes.
    Clean,
    /// After this many answers none passes any more; requests do.
    SwallowAnswersAfter(u32),
    /// After this many requests none passes any more, and connections stay open.
    SwallowRequestsAfter(u32),
    /// After this many requests all are held back, as by a slow network, until they are released.
    HoldBackAfter(u32),
    /// This one request is lost, once.
    LoseRequest(u32),
    /// The answer to this one request is lost, once.
    LoseAnswer(u32),
    /// After this many requests whoever is behind the wire is dead: connections are cut and refused.
    DeadAfter(u32),
    /// Faults of all kinds, drawn from the seed: so many requests in a hundred are lost, and as many answers;
    /// a tenth of what is left is delayed, another is sent twice.
    Random(u64),
}

/// How often each fault happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u32,
    pub(crate) refused: u32,
    pub(crate) lost_requests: u32,
    pub(crate) lost_answers: u32,
    pub(crate) duplicated: u32,
    pub(crate) delayed: u32,
}

impl Counts {
    /// Whether anything at all was lost or refused.
    pub(crate) fn struck(&self) -> bool {
        self.refused + self.lost_requests + self.lost_answers > 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.lost_requests += other.lost_requests;
        self.lost_answers += other.lost_answers;
        self.duplicated += other.duplicated;
        self.delayed += other.delayed;
    }
}

struct Shared {
    mode: Mode,
    counts: Counts,
    answers: u32,
    random: u64,
    /// Duplicates that were begun and have not ended.
    under_way: u32,
    /// Everything that was sent on connections with requests that are held back.
    held: Vec<Vec<u8>>,
}

pub(crate) struct Proxy {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    target: SocketAddr,
    runtime: Handle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    LoseRequest,
    LoseAnswer,
    Delay(u64),
    Duplicate(u64),
    Swallow,
    HoldBack,
}

impl Proxy {
    pub(crate) fn new(house: &'static House, seed: u64) -> Self {
        Self::to(&house.gateway, house.runtime.handle(), seed)
    }

    /// A wire to the server at this address.
    pub(crate) fn to(url: &str, runtime: &Handle, seed: u64) -> Self {
        let target: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Shared {
            mode: Mode::Clean,
            counts: Counts::default(),
            answers: 0,
            random: seed,
            under_way: 0,
            held: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(state));
        let accepted = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepted);
                tokio::spawn(async move {
                    let refused = shared.lock().unwrap().refuse();
                    if !refused {
                        let _ = carry(client, target, &shared).await;
                    }
                });
            }
        });
        Self { shared, address, target, runtime: runtime.clone() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what the wire does from now on; the counts of answers and requests begin again.
    pub(crate) fn set(&self, mode: Mode) {
        let mut shared = self.shared.lock().unwrap();
        shared.mode = mode;
        shared.answers = 0;
        shared.counts.requests = 0;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.lock().unwrap().counts
    }

    /// On how many connections requests are held back.
    pub(crate) fn held_back(&self) -> usize {
        self.shared.lock().unwrap().held.len()
    }

    /// Lets everything that was held back arrive.
    pub(crate) fn release(&self) {
        let held = {
            let mut shared = self.shared.lock().unwrap();
            shared.under_way += u32::try_from(shared.held.len()).unwrap();
            std::mem::take(&mut shared.held)
        };
        for bytes in held {
            let (target, shared) = (self.target, Arc::clone(&self.shared));
            self.runtime.spawn(async move {
                let _ = send_again(target, &bytes).await;
                shared.lock().unwrap().under_way -= 1;
            });
        }
    }

    /// Whether all duplicates have been sent and answered.
    pub(crate) fn quiet(&self) -> bool {
        self.shared.lock().unwrap().under_way == 0
    }
}

impl Shared {
    /// SplitMix64, so that a seed gives the same faults again.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    fn refuse(&mut self) -> bool {
        let dead = matches!(self.mode, Mode::DeadAfter(limit) if self.counts.requests >= limit);
        let refuse = dead || matches!(self.mode, Mode::Random(_)) && self.draw(100) < 6;
        self.counts.refused += u32::from(refuse);
        refuse
    }

    /// Decides about a request whose first frame has just come.
    fn fate(&mut self) -> Fate {
        self.counts.requests += 1;
        match self.mode {
            Mode::Clean | Mode::SwallowAnswersAfter(_) => Fate::Pass,
            Mode::SwallowRequestsAfter(limit) if self.counts.requests > limit => Fate::Swallow,
            Mode::HoldBackAfter(limit) if self.counts.requests > limit => Fate::HoldBack,
            Mode::LoseRequest(number) if self.counts.requests == number => {
                self.counts.lost_requests += 1;
                Fate::LoseRequest
            }
            Mode::LoseAnswer(number) if self.counts.requests == number => {
                self.counts.lost_answers += 1;
                Fate::LoseAnswer
            }
            Mode::DeadAfter(limit) if self.counts.requests > limit => {
                self.counts.lost_requests += 1;
                Fate::LoseRequest
            }
            Mode::SwallowRequestsAfter(_)
            | Mode::HoldBackAfter(_)
            | Mode::LoseRequest(_)
            | Mode::LoseAnswer(_)
            | Mode::DeadAfter(_) => Fate::Pass,
            Mode::Random(loss) => self.draw_fate(loss),
        }
    }

    fn draw_fate(&mut self, loss: u64) -> Fate {
        let (lost, mishap) = (self.draw(100), self.draw(10));
        if lost < loss {
            self.counts.lost_requests += 1;
            Fate::LoseRequest
        } else if lost < 2 * loss {
            self.counts.lost_answers += 1;
            Fate::LoseAnswer
        } else if mishap == 0 {
            self.counts.delayed += 1;
            Fate::Delay(self.draw(700))
        } else if mishap == 1 {
            self.counts.duplicated += 1;
            Fate::Duplicate(self.draw(1500))
        } else {
            Fate::Pass
        }
    }

    fn answer_passes(&mut self) -> bool {
        self.answers += 1;
        !matches!(self.mode, Mode::SwallowAnswersAfter(limit) if self.answers > limit)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;

async fn carry(client: TcpStream, target: SocketAddr, shared: &Arc<Mutex<Shared>>) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cut_next_answer = Arc::new(Mutex::new(false));
    tokio::select! {
        up = requests(from_client, to_server, target, shared, &cut_next_answer) => up,
        down = answers(from_server, to_client, shared, &cut_next_answer) => down,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    target: SocketAddr,
    shared: &Arc<Mutex<Shared>>,
    cut_next_answer: &Mutex<bool>,
) -> std::io::Result<()> {
    let mut sent = vec![0; 24];
    from.read_exact(&mut sent).await?;
    to.write_all(&sent).await?;
    let (mut duplicate_after, mut swallowing, mut held) = (None, false, None);
    loop {
        let frame = read_frame(&mut from).await?;
        let (kind, ends) = (frame[3], frame[4] & 1 == 1);
        if kind == HEADERS {
            let fate = shared.lock().unwrap().fate();
            match fate {
                Fate::Pass => {}
                Fate::LoseRequest => return Ok(()),
                Fate::LoseAnswer => *cut_next_answer.lock().unwrap() = true,
                Fate::Delay(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                Fate::Duplicate(millis) => duplicate_after = Some(Duration::from_millis(millis)),
                Fate::Swallow => swallowing = true,
                Fate::HoldBack => {
                    let mut shared = shared.lock().unwrap();
                    if held.is_none() {
                        shared.held.push(sent.clone());
                        held = Some(shared.held.len() - 1);
                    }
                }
            }
        }
        if let Some(held) = held {
            // Released meanwhile: what comes later is lost.
            if let Some(bytes) = shared.lock().unwrap().held.get_mut(held) {
                bytes.extend_from_slice(&frame);
            }
            continue;
        }
        if swallowing {
            continue;
        }
        to.write_all(&frame).await?;
        sent.extend_from_slice(&frame);
        if kind == DATA
            && ends
            && let Some(delay) = duplicate_after.take()
        {
            let (copy, shared) = (sent.clone(), Arc::clone(shared));
            shared.lock().unwrap().under_way += 1;
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = send_again(target, &copy).await;
                shared.lock().unwrap().under_way -= 1;
            });
        }
    }
}

/// The same bytes on another connection; the answers are read until they stop coming, and thrown away.
async fn send_again(target: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    server.write_all(bytes).await?;
    let mut waste = [0; 4096];
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_secs(2), server.read(&mut waste)).await {}
    Ok(())
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Arc<Mutex<Shared>>,
    cut_next_answer: &Mutex<bool>,
) -> std::io::Result<()> {
    let mut swallowing = false;
    loop {
        let frame = read_frame(&mut from).await?;
        let (kind, ends) = (frame[3], frame[4] & 1 == 1);
        // The body of an answer; an error is HEADERS alone that end the stream.
        if kind == DATA && frame.len() > 9 || kind == HEADERS && ends {
            if *cut_next_answer.lock().unwrap() {
                return Ok(());
            }
            if kind == DATA {
                swallowing |= !shared.lock().unwrap().answer_passes();
            }
        }
        if !(swallowing && matches!(kind, DATA | HEADERS)) {
            to.write_all(&frame).await?;
        }
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 9];
    from.read_exact(&mut frame).await?;
    let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
    frame.resize(9 + length, 0);
    from.read_exact(&mut frame[9..]).await?;
    Ok(frame)
}
