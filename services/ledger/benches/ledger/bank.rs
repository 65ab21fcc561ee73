//! A ledger served over gRPC with two yardsticks beside it: an echo on the same server, behind the same layers and
//! the same token, and an echo of tonic as it comes, on a server of its own and with nothing of ours around it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use atm_ledger::config::Config;
use atm_proto::bench::echo_service_client::EchoServiceClient;
use atm_proto::bench::echo_service_server::{EchoService, EchoServiceServer};
use atm_proto::bench::{EchoRequest, EchoResponse};
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::ledger::{self as wire, AccountKind};
use atm_proto::types::{Money, TransactionState};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::{AttachToken, BearerToken, RequireToken};
use atm_types::{AccountId, Clock, Currency, IdSource, SystemClock, SystemIds};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

const CUSTOMERS: u64 = 1_000;

struct Echo;

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { payload: request.into_inner().payload }))
    }
}

/// The servers, running in this process.
pub(crate) struct Bank {
    url: String,
    plain_url: String,
    config: Config,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), atm_ledger::Error>>,
}

/// One connection to each server, and what can be asked over it.
#[derive(Clone)]
pub(crate) struct Client {
    ledger: LedgerServiceClient<InterceptedService<Channel, AttachToken>>,
    echo: EchoServiceClient<InterceptedService<Channel, AttachToken>>,
    plain_echo: EchoServiceClient<Channel>,
}

impl Bank {
    /// New books in `directory` with a thousand customers who have plenty.
    pub(crate) async fn open(directory: &Path) -> Self {
        let config = Config::new(directory.join("books"), directory.join("service.token"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(atm_ledger::run_with(
            listener,
            config.clone(),
            Arc::new(SystemClock),
            Arc::new(SystemIds),
            shutdown.clone(),
            {
                let token_file = config.service_token_file.clone();
                move |routes| {
                    let token = BearerToken::load(&token_file).expect("the token was made");
                    routes.add_service(EchoServiceServer::with_interceptor(Echo, RequireToken::new(token)));
                }
            },
        ));
        while !atm_rpc::server::check_health(&url).await {
            assert!(!running.is_finished(), "the ledger did not start");
        }
        let bank = Self { url, plain_url: serve_plain_echo().await, config, shutdown, running };
        bank.endow().await;
        bank
    }

    /// A connection of its own.
    pub(crate) fn client(&self) -> Client {
        let channel = lazy_channel(&self.url, &ChannelConfig::default()).expect("a URL");
        let token = BearerToken::load(&self.config.service_token_file).expect("the token was made");
        let token = AttachToken::new(token);
        Client {
            ledger: LedgerServiceClient::with_interceptor(channel.clone(), token.clone()),
            echo: EchoServiceClient::with_interceptor(channel, token),
            plain_echo: EchoServiceClient::new(
                Endpoint::from_shared(self.plain_url.clone()).expect("a URL").connect_lazy(),
            ),
        }
    }

    /// Ends in good order.
    pub(crate) async fn close(self) {
        self.shutdown.cancel();
        self.running.await.expect("it did not panic").expect("it ended in good order");
    }

    async fn endow(&self) {
        use wire::batch_command::Command;
        let mut client = self.client().ledger;
        let opening = AccountId::of_opening_balances(Currency::BDT).to_string();
        let mut commands = vec![Command::OpenAccount(account(opening.clone(), AccountKind::OpeningBalance))];
        for number in 0..CUSTOMERS {
            commands.push(Command::OpenAccount(account(customer(number), AccountKind::Customer)));
            let id = SystemIds.transaction_id().to_string();
            commands.push(Command::Post(transfer(id, opening.clone(), customer(number), 1_000_000_000)));
        }
        let commands = commands.into_iter().map(|command| wire::BatchCommand { command: Some(command) });
        let request = wire::BatchExecuteRequest { commands: commands.collect() };
        client.batch_execute(request).await.expect("the accounts are opened");
    }
}

impl Client {
    /// Posts one transfer under a new id.
    pub(crate) async fn post(&mut self, turn: u64) {
        let response = self.ledger.post_transaction(request(turn)).await.expect("a posting is answered");
        assert_eq!(response.get_ref().current_state(), TransactionState::Posted);
    }

    /// Has as many bytes sent back as a posting has.
    pub(crate) async fn echo(&mut self, payload: &[u8]) {
        let request = EchoRequest { payload: payload.to_vec() };
        let response = self.echo.echo(request).await.expect("an echo is answered");
        assert_eq!(response.get_ref().payload.len(), payload.len());
    }

    /// The same without anything of ours around it.
    pub(crate) async fn plain_echo(&mut self, payload: &[u8]) {
        let request = EchoRequest { payload: payload.to_vec() };
        let response = self.plain_echo.echo(request).await.expect("an echo is answered");
        assert_eq!(response.get_ref().payload.len(), payload.len());
    }
}

/// Starts a server that ends with this process; its URL.
async fn serve_plain_echo() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(EchoServiceServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(connections));
    url
}

/// The bytes of a posting, for the echo.
pub(crate) fn payload() -> Vec<u8> {
    request(0).encode_to_vec()
}

fn request(turn: u64) -> wire::PostTransactionRequest {
    let id = new_id();
    let debit = turn.wrapping_mul(31) % CUSTOMERS;
    transfer(id, customer(debit), customer((debit + 1 + turn % (CUSTOMERS - 1)) % CUSTOMERS), 1)
}

/// A UUIDv7 whose random part costs the client no call into the kernel.
fn new_id() -> String {
    let millis = u64::try_from(SystemClock.now().as_nanos() / 1_000_000).unwrap_or(0);
    let mut random = [0; 10];
    fastrand::Rng::new().fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

fn customer(number: u64) -> String {
    let mut bytes = [0x42; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes).to_string()
}

fn account(account_id: String, kind: AccountKind) -> wire::OpenAccountRequest {
    let currency_code = "BDT".to_owned();
    let account = wire::Account { account_id, kind: kind.into(), currency_code, ..Default::default() };
    wire::OpenAccountRequest { account: Some(account) }
}

fn transfer(
    transaction_id: String,
    debit_account_id: String,
    credit_account_id: String,
    minor_units: i64,
) -> wire::PostTransactionRequest {
    wire::PostTransactionRequest {
        transaction_id,
        terminal_id: "5e".repeat(32),
        debit_account_id,
        credit_account_id,
        amount: Some(Money { currency_code: "BDT".to_owned(), minor_units }),
    }
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
