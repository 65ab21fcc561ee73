//! A whole bank of real processes in a temporary directory, and the customers of an experiment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::{
    CancelTransactionRequest, IssueCardRequest, LogInRequest, NewAccount, OpenAccountRequest,
};
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::types::{Money, TransactionState};
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_rpc::deadline::Deadline;
use atm_rpc::process::SecretFile;
use atm_rpc::retry::{RetryPolicy, retry};
use atm_rpc::throttle::Throttle;
use atm_types::{IdSource, SystemIds};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::binaries::Binaries;
use crate::process::Process;
use crate::scenario::Victim;

/// What every customer of the lab begins with: 10 billion taka.
pub const OPENING: i64 = 1_000_000_000_000;
/// What every withdrawal takes: 100 taka.
pub const AMOUNT: i64 = 10_000;
const PIN: &str = "2468";
/// How long the bank may take to say what became of a transaction.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the ledger itself, past gateway and proxy.
pub type Books = LedgerServiceClient<InterceptedService<Channel, AttachToken>>;

/// The three services, running.
pub struct Bank {
    directory: TempDir,
    auth: Mutex<Process>,
    ledger: Mutex<Process>,
    gateway: Mutex<Process>,
    gateway_url: String,
    ledger_url: String,
}

/// A customer at a machine, with a session and money.
#[derive(Clone, Debug)]
pub struct Customer {
    /// The account, as the ledger knows it.
    pub account_id: String,
    key: MetadataValue<Ascii>,
    session: MetadataValue<Ascii>,
}

/// An amount in the bank's currency.
pub fn taka(minor_units: i64) -> Option<Money> {
    Some(Money { currency_code: "BDT".to_owned(), minor_units })
}

impl Bank {
    /// Starts auth, ledger and gateway.
    ///
    /// # Errors
    /// When one of them does not start, with what it logged.
    pub async fn start(binaries: &Binaries) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("atm-lab-").tempdir()?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        for secret in ["service.token", "operator.token", "pepper"] {
            SecretFile::create_or_load(&directory.path().join(secret), &SystemIds)?;
        }
        let token = ["--service-token-file".to_owned(), at("service.token")];
        let start = async |name: &str, program: &Path, own: Vec<String>| {
            let arguments = own.into_iter().chain(token.iter().cloned()).collect();
            let log = directory.path().join(format!("{name}.log"));
            Process::start(program.to_owned(), arguments, log).await
        };
        let own = ["--data", &at("auth"), "--pepper-file", &at("pepper"), "--session-seconds", "900"];
        let auth = start("auth", &binaries.auth, own.map(str::to_owned).to_vec()).await?;
        let ledger = start("ledger", &binaries.ledger, vec!["--data".to_owned(), at("ledger")]).await?;
        let own = [
            "--operator-token-file",
            &at("operator.token"),
            "--auth",
            &auth.url(),
            "--ledger",
            &ledger.url(),
        ];
        let gateway = start("gateway", &binaries.gateway, own.map(str::to_owned).to_vec()).await?;
        Ok(Self {
            gateway_url: gateway.url(),
            ledger_url: ledger.url(),
            directory,
            auth: Mutex::new(auth),
            ledger: Mutex::new(ledger),
            gateway: Mutex::new(gateway),
        })
    }

    /// Where the gateway listens.
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// What operators show to the gateway.
    pub fn operator_token_file(&self) -> PathBuf {
        self.directory.path().join("operator.token")
    }

    /// One of its processes.
    pub fn process(&self, victim: Victim) -> &Mutex<Process> {
        match victim {
            Victim::Auth => &self.auth,
            Victim::Ledger => &self.ledger,
            Victim::Gateway => &self.gateway,
        }
    }

    /// Kills a process and starts it again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn kill(&self, victim: Victim) -> anyhow::Result<()> {
        self.process(victim).lock().await.kill_and_restart().await
    }

    /// Opens an account with [`OPENING`] on it, and logs its holder in at a machine of their own.
    ///
    /// # Errors
    /// When the bank refuses.
    pub async fn customer(&self, number: u32) -> anyhow::Result<Customer> {
        let operator = token(&self.operator_token_file())?;
        let mut admin =
            AdminServiceClient::with_interceptor(channel(&self.gateway_url)?, AttachToken::new(operator));
        let account_number = format!("lab-{number}");
        let account = NewAccount {
            account_number: account_number.clone(),
            holder_name: format!("Customer {number}"),
            opening_balance: taka(OPENING),
            ..NewAccount::default()
        };
        admin.open_account(OpenAccountRequest { account: Some(account) }).await.context("no account")?;
        let card_number = format!("{}", 4_000_000_000_000_000_u64 + u64::from(number));
        let card = IssueCardRequest {
            card_number: card_number.clone(),
            account: account_number,
            pin: PIN.to_owned(),
        };
        admin.issue_card(card).await.context("no card")?;

        let key: MetadataValue<Ascii> = hex::encode(SystemIds.secret()).parse()?;
        let mut log_in = Request::new(LogInRequest {
            card_number,
            pin: PIN.to_owned(),
            attempt_id: SystemIds.attempt_id().to_string(),
            atm_id: format!("lab-{number}"),
            boot: None,
        });
        log_in.metadata_mut().insert("atm-terminal-key", key.clone());
        let mut client = AtmServiceClient::new(channel(&self.gateway_url)?);
        let session = client.log_in(log_in).await.context("no session")?.into_inner();
        Ok(Customer {
            account_id: session.account_id,
            key,
            session: format!("Bearer {}", session.session_token).parse()?,
        })
    }

    /// Fences a transaction off, past the proxy; whether its money had moved.
    ///
    /// # Errors
    /// When there is no final answer.
    pub async fn settle(&self, customer: &Customer, id: &str) -> anyhow::Result<bool> {
        let request = CancelTransactionRequest { transaction_id: id.to_owned() };
        let client = AtmServiceClient::new(channel(&self.gateway_url)?);
        // A process that was killed a moment ago is on its way back.
        let (policy, throttle) = (RetryPolicy::default(), Throttle::default());
        let answer =
            retry(&policy, &throttle, Deadline::after(PATIENCE), request, |mut request: Request<_>| {
                customer.sign(request.metadata_mut());
                let mut client = client.clone();
                async move { client.cancel_transaction(request).await }
            });
        match answer.await?.current_state() {
            TransactionState::Posted => Ok(true),
            TransactionState::Cancelled => Ok(false),
            state => bail!("{id} is {} after its cancel", state.as_str_name()),
        }
    }

    /// The ledger itself.
    ///
    /// # Errors
    /// When its token cannot be read.
    pub fn books(&self) -> anyhow::Result<Books> {
        let token = token(&self.directory.path().join("service.token"))?;
        Ok(LedgerServiceClient::with_interceptor(channel(&self.ledger_url)?, AttachToken::new(token))
            .max_decoding_message_size(4 * atm_rpc::limits::BATCH_BYTES))
    }
}

impl Customer {
    /// Adds who is asking.
    pub fn sign(&self, metadata: &mut MetadataMap) {
        metadata.insert("atm-terminal-key", self.key.clone());
        metadata.insert("authorization", self.session.clone());
    }
}

fn channel(url: &str) -> anyhow::Result<Channel> {
    Ok(lazy_channel(url, &ChannelConfig::default())?)
}

fn token(path: &Path) -> anyhow::Result<BearerToken> {
    Ok(BearerToken::load(path)?)
}
