//! The handlers of AdminService. Each asks for the operator token first.

use std::pin::Pin;
use std::sync::Arc;

use atm_proto::gateway as proto;
use atm_proto::gateway::admin_service_server::AdminService;
use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::status::status;
use crate::admin;
use crate::failure::Failure;
use crate::gateway::Gateway;

/// What an operator calls.
pub struct Admin {
    gateway: Arc<Gateway>,
}

impl Admin {
    /// Answers with the operators' flows of `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    fn answer<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|failure| status(self.gateway.ids.as_ref(), failure))
    }
}

/// A handler for an operator; `$field` of the request is what the flow takes.
macro_rules! for_operator {
    ($self:ident, $request:ident, $flow:path $(, $field:ident)?) => {{
        let result = async {
            let deadline = $self.gateway.operator(&$request)?;
            $flow(&$self.gateway, deadline, $request.into_inner() $(.$field)?).await
        };
        $self.answer(result.await)
    }};
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn open_account(
        &self,
        request: Request<proto::OpenAccountRequest>,
    ) -> Result<Response<proto::OpenAccountResponse>, Status> {
        for_operator!(self, request, admin::open_account::open_account, account)
    }

    async fn issue_card(
        &self,
        request: Request<proto::IssueCardRequest>,
    ) -> Result<Response<proto::IssueCardResponse>, Status> {
        for_operator!(self, request, admin::issue_card::issue_card)
    }

    async fn block_card(
        &self,
        request: Request<proto::BlockCardRequest>,
    ) -> Result<Response<proto::BlockCardResponse>, Status> {
        for_operator!(self, request, admin::block_card::block_card)
    }

    async fn unblock_card(
        &self,
        request: Request<proto::UnblockCardRequest>,
    ) -> Result<Response<proto::UnblockCardResponse>, Status> {
        for_operator!(self, request, admin::block_card::unblock_card)
    }

    async fn forget_start(
        &self,
        request: Request<proto::ForgetStartRequest>,
    ) -> Result<Response<proto::ForgetStartResponse>, Status> {
        for_operator!(self, request, admin::machines::forget_start)
    }

    async fn release_terminal(
        &self,
        request: Request<proto::ReleaseTerminalRequest>,
    ) -> Result<Response<proto::ReleaseTerminalResponse>, Status> {
        for_operator!(self, request, admin::machines::release_terminal)
    }

    async fn import_accounts(
        &self,
        request: Request<proto::ImportAccountsRequest>,
    ) -> Result<Response<proto::ImportAccountsResponse>, Status> {
        for_operator!(self, request, admin::import::import)
    }

    async fn move_cash(
        &self,
        request: Request<proto::MoveCashRequest>,
    ) -> Result<Response<proto::MoveCashResponse>, Status> {
        for_operator!(self, request, admin::move_cash::move_cash)
    }

    async fn get_cash_position(
        &self,
        request: Request<proto::GetCashPositionRequest>,
    ) -> Result<Response<proto::GetCashPositionResponse>, Status> {
        for_operator!(self, request, admin::cash_position::cash_position)
    }

    async fn list_cash_entries(
        &self,
        request: Request<proto::ListCashEntriesRequest>,
    ) -> Result<Response<proto::ListCashEntriesResponse>, Status> {
        for_operator!(self, request, admin::cash_entries::cash_entries)
    }

    async fn list_suspects(
        &self,
        request: Request<proto::ListSuspectsRequest>,
    ) -> Result<Response<proto::ListSuspectsResponse>, Status> {
        for_operator!(self, request, admin::suspects::suspects)
    }

    async fn inspect_transaction(
        &self,
        request: Request<proto::InspectTransactionRequest>,
    ) -> Result<Response<proto::InspectTransactionResponse>, Status> {
        for_operator!(self, request, admin::inspect::inspect)
    }

    async fn resolve_suspect(
        &self,
        request: Request<proto::ResolveSuspectRequest>,
    ) -> Result<Response<proto::ResolveSuspectResponse>, Status> {
        for_operator!(self, request, admin::resolve::resolve)
    }

    async fn get_trial_balance(
        &self,
        request: Request<proto::GetTrialBalanceRequest>,
    ) -> Result<Response<proto::GetTrialBalanceResponse>, Status> {
        let result = async {
            let deadline = self.gateway.operator(&request)?;
            admin::trial_balance::trial_balance(&self.gateway, deadline).await
        };
        self.answer(result.await)
    }

    type VerifyLedgerStream =
        Pin<Box<dyn Stream<Item = Result<proto::VerifyLedgerResponse, Status>> + Send + 'static>>;

    async fn verify_ledger(
        &self,
        request: Request<proto::VerifyLedgerRequest>,
    ) -> Result<Response<Self::VerifyLedgerStream>, Status> {
        let result = async {
            self.gateway.operator(&request)?;
            let stream = admin::verify::verify(&self.gateway).await?;
            Ok(Box::pin(stream) as Self::VerifyLedgerStream)
        };
        self.answer(result.await)
    }
}
