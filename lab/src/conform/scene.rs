//! Accounts, requests and connections for the checks.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use atm_fault_proxy::{Proxy, Rule, Tcp};
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::ledger::{
    Account, AccountKind, CancelTransactionRequest, CaptureTransactionRequest, GetAccountRequest,
    HoldTransactionRequest, OpenAccountRequest, PostTransactionRequest, SuspendTransactionRequest,
};
use atm_proto::types::Money;
use atm_rpc::channel::{ChannelConfig, lazy_channel, lazy_channel_over};
use atm_rpc::credentials::BearerToken;
use atm_rpc::network::Connect;
use atm_types::{IdSource, SystemIds};
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::Target;

/// A terminal, and a stranger.
pub(super) const TERMINAL: &str = "5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0";
pub(super) const STRANGER: &str = "badbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbad0";

/// Longer than a suite runs.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A client that shows its token and waits no longer than it is told.
pub(super) type Client = LedgerServiceClient<InterceptedService<Channel, Credentials>>;

/// What every call carries.
#[derive(Clone)]
pub(super) struct Credentials {
    token: Option<BearerToken>,
    patience: Duration,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            token.attach(&mut request);
        }
        if !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(self.patience);
        }
        Ok(request)
    }
}

/// The server under test, directly and through a proxy, and the accounts that all checks share.
pub struct Scene {
    pub(super) target: Target,
    opening: String,
    cash: String,
    /// Every account that was opened, and its kind.
    opened: Mutex<Vec<(String, AccountKind)>>,
    /// Why no restart needs to be tried any more.
    pub(super) not_restarted: OnceLock<String>,
    pub(super) proxy: Proxy,
    proxy_url: String,
    _stop: DropGuard,
}

/// What an account holds, and what of it may be spent.
pub(super) type Balance = (i64, i64);

pub(super) fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

