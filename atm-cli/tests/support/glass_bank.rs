//! A bank whose wires are in the open: one between its machines and the gateway for each machine, one between the
//! gateway and the ledger. Who is behind a cut wire is as good as dead.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::{
    CancelTransactionRequest, CashBin, GetBalanceRequest, GetCashPositionRequest, GetTrialBalanceRequest,
    ImportAccountsRequest, ImportRow, InspectTransactionRequest, InspectTransactionResponse, LogInRequest,
    NewAccount, ResolveSuspectRequest, VerifyLedgerRequest,
};
use atm_proto::types::{Balance, Money};
use atm_rpc::credentials::BearerToken;
use atm_rpc::process::SecretFile;
use atm_rpc::server::{bind, check_health};
use atm_types::{Clock, IdSource, SystemClock, SystemIds};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::proxy::{Mode, Proxy};
use super::{Atm, Customer, PIN, with_key_of};

/// What the books say of one place: balance and pending, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Booked {
    pub(crate) balance: i64,
    pub(crate) pending: i64,
}

pub(crate) struct GlassBank {
    pub(crate) runtime: Runtime,
    pub(crate) gateway: String,
    /// Between gateway and ledger.
    pub(crate) ledger_wire: Proxy,
    operator: MetadataValue<Ascii>,
    channel: Channel,
    customers: u32,
    _stop: CancellationToken,
    _home: TempDir,
}

impl GlassBank {
    /// Starts the three services, and opens accounts of 1000.00 for so many customers.
    pub(crate) fn new(customers: u32) -> Self {
        let runtime = Runtime::new().unwrap();
        let home = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (gateway, ledger_wire, operator) = start(&runtime, home.path(), &stop);
        let channel = runtime
            .block_on(async { Channel::from_shared(gateway.clone()).unwrap().connect().await })
            .unwrap();
        let bank =
            Self { runtime, gateway, ledger_wire, operator, channel, customers, _stop: stop, _home: home };
        bank.import();
        bank
    }

    fn import(&self) {
        let rows: Vec<ImportRow> = (0..self.customers)
            .map(|number| ImportRow {
                account: Some(NewAccount {
                    account_number: format!("C-{number}"),
                    holder_name: "Test".into(),
                    opening_balance: Some(Money { currency_code: "BDT".into(), minor_units: 100_000 }),
                    ..NewAccount::default()
                }),
                card_number: customer(number).card,
                pin: PIN.into(),
            })
            .collect();
        for rows in rows.chunks(50) {
            let request = self.as_operator(ImportAccountsRequest { rows: rows.to_vec() });
            let mut client = AdminServiceClient::new(self.channel.clone());
            let answer = self.runtime.block_on(client.import_accounts(request)).unwrap().into_inner();
            assert!(answer.results.iter().all(|result| result.error.is_none()), "{answer:?}");
        }
    }

