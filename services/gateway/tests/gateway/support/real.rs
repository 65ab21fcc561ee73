//! A whole bank: the real auth and ledger, with one or more gateways before them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_gateway::Config;
use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::*;
use atm_rpc::credentials::BearerToken;
use atm_rpc::process::SecretFile;
use atm_rpc::server::check_health;
use atm_types::{Clock, IdSource, SystemClock, SystemIds};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;

use super::{Machine, OPERATOR, as_operator, bdt, channel, eventually, free_port, token};

/// Farhan's card, with 1,000.00 on its account.
pub(crate) const FARHAN: &str = "4000000000000001";
/// Biva's card, with 50.00 on its account.
pub(crate) const BIVA: &str = "4000000000000002";

pub(crate) struct Bank {
    pub(crate) url: String,
    auth_url: String,
    ledger_url: String,
    service_token: BearerToken,
    shutdown: CancellationToken,
    _stop: DropGuard,
    _directory: TempDir,
}

fn ids() -> Arc<dyn IdSource> {
    Arc::new(SystemIds)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn service_token(directory: &Path) -> BearerToken {
    let file = SecretFile::create_or_load(&directory.join("service.token"), &SystemIds).unwrap();
    BearerToken::from_secret(&file).unwrap()
}

impl Bank {
    /// A bank with two customers.
    pub(crate) async fn new() -> Self {
        let bank = Self::empty().await;
        for (number, card, balance) in [("Farhan", FARHAN, 100_000), ("Biva", BIVA, 5_000)] {
            let account = Some(account(number, balance));
            bank.admin().open_account(as_operator(OpenAccountRequest { account })).await.unwrap();
            let request = IssueCardRequest {
                card_number: card.to_owned(),
                account: number.to_owned(),
                pin: "1234".to_owned(),
            };
            assert!(bank.admin().issue_card(as_operator(request)).await.unwrap().into_inner().changed);
        }
        bank
    }

    /// A bank without customers.
    pub(crate) async fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        let service_token = service_token(directory.path());
        let shutdown = CancellationToken::new();
        let (listener, auth_url) = free_port().await;
        let config = atm_auth::Config::for_tests(directory.path());
        tokio::spawn(atm_auth::run(listener, config, clock(), ids(), shutdown.clone()));
        let (listener, ledger_url) = free_port().await;
        let token_file = directory.path().join("service.token");
        let config = atm_ledger::config::Config::new(directory.path().join("ledger"), token_file);
        tokio::spawn(atm_ledger::run(listener, config, clock(), ids(), shutdown.clone()));
        eventually("auth and ledger are there", async || {
            check_health(&auth_url).await && check_health(&ledger_url).await
        })
        .await;
        let mut bank = Self {
            url: String::new(),
            auth_url,
            ledger_url,
            service_token,
            _stop: shutdown.clone().drop_guard(),
            shutdown,
            _directory: directory,
        };
        bank.url = bank.gateway().await;
        bank
    }

    /// One more gateway, which has nothing in common with the others.
    pub(crate) async fn gateway(&self) -> String {
        let (listener, url) = free_port().await;
        let config = Config {
            deadline_margin: Duration::from_millis(20),
            ..Config::new(&*self.auth_url, &*self.ledger_url, self.service_token.clone(), token(OPERATOR))
        };
        tokio::spawn(atm_gateway::run(listener, config, clock(), ids(), self.shutdown.clone()));
        url
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(channel(&self.url)).max_decoding_message_size(2 << 20)
    }

    /// A machine with a key of its own.
    pub(crate) fn machine(&self, atm_id: &str) -> Machine {
        Machine {
            client: AtmServiceClient::new(channel(&self.url)),
            key: SystemIds.secret(),
            atm_id: Some(atm_id.to_owned()),
            session: None,
            deadline: Duration::from_secs(20),
        }
    }

    /// A machine at which the holder of `card` has logged in.
    pub(crate) async fn customer(&self, atm_id: &str, card: &str) -> Machine {
        let mut machine = self.machine(atm_id);
        machine.session = Some(machine.log_in(card, "1234").await.unwrap().session_token);
        machine
    }
}

/// An account to open.
pub(crate) fn account(number: &str, minor_units: i64) -> NewAccount {
    NewAccount {
        account_number: number.to_owned(),
        holder_name: format!("{number} Ahmed"),
        opening_balance: bdt(minor_units),
        ..NewAccount::default()
    }
}

impl Machine {
    /// Balance and available balance.
    pub(crate) async fn balance(&self) -> Result<(i64, i64), Status> {
        let answer = self.client.clone().get_balance(self.request(GetBalanceRequest {})).await?;
        let balance = answer.into_inner().balance.unwrap();
        Ok((balance.balance_minor_units, balance.available_minor_units))
    }

    pub(crate) async fn authorize(
        &self,
        id: &str,
        minor_units: i64,
    ) -> Result<AuthorizeWithdrawalResponse, Status> {
        let request = AuthorizeWithdrawalRequest {
            transaction_id: id.to_owned(),
            amount: bdt(minor_units),
            lifetime: None,
        };
        Ok(self.client.clone().authorize_withdrawal(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn capture(
        &self,
        id: &str,
        minor_units: i64,
    ) -> Result<CaptureWithdrawalResponse, Status> {
        let request = CaptureWithdrawalRequest {
            transaction_id: id.to_owned(),
            amount: bdt(minor_units),
            authorization: Vec::new(),
        };
        Ok(self.client.clone().capture_withdrawal(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<CancelTransactionResponse, Status> {
        let request = CancelTransactionRequest { transaction_id: id.to_owned() };
        Ok(self.client.clone().cancel_transaction(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn withdraw(&self, id: &str, minor_units: i64) -> Result<WithdrawResponse, Status> {
        let request = WithdrawRequest { transaction_id: id.to_owned(), amount: bdt(minor_units) };
        Ok(self.client.clone().withdraw(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn deposit(&self, id: &str, minor_units: i64) -> Result<DepositResponse, Status> {
        let request = DepositRequest { transaction_id: id.to_owned(), amount: bdt(minor_units) };
        Ok(self.client.clone().deposit(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn transfer(
        &self,
        id: &str,
        minor_units: i64,
        to: &str,
    ) -> Result<TransferResponse, Status> {
        let request = TransferRequest {
            transaction_id: id.to_owned(),
            amount: bdt(minor_units),
            to_account: to.to_owned(),
        };
        Ok(self.client.clone().transfer(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn transaction(&self, id: &str) -> Result<GetTransactionResponse, Status> {
        let request = GetTransactionRequest { transaction_id: id.to_owned() };
        Ok(self.client.clone().get_transaction(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn statement(&self, size: i32, token: &str) -> Result<ListTransactionsResponse, Status> {
        let request = ListTransactionsRequest { page_size: size, page_token: token.to_owned() };
        Ok(self.client.clone().list_transactions(self.request(request)).await?.into_inner())
    }
}
