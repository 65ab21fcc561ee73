//! The ledger on the wire: one file for each group of methods, `convert` and `outcome` between the wire and
//! the core, and `status` for everything that fails.

mod accounts;
mod audit;
mod batch;
mod convert;
mod execute;
mod limits;
mod outcome;
mod page_token;
mod reads;
mod status;
mod transactions;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use atm_proto::ledger as wire;
use atm_proto::ledger::ledger_service_server::LedgerService;
use atm_rpc::admission::{self, Priority};
use atm_types::IdSource;
use futures_util::Stream;
use tonic::{Request, Response, Status};

pub(crate) use limits::routes;

use self::status::Failure;
use crate::authorization::Authorizer;
use crate::handle::{ExecuteError, Ledger};

/// The methods that answer with a stream.
pub(crate) const STREAMING: &[&str] =
    &["/atm.ledger.v1.LedgerService/WatchEntries", "/atm.ledger.v1.LedgerService/VerifyLedger"];

/// How much it matters that a call gets in: what ends a hold goes first, reads go last.
pub(crate) fn classify(path: &str) -> Priority {
    match path.strip_prefix("/atm.ledger.v1.LedgerService/") {
        Some("CaptureTransaction" | "CancelTransaction") => Priority::Critical,
        Some("OpenAccount" | "PostTransaction" | "HoldTransaction" | "BatchExecute") => Priority::Normal,
        Some(_) => Priority::Low,
        None => admission::classify(path),
    }
}

/// What every handler works with. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    ledger: Ledger,
    authorizer: Arc<Authorizer>,
    /// Where the ids of internal errors come from.
    ids: Arc<dyn IdSource>,
}

impl Api {
    pub(crate) fn new(ledger: Ledger, authorizer: Authorizer, ids: Arc<dyn IdSource>) -> Self {
        Self { ledger, authorizer: Arc::new(authorizer), ids }
    }

    /// What it means for a caller that the ledger gave no answer.
    fn unanswered(&self, error: ExecuteError) -> Failure {
        Failure::unanswered(error, &*self.ids)
    }
}

type Answer<T> = Result<Response<T>, Status>;
/// A stream that does nothing until its reader has room for the next message.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl LedgerService for Api {
    async fn open_account(
        &self,
        request: Request<wire::OpenAccountRequest>,
    ) -> Answer<wire::OpenAccountResponse> {
        accounts::open(self, request).await
    }

    async fn get_account(
        &self,
        request: Request<wire::GetAccountRequest>,
    ) -> Answer<wire::GetAccountResponse> {
        accounts::get(self, request).await
    }

    async fn post_transaction(
        &self,
        request: Request<wire::PostTransactionRequest>,
    ) -> Answer<wire::PostTransactionResponse> {
        transactions::post(self, request).await
    }

    async fn hold_transaction(
        &self,
        request: Request<wire::HoldTransactionRequest>,
    ) -> Answer<wire::HoldTransactionResponse> {
        transactions::hold(self, request).await
    }

    async fn capture_transaction(
        &self,
        request: Request<wire::CaptureTransactionRequest>,
    ) -> Answer<wire::CaptureTransactionResponse> {
        transactions::capture(self, request).await
    }

    async fn cancel_transaction(
        &self,
        request: Request<wire::CancelTransactionRequest>,
    ) -> Answer<wire::CancelTransactionResponse> {
        transactions::cancel(self, request).await
    }

    async fn batch_execute(
        &self,
        request: Request<wire::BatchExecuteRequest>,
    ) -> Answer<wire::BatchExecuteResponse> {
        batch::execute(self, request).await
    }

    async fn get_transaction(
        &self,
        request: Request<wire::GetTransactionRequest>,
    ) -> Answer<wire::GetTransactionResponse> {
        reads::transaction(self, request).await
    }

    async fn list_entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Answer<wire::ListEntriesResponse> {
        reads::entries(self, request).await
    }

    async fn list_account_entries(
        &self,
        request: Request<wire::ListAccountEntriesRequest>,
    ) -> Answer<wire::ListAccountEntriesResponse> {
        reads::account_entries(self, request).await
    }

    type WatchEntriesStream = Messages<wire::WatchEntriesResponse>;

    async fn watch_entries(
        &self,
        request: Request<wire::WatchEntriesRequest>,
    ) -> Answer<Self::WatchEntriesStream> {
        watch::entries(self, request).await
    }

    async fn get_trial_balance(
        &self,
        _: Request<wire::GetTrialBalanceRequest>,
    ) -> Answer<wire::GetTrialBalanceResponse> {
        audit::trial_balance(self).await
    }

    type VerifyLedgerStream = Messages<wire::VerifyLedgerResponse>;

    async fn verify_ledger(&self, _: Request<wire::VerifyLedgerRequest>) -> Answer<Self::VerifyLedgerStream> {
        Ok(audit::verify(self))
    }
}
