//! The money calls, and what their answers and failures mean to a machine that must never guess.

use atm_proto::gateway::{
    AuthorizeWithdrawalRequest, AuthorizeWithdrawalResponse, CancelTransactionRequest,
    CancelTransactionResponse, CaptureWithdrawalRequest, CaptureWithdrawalResponse, DepositRequest,
    GetTransactionRequest, GetTransactionResponse, ListTransactionsRequest, ListTransactionsResponse,
    Outcome, RecordCashMovementRequest, RecordCashMovementResponse, SuspendWithdrawalRequest,
    SuspendWithdrawalResponse, TransferRequest,
};
use atm_proto::types::{self, TransactionState};
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use atm_types::{Money, TransactionId};

use super::{Gateway, Session};
use crate::crash::crash_point;
use crate::journal::Movement;

/// The recorded outcome of a money call, and where the transaction stands now.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) current_state: TransactionState,
}

impl Answer {
    fn new(outcome: Option<Outcome>, current_state: TransactionState) -> Self {
        Self { outcome: outcome.unwrap_or_default(), current_state }
    }
}

pub(crate) fn wire(money: Money) -> types::Money {
    types::Money { currency_code: money.currency().to_string(), minor_units: money.minor_units() }
}

impl Gateway {
    /// Asks the bank to set the amount aside.
    pub(crate) async fn authorize(
        &self,
        session: &Session,
        id: TransactionId,
        amount: Money,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = AuthorizeWithdrawalRequest {
            transaction_id: id.to_string(),
            amount: Some(wire(amount)),
            lifetime: None,
        };
        crash_point!("BEFORE_AUTHORIZE");
        let answer: Result<AuthorizeWithdrawalResponse, _> = self
            .call(&self.policy(), deadline, request, Some(session), |mut client, request| async move {
                client.authorize_withdrawal(request).await
            })
            .await;
        crash_point!("AUTHORIZE_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Tells the bank what was dispensed; the terminal's key is enough.
    pub(crate) async fn capture(
        &self,
        id: TransactionId,
        amount: Money,
        authorization: Vec<u8>,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = CaptureWithdrawalRequest {
            transaction_id: id.to_string(),
            amount: Some(wire(amount)),
            authorization,
        };
        crash_point!("BEFORE_CAPTURE");
        let answer: Result<CaptureWithdrawalResponse, _> = self
            .call(&self.policy(), deadline, request, None, |mut client, request| async move {
                client.capture_withdrawal(request).await
            })
            .await;
        crash_point!("CAPTURE_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Fences a transaction off; the terminal's key is enough.
    pub(crate) async fn cancel(&self, id: TransactionId, deadline: Deadline) -> Result<Answer, RetryError> {
        let request = CancelTransactionRequest { transaction_id: id.to_string() };
        crash_point!("BEFORE_CANCEL");
        let answer: Result<CancelTransactionResponse, _> = self
            .call(&self.policy(), deadline, request, None, |mut client, request| async move {
                client.cancel_transaction(request).await
            })
            .await;
        crash_point!("CANCEL_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Freezes a withdrawal of which nobody knows whether its cash left; the terminal's key is enough.
    pub(crate) async fn suspend(
        &self,
        id: TransactionId,
        authorization: Vec<u8>,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = SuspendWithdrawalRequest { transaction_id: id.to_string(), authorization };
        crash_point!("BEFORE_SUSPEND");
        let answer: Result<SuspendWithdrawalResponse, _> = self
            .call(&self.policy(), deadline, request, None, |mut client, request| async move {
                client.suspend_withdrawal(request).await
            })
            .await;
        crash_point!("SUSPEND_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Posts that cash moved inside the machine; the terminal's key is enough.
    pub(crate) async fn record_movement(
        &self,
        movement: &Movement,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = RecordCashMovementRequest {
            transaction_id: movement.id.to_string(),
            from: movement.from.wire().into(),
            to: movement.to.wire().into(),
            amount: Some(wire(movement.amount)),
        };
        crash_point!("BEFORE_RECORD_MOVEMENT");
        let answer: Result<RecordCashMovementResponse, _> = self
            .call(&self.policy(), deadline, request, None, |mut client, request| async move {
                client.record_cash_movement(request).await
            })
            .await;
        crash_point!("RECORD_MOVEMENT_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Posts cash that was paid in.
    pub(crate) async fn deposit(
        &self,
        session: &Session,
        id: TransactionId,
        amount: Money,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = DepositRequest { transaction_id: id.to_string(), amount: Some(wire(amount)) };
        crash_point!("BEFORE_DEPOSIT");
        let answer = self
            .call(&self.policy(), deadline, request, Some(session), |mut client, request| async move {
                client.deposit(request).await
            })
            .await;
        crash_point!("DEPOSIT_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Moves money to another account.
    pub(crate) async fn transfer(
        &self,
        session: &Session,
        id: TransactionId,
        amount: Money,
        to_account: &str,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let request = TransferRequest {
            transaction_id: id.to_string(),
            amount: Some(wire(amount)),
            to_account: to_account.to_owned(),
        };
        crash_point!("BEFORE_TRANSFER");
        let answer = self
            .call(&self.policy(), deadline, request, Some(session), |mut client, request| async move {
                client.transfer(request).await
            })
            .await;
        crash_point!("TRANSFER_ANSWERED");
        let answer = answer?;
        let state = answer.current_state();
        Ok(Answer::new(answer.outcome, state))
    }

    /// Reads all that was recorded under an id; without a session, of what this terminal owns.
    pub(crate) async fn transaction(
        &self,
        session: Option<&Session>,
        id: TransactionId,
        deadline: Deadline,
    ) -> Result<GetTransactionResponse, RetryError> {
        let request = GetTransactionRequest { transaction_id: id.to_string() };
        self.call(&self.policy(), deadline, request, session, |mut client, request| async move {
            client.get_transaction(request).await
        })
        .await
    }

    /// Reads a page of the statement.
    pub(crate) async fn statement(
        &self,
        session: &Session,
        page_size: i32,
        page_token: String,
        deadline: Deadline,
    ) -> Result<ListTransactionsResponse, RetryError> {
        let request = ListTransactionsRequest { page_size, page_token };
        self.call(&self.policy(), deadline, request, Some(session), |mut client, request| async move {
            client.list_transactions(request).await
        })
        .await
    }
}
