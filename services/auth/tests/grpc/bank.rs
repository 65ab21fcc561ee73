//! A whole auth service on a free port of this machine, with a clock and a hasher that the test decides.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use atm_auth::config::{Config, Storage};
use atm_auth::domain::{HashCost, Pin};
use atm_auth::hashing::{Argon2id, HashingError, PinHasher};
use atm_auth::pepper::Pepper;
use atm_auth::storage::MemoryStore;
use atm_auth::{Error, run};
use atm_proto::auth::auth_service_client::AuthServiceClient;
use atm_proto::auth::{
    CardResultKind, CardToIssue, ChangePinRequest, IssueCardsRequest, VerifyPinRequest, VerifyPinResponse,
};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_rpc::process::SecretFile;
use atm_types::{AccountId, IdSource, ManualClock, SystemIds, Timestamp};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

pub(crate) const CARD: &str = "123456789";
pub(crate) const PIN: &str = "1234";
pub(crate) const WRONG: &str = "4321";
/// The id of a new order.
pub(crate) fn order_id() -> String {
    SystemIds.attempt_id().to_string()
}

pub(crate) const NOBODYS: &str = "4000123456789010";

pub(crate) type Client = AuthServiceClient<InterceptedService<Channel, AttachToken>>;

/// Argon2, counted; and held up while a gate is closed and the PIN is one that it holds up.
#[derive(Default)]
pub(crate) struct TestHasher {
    hashes: AtomicUsize,
    held: Mutex<Held>,
    opened: Condvar,
}

#[derive(Default)]
struct Held {
    closed: bool,
    pin: Option<String>,
    waiting: usize,
    /// The gate closes by itself before the hash with this number.
    closes_at: Option<usize>,
}

impl TestHasher {
    pub(crate) fn count(&self) -> usize {
        self.hashes.load(Ordering::SeqCst)
    }

    /// Holds up every hash, or those of one PIN.
    pub(crate) fn close(&self, pin: Option<&str>) {
        let mut held = self.held.lock().unwrap();
        (held.closed, held.pin) = (true, pin.map(str::to_owned));
    }

    /// Lets so many more hashes through and holds up what comes after them.
    pub(crate) fn close_after(&self, hashes: usize) {
        self.held.lock().unwrap().closes_at = Some(self.count() + hashes);
    }

    pub(crate) fn open(&self) {
        let mut held = self.held.lock().unwrap();
        (held.closed, held.closes_at) = (false, None);
        drop(held);
        self.opened.notify_all();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.held.lock().unwrap().waiting
    }
}

impl PinHasher for TestHasher {
    fn hash(
        &self,
        pepper: &Pepper,
        pin: &Pin,
        salt: &[u8; 16],
        cost: HashCost,
    ) -> Result<[u8; 32], HashingError> {
        let number = self.hashes.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        if held.closes_at.is_some_and(|closes_at| number >= closes_at) {
            held.closed = true;
        }
        if held.pin.as_ref().is_none_or(|held| held.as_bytes() == pin.digits()) {
            held.waiting += 1;
            while held.closed {
                held = self.opened.wait(held).unwrap();
            }
            held.waiting -= 1;
        }
        drop(held);
        Argon2id.hash(pepper, pin, salt, cost)
    }
}