    fn as_operator<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.operator.clone());
        request
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// What the books say of a machine's place.
    pub(crate) fn booked(&self, atm_id: &str) -> impl Fn(CashBin) -> Booked + use<> {
        let request = self.as_operator(GetCashPositionRequest { atm_id: atm_id.to_owned() });
        let mut admin = self.admin();
        let answer = self.runtime.block_on(admin.get_cash_position(request)).unwrap().into_inner();
        move |bin| {
            let line = answer.positions.iter().find(|line| line.bin() == bin).unwrap();
            Booked { balance: line.balance_minor_units, pending: line.pending_minor_units }
        }
    }

    /// Whether the bank answers at all.
    pub(crate) fn try_booked(&self) -> bool {
        let request = self.as_operator(GetCashPositionRequest { atm_id: "CHECK".to_owned() });
        self.runtime.block_on(self.admin().get_cash_position(request)).is_ok()
    }

    /// All that the ledger recorded under an id, if anything.
    pub(crate) fn inspect(&self, id: &str) -> Option<InspectTransactionResponse> {
        let request = self.as_operator(InspectTransactionRequest { transaction_id: id.to_owned() });
        match self.runtime.block_on(self.admin().inspect_transaction(request)) {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status}");
                None
            }
        }
    }

    /// Cancels a transaction with a machine's own key, past the machine.
    pub(crate) fn cancel(&self, atm: &Atm, id: &str) {
        let request = with_key_of(atm, CancelTransactionRequest { transaction_id: id.to_owned() });
        let mut client = AtmServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.cancel_transaction(request)).unwrap();
    }

    /// An operator decides about a suspect.
    pub(crate) fn resolve(&self, id: &str, minor_units: i64) {
        let request = self.as_operator(ResolveSuspectRequest {
            transaction_id: id.to_owned(),
            amount: Some(Money { currency_code: "BDT".into(), minor_units }),
            operator: "Test".into(),
            reason: "the test decided".into(),
        });
        self.runtime.block_on(self.admin().resolve_suspect(request)).unwrap();
    }

    /// What a customer has, asked at a machine of the test's own.
    pub(crate) fn balance(&self, customer: &Customer) -> Balance {
        self.runtime.block_on(async {
            let mut client = AtmServiceClient::new(self.channel.clone());
            let mut request = Request::new(LogInRequest {
                card_number: customer.card.clone(),
                pin: PIN.into(),
                attempt_id: SystemIds.attempt_id().to_string(),
                atm_id: "CHECK".into(),
                boot: None,
            });
            let key: MetadataValue<Ascii> = "ab".repeat(32).parse().unwrap();
            request.metadata_mut().insert("atm-terminal-key", key.clone());
            let session = client.log_in(request).await.unwrap().into_inner().session_token;
            let mut request = Request::new(GetBalanceRequest {});
            request.metadata_mut().insert("atm-terminal-key", key);
            request.metadata_mut().insert("atm-id", "CHECK".parse().unwrap());
            request.metadata_mut().insert("authorization", format!("Bearer {session}").parse().unwrap());
            client.get_balance(request).await.unwrap().into_inner().balance.unwrap()
        })
    }

    /// Debits equal credits, all totals are what their entries sum to, and the hash chain verifies.
    pub(crate) fn check_books(&self) {
        let request = self.as_operator(GetTrialBalanceRequest {});
        let trial = self.runtime.block_on(self.admin().get_trial_balance(request)).unwrap().into_inner();
        assert!(trial.balanced, "{trial:?}");
        let request = self.as_operator(VerifyLedgerRequest {});
        self.runtime.block_on(async {
            let mut progress = self.admin().verify_ledger(request).await.unwrap().into_inner();
            while let Some(step) = progress.message().await.unwrap() {
                assert!(step.findings.is_empty(), "{step:?}");
            }
        });
    }
}

/// The customer with this number.
pub(crate) fn customer(number: u32) -> Customer {
    Customer { account: format!("C-{number}"), card: format!("{}", 500_000_000_000 + u64::from(number)) }
}

fn start(runtime: &Runtime, home: &Path, stop: &CancellationToken) -> (String, Proxy, MetadataValue<Ascii>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (auth, ledger, gateway) = runtime.block_on(async {
        (bind(free, false).await.unwrap(), bind(free, false).await.unwrap(), bind(free, false).await.unwrap())
    });
    let url = |listener: &tokio::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let (auth_url, ledger_url, gateway_url) = (url(&auth), url(&ledger), url(&gateway));
    let ledger_wire = Proxy::to(&ledger_url, runtime.handle(), 1);

    let service_token = home.join("service.token");
    let token =
        |path: &Path| BearerToken::from_secret(&SecretFile::create_or_load(path, &*ids).unwrap()).unwrap();
    let (service, operator_file) = (token(&service_token), home.join("operator.token"));
    let operator = token(&operator_file);
    let mut auth_config =
        atm_auth::Config::new(home.join("auth"), service_token.clone(), home.join("pepper"));
    auth_config.hashing.cost = atm_auth::domain::HashCost::CHEAPEST;
    let ledger_config = atm_ledger::config::Config::new(home.join("ledger"), service_token);
    let gateway_config = atm_gateway::Config::new(&*auth_url, &*ledger_wire.url(), service, operator);
    runtime.spawn(atm_auth::run(auth, auth_config, Arc::clone(&clock), Arc::clone(&ids), stop.clone()));
    runtime.spawn(atm_ledger::run(ledger, ledger_config, Arc::clone(&clock), Arc::clone(&ids), stop.clone()));
    runtime.block_on(healthy(&auth_url));
    runtime.block_on(healthy(&ledger_url));
    runtime.spawn(atm_gateway::run(gateway, gateway_config, clock, ids, stop.clone()));
    runtime.block_on(healthy(&gateway_url));
    ledger_wire.set(Mode::Clean);
    let secret = std::fs::read_to_string(operator_file).unwrap();
    (gateway_url, ledger_wire, format!("Bearer {}", secret.trim()).parse().unwrap())
}

async fn healthy(url: &str) {
    for _ in 0..3000 {
        if check_health(url).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{url} is not healthy");
}
