//! A small ledger in memory that keeps its word, save for one flaw at a time.

mod books;
mod flaw;

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use atm_proto::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use atm_proto::ledger::*;
use atm_proto::types::Money;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use books::{Books, Recorded, Terms};
pub(crate) use flaw::Flaw;

#[derive(Clone)]
pub(crate) struct Fake {
    flaw: Flaw,
    books: Arc<Mutex<Books>>,
    end: Arc<Notify>,
}

impl Fake {
    /// Serves on a free port until the test ends; the fake and its URL.
    pub(crate) fn start(flaw: Flaw) -> (Self, String) {
        let fake = Self { flaw, books: Arc::new(Mutex::new(Books::new(flaw))), end: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(fake.clone().live_again_and_again(listener));
        (fake, url)
    }

    /// Each life has connections of its own; the port stays ours in between.
    async fn live_again_and_again(self, listener: TcpListener) {
        loop {
            let incoming = tokio::net::TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
            let incoming = TcpListenerStream::new(incoming);
            tonic::transport::Server::builder()
                .add_service(LedgerServiceServer::new(self.clone()))
                .serve_with_incoming_shutdown(incoming, self.end.notified())
                .await
                .unwrap();
            self.books().restart();
        }
    }

    /// Ends it; it comes back by itself.
    pub(crate) fn restart(&self) {
        self.end.notify_one();
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// What is known of an id. With the flaw the answer is old when it comes.
    async fn look(&self, id: &str, late: Flaw) -> Option<Recorded> {
        let known = self.books().look_up(id);
        if self.flaw != late {
            return known;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        known
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

fn minor_units(money: Option<Money>) -> i64 {
    money.map_or(0, |money| money.minor_units)
}

/// The answer of every command, which has the same two fields in all of them.
macro_rules! answer {
    ($response:ident, $decided:expr) => {{
        let (outcome, state) = $decided?;
        Ok(Response::new($response { outcome: Some(outcome), current_state: state.into() }))
    }};
}

#[tonic::async_trait]
impl LedgerService for Fake {
    async fn open_account(&self, request: Request<OpenAccountRequest>) -> Answer<OpenAccountResponse> {
        let account = request.into_inner().account.unwrap();
        self.books().open(&account.account_id, account.kind());
        Ok(Response::new(OpenAccountResponse { account: Some(account) }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Answer<GetAccountResponse> {
        let account = self.books().account(&request.into_inner().account_id);
        let account = account.ok_or_else(|| Status::not_found("no such account"))?;
        Ok(Response::new(GetAccountResponse { account: Some(account), commit_sequence: 0 }))
    }

    async fn post_transaction(
        &self,
        request: Request<PostTransactionRequest>,
    ) -> Answer<PostTransactionResponse> {
        let it = request.into_inner();
        let known = self.look(&it.transaction_id, Flaw::LooksThenPosts).await;
        let terms = Terms {
            terminal: it.terminal_id,
            debit: it.debit_account_id,
            credit: it.credit_account_id,
            amount: minor_units(it.amount),
        };
        let asked = (it.transaction_id.as_str(), terms, None);
        answer!(PostTransactionResponse, self.books().first(StepKind::Post, asked, known))
    }

    async fn hold_transaction(
        &self,
        request: Request<HoldTransactionRequest>,
    ) -> Answer<HoldTransactionResponse> {
        let it = request.into_inner();
        let known = self.look(&it.transaction_id, Flaw::LooksThenHolds).await;
        let terms = Terms {
            terminal: it.terminal_id,
            debit: it.debit_account_id,
            credit: it.credit_account_id,
            amount: minor_units(it.amount),
        };
        let lifetime = it.lifetime.and_then(|lifetime| u64::try_from(lifetime.seconds).ok());
        let asked = (it.transaction_id.as_str(), terms, lifetime.map(Duration::from_secs));
        answer!(HoldTransactionResponse, self.books().first(StepKind::Hold, asked, known))
    }

    async fn capture_transaction(
        &self,
        request: Request<CaptureTransactionRequest>,
    ) -> Answer<CaptureTransactionResponse> {
        let it = request.into_inner();
        let looked = self.look(&it.transaction_id, Flaw::LooksThenCaptures).await;
        let looked = looked.filter(|_| self.flaw == Flaw::LooksThenCaptures);
        let asked = (it.transaction_id.as_str(), it.terminal_id.as_str(), minor_units(it.amount));
        answer!(CaptureTransactionResponse, self.books().capture(asked, looked))
    }

    async fn cancel_transaction(
        &self,
        request: Request<CancelTransactionRequest>,
    ) -> Answer<CancelTransactionResponse> {
        let it = request.into_inner();
        answer!(CancelTransactionResponse, self.books().cancel(&it.transaction_id, &it.terminal_id))
    }

    async fn suspend_transaction(
        &self,
        request: Request<SuspendTransactionRequest>,
    ) -> Answer<SuspendTransactionResponse> {
        if self.flaw == Flaw::SuspendsNothing {
            return not_here();
        }
        let it = request.into_inner();
        let decided = self.books().suspend(&it.transaction_id, &it.terminal_id, &it.suspense_account_id);
        answer!(SuspendTransactionResponse, decided)
    }

    async fn resolve_transaction(
        &self,
        request: Request<ResolveTransactionRequest>,
    ) -> Answer<ResolveTransactionResponse> {
        let it = request.into_inner();
        answer!(ResolveTransactionResponse, self.books().resolve(&it.transaction_id, minor_units(it.amount)))
    }

    async fn get_trial_balance(&self, _: Request<GetTrialBalanceRequest>) -> Answer<GetTrialBalanceResponse> {
        let says_so = self.flaw == Flaw::OnlySaysThatItBalances;
        let lines = if says_so { Vec::new() } else { self.books().lines() };
        let sum = |total: fn(&TrialBalanceLine) -> &String| -> i64 {
            lines.iter().map(|line| total(line).parse::<i64>().unwrap()).sum()
        };
        let posted = sum(|it| &it.debits_posted_minor_units) == sum(|it| &it.credits_posted_minor_units);
        let pending = sum(|it| &it.debits_pending_minor_units) == sum(|it| &it.credits_pending_minor_units);
        let balanced = posted && pending;
        Ok(Response::new(GetTrialBalanceResponse { lines, balanced, commit_sequence: 0 }))
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
