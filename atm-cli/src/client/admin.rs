//! The operators' door.

use std::future::Future;
use std::time::Duration;

use atm_proto::gateway::admin_service_client::AdminServiceClient;
use atm_proto::gateway::{
    BlockCardRequest, ForgetStartRequest, GetCashPositionRequest, GetCashPositionResponse,
    GetTrialBalanceRequest, GetTrialBalanceResponse, ImportAccountsRequest, ImportAccountsResponse,
    InspectTransactionRequest, InspectTransactionResponse, IssueCardRequest, ListCashEntriesRequest,
    ListCashEntriesResponse, ListSuspectsRequest, ListSuspectsResponse, MoveCashRequest, NewAccount,
    OpenAccountRequest, Outcome, ReleaseTerminalRequest, ResolveSuspectRequest, UnblockCardRequest,
    VerifyLedgerRequest, VerifyLedgerResponse,
};
use atm_rpc::credentials::BearerToken;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, retry};
use atm_rpc::throttle::Throttle;
use atm_types::{Money, TransactionId};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::Way;
use super::way::Watched;
use crate::crash::crash_point;
use crate::exit::Failure;
use crate::journal::{Account, Movement};

/// A client of `AdminService` that carries the operator's token.
pub(crate) struct AdminClient {
    channel: Channel,
    throttle: Throttle,
    token: BearerToken,
    patience: Duration,
    watched: Watched,
}

impl AdminClient {
    /// `patience` bounds each call, retries included.
    pub(crate) fn new(way: impl Into<Way>, token: BearerToken, patience: Duration) -> Result<Self, Failure> {
        let way = way.into();
        Ok(Self {
            channel: super::channel(&way, patience)?,
            throttle: super::throttle(way.jitter_seed),
            token,
            patience,
            watched: Watched::new(way.witness),
        })
    }

