//! The ledger on the wire: one file for each group of methods, `convert` and `outcome` between the wire and
//! the core, and `status` for everything that fails.

mod accounts;
mod audit;
mod batch;
mod convert;
mod execute;
mod limits;
pub(crate) mod outcome;
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
        Some("CaptureTransaction" | "CancelTransaction" | "SuspendTransaction") => Priority::Critical,
        Some(
            "OpenAccount" | "PostTransaction" | "HoldTransaction" | "ResolveTransaction" | "BatchExecute",
        ) => Priority::Normal,
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

    async fn suspend_transaction(
        &self,
        request: Request<wire::SuspendTransactionRequest>,
    ) -> Answer<wire::SuspendTransactionResponse> {
        transactions::suspend(self, request).await
    }

    async fn resolve_transaction(
        &self,
        request: Request<wire::ResolveTransactionRequest>,
    ) -> Answer<wire::ResolveTransactionResponse> {
        transactions::resolve(self, request).await
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Path, whether it answers with a stream, and whether it may change anything, of each method.
    fn methods() -> Vec<(String, bool, bool)> {
        use prost_types::method_options::IdempotencyLevel;
        let set = prost_types::FileDescriptorSet::decode(atm_proto::FILE_DESCRIPTOR_SET).unwrap();
        let files = set.file.iter().filter(|file| file.package() == "atm.ledger.v1");
        let methods = files.flat_map(|file| &file.service).flat_map(|service| &service.method);
        methods
            .map(|method| {
                let level = method.options.as_ref().map(prost_types::MethodOptions::idempotency_level);
                assert_ne!(level, Some(IdempotencyLevel::IdempotencyUnknown), "{}", method.name());
                let changes = level != Some(IdempotencyLevel::NoSideEffects);
                (
                    format!("/atm.ledger.v1.LedgerService/{}", method.name()),
                    method.server_streaming(),
                    changes,
                )
            })
            .collect()
    }

    #[test]
    fn the_list_of_streams_is_the_contracts() {
        let mut streaming: Vec<_> =
            methods().into_iter().filter(|(_, streams, _)| *streams).map(|(path, ..)| path).collect();
        streaming.sort();
        let mut listed = STREAMING.to_vec();
        listed.sort_unstable();
        assert_eq!(streaming, listed);
    }

    #[test]
    fn what_changes_the_books_goes_before_what_reads_them_and_what_ends_a_hold_first() {
        for (path, _, changes) in methods() {
            let ends = ["/CaptureTransaction", "/CancelTransaction", "/SuspendTransaction"]
                .iter()
                .any(|method| path.ends_with(method));
            let expected = match (ends, changes) {
                (true, _) => Priority::Critical,
                (false, true) => Priority::Normal,
                (false, false) => Priority::Low,
            };
            assert_eq!(classify(&path), expected, "{path}");
        }
        assert_eq!(classify("/grpc.health.v1.Health/Check"), Priority::Exempt);
        assert_eq!(classify("/atm.bench.v1.EchoService/Echo"), Priority::Normal);
    }
}
