//! A small ledger in memory that keeps its word, save for one flaw at a time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use atm_proto::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use atm_proto::ledger::*;
use atm_proto::types::{Balance, Money, TransactionState};
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What the fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Every request is new.
    ForgetsIds,
    /// A changed body gets the old answer.
    IgnoresTheBody,
    /// A declined transaction is decided again.
    RedecidesDeclines,
    /// Looks the id up, and acts on it a moment later.
    LooksThenActs,
    /// Does not look at who is asking.
    TrustsStrangers,
    /// A cancel of what it does not know leaves no trace.
    ForgetsCancels,
    /// A cancel undoes what was posted.
    CancelUndoes,
    /// A repeated hold sets the money aside again.
    HoldsAgain,
    /// A late capture is refused.
    RefusesLateCaptures,
    /// Forgets everything but the balances when it is restarted.
    ForgetsOnRestart,
    /// A credit gets lost.
    OneSided,
}

#[derive(Clone)]
struct Recorded {
    /// The request without its token: what has to be the same.
    post: Option<PostTransactionRequest>,
    hold: Option<HoldTransactionRequest>,
    captured: i64,
    terminal: String,
    state: TransactionState,
    outcome: Outcome,
    capture: Option<Outcome>,
}

#[derive(Default)]
struct Books {
    /// Kind, posted balance on the credit side, held.
    accounts: BTreeMap<String, (i32, i64, i64)>,
    transactions: BTreeMap<String, Recorded>,
    sequence: u64,
}

#[derive(Clone)]
pub(crate) struct Fake {
    flaw: Flaw,
    books: Arc<Mutex<Books>>,
}

fn reused(field: &str) -> Status {
    let details =
        ErrorDetails::with_error_info("ID_REUSED", "fake", [("field".to_owned(), field.to_owned())]);
    Status::with_error_details(Code::AlreadyExists, "the id was used for something else", details)
}

/// The first field that differs.
fn difference(old: (&str, &str, &str, i64), new: (&str, &str, &str, i64)) -> Result<(), Status> {
    if old.0 != new.0 {
        Err(reused("transaction_id"))
    } else if old.1 != new.1 {
        Err(reused("debit_account_id"))
    } else if old.2 != new.2 {
        Err(reused("credit_account_id"))
    } else if old.3 != new.3 {
        Err(reused("amount"))
    } else {
        Ok(())
    }
}

fn minor_units(money: Option<&Money>) -> i64 {
    money.map_or(0, |money| money.minor_units)
}

fn body_of_post(it: &PostTransactionRequest) -> (&str, &str, &str, i64) {
    (&it.terminal_id, &it.debit_account_id, &it.credit_account_id, minor_units(it.amount.as_ref()))
}

fn body_of_hold(it: &HoldTransactionRequest) -> (&str, &str, &str, i64) {
    (&it.terminal_id, &it.debit_account_id, &it.credit_account_id, minor_units(it.amount.as_ref()))
}