    pub(crate) async fn open_account(&self, account: NewAccount) -> Result<String, RetryError> {
        let request = OpenAccountRequest { account: Some(account) };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.open_account(request).await },
        )
        .await
        .map(|answer| answer.account_id)
    }

    /// Whether anything changed.
    pub(crate) async fn issue_card(
        &self,
        card_number: String,
        account: String,
        pin: String,
    ) -> Result<bool, RetryError> {
        let request = IssueCardRequest { card_number, account, pin };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.issue_card(request).await },
        )
        .await
        .map(|answer| answer.changed)
    }

    /// `order_id` makes the order count once, however often it is sent.
    pub(crate) async fn block_card(&self, order_id: String, card_number: String) -> Result<(), RetryError> {
        let request = BlockCardRequest { card_number, order_id };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.block_card(request).await },
        )
        .await
        .map(|_| ())
    }

    pub(crate) async fn unblock_card(&self, order_id: String, card_number: String) -> Result<(), RetryError> {
        let request = UnblockCardRequest { card_number, order_id };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.unblock_card(request).await },
        )
        .await
        .map(|_| ())
    }

    /// Forgets the recorded start of a machine, or of all; tells how many machines that were.
    pub(crate) async fn forget_start(
        &self,
        order_id: String,
        atm_id: Option<String>,
    ) -> Result<u64, RetryError> {
        let all = atm_id.is_none();
        let request = ForgetStartRequest { order_id, atm_id: atm_id.unwrap_or_default(), all };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.forget_start(request).await },
        )
        .await
        .map(|answer| answer.machines)
    }

    /// Takes a machine's name from its terminal.
    pub(crate) async fn release_terminal(&self, order_id: String, atm_id: String) -> Result<(), RetryError> {
        let request = ReleaseTerminalRequest { order_id, atm_id };
        self.call(self.patience, request, |mut client, request| async move {
            client.release_terminal(request).await
        })
        .await
        .map(|_| ())
    }

    /// Applies one chunk of an import; `patience` is the chunk's own, since PINs take time to hash.
    pub(crate) async fn import(
        &self,
        chunk: ImportAccountsRequest,
        patience: Duration,
    ) -> Result<ImportAccountsResponse, RetryError> {
        self.call(patience, chunk, |mut client, request| async move { client.import_accounts(request).await })
            .await
    }

    pub(crate) async fn trial_balance(&self) -> Result<GetTrialBalanceResponse, RetryError> {
        self.call(self.patience, GetTrialBalanceRequest {}, |mut client, request| async move {
            client.get_trial_balance(request).await
        })
        .await
    }

    /// What the books say about a machine's cash.
    pub(crate) async fn cash_position(
        &self,
        atm_id: &str,
        patience: Duration,
    ) -> Result<GetCashPositionResponse, RetryError> {
        let request = GetCashPositionRequest { atm_id: atm_id.to_owned() };
        self.call(
            patience,
            request,
            |mut client, request| async move { client.get_cash_position(request).await },
        )
        .await
    }

    /// The postings on one place of a machine, newest first, a page of them.
    pub(crate) async fn cash_entries(
        &self,
        atm_id: &str,
        place: Account,
        page_token: String,
    ) -> Result<ListCashEntriesResponse, RetryError> {
        let request = ListCashEntriesRequest {
            atm_id: atm_id.to_owned(),
            bin: place.wire().into(),
            page_size: 1000,
            page_token,
        };
        self.call(self.patience, request, |mut client, request| async move {
            client.list_cash_entries(request).await
        })
        .await
    }

    /// Posts that operators moved cash.
    pub(crate) async fn move_cash(&self, atm_id: &str, movement: &Movement) -> Result<Outcome, RetryError> {
        let request = MoveCashRequest {
            transaction_id: movement.id.to_string(),
            atm_id: atm_id.to_owned(),
            from: movement.from.wire().into(),
            to: movement.to.wire().into(),
            amount: Some(super::wire(movement.amount)),
        };
        crash_point!("BEFORE_MOVE_CASH");
        let answer =
            self.call(self.patience, request, |mut client, request| async move {
                client.move_cash(request).await
            })
            .await;
        crash_point!("MOVE_CASH_ANSWERED");
        answer.map(|answer| answer.outcome.unwrap_or_default())
    }

    /// A machine's withdrawals that wait for a person.
    pub(crate) async fn suspects(&self, atm_id: &str) -> Result<ListSuspectsResponse, RetryError> {
        let request = ListSuspectsRequest { atm_id: atm_id.to_owned() };
        self.call(
            self.patience,
            request,
            |mut client, request| async move { client.list_suspects(request).await },
        )
        .await
    }

    /// Everything that was recorded under an id.
    pub(crate) async fn inspect(&self, id: TransactionId) -> Result<InspectTransactionResponse, RetryError> {
        let request = InspectTransactionRequest { transaction_id: id.to_string() };
        self.call(self.patience, request, |mut client, request| async move {
            client.inspect_transaction(request).await
        })
        .await
    }

    /// Decides a suspect withdrawal.
    pub(crate) async fn resolve(
        &self,
        id: TransactionId,
        amount: Money,
        operator: &str,
        reason: &str,
    ) -> Result<Outcome, RetryError> {
        let request = ResolveSuspectRequest {
            transaction_id: id.to_string(),
            amount: Some(super::wire(amount)),
            operator: operator.to_owned(),
            reason: reason.to_owned(),
        };
        crash_point!("BEFORE_RESOLVE");
        let answer = self
            .call(self.patience, request, |mut client, request| async move {
                client.resolve_suspect(request).await
            })
            .await;
        crash_point!("RESOLVE_ANSWERED");
        answer.map(|answer| answer.outcome.unwrap_or_default())
    }

    /// Begins a verification, which goes on for as long as the books are long.
    pub(crate) async fn verify(&self) -> Result<Streaming<VerifyLedgerResponse>, Status> {
        let mut request = Request::new(VerifyLedgerRequest {});
        if let Some(trace) = atm_rpc::telemetry::current() {
            trace.attach(&mut request);
        }
        self.token.attach(&mut request);
        AdminServiceClient::new(self.channel.clone()).verify_ledger(request).await.map(Response::into_inner)
    }

    async fn call<Req, Res, F, Fut>(
        &self,
        patience: Duration,
        request: Req,
        method: F,
    ) -> Result<Res, RetryError>
    where
        Req: Clone + prost::Message,
        Res: prost::Message,
        F: Fn(AdminServiceClient<Channel>, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let call = self.watched.call();
        let policy = RetryPolicy { ..super::policy(patience.mul_f64(0.45)) };
        retry(&policy, &self.throttle, Deadline::after(patience), request, |mut request| {
            self.token.attach(&mut request);
            let attempt = call.attempt(&request);
            attempt.watch(method(AdminServiceClient::new(self.channel.clone()), request))
        })
        .await
    }
}
