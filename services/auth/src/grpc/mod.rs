//! `atm.auth.v1.AuthService` on the wire: each handler converts, calls one use case, and converts back.

mod convert;
mod size;
mod status;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use atm_proto::auth::auth_service_server::{AuthService, AuthServiceServer};
use atm_proto::auth::{
    BlockCardRequest, BlockCardResponse, ChangePinRequest, ChangePinResponse, CloseSessionRequest,
    CloseSessionResponse, ForgetStartRequest, ForgetStartResponse, GetSessionKeysRequest,
    GetSessionKeysResponse, GetTerminalRequest, GetTerminalResponse, IssueCardsRequest, IssueCardsResponse,
    ReleaseTerminalRequest, ReleaseTerminalResponse, SignOnTerminalRequest, SignOnTerminalResponse,
    UnblockCardRequest, UnblockCardResponse, VerifyPinRequest, VerifyPinResponse, WatchRevocationsRequest,
};
use atm_rpc::admission::{self, AdmissionConfig, Priority};
use atm_rpc::credentials::BearerToken;
use atm_rpc::limits;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::auth::Auth;
use crate::terminals::Binding;
use size::BySize;

/// The service's full name, for health.
pub(crate) const NAME: &str = "atm.auth.v1.AuthService";

/// The methods that answer with a stream.
pub(crate) const STREAMING: &[&str] = &["/atm.auth.v1.AuthService/WatchRevocations"];

/// Bytes of one `IssueCards` request: a thousand cards, each with everything as long as it may be, are 76 KB.
const ISSUE_BYTES: usize = 128 * 1024;

/// Who gets in when it is crowded: what ends sessions goes first, what can be repeated later goes last.
pub(crate) fn admission() -> AdmissionConfig {
    AdmissionConfig {
        max_in_flight: 1024,
        reserved_for_critical: 128,
        reserved_for_normal: 256,
        classify: |path| match path.strip_prefix("/atm.auth.v1.AuthService/") {
            // Without an answer to GetTerminal a gateway cannot let a machine suspend what may be out.
            Some("CloseSession" | "BlockCard" | "WatchRevocations" | "GetSessionKeys" | "GetTerminal") => {
                Priority::Critical
            }
            Some("IssueCards" | "UnblockCard" | "ForgetStart" | "ReleaseTerminal") => Priority::Low,
            Some(_) | None => admission::classify(path),
        },
        ..AdmissionConfig::default()
    }
}

/// The service behind its token.
pub(crate) fn service(
    auth: Arc<Auth>,
    token: BearerToken,
    heartbeat: Duration,
) -> InterceptedService<BySize, impl tonic::service::Interceptor + Clone + Send + Sync + 'static> {
    let server = AuthServiceServer::new(Handlers { auth, heartbeat });
    let ordinary = server
        .clone()
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::BATCH_BYTES);
    let issuing =
        server.max_decoding_message_size(ISSUE_BYTES).max_encoding_message_size(limits::BATCH_BYTES);
    InterceptedService::new(BySize { ordinary, issuing }, move |request: Request<()>| {
        if token.matches(request.metadata()) { Ok(request) } else { Err(status::no_service_token()) }
    })
}

/// The handlers of all methods.
pub(crate) struct Handlers {
    auth: Arc<Auth>,
    heartbeat: Duration,
}

impl Handlers {
    fn refuse(&self) -> impl Fn(crate::failure::Failure) -> Status + '_ {
        |failure| status::of(&*self.auth.ids, failure)
    }
}

#[tonic::async_trait]
impl AuthService for Handlers {
    async fn verify_pin(
        &self,
        request: Request<VerifyPinRequest>,
    ) -> Result<Response<VerifyPinResponse>, Status> {
        let (number, pin, press) = convert::log_in(request.into_inner())?;
        let signed = self.auth.log_in(&number, pin, press).await.map_err(self.refuse())?;
        Ok(Response::new(VerifyPinResponse {
            session: Some(convert::session(&signed.session)),
            session_token: signed.token,
        }))
    }

