//! Calls to the ledger.

use std::time::Duration;

use atm_proto::ledger as proto;
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_rpc::credentials::BearerToken;
use atm_rpc::deadline::Deadline;
use atm_rpc::limits;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::{Asked, Upstream, refusal};
use crate::failure::Failure;

/// The ledger, as the gateway sees it.
#[derive(Debug)]
pub struct Ledger {
    upstream: Upstream,
    client: LedgerServiceClient<Channel>,
}

macro_rules! unary {
    ($(#[$doc:meta])* $name:ident, $path:literal, $request:ident => $response:ident) => {
        $(#[$doc])*
        pub async fn $name(
            &self,
            deadline: Deadline,
            asked: Asked,
            request: proto::$request,
        ) -> Result<proto::$response, Failure> {
            let call = |request: Request<proto::$request>| {
                let mut client = self.client.clone();
                async move { client.$name(request).await }
            };
            let path = concat!("/atm.ledger.v1.LedgerService/", $path);
            let result = self.upstream.call(path, deadline, request, call).await;
            result.map_err(|error| refusal::of_ledger(error, asked))
        }
    };
}

impl Ledger {
    /// The ledger behind `channel`.
    pub fn new(channel: Channel, token: BearerToken, margin: Duration) -> Self {
        let client = LedgerServiceClient::new(channel)
            .max_decoding_message_size(limits::BATCH_BYTES)
            .max_encoding_message_size(limits::BATCH_BYTES);
        Self { upstream: Upstream::new(token, margin), client }
    }

    unary! {
        /// Opens an account, once.
        open_account, "OpenAccount", OpenAccountRequest => OpenAccountResponse
    }
    unary! {
        /// Reads an account.
        get_account, "GetAccount", GetAccountRequest => GetAccountResponse
    }
    unary! {
        /// Moves money in one step.
        post_transaction, "PostTransaction", PostTransactionRequest => PostTransactionResponse
    }
    unary! {
        /// Sets money aside.
        hold_transaction, "HoldTransaction", HoldTransactionRequest => HoldTransactionResponse
    }
    unary! {
        /// Posts a hold.
        capture_transaction, "CaptureTransaction", CaptureTransactionRequest => CaptureTransactionResponse
    }
    unary! {
        /// Fences a transaction off.
        cancel_transaction, "CancelTransaction", CancelTransactionRequest => CancelTransactionResponse
    }
    unary! {
        /// Freezes a withdrawal.
        suspend_transaction, "SuspendTransaction", SuspendTransactionRequest => SuspendTransactionResponse
    }
    unary! {
        /// Decides a frozen withdrawal.
        resolve_transaction, "ResolveTransaction", ResolveTransactionRequest => ResolveTransactionResponse
    }
    unary! {
        /// Executes many commands.
        batch_execute, "BatchExecute", BatchExecuteRequest => BatchExecuteResponse
    }
    unary! {
        /// Reads all steps of a transaction.
        get_transaction, "GetTransaction", GetTransactionRequest => GetTransactionResponse
    }
    unary! {
        /// Reads steps in commit order.
        list_entries, "ListEntries", ListEntriesRequest => ListEntriesResponse
    }
    unary! {
        /// Reads an account's steps, newest first.
        list_account_entries, "ListAccountEntries", ListAccountEntriesRequest => ListAccountEntriesResponse
    }
    unary! {
        /// Sums all accounts.
        get_trial_balance, "GetTrialBalance", GetTrialBalanceRequest => GetTrialBalanceResponse
    }

    /// Starts a verification of the books. It lasts as long as it lasts: dropping the stream ends it.
    pub async fn verify_ledger(&self) -> Result<Streaming<proto::VerifyLedgerResponse>, Status> {
        let mut request = Request::new(proto::VerifyLedgerRequest {});
        self.upstream.token.attach(&mut request);
        if let Some(trace) = atm_rpc::telemetry::current() {
            trace.attach(&mut request);
        }
        let stream = self.client.clone().verify_ledger(request).await?;
        Ok(stream.into_inner())
    }
}
