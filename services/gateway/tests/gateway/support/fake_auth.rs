//! An auth that knows two cards, signs real tokens, and fails when it is told to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_proto::auth::auth_service_server::{AuthService, AuthServiceServer};
use atm_proto::auth::revocation::Target;
use atm_proto::auth::*;
use atm_rpc::status::with_reason;
use atm_types::{AccountId, Clock, ManualClock, Timestamp};
use futures_util::{Stream, StreamExt, stream};
use pasetors::keys::AsymmetricSecretKey;
use pasetors::version4::{PublicToken, V4};
use tokio::sync::broadcast;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::log::Log;

// RFC 8032 §7.1, test 1.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// Farhan's card.
pub(crate) const CARD: &str = "4000001234567899";
/// Biva's card.
pub(crate) const OTHER_CARD: &str = "4000009876543210";
/// The PIN of both.
pub(crate) const PIN: &str = "1234";

/// The claims of a token, to be changed before it is signed.
pub(crate) struct Claims {
    pub(crate) sid: Uuid,
    pub(crate) cid: Uuid,
    pub(crate) aid: AccountId,
    pub(crate) atm: String,
    pub(crate) tid: String,
    pub(crate) iat: Timestamp,
    pub(crate) exp: Timestamp,
}

/// The account behind a card.
pub(crate) fn account_of(card: &str) -> AccountId {
    AccountId::of_number(if card == CARD { "Farhan" } else { "Biva" })
}

/// The id of a card.
pub(crate) fn card_id(card: &str) -> Uuid {
    Uuid::from_u128(0x4000 + card.bytes().map(u128::from).sum::<u128>())
}

pub(crate) struct FakeAuth {
    pub(crate) log: Log,
    clock: ManualClock,
    sessions: Mutex<u128>,
    revocations: broadcast::Sender<Vec<Revocation>>,
    first: Mutex<Vec<Revocation>>,
    /// Which terminal a machine's name is bound to.
    pub(crate) terminals: Mutex<HashMap<String, String>>,
}

impl FakeAuth {
    pub(crate) fn new(clock: ManualClock) -> Arc<Self> {
        Arc::new(Self {
            log: Log::default(),
            clock,
            sessions: Mutex::new(1),
            revocations: broadcast::Sender::new(16),
            first: Mutex::default(),
            terminals: Mutex::default(),
        })
    }

    pub(crate) fn service(this: &Arc<Self>) -> AuthServiceServer<Shared> {
        AuthServiceServer::new(Shared(Arc::clone(this)))
    }

    /// Claims of a session that is good for five minutes.
    pub(crate) fn claims(&self, card: &str, atm: &str, tid: &str) -> Claims {
        let mut sessions = self.sessions.lock().unwrap();
        *sessions += 1;
        let now = self.clock.now();
        Claims {
            sid: Uuid::from_u128(*sessions),
            cid: card_id(card),
            aid: account_of(card),
            atm: atm.to_owned(),
            tid: tid.to_owned(),
            iat: now,
            exp: now.saturating_add(Duration::from_secs(300)),
        }
    }

    /// Signs claims as auth does.
    pub(crate) fn sign(claims: &Claims) -> String {
        let payload = serde_json::json!({
            "sid": claims.sid.to_string(), "cid": claims.cid.to_string(), "aid": claims.aid.to_string(), "atm": claims.atm,
            "tid": claims.tid, "iat": claims.iat.as_nanos(), "exp": claims.exp.as_nanos(),
        });
        let secret = hex::decode(format!("{SECRET}{PUBLIC}")).unwrap();
        let secret = AsymmetricSecretKey::<V4>::from(&secret).unwrap();
        PublicToken::sign(&secret, payload.to_string().as_bytes(), None, None).unwrap()
    }

    /// Tells everybody who listens.
    pub(crate) fn revoke(&self, target: Target) {
        let now = self.clock.now();
        let revoke_time = prost_types::Timestamp { seconds: now.as_seconds(), nanos: now.subsec_nanos() };
        let revocation = Revocation { target: Some(target), revoke_time: Some(revoke_time) };
        self.first.lock().unwrap().push(revocation.clone());
        let _ = self.revocations.send(vec![revocation]);
    }

    /// Whether the name is bound to this terminal, or refused because it is bound to another.
    fn bound(&self, atm_id: &str, terminal_id: &str) -> Result<bool, Status> {
        match self.terminals.lock().unwrap().get(atm_id) {
            None => Ok(false),
            Some(owner) if owner == terminal_id => Ok(true),
            Some(_) => Err(with_reason(
                Code::PermissionDenied,
                "row in terminals has another key",
                "TERMINAL_MISMATCH",
                &[],
            )),
        }
    }

    fn wrong() -> Status {
        with_reason(Code::Unauthenticated, "no such card in /var/lib/auth.db", "WRONG_CARD_OR_PIN", &[])
    }
}

/// The fake behind its trait.
pub(crate) struct Shared(Arc<FakeAuth>);

