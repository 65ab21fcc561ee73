//! A ledger without books: it answers what a ledger could, remembers what it was asked, and fails when told to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use atm_proto::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use atm_proto::ledger::*;
use atm_proto::types::{Balance, Decline, DeclineReason, Money, TransactionState};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use super::log::Log;

/// The debited account's balance in every answer.
pub(crate) const DEBIT_BALANCE: i64 = 111;
/// The credited account's balance in every answer.
pub(crate) const CREDIT_BALANCE: i64 = 222;

#[derive(Default)]
pub(crate) struct FakeLedger {
    pub(crate) log: Log,
    pub(crate) accounts: Mutex<HashMap<String, Account>>,
    pub(crate) transactions: Mutex<HashMap<String, GetTransactionResponse>>,
    pub(crate) entries: Mutex<Vec<Step>>,
    /// The page behind the first one.
    pub(crate) older_entries: Mutex<Vec<Step>>,
    /// Whether there is always one more page, like the first.
    pub(crate) pages_never_end: AtomicBool,
}

impl FakeLedger {
    pub(crate) fn service(this: &Arc<Self>) -> LedgerServiceServer<Shared> {
        LedgerServiceServer::new(Shared(Arc::clone(this)))
            .max_decoding_message_size(2 << 20)
            .max_encoding_message_size(2 << 20)
    }

    /// Puts an account into the books.
    pub(crate) fn add_account(&self, id: &impl ToString, kind: AccountKind) {
        let account = Account {
            account_id: id.to_string(),
            kind: kind.into(),
            currency_code: "BDT".to_owned(),
            holder_name: "Farhan".to_owned(),
            balance: Some(Balance { balance_minor_units: 500, available_minor_units: 400 }),
            ..Account::default()
        };
        self.accounts.lock().unwrap().insert(id.to_string(), account);
    }

    fn outcome(
        &self,
        id: &str,
        state: TransactionState,
        debit: &str,
        credit: &str,
        amount: Option<Money>,
    ) -> Outcome {
        let balance = |units| Some(Balance { balance_minor_units: units, available_minor_units: units });
        let known = |account: &str| self.accounts.lock().unwrap().contains_key(account);
        let missing = state == TransactionState::Posted && !known(credit);
        let decline = missing.then(|| Decline {
            reason: DeclineReason::CreditAccountNotFound.into(),
            available_minor_units: 0,
        });
        let state = if missing { TransactionState::Declined } else { state };
        Outcome {
            transaction_id: id.to_owned(),
            state: state.into(),
            decline,
            debit_account_id: debit.to_owned(),
            credit_account_id: credit.to_owned(),
            amount,
            debit_balance: balance(DEBIT_BALANCE),
            credit_balance: balance(CREDIT_BALANCE),
            commit_sequence: 7,
            authorization: if state == TransactionState::Held { b"signed".to_vec() } else { Vec::new() },
            ..Outcome::default()
        }
    }

    fn state(outcome: &Outcome) -> i32 {
        outcome.state
    }
}

