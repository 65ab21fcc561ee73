//! A bank in a temporary directory, served over real gRPC on a free port, and the words to talk to it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

pub mod process;
pub mod proxy;
pub mod raw;
pub mod story;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_ledger::config::Config;
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::ledger::{self as wire, AccountKind};
use atm_proto::types::{Balance, Money};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_types::{AccountId, Currency, IdSource, ManualClock, SystemIds, Timestamp};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub type Client = LedgerServiceClient<InterceptedService<Channel, AttachToken>>;

/// A terminal, and another one.
pub const TERMINAL: &str = "5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0";
pub const STRANGER: &str = "badbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbad0";

/// A ledger that runs in this process.
pub struct Bank {
    pub directory: Arc<TempDir>,
    pub config: Config,
    pub clock: ManualClock,
    pub address: SocketAddr,
    shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), atm_ledger::Error>>,
}

impl Bank {
    /// New books.
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// New books under another configuration.
    pub async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config::new(directory.path().join("books"), directory.path().join("service.token"));
        change(&mut config);
        Self::start(directory, config, ManualClock::new(Timestamp::from_seconds(1_795_000_000))).await
    }

    async fn start(directory: Arc<TempDir>, config: Config, clock: ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(atm_ledger::run(
            listener,
            config.clone(),
            Arc::new(clock.clone()),
            Arc::new(SystemIds),
            shutdown.clone(),
        ));
        let bank = Self { directory, config, clock, address, shutdown, running };
        bank.serving().await;
        bank
    }

    /// Waits until the ledger says that it serves, or has ended.
    async fn serving(&self) {
        while !atm_rpc::server::check_health(&self.url()).await && !self.running.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A connection of its own.
    pub fn client(&self) -> Client {
        connect(&self.url(), &self.config.service_token_file)
    }

    /// Ends the ledger in good order.
    pub async fn stop(self) -> Result<(), atm_ledger::Error> {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }

    /// Ends the ledger in good order and starts it again on the same books.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// The same, after something was done to the directory of the books.
    pub async fn restart_after(self, what: impl FnOnce(&Path)) -> Self {
        let (directory, config, clock) =
            (Arc::clone(&self.directory), self.config.clone(), self.clock.clone());
        self.stop().await.unwrap();
        what(&config.data);
        Self::start(directory, config, clock).await
    }
}

/// A client of the ledger at `url`.
pub fn connect(url: &str, token: &Path) -> Client {
    let channel = lazy_channel(url, &ChannelConfig::default()).unwrap();
    let token = AttachToken::new(BearerToken::load(token).unwrap());
    LedgerServiceClient::with_interceptor(channel, token).max_decoding_message_size(16 << 20)
}

/// A new transaction id.
pub fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

pub fn customer(name: &str) -> String {
    AccountId::of_number(name).to_string()
}

pub fn cash() -> String {
    AccountId::of_cash("atm-1", Currency::BDT).to_string()
}

pub fn suspense() -> String {
    AccountId::of_suspense("atm-1", Currency::BDT).to_string()
}

pub fn opening() -> String {
    AccountId::of_opening_balances(Currency::BDT).to_string()
}

pub fn taka(minor_units: i64) -> Option<Money> {
    Some(Money { currency_code: "BDT".to_owned(), minor_units })
}

pub fn account(account_id: String, kind: AccountKind) -> wire::OpenAccountRequest {
    let account = wire::Account {
        account_id,
        kind: kind.into(),
        currency_code: "BDT".to_owned(),
        ..Default::default()
    };
    wire::OpenAccountRequest { account: Some(account) }
}

pub fn post(id: &str, debit: &str, credit: &str, minor_units: i64) -> wire::PostTransactionRequest {
    wire::PostTransactionRequest {
        transaction_id: id.to_owned(),
        terminal_id: TERMINAL.to_owned(),
        debit_account_id: debit.to_owned(),
        credit_account_id: credit.to_owned(),
        amount: taka(minor_units),
    }
}

pub fn hold(id: &str, debit: &str, credit: &str, minor_units: i64) -> wire::HoldTransactionRequest {
    wire::HoldTransactionRequest {
        transaction_id: id.to_owned(),
        terminal_id: TERMINAL.to_owned(),
        debit_account_id: debit.to_owned(),
        credit_account_id: credit.to_owned(),
        amount: taka(minor_units),
        lifetime: None,
    }
}