#[tonic::async_trait]
impl AuthService for Shared {
    async fn verify_pin(
        &self,
        request: Request<VerifyPinRequest>,
    ) -> Result<Response<VerifyPinResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("VerifyPin", request).await?;
        if ![CARD, OTHER_CARD].contains(&asked.card_number.as_str()) || asked.pin != PIN {
            return Err(FakeAuth::wrong());
        }
        self.0.terminals.lock().unwrap().entry(asked.atm_id.clone()).or_insert(asked.terminal_id.clone());
        let claims = self.0.claims(&asked.card_number, &asked.atm_id, &asked.terminal_id);
        let session = Session {
            session_id: claims.sid.to_string(),
            account_id: claims.aid.to_string(),
            ..Session::default()
        };
        let session_token = FakeAuth::sign(&claims);
        Ok(Response::new(VerifyPinResponse { session_token, session: Some(session) }))
    }

    async fn sign_on_terminal(
        &self,
        request: Request<SignOnTerminalRequest>,
    ) -> Result<Response<SignOnTerminalResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("SignOnTerminal", request).await?;
        let bound = self.0.bound(&asked.atm_id, &asked.terminal_id)?;
        Ok(Response::new(SignOnTerminalResponse { bound }))
    }

    async fn get_terminal(
        &self,
        request: Request<GetTerminalRequest>,
    ) -> Result<Response<GetTerminalResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("GetTerminal", request).await?;
        Ok(Response::new(GetTerminalResponse { bound: self.0.bound(&asked.atm_id, &asked.terminal_id)? }))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        self.0.log.enter("CloseSession", request).await?;
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn change_pin(
        &self,
        request: Request<ChangePinRequest>,
    ) -> Result<Response<ChangePinResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("ChangePin", request).await?;
        if asked.old_pin == PIN { Ok(Response::new(ChangePinResponse {})) } else { Err(FakeAuth::wrong()) }
    }

    async fn issue_cards(
        &self,
        request: Request<IssueCardsRequest>,
    ) -> Result<Response<IssueCardsResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("IssueCards", request).await?;
        let result = |card: CardToIssue| {
            let kind = match card.card_number.as_str() {
                CARD if card.account_id == account_of(CARD).to_string() => CardResultKind::Unchanged,
                CARD | OTHER_CARD => CardResultKind::OtherAccount,
                _ => CardResultKind::Issued,
            };
            CardResult { kind: kind.into(), card_id: card_id(&card.card_number).to_string() }
        };
        let results = asked.cards.into_iter().map(result).collect();
        Ok(Response::new(IssueCardsResponse { results }))
    }

    async fn block_card(
        &self,
        request: Request<BlockCardRequest>,
    ) -> Result<Response<BlockCardResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("BlockCard", request).await?;
        if asked.card_number != CARD {
            return Err(Status::not_found("no row in cards"));
        }
        let now = self.0.clock.now();
        let revoke_time =
            Some(prost_types::Timestamp { seconds: now.as_seconds(), nanos: now.subsec_nanos() });
        Ok(Response::new(BlockCardResponse { card_id: card_id(CARD).to_string(), revoke_time }))
    }

    async fn unblock_card(
        &self,
        request: Request<UnblockCardRequest>,
    ) -> Result<Response<UnblockCardResponse>, Status> {
        self.0.log.enter("UnblockCard", request).await?;
        Ok(Response::new(UnblockCardResponse { card_id: card_id(CARD).to_string() }))
    }

    async fn forget_start(
        &self,
        request: Request<ForgetStartRequest>,
    ) -> Result<Response<ForgetStartResponse>, Status> {
        self.0.log.enter("ForgetStart", request).await?;
        Ok(Response::new(ForgetStartResponse { machines: 1 }))
    }

    async fn release_terminal(
        &self,
        request: Request<ReleaseTerminalRequest>,
    ) -> Result<Response<ReleaseTerminalResponse>, Status> {
        let asked = request.get_ref().clone();
        self.0.log.enter("ReleaseTerminal", request).await?;
        match self.0.terminals.lock().unwrap().remove(&asked.atm_id) {
            Some(_) => Ok(Response::new(ReleaseTerminalResponse {})),
            None => Err(with_reason(Code::NotFound, "no row in terminals", "MACHINE_NOT_FOUND", &[])),
        }
    }

    async fn get_session_keys(
        &self,
        request: Request<GetSessionKeysRequest>,
    ) -> Result<Response<GetSessionKeysResponse>, Status> {
        self.0.log.enter("GetSessionKeys", request).await?;
        Ok(Response::new(GetSessionKeysResponse { public_keys: vec![hex::decode(PUBLIC).unwrap()] }))
    }

    type WatchRevocationsStream =
        Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send + 'static>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let live = self.0.revocations.subscribe();
        self.0.log.enter("WatchRevocations", request).await?;
        let first = self.0.first.lock().unwrap().clone();
        let live = tokio_stream::wrappers::BroadcastStream::new(live).filter_map(|item| async { item.ok() });
        let all = stream::once(async { first }).chain(live);
        Ok(Response::new(Box::pin(all.map(|revocations| Ok(WatchRevocationsResponse { revocations })))))
    }
}