pub(crate) struct Bank {
    pub(crate) home: TempDir,
    pub(crate) config: Config,
    pub(crate) clock: ManualClock,
    pub(crate) hasher: Arc<TestHasher>,
    running: Option<Running>,
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Bank {
    /// A running service with a SQLite database and one card, [`CARD`] with [`PIN`].
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub(crate) async fn in_memory() -> (Self, MemoryStore) {
        let memory = MemoryStore::new();
        let store = memory.clone();
        (Self::open_with(|config| config.storage = Storage::Memory(store)).await, memory)
    }

    pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hasher = Arc::new(TestHasher::default());
        let mut config = Config::for_tests(home.path());
        config.hashing.hasher = Arc::clone(&hasher) as Arc<dyn PinHasher>;
        change(&mut config);
        SecretFile::create_or_load(&config.service_token_file, &SystemIds).unwrap();
        let clock = ManualClock::new(Timestamp::from_seconds(1_800_000_000));
        let mut bank = Self { home, config, clock, hasher, running: None };
        bank.start().await.unwrap();
        bank.issue(CARD, Some(PIN)).await;
        bank
    }

    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (clock, ids) = (Arc::new(self.clock.clone()), Arc::new(SystemIds));
        let service = run(listener, self.config.clone(), clock, ids, shutdown.clone());
        let mut task = tokio::spawn(service);
        // Either it answers, or it says why it does not start.
        let url = format!("http://{address}");
        let ready = async {
            while !atm_rpc::server::check_health(&url).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = &mut task => return ended.unwrap(),
            () = ready => {}
        }
        self.running = Some(Running { address, shutdown, task });
        Ok(())
    }

    /// Stops it in good order.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        let running = self.running.take().unwrap();
        running.shutdown.cancel();
        running.task.await.unwrap()
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        let task = self.running.take().unwrap().task;
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        ended.expect("the service goes on although it should have ended").unwrap()
    }

    /// Drops it in the middle of whatever it is doing.
    pub(crate) async fn abort(&mut self) {
        let running = self.running.take().unwrap();
        running.task.abort();
        let _ = running.task.await;
    }

    /// Starts it again on the same directory; the one before may need a moment to let go of it.
    pub(crate) async fn start_again(&mut self) {
        for _ in 0..2000 {
            match self.start().await {
                Err(Error::Database(atm_auth::storage::OpenError::Lock(_))) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                started => return started.unwrap(),
            }
        }
        panic!("the directory is still locked");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.running.as_ref().unwrap().address)
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).unwrap().connect_lazy()
    }

    pub(crate) fn token(&self) -> BearerToken {
        BearerToken::load(&self.config.service_token_file).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        AuthServiceClient::with_interceptor(self.channel(), AttachToken::new(self.token()))
    }

    pub(crate) async fn issue(&self, card: &str, pin: Option<&str>) -> (CardResultKind, String) {
        let cards = vec![to_issue(card, "Farhan", pin)];
        let answer = self.client().issue_cards(IssueCardsRequest { cards }).await.unwrap().into_inner();
        let result = answer.results.into_iter().next().unwrap();
        (result.kind(), result.card_id)
    }

    /// Logs in with a new attempt.
    pub(crate) async fn log_in(&self, card: &str, pin: &str) -> Result<VerifyPinResponse, Status> {
        self.send(press(card, pin)).await
    }

    pub(crate) async fn send(&self, request: VerifyPinRequest) -> Result<VerifyPinResponse, Status> {
        self.client().verify_pin(request).await.map(tonic::Response::into_inner)
    }

    /// Sends one log-in without tonic's client, which would give up by itself; the code that the server
    /// answers with.
    pub(crate) async fn status_of_call_with_timeout(&self, timeout: &str, message: &impl Message) -> Code {
        let address = self.url().replace("http://", "");
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let token = std::fs::read_to_string(&self.config.service_token_file).unwrap();
        let request = http::Request::post(format!("http://{address}/atm.auth.v1.AuthService/VerifyPin"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap();
        let (answer, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        message.encode(&mut frame).unwrap();
        // The server may have refused it already, and may want to read no more.
        let _ = body.send_data(frame.into(), true);
        let (parts, mut body) = answer.await.unwrap().into_parts();
        let status = match parts.headers.get("grpc-status") {
            Some(status) => status.clone(),
            None => {
                while body.data().await.is_some() {}
                body.trailers().await.unwrap().unwrap()["grpc-status"].clone()
            }
        };
        driver.abort();
        Code::from_i32(status.to_str().unwrap().parse().unwrap())
    }
}

pub(crate) fn to_issue(card: &str, account: &str, pin: Option<&str>) -> CardToIssue {
    CardToIssue {
        card_number: card.to_owned(),
        account_id: AccountId::of_number(account).to_string(),
        pin: pin.unwrap_or_default().to_owned(),
    }
}

/// A new press of the enter key at the machine of these tests.
pub(crate) fn press(card: &str, pin: &str) -> VerifyPinRequest {
    VerifyPinRequest {
        card_number: card.to_owned(),
        pin: pin.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
        atm_id: "ATM-0042".to_owned(),
        terminal_id: "a5".repeat(32),
        boot: None,
    }
}

/// A new press of the enter key behind a new PIN.
pub(crate) fn change(card_id: &str, old: &str, new: &str) -> ChangePinRequest {
    ChangePinRequest {
        card_id: card_id.to_owned(),
        old_pin: old.to_owned(),
        new_pin: new.to_owned(),
        attempt_id: SystemIds.attempt_id().to_string(),
        atm_id: "ATM-0042".to_owned(),
        terminal_id: "a5".repeat(32),
    }
}

/// Looks at a refusal without being able to print what was not to be refused: it may be a session.
pub(crate) trait Refusal {
    fn refused(self) -> Status;
    fn code(&self) -> Code;
}

impl<T> Refusal for Result<T, Status> {
    fn refused(self) -> Status {
        self.err().expect("the call was to be refused")
    }

    fn code(&self) -> Code {
        self.as_ref().err().map_or(Code::Ok, Status::code)
    }
}

pub(crate) fn reason<T>(answer: &Result<T, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => atm_rpc::status::reason(status).unwrap_or_else(|| format!("{status:?}")),
    }
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