impl Fake {
    /// Serves on a free port until the test ends; the fake and its URL.
    pub(crate) async fn start(flaw: Flaw) -> (Self, String) {
        let fake = Self { flaw, books: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(LedgerServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (fake, url)
    }

    /// What a restart does to it.
    pub(crate) fn restart(&self) {
        if self.flaw == Flaw::ForgetsOnRestart {
            self.books.lock().unwrap().transactions.clear();
        }
    }
}

impl Books {
    fn outcome(&mut self, id: &str, step: StepKind, state: TransactionState, amount: i64) -> Outcome {
        self.sequence += 1;
        Outcome {
            transaction_id: id.to_owned(),
            step: step.into(),
            state: state.into(),
            amount: Some(Money { currency_code: "BDT".to_owned(), minor_units: amount }),
            commit_sequence: self.sequence,
            ..Outcome::default()
        }
    }

    fn covers(&self, account: &str, amount: i64) -> bool {
        self.accounts.get(account).is_some_and(|(kind, balance, held)| {
            *kind != i32::from(AccountKind::Customer) || balance - held >= amount
        })
    }

    fn transfer(&mut self, flaw: Flaw, debit: &str, credit: &str, amount: i64) {
        self.accounts.get_mut(debit).unwrap().1 -= amount;
        if flaw != Flaw::OneSided {
            self.accounts.get_mut(credit).unwrap().1 += amount;
        }
    }

    /// What is recorded, unless it belongs to somebody else.
    fn owned(&self, flaw: Flaw, id: &str, terminal: &str) -> Result<Option<Recorded>, Status> {
        match self.transactions.get(id) {
            Some(it) if it.terminal != terminal && flaw != Flaw::TrustsStrangers => {
                Err(Status::not_found("no such transaction"))
            }
            other => Ok(other.cloned()),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl LedgerService for Fake {
    async fn open_account(&self, request: Request<OpenAccountRequest>) -> Answer<OpenAccountResponse> {
        let account = request.into_inner().account.unwrap();
        let mut books = self.books.lock().unwrap();
        books.accounts.entry(account.account_id.clone()).or_insert((account.kind, 0, 0));
        Ok(Response::new(OpenAccountResponse { account: Some(account) }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Answer<GetAccountResponse> {
        let account_id = request.into_inner().account_id;
        let (_, balance, held) = self.books.lock().unwrap().accounts[&account_id];
        let balance = Balance { balance_minor_units: balance, available_minor_units: balance - held };
        let account = Account { account_id, balance: Some(balance), ..Account::default() };
        Ok(Response::new(GetAccountResponse { account: Some(account), commit_sequence: 0 }))
    }

    async fn post_transaction(
        &self,
        request: Request<PostTransactionRequest>,
    ) -> Answer<PostTransactionResponse> {
        let request = request.into_inner();
        let id = request.transaction_id.clone();
        let known = self.books.lock().unwrap().transactions.get(&id).cloned();
        if self.flaw == Flaw::LooksThenActs {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut books = self.books.lock().unwrap();
        let known =
            if self.flaw == Flaw::LooksThenActs { known } else { books.transactions.get(&id).cloned() };
        if let Some(known) = known.filter(|_| self.flaw != Flaw::ForgetsIds) {
            let again = self.flaw == Flaw::RedecidesDeclines && known.state == TransactionState::Declined;
            if let (Some(old), true) = (&known.post, self.flaw != Flaw::IgnoresTheBody) {
                difference(body_of_post(old), body_of_post(&request))?;
            }
            if !again {
                let current_state = known.state.into();
                return Ok(Response::new(PostTransactionResponse {
                    outcome: Some(known.outcome),
                    current_state,
                }));
            }
        }
        let (_, debit, credit, amount) = body_of_post(&request);
        let state = if books.covers(debit, amount) {
            books.transfer(self.flaw, debit, credit, amount);
            TransactionState::Posted
        } else {
            TransactionState::Declined
        };
        let outcome = books.outcome(&id, StepKind::Post, state, amount);
        let recorded = Recorded {
            terminal: request.terminal_id.clone(),
            post: Some(request),
            hold: None,
            captured: 0,
            state,
            outcome: outcome.clone(),
            capture: None,
        };
        books.transactions.insert(id, recorded);
        Ok(Response::new(PostTransactionResponse { outcome: Some(outcome), current_state: state.into() }))
    }

    async fn hold_transaction(
        &self,
        request: Request<HoldTransactionRequest>,
    ) -> Answer<HoldTransactionResponse> {
        let request = request.into_inner();
        let id = request.transaction_id.clone();
        let mut books = self.books.lock().unwrap();
        let (_, debit, _, amount) = body_of_hold(&request);
        if let Some(known) = books.transactions.get(&id).cloned().filter(|_| self.flaw != Flaw::ForgetsIds) {
            if let (Some(old), false) = (&known.hold, self.flaw == Flaw::TrustsStrangers) {
                difference(body_of_hold(old), body_of_hold(&request))?;
            }
            if self.flaw == Flaw::HoldsAgain && known.state == TransactionState::Held {
                books.accounts.get_mut(debit).unwrap().2 += amount;
            }
            let current_state = known.state.into();
            return Ok(Response::new(HoldTransactionResponse {
                outcome: Some(known.outcome),
                current_state,
            }));
        }
        let state =
            if books.covers(debit, amount) { TransactionState::Held } else { TransactionState::Declined };
        if state == TransactionState::Held {
            books.accounts.get_mut(debit).unwrap().2 += amount;
        }
        let outcome = books.outcome(&id, StepKind::Hold, state, amount);
        let recorded = Recorded {
            terminal: request.terminal_id.clone(),
            post: None,
            hold: Some(request),
            captured: 0,
            state,
            outcome: outcome.clone(),
            capture: None,
        };
        books.transactions.insert(id, recorded);
        Ok(Response::new(HoldTransactionResponse { outcome: Some(outcome), current_state: state.into() }))
    }

    async fn capture_transaction(
        &self,
        request: Request<CaptureTransactionRequest>,
    ) -> Answer<CaptureTransactionResponse> {
        let request = request.into_inner();
        let amount = minor_units(request.amount.as_ref());
        let mut books = self.books.lock().unwrap();
        let known = books.owned(self.flaw, &request.transaction_id, &request.terminal_id)?;
        let mut known = known.ok_or_else(|| Status::not_found("no such transaction"))?;
        if let Some(first) = &known.capture {
            if known.captured != amount {
                return Err(reused("amount"));
            }
            let (outcome, current_state) = (Some(first.clone()), known.state.into());
            return Ok(Response::new(CaptureTransactionResponse { outcome, current_state }));
        }
        let Some(hold) = known.hold.clone() else {
            return Err(Status::failed_precondition("nothing is held"));
        };
        let (_, debit, credit, held) = body_of_hold(&hold);
        if amount > held {
            return Err(Status::failed_precondition("more than was held"));
        }
        let (state, step) = match known.state {
            TransactionState::Held => {
                books.accounts.get_mut(debit).unwrap().2 -= held;
                (TransactionState::Captured, StepKind::Capture)
            }
            TransactionState::Cancelled if self.flaw != Flaw::RefusesLateCaptures => {
                (TransactionState::CapturedLate, StepKind::CaptureLate)
            }
            _ => return Err(Status::failed_precondition("it was cancelled")),
        };
        books.transfer(self.flaw, debit, credit, amount);
        let outcome = books.outcome(&request.transaction_id, step, state, amount);
        known.state = state;
        known.captured = amount;
        known.capture = Some(outcome.clone());
        books.transactions.insert(request.transaction_id, known);
        Ok(Response::new(CaptureTransactionResponse { outcome: Some(outcome), current_state: state.into() }))
    }

    async fn cancel_transaction(
        &self,
        request: Request<CancelTransactionRequest>,
    ) -> Answer<CancelTransactionResponse> {
        let CancelTransactionRequest { transaction_id: id, terminal_id: terminal } = request.into_inner();
        let mut books = self.books.lock().unwrap();
        let cancelled = TransactionState::Cancelled;
        let known = books.owned(self.flaw, &id, &terminal)?;
        let outcome = match known {
            None => {
                let outcome = books.outcome(&id, StepKind::Cancel, cancelled, 0);
                let (hold, capture) = (None, None);
                let tombstone = Recorded {
                    post: None,
                    hold,
                    captured: 0,
                    terminal,
                    state: cancelled,
                    outcome: outcome.clone(),
                    capture,
                };
                if self.flaw != Flaw::ForgetsCancels {
                    books.transactions.insert(id, tombstone);
                }
                outcome
            }
            Some(mut known) => {
                if let (TransactionState::Held, Some(hold)) = (known.state, known.hold.clone()) {
                    books.accounts.get_mut(&hold.debit_account_id).unwrap().2 -= body_of_hold(&hold).3;
                    known.state = cancelled;
                }
                if let (Flaw::CancelUndoes, Some(post)) = (self.flaw, known.post.clone()) {
                    let (_, debit, credit, amount) = body_of_post(&post);
                    books.transfer(self.flaw, credit, debit, amount);
                    known.state = cancelled;
                }
                let outcome = known.outcome.clone();
                books.transactions.insert(id, known.clone());
                let current_state = known.state.into();
                return Ok(Response::new(CancelTransactionResponse {
                    outcome: Some(outcome),
                    current_state,
                }));
            }
        };
        Ok(Response::new(CancelTransactionResponse {
            outcome: Some(outcome),
            current_state: cancelled.into(),
        }))
    }

    async fn get_trial_balance(&self, _: Request<GetTrialBalanceRequest>) -> Answer<GetTrialBalanceResponse> {
        let sum: i64 = self.books.lock().unwrap().accounts.values().map(|(_, balance, _)| balance).sum();
        Ok(Response::new(GetTrialBalanceResponse {
            balanced: sum == 0,
            ..GetTrialBalanceResponse::default()
        }))
    }

    async fn suspend_transaction(
        &self,
        _: Request<SuspendTransactionRequest>,
    ) -> Answer<SuspendTransactionResponse> {
        not_here()
    }

    async fn resolve_transaction(
        &self,
        _: Request<ResolveTransactionRequest>,
    ) -> Answer<ResolveTransactionResponse> {
        not_here()
    }

    async fn batch_execute(&self, _: Request<BatchExecuteRequest>) -> Answer<BatchExecuteResponse> {
        not_here()
    }

    async fn get_transaction(&self, _: Request<GetTransactionRequest>) -> Answer<GetTransactionResponse> {
        not_here()
    }

    async fn list_entries(&self, _: Request<ListEntriesRequest>) -> Answer<ListEntriesResponse> {
        not_here()
    }

    async fn list_account_entries(
        &self,
        _: Request<ListAccountEntriesRequest>,
    ) -> Answer<ListAccountEntriesResponse> {
        not_here()
    }

    type WatchEntriesStream = Streamed<WatchEntriesResponse>;

    async fn watch_entries(&self, _: Request<WatchEntriesRequest>) -> Answer<Self::WatchEntriesStream> {
        not_here()
    }

    type VerifyLedgerStream = Streamed<VerifyLedgerResponse>;

    async fn verify_ledger(&self, _: Request<VerifyLedgerRequest>) -> Answer<Self::VerifyLedgerStream> {
        not_here()
    }
}
