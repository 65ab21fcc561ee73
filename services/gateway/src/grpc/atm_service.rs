//! The handlers of AtmService: who is calling, which flow, and what became of it.

use std::sync::Arc;

use atm_faults::fault_point;
use atm_proto::gateway as proto;
use atm_proto::gateway::atm_service_server::AtmService;
use tonic::{Request, Response, Status};

use super::status::status;
use crate::failure::Failure;
use crate::flows;
use crate::gateway::Gateway;

/// What a cash machine calls.
pub struct Atm {
    gateway: Arc<Gateway>,
}

impl Atm {
    /// Answers with the flows of `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    fn answer<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        fault_point!("GATEWAY_BEFORE_ANSWER");
        result.map(Response::new).map_err(|failure| status(self.gateway.ids.as_ref(), failure))
    }
}

/// A handler for a customer with a session.
macro_rules! for_customer {
    ($self:ident, $request:ident, $flow:path) => {{
        let result = async {
            let customer = $self.gateway.customer(&$request).await?;
            $flow(&$self.gateway, &customer, $request.into_inner()).await
        };
        $self.answer(result.await)
    }};
}

/// A handler for a terminal, whoever stands before it.
macro_rules! for_terminal {
    ($self:ident, $request:ident, $flow:path) => {{
        let result = async {
            let terminal = $self.gateway.terminal(&$request)?;
            $flow(&$self.gateway, &terminal, $request.into_inner()).await
        };
        $self.answer(result.await)
    }};
}

#[tonic::async_trait]
impl AtmService for Atm {
    async fn sign_on(
        &self,
        request: Request<proto::SignOnRequest>,
    ) -> Result<Response<proto::SignOnResponse>, Status> {
        for_terminal!(self, request, flows::sign_on::sign_on)
    }

    async fn log_in(
        &self,
        request: Request<proto::LogInRequest>,
    ) -> Result<Response<proto::LogInResponse>, Status> {
        for_terminal!(self, request, flows::log_in::log_in)
    }

    async fn log_out(
        &self,
        request: Request<proto::LogOutRequest>,
    ) -> Result<Response<proto::LogOutResponse>, Status> {
        let result = async {
            let customer = self.gateway.leaving_customer(&request).await?;
            flows::log_out::log_out(&self.gateway, &customer).await
        };
        self.answer(result.await)
    }

    async fn get_balance(
        &self,
        request: Request<proto::GetBalanceRequest>,
    ) -> Result<Response<proto::GetBalanceResponse>, Status> {
        let result = async {
            let customer = self.gateway.customer(&request).await?;
            flows::balance::balance(&self.gateway, &customer).await
        };
        self.answer(result.await)
    }

    async fn authorize_withdrawal(
        &self,
        request: Request<proto::AuthorizeWithdrawalRequest>,
    ) -> Result<Response<proto::AuthorizeWithdrawalResponse>, Status> {
        for_customer!(self, request, flows::authorize::authorize)
    }

    async fn capture_withdrawal(
        &self,
        request: Request<proto::CaptureWithdrawalRequest>,
    ) -> Result<Response<proto::CaptureWithdrawalResponse>, Status> {
        for_terminal!(self, request, flows::capture::capture)
    }

    async fn suspend_withdrawal(
        &self,
        request: Request<proto::SuspendWithdrawalRequest>,
    ) -> Result<Response<proto::SuspendWithdrawalResponse>, Status> {
        for_terminal!(self, request, flows::suspend::suspend)
    }

    async fn record_cash_movement(
        &self,
        request: Request<proto::RecordCashMovementRequest>,
    ) -> Result<Response<proto::RecordCashMovementResponse>, Status> {
        for_terminal!(self, request, flows::cash_movement::cash_movement)
    }

    async fn cancel_transaction(
        &self,
        request: Request<proto::CancelTransactionRequest>,
    ) -> Result<Response<proto::CancelTransactionResponse>, Status> {
        for_terminal!(self, request, flows::cancel::cancel)
    }

    async fn withdraw(
        &self,
        request: Request<proto::WithdrawRequest>,
    ) -> Result<Response<proto::WithdrawResponse>, Status> {
        for_customer!(self, request, flows::withdraw::withdraw)
    }

    async fn deposit(
        &self,
        request: Request<proto::DepositRequest>,
    ) -> Result<Response<proto::DepositResponse>, Status> {
        for_customer!(self, request, flows::deposit::deposit)
    }

    async fn transfer(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        for_customer!(self, request, flows::transfer::transfer)
    }

    async fn get_transaction(
        &self,
        request: Request<proto::GetTransactionRequest>,
    ) -> Result<Response<proto::GetTransactionResponse>, Status> {
        let result = async {
            let (terminal, customer) = self.gateway.customer_if_any(&request).await?;
            let request = request.into_inner();
            flows::transaction::transaction(&self.gateway, &terminal, customer.as_ref(), request).await
        };
        self.answer(result.await)
    }

    async fn list_transactions(
        &self,
        request: Request<proto::ListTransactionsRequest>,
    ) -> Result<Response<proto::ListTransactionsResponse>, Status> {
        for_customer!(self, request, flows::statement::statement)
    }

    async fn change_pin(
        &self,
        request: Request<proto::ChangePinRequest>,
    ) -> Result<Response<proto::ChangePinResponse>, Status> {
        for_customer!(self, request, flows::change_pin::change_pin)
    }
}