pub fn capture(id: &str, minor_units: i64) -> wire::CaptureTransactionRequest {
    wire::CaptureTransactionRequest {
        transaction_id: id.to_owned(),
        terminal_id: TERMINAL.to_owned(),
        amount: taka(minor_units),
        authorization: Vec::new(),
    }
}

pub fn cancel(id: &str) -> wire::CancelTransactionRequest {
    wire::CancelTransactionRequest { transaction_id: id.to_owned(), terminal_id: TERMINAL.to_owned() }
}

pub fn suspend(id: &str) -> wire::SuspendTransactionRequest {
    wire::SuspendTransactionRequest {
        transaction_id: id.to_owned(),
        terminal_id: TERMINAL.to_owned(),
        suspense_account_id: suspense(),
        authorization: Vec::new(),
    }
}

pub fn resolve(id: &str, minor_units: i64) -> wire::ResolveTransactionRequest {
    wire::ResolveTransactionRequest {
        transaction_id: id.to_owned(),
        amount: taka(minor_units),
        operator: "Nadia".to_owned(),
        reason: "the cassettes were counted".to_owned(),
    }
}

/// Opens the suspense account of the machine as well.
pub async fn endow_with_suspense(client: &mut Client, customers: &[(&str, i64)]) {
    endow(client, customers).await;
    client.open_account(account(suspense(), AccountKind::Suspense)).await.unwrap();
}

/// Opens the cash of a machine, and customers with this much on their accounts.
pub async fn endow(client: &mut Client, customers: &[(&str, i64)]) {
    client.open_account(account(opening(), AccountKind::OpeningBalance)).await.unwrap();
    client.open_account(account(cash(), AccountKind::Cash)).await.unwrap();
    for (name, minor_units) in customers {
        client.open_account(account(customer(name), AccountKind::Customer)).await.unwrap();
        if *minor_units > 0 {
            let request = post(&new_id(), &opening(), &customer(name), *minor_units);
            client.post_transaction(request).await.unwrap();
        }
    }
}

/// What an account holds and what of it may be spent.
pub async fn balance(client: &mut Client, account_id: String) -> (i64, i64) {
    let response = client.get_account(wire::GetAccountRequest { account_id }).await.unwrap();
    let Balance { balance_minor_units, available_minor_units } =
        response.into_inner().account.unwrap().balance.unwrap();
    (balance_minor_units, available_minor_units)
}

/// The last sequence of the books.
pub async fn last_sequence(client: &mut Client) -> u64 {
    let request = wire::ListEntriesRequest { after_sequence: u64::MAX, page_size: 1 };
    client.list_entries(request).await.unwrap().into_inner().last_sequence
}

/// Everything that is recorded, in commit order.
pub async fn all_steps(client: &mut Client) -> Vec<wire::Step> {
    let mut steps: Vec<wire::Step> = Vec::new();
    loop {
        let request = wire::ListEntriesRequest { after_sequence: steps.len() as u64, page_size: 1000 };
        let page = client.list_entries(request).await.unwrap().into_inner();
        steps.extend(page.steps);
        if steps.len() as u64 >= page.last_sequence {
            return steps;
        }
    }
}

/// The books as their own auditors see them: what is wrong with them, which is nothing.
pub async fn audit(client: &mut Client) -> Vec<String> {
    let mut findings = Vec::new();
    let mut stream = client.verify_ledger(wire::VerifyLedgerRequest {}).await.unwrap().into_inner();
    let mut complete = false;
    while let Some(message) = stream.message().await.unwrap() {
        findings.extend(message.findings);
        complete = message.complete;
    }
    if !complete {
        findings.push("the verification did not come to its end".to_owned());
    }
    let balance = client.get_trial_balance(wire::GetTrialBalanceRequest {}).await.unwrap().into_inner();
    if !balance.balanced {
        findings.push(format!("the trial balance does not balance: {balance:?}"));
    }
    findings
}

pub fn bytes<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Bounds a wait that should never be long; a test that meets it has failed.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it never happened")
}

/// The field that differs, of an ALREADY_EXISTS.
pub fn reused_field(status: &tonic::Status) -> String {
    let info = tonic_types::StatusExt::get_details_error_info(status).unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("ID_REUSED", "atm.bank"));
    info.metadata["field"].clone()
}