impl Scene {
    pub(super) async fn new(target: &Target) -> anyhow::Result<Self> {
        let proxy = Proxy::new(&target.url, Arc::new(Tcp), Vec::new(), Rng::with_seed(1))?;
        let reached = timeout(target.patience, Tcp.connect(&target.url.parse()?)).await;
        reached.map_err(Into::into).flatten().with_context(|| format!("nobody listens at {}", target.url))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy_url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let (serving, stopped) = (proxy.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopped).await });
        Ok(Self {
            target: target.clone(),
            opening: new_id(),
            cash: new_id(),
            opened: Mutex::default(),
            not_restarted: OnceLock::new(),
            proxy,
            proxy_url,
            _stop: stop.drop_guard(),
        })
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.target.patience
    }

    /// A client on a connection of its own, past the proxy.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        self.client_to(&self.target.url)
    }

    /// A client whose calls go through the proxy, under this rule from now on.
    pub(super) fn client_through(&self, rule: Rule) -> anyhow::Result<Client> {
        self.proxy.set_rules(vec![rule])?;
        self.client_to(&self.proxy_url)
    }

    fn client_to(&self, url: &str) -> anyhow::Result<Client> {
        Ok(self.showing_credentials(lazy_channel(url, &ChannelConfig::default())?))
    }

    /// A client past the proxy on connections that `network` opens and nobody but the server ends.
    pub(super) fn client_over(&self, network: &Arc<dyn Connect>) -> anyhow::Result<Client> {
        let config = ChannelConfig { keepalive_interval: NEVER, ..Default::default() };
        Ok(self.showing_credentials(lazy_channel_over(&self.target.url, &config, Some(network))?))
    }

    fn showing_credentials(&self, channel: Channel) -> Client {
        let credentials = Credentials { token: self.target.token.clone(), patience: self.target.patience };
        LedgerServiceClient::with_interceptor(channel, credentials)
    }

    /// A new customer's account with this much on it.
    pub(super) async fn customer(&self, minor_units: i64) -> anyhow::Result<String> {
        self.open_once(&self.opening, AccountKind::OpeningBalance).await?;
        self.open_once(&self.cash, AccountKind::Cash).await?;
        let customer = self.open(AccountKind::Customer).await?;
        if minor_units > 0 {
            self.fund(&customer, minor_units).await?;
        }
        Ok(customer)
    }

    /// A new account.
    pub(super) async fn open(&self, kind: AccountKind) -> anyhow::Result<String> {
        let id = new_id();
        self.open_once(&id, kind).await?;
        Ok(id)
    }

    async fn open_once(&self, id: &str, kind: AccountKind) -> anyhow::Result<()> {
        let account = Account {
            account_id: id.to_owned(),
            kind: kind.into(),
            currency_code: self.target.currency.clone(),
            ..Account::default()
        };
        let opened = self.client()?.open_account(OpenAccountRequest { account: Some(account) }).await;
        opened.context("an account cannot be opened")?;
        let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if all.iter().all(|(other, _)| other != id) {
            all.push((id.to_owned(), kind));
        }
        Ok(())
    }

    /// Every account that was opened so far, and its kind.
    pub(super) fn opened(&self) -> Vec<(String, AccountKind)> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pays in.
    pub(super) async fn fund(&self, customer: &str, minor_units: i64) -> anyhow::Result<()> {
        let paid = PostTransactionRequest {
            debit_account_id: self.opening.clone(),
            credit_account_id: customer.to_owned(),
            ..self.post(&new_id(), customer, minor_units)
        };
        self.client()?.post_transaction(paid).await.context("an account cannot be paid into")?;
        Ok(())
    }

    /// An account as it stands.
    pub(super) async fn account(&self, account_id: &str) -> anyhow::Result<Account> {
        let request = GetAccountRequest { account_id: account_id.to_owned() };
        let answer = self.client()?.get_account(request).await.context("an account cannot be read")?;
        answer.into_inner().account.context("an answer without an account")
    }

    /// Insists on a balance.
    pub(super) async fn expect_balance(&self, account_id: &str, expected: Balance) -> anyhow::Result<()> {
        let balance = self.account(account_id).await?.balance.context("no balance")?;
        let (balance, available) = (balance.balance_minor_units, balance.available_minor_units);
        ensure!(
            (balance, available) == expected,
            "balance {balance} and available {available}, instead of {} and {}",
            expected.0,
            expected.1
        );
        Ok(())
    }

    pub(super) fn money(&self, minor_units: i64) -> Option<Money> {
        Some(Money { currency_code: self.target.currency.clone(), minor_units })
    }

    /// A withdrawal in one step.
    pub(super) fn post(&self, id: &str, customer: &str, minor_units: i64) -> PostTransactionRequest {
        PostTransactionRequest {
            transaction_id: id.to_owned(),
            terminal_id: TERMINAL.to_owned(),
            debit_account_id: customer.to_owned(),
            credit_account_id: self.cash.clone(),
            amount: self.money(minor_units),
        }
    }

    pub(super) fn hold(&self, id: &str, customer: &str, minor_units: i64) -> HoldTransactionRequest {
        HoldTransactionRequest {
            transaction_id: id.to_owned(),
            terminal_id: TERMINAL.to_owned(),
            debit_account_id: customer.to_owned(),
            credit_account_id: self.cash.clone(),
            amount: self.money(minor_units),
            lifetime: None,
        }
    }

    pub(super) fn capture(&self, id: &str, minor_units: i64) -> CaptureTransactionRequest {
        CaptureTransactionRequest {
            transaction_id: id.to_owned(),
            terminal_id: TERMINAL.to_owned(),
            amount: self.money(minor_units),
            authorization: Vec::new(),
        }
    }
}

pub(super) fn cancel(id: &str) -> CancelTransactionRequest {
    CancelTransactionRequest { transaction_id: id.to_owned(), terminal_id: TERMINAL.to_owned() }
}

pub(super) fn suspend(id: &str, suspense_account_id: &str) -> SuspendTransactionRequest {
    SuspendTransactionRequest {
        transaction_id: id.to_owned(),
        terminal_id: TERMINAL.to_owned(),
        suspense_account_id: suspense_account_id.to_owned(),
        authorization: Vec::new(),
    }
}

/// Insists on ALREADY_EXISTS that names this field.
pub(super) fn expect_reused<T>(answer: Result<T, Status>, field: &str) -> anyhow::Result<()> {
    let status = expect_status(answer, Code::AlreadyExists)?;
    let named = status.get_details_error_info().and_then(|info| info.metadata.get("field").cloned());
    let named = named.unwrap_or_default();
    // `amount` may be named as a whole or by its part.
    let names = named == field || named.strip_prefix(field).is_some_and(|part| part.starts_with('.'));
    ensure!(names, "ALREADY_EXISTS names {named:?} instead of {field:?}");
    Ok(())
}

/// Insists on a status.
pub(super) fn expect_status<T>(answer: Result<T, Status>, code: Code) -> anyhow::Result<Status> {
    match answer {
        Ok(_) => bail!("answered OK instead of {code:?}"),
        Err(status) if status.code() == code => Ok(status),
        Err(status) => bail!("answered {:?} ({}) instead of {code:?}", status.code(), status.message()),
    }
}