    async fn sign_on_terminal(
        &self,
        request: Request<SignOnTerminalRequest>,
    ) -> Result<Response<SignOnTerminalResponse>, Status> {
        let (atm_id, terminal_id, boot) = convert::sign_on(request.get_ref())?;
        let binding = self.auth.sign_on(atm_id, terminal_id, boot).await.map_err(self.refuse())?;
        Ok(Response::new(SignOnTerminalResponse { bound: binding == Binding::Bound }))
    }

    async fn get_terminal(
        &self,
        request: Request<GetTerminalRequest>,
    ) -> Result<Response<GetTerminalResponse>, Status> {
        let asked = request.get_ref();
        let (atm_id, terminal_id) = convert::place(&asked.atm_id, &asked.terminal_id)?;
        let binding = self.auth.binding(atm_id, terminal_id).await.map_err(self.refuse())?;
        Ok(Response::new(GetTerminalResponse { bound: binding == Binding::Bound }))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let session_id = convert::id("session_id", &request.into_inner().session_id)?;
        self.auth.close_session(session_id).await.map_err(self.refuse())?;
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn change_pin(
        &self,
        request: Request<ChangePinRequest>,
    ) -> Result<Response<ChangePinResponse>, Status> {
        let (card_id, pins, press) = convert::change(request.into_inner())?;
        self.auth.change_pin(card_id, pins, press).await.map_err(self.refuse())?;
        Ok(Response::new(ChangePinResponse {}))
    }

    async fn issue_cards(
        &self,
        request: Request<IssueCardsRequest>,
    ) -> Result<Response<IssueCardsResponse>, Status> {
        let wanted = convert::cards(request.into_inner())?;
        let results = self.auth.issue_cards(wanted).await.map_err(self.refuse())?;
        let results = results.into_iter().map(convert::card_result).collect();
        Ok(Response::new(IssueCardsResponse { results }))
    }

    async fn block_card(
        &self,
        request: Request<BlockCardRequest>,
    ) -> Result<Response<BlockCardResponse>, Status> {
        let BlockCardRequest { card_number, order_id } = request.into_inner();
        let (id, number) = convert::card_order(&order_id, card_number)?;
        let (card_id, time) = self.auth.block_card(id, &number).await.map_err(self.refuse())?;
        let revoke_time = Some(convert::timestamp(time));
        Ok(Response::new(BlockCardResponse { card_id: card_id.to_string(), revoke_time }))
    }

    async fn unblock_card(
        &self,
        request: Request<UnblockCardRequest>,
    ) -> Result<Response<UnblockCardResponse>, Status> {
        let UnblockCardRequest { card_number, order_id } = request.into_inner();
        let (id, number) = convert::card_order(&order_id, card_number)?;
        let card_id = self.auth.unblock_card(id, &number).await.map_err(self.refuse())?;
        Ok(Response::new(UnblockCardResponse { card_id: card_id.to_string() }))
    }

    async fn forget_start(
        &self,
        request: Request<ForgetStartRequest>,
    ) -> Result<Response<ForgetStartResponse>, Status> {
        let (id, atm_id) = convert::forget_start(request.get_ref())?;
        let machines = self.auth.forget_start(id, atm_id).await.map_err(self.refuse())?;
        Ok(Response::new(ForgetStartResponse { machines }))
    }

    async fn release_terminal(
        &self,
        request: Request<ReleaseTerminalRequest>,
    ) -> Result<Response<ReleaseTerminalResponse>, Status> {
        let asked = request.get_ref();
        let (id, atm_id) = (convert::id("order_id", &asked.order_id)?, convert::atm_id(&asked.atm_id)?);
        self.auth.release_terminal(id, atm_id).await.map_err(self.refuse())?;
        Ok(Response::new(ReleaseTerminalResponse {}))
    }

    async fn get_session_keys(
        &self,
        _request: Request<GetSessionKeysRequest>,
    ) -> Result<Response<GetSessionKeysResponse>, Status> {
        let public_keys = vec![self.auth.session_key.public().to_vec()];
        Ok(Response::new(GetSessionKeysResponse { public_keys }))
    }

    type WatchRevocationsStream = watch::Revocations;

    async fn watch_revocations(
        &self,
        _request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<watch::Revocations>, Status> {
        let (relevant, receiver) = self.auth.watch_revocations().await.map_err(self.refuse())?;
        Ok(Response::new(watch::stream(relevant, receiver, self.heartbeat)))
    }
}