/// The fake behind its trait.
pub(crate) struct Shared(Arc<FakeLedger>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LedgerService for Shared {
    async fn open_account(&self, request: Request<OpenAccountRequest>) -> Answer<OpenAccountResponse> {
        let account = request.get_ref().account.clone().unwrap();
        self.0.log.enter("OpenAccount", request).await?;
        self.0.accounts.lock().unwrap().entry(account.account_id.clone()).or_insert(account.clone());
        Ok(Response::new(OpenAccountResponse { account: Some(account) }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Answer<GetAccountResponse> {
        let id = request.get_ref().account_id.clone();
        self.0.log.enter("GetAccount", request).await?;
        let account = self.0.accounts.lock().unwrap().get(&id).cloned();
        let account = account.ok_or_else(|| Status::not_found("no row in accounts"))?;
        Ok(Response::new(GetAccountResponse { account: Some(account), commit_sequence: 9 }))
    }

    async fn post_transaction(
        &self,
        request: Request<PostTransactionRequest>,
    ) -> Answer<PostTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("PostTransaction", request).await?;
        let (debit, credit) = (&asked.debit_account_id, &asked.credit_account_id);
        let outcome =
            self.0.outcome(&asked.transaction_id, TransactionState::Posted, debit, credit, asked.amount);
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(PostTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn hold_transaction(
        &self,
        request: Request<HoldTransactionRequest>,
    ) -> Answer<HoldTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("HoldTransaction", request).await?;
        let (debit, credit) = (&asked.debit_account_id, &asked.credit_account_id);
        let outcome =
            self.0.outcome(&asked.transaction_id, TransactionState::Held, debit, credit, asked.amount);
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(HoldTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn capture_transaction(
        &self,
        request: Request<CaptureTransactionRequest>,
    ) -> Answer<CaptureTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("CaptureTransaction", request).await?;
        let outcome =
            self.0.outcome(&asked.transaction_id, TransactionState::Captured, "d", "c", asked.amount);
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(CaptureTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn cancel_transaction(
        &self,
        request: Request<CancelTransactionRequest>,
    ) -> Answer<CancelTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("CancelTransaction", request).await?;
        let recorded = self.0.transactions.lock().unwrap().get(&asked.transaction_id).cloned();
        let outcome = match recorded {
            Some(recorded) => recorded.steps.last().unwrap().outcome.clone().unwrap(),
            None => Outcome {
                transaction_id: asked.transaction_id,
                state: TransactionState::Cancelled.into(),
                commit_sequence: 7,
                ..Outcome::default()
            },
        };
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(CancelTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn suspend_transaction(
        &self,
        request: Request<SuspendTransactionRequest>,
    ) -> Answer<SuspendTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("SuspendTransaction", request).await?;
        let amount = Some(Money { currency_code: "BDT".to_owned(), minor_units: 700 });
        let outcome = self.0.outcome(&asked.transaction_id, TransactionState::Suspect, "d", "c", amount);
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(SuspendTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn resolve_transaction(
        &self,
        request: Request<ResolveTransactionRequest>,
    ) -> Answer<ResolveTransactionResponse> {
        let asked = request.get_ref().clone();
        self.0.log.enter("ResolveTransaction", request).await?;
        let nothing = asked.amount.as_ref().is_some_and(|amount| amount.minor_units == 0);
        let state = if nothing { TransactionState::Cancelled } else { TransactionState::Captured };
        let outcome = self.0.outcome(&asked.transaction_id, state, "d", "c", asked.amount);
        let current_state = FakeLedger::state(&outcome);
        Ok(Response::new(ResolveTransactionResponse { outcome: Some(outcome), current_state }))
    }

    async fn batch_execute(&self, request: Request<BatchExecuteRequest>) -> Answer<BatchExecuteResponse> {
        self.0.log.enter("BatchExecute", request).await?;
        Err(Status::unimplemented("the real ledger does this"))
    }

    async fn get_transaction(
        &self,
        request: Request<GetTransactionRequest>,
    ) -> Answer<GetTransactionResponse> {
        let id = request.get_ref().transaction_id.clone();
        self.0.log.enter("GetTransaction", request).await?;
        let recorded = self.0.transactions.lock().unwrap().get(&id).cloned();
        recorded.map(Response::new).ok_or_else(|| Status::not_found("no row in steps"))
    }

    async fn list_entries(&self, request: Request<ListEntriesRequest>) -> Answer<ListEntriesResponse> {
        self.0.log.enter("ListEntries", request).await?;
        Ok(Response::new(ListEntriesResponse { steps: Vec::new(), last_sequence: 5 }))
    }

    async fn list_account_entries(
        &self,
        request: Request<ListAccountEntriesRequest>,
    ) -> Answer<ListAccountEntriesResponse> {
        let endless = self.0.pages_never_end.load(Ordering::SeqCst);
        let last = request.get_ref().page_token == "next" && !endless;
        let known = self.0.accounts.lock().unwrap().contains_key(&request.get_ref().account_id);
        let reads_a_place = request.get_ref().page_size >= 100;
        self.0.log.enter("ListAccountEntries", request).await?;
        if reads_a_place && !known {
            return Err(Status::not_found("no row in accounts"));
        }
        if last {
            let steps = self.0.older_entries.lock().unwrap().clone();
            return Ok(Response::new(ListAccountEntriesResponse { steps, next_page_token: String::new() }));
        }
        let steps = self.0.entries.lock().unwrap().clone();
        Ok(Response::new(ListAccountEntriesResponse { steps, next_page_token: "next".to_owned() }))
    }

    type WatchEntriesStream = Pin<Box<dyn Stream<Item = Result<WatchEntriesResponse, Status>> + Send>>;

    async fn watch_entries(&self, _: Request<WatchEntriesRequest>) -> Answer<Self::WatchEntriesStream> {
        Err(Status::unimplemented("nobody here watches"))
    }

    async fn get_trial_balance(
        &self,
        request: Request<GetTrialBalanceRequest>,
    ) -> Answer<GetTrialBalanceResponse> {
        self.0.log.enter("GetTrialBalance", request).await?;
        let line = TrialBalanceLine {
            kind: AccountKind::Cash.into(),
            currency_code: "BDT".to_owned(),
            ..TrialBalanceLine::default()
        };
        Ok(Response::new(GetTrialBalanceResponse { lines: vec![line], balanced: true, commit_sequence: 9 }))
    }

    type VerifyLedgerStream = Pin<Box<dyn Stream<Item = Result<VerifyLedgerResponse, Status>> + Send>>;

    async fn verify_ledger(&self, request: Request<VerifyLedgerRequest>) -> Answer<Self::VerifyLedgerStream> {
        self.0.log.enter("VerifyLedger", request).await?;
        let progress =
            VerifyLedgerResponse { steps_checked: 1, steps_total: 2, ..VerifyLedgerResponse::default() };
        let messages = [Ok(progress), Err(Status::data_loss("step 2 of /var/lib/ledger.db"))];
        Ok(Response::new(stream::iter(messages).boxed()))
    }
}
