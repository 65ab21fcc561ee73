//! The gateway, as this machine calls it: one connection, one identity, one trace for each key press.
//!
//! Every call goes through [`atm_rpc::retry::retry`] with a deadline that the caller owns: the same message again
//! for each attempt, so the same id and the same bytes. Metadata says which terminal and machine is calling, and
//! on calls for a customer which session.

mod admin;
mod money;
mod text;
mod way;

use std::future::Future;
use std::time::Duration;

use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::{
    ChangePinRequest, GetBalanceRequest, GetBalanceResponse, LogInRequest, LogOutRequest, SignOnRequest,
    SignOnResponse,
};
use atm_proto::types;
use atm_rpc::channel::{ChannelConfig, lazy_channel_over};
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, retry};
use atm_rpc::throttle::{Throttle, ThrottleConfig};
use atm_types::AttemptId;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

pub(crate) use admin::AdminClient;
pub(crate) use money::{Answer, wire};
pub(crate) use text::{Case, TextClient};
pub(crate) use way::Way;

use way::Watched;

use crate::crash::crash_point;
use crate::exit::{Exit, Failure};
use crate::journal::Boot;
use crate::pin::Pin;
use crate::terminal::Terminal;

/// A little longer than a pause, much shorter than anybody waits: what logging out may cost.
const LOG_OUT_TIME: Duration = Duration::from_millis(300);
/// The half of these that may be spent lets a machine go on until the deadline against a bank that loses nine
/// answers in ten, and still stops one that has gone wild.
const RETRY_TOKENS: u32 = 128;

/// The reason of a refusal to a machine whose place another start took.
pub(crate) const STALE_BOOT: &str = "STALE_BOOT";

/// The gateway and who is calling it.
pub(crate) struct Gateway {
    channel: Channel,
    throttle: Throttle,
    /// 64 hexadecimal digits; marked sensitive, so that no log prints it.
    terminal_key: MetadataValue<Ascii>,
    atm_id: String,
    atm_id_value: MetadataValue<Ascii>,
    /// The whole time that one key press may take; attempts are cut to fit into it several times.
    patience: Duration,
    watched: Watched,
}

/// A customer who is logged in. Wiped on drop.
pub(crate) struct Session {
    token: MetadataValue<Ascii>,
}

impl Gateway {
    /// Connects when first needed. `patience` is the overall deadline of a command.
    pub(crate) fn new(
        way: impl Into<Way>,
        terminal: &Terminal,
        atm_id: &str,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let way = way.into();
        let key = Zeroizing::new(hex::encode(terminal.key()));
        let mut terminal_key = MetadataValue::try_from(key.as_str())
            .map_err(|_| Failure::invalid("the terminal key cannot be sent"))?;
        terminal_key.set_sensitive(true);
        let valid = (1..=32).contains(&atm_id.len())
            && atm_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let atm_id_value = MetadataValue::try_from(atm_id)
            .ok()
            .filter(|_| valid)
            .ok_or_else(|| Failure::invalid("--atm-id needs 1 to 32 characters of A-Z a-z 0-9 . _ -"))?;
        Ok(Self {
            channel: channel(&way, patience)?,
            throttle: throttle(way.jitter_seed),
            watched: Watched::new(way.witness),
            terminal_key,
            atm_id: atm_id.to_owned(),
            atm_id_value,
            patience,
        })
    }

    /// Tells the bank which start of the machine this is.
    pub(crate) async fn sign_on(&self, boot: Boot, deadline: Deadline) -> Result<SignOnResponse, RetryError> {
        let request = SignOnRequest { atm_id: self.atm_id.clone(), boot: Some(wire_boot(boot)) };
        crash_point!("BEFORE_SIGN_ON");
        let answer = self
            .call(&self.policy(), deadline, request, None, |mut client, request| async move {
                client.sign_on(request).await
            })
            .await;
        crash_point!("SIGN_ON_ANSWERED");
        answer
    }

    /// The machine's name.
    pub(crate) fn atm_id(&self) -> &str {
        &self.atm_id
    }

    /// Checks the PIN and opens a session. The attempt's id lives in memory only and is kept for retries, so
    /// that a lost answer does not burn a second try.
    pub(crate) async fn log_in(
        &self,
        card_number: &str,
        pin: &Pin,
        attempt_id: AttemptId,
        boot: Option<Boot>,
        deadline: Deadline,
    ) -> Result<Session, Failure> {
        let request = LogInRequest {
            card_number: card_number.to_owned(),
            pin: pin.digits().to_owned(),
            attempt_id: attempt_id.to_string(),
            atm_id: self.atm_id.clone(),
            boot: boot.map(wire_boot),
        };
        crash_point!("BEFORE_LOG_IN");
        let answer = self
            .call(&self.pin_policy(), deadline, request, None, |mut client, request| async move {
                client.log_in(request).await
            })
            .await
            .map_err(|error| log_in_failure(&error))?;
        crash_point!("LOGGED_IN");
        let token = Zeroizing::new(answer.session_token);
        let header = Zeroizing::new(format!("Bearer {}", token.as_str()));
        let mut token = MetadataValue::try_from(header.as_str())
            .map_err(|_| Failure::unavailable("the bank answered with a session that cannot be used"))?;
        token.set_sensitive(true);
        Ok(Session { token })
    }

    /// Sets another PIN. The attempt's id is kept for retries, as for [`Self::log_in`].
    pub(crate) async fn change_pin(
        &self,
        session: &Session,
        (old, new): (&Pin, &Pin),
        attempt_id: AttemptId,
        deadline: Deadline,
    ) -> Result<(), RetryError> {
        let request = ChangePinRequest {
            old_pin: old.digits().to_owned(),
            new_pin: new.digits().to_owned(),
            attempt_id: attempt_id.to_string(),
        };
        self.call(&self.pin_policy(), deadline, request, Some(session), |mut client, request| async move {
            client.change_pin(request).await
        })
        .await
        .map(drop)
    }

    /// Ends the session; best effort, since it ends by itself soon.
    pub(crate) async fn log_out(&self, session: &Session) {
        let policy = RetryPolicy { max_attempts: Some(1), ..policy(LOG_OUT_TIME) };
        let ended = self
            .call(
                &policy,
                Deadline::after(LOG_OUT_TIME),
                LogOutRequest {},
                Some(session),
                |mut client, request| async move { client.log_out(request).await },
            )
            .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "not logged out");
        }
    }

    /// Reads the balance of the session's account.
    pub(crate) async fn balance(
        &self,
        session: &Session,
        deadline: Deadline,
    ) -> Result<GetBalanceResponse, RetryError> {
        self.call(
            &self.policy(),
            deadline,
            GetBalanceRequest {},
            Some(session),
            |mut client, request| async move { client.get_balance(request).await },
        )
        .await
    }

    /// The policy of what hashes a PIN: that takes its time on purpose, and the bank does it for few at once.
    fn pin_policy(&self) -> RetryPolicy {
        policy(self.patience.mul_f64(0.45).min(Duration::from_secs(5)))
    }

    /// The policy of everything else.
    fn policy(&self) -> RetryPolicy {
        policy(self.patience.mul_f64(0.2).min(Duration::from_secs(2)))
    }

    /// One call with its retries: `method` picks the RPC.
    async fn call<Req, Res, F, Fut>(
        &self,
        policy: &RetryPolicy,
        deadline: Deadline,
        request: Req,
        session: Option<&Session>,
        method: F,
    ) -> Result<Res, RetryError>
    where
        Req: Clone + prost::Message,
        Res: prost::Message,
        F: Fn(AtmServiceClient<Channel>, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let call = self.watched.call();
        retry(policy, &self.throttle, deadline, request, |mut request| {
            let metadata = request.metadata_mut();
            metadata.insert("atm-terminal-key", self.terminal_key.clone());
            metadata.insert("atm-id", self.atm_id_value.clone());
            if let Some(session) = session {
                metadata.insert("authorization", session.token.clone());
            }
            let attempt = call.attempt(&request);
            attempt.watch(method(AtmServiceClient::new(self.channel.clone()), request))
        })
        .await
    }
}

fn wire_boot(boot: Boot) -> types::Boot {
    types::Boot {
        epoch: boot.epoch,
        boot_id: boot.id.to_string(),
        previous_boot_id: boot.previous.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// A channel whose connecting fails well before an attempt does: a connection that could not be opened proves
/// that nothing was sent, and an attempt that timed out proves nothing.
fn channel(way: &Way, patience: Duration) -> Result<Channel, Failure> {
    let connect_timeout = patience.mul_f64(0.15).min(Duration::from_secs(1));
    let config = ChannelConfig { connect_timeout, ..ChannelConfig::default() };
    lazy_channel_over(&way.url, &config, way.network.as_ref())
        .map_err(|error| Failure::invalid(format!("--gateway: {error}")))
}

fn throttle(jitter_seed: Option<u64>) -> Throttle {
    Throttle::new(ThrottleConfig { max_tokens: RETRY_TOKENS, seed: jitter_seed, ..ThrottleConfig::default() })
}

fn policy(attempt_timeout: Duration) -> RetryPolicy {
    RetryPolicy {
        initial_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        multiplier: 2.0,
        attempt_timeout: attempt_timeout.max(Duration::from_millis(50)),
        max_attempts: None,
    }
}

/// Logging in moves no money, so whatever its failure says, no money moved.
pub(crate) fn log_in_failure(error: &RetryError) -> Failure {
    let reason = atm_rpc::status::reason(&error.status);
    match error.status.code() {
        Code::Unauthenticated => Failure::new(
            Exit::NotAuthenticated,
            "wrong_card_or_pin",
            "the card is not known or the PIN is wrong",
        ),
        Code::FailedPrecondition if reason.as_deref() == Some("CARD_BLOCKED") => Failure::new(
            Exit::NotAuthenticated,
            "card_blocked",
            "the card is blocked; ask the bank to unblock it",
        ),
        Code::FailedPrecondition if reason.as_deref() == Some(STALE_BOOT) => {
            Failure::new(Exit::Unavailable, "fenced_off", "another start of this machine took its place")
                .assuring("nothing was sent")
        }
        Code::FailedPrecondition => Failure::new(
            Exit::NotAuthenticated,
            "card_locked",
            "the card is locked after too many wrong PINs; ask the bank to unblock it",
        ),
        Code::PermissionDenied => terminal_mismatch(),
        _ => read_failure(error),
    }
}

/// The machine's name is somebody else's.
pub(crate) fn terminal_mismatch() -> Failure {
    Failure::new(
        Exit::NotAuthenticated,
        "terminal_mismatch",
        "this machine's name belongs to another terminal; choose another --atm-id",
    )
}

/// The failure of a call that moves no money.
pub(crate) fn read_failure(error: &RetryError) -> Failure {
    let message = error.status.message();
    match error.status.code() {
        Code::InvalidArgument | Code::OutOfRange => {
            Failure::invalid(format!("the bank refused the input: {message}"))
        }
        Code::Unauthenticated => Failure::new(
            Exit::NotAuthenticated,
            "not_authenticated",
            format!("the bank does not know who is asking: {message}"),
        ),
        Code::PermissionDenied => Failure::new(
            Exit::NotAuthenticated,
            "permission_denied",
            format!("the bank does not allow it: {message}"),
        ),
        Code::NotFound => Failure::new(Exit::Declined, "not_found", format!("not found: {message}")),
        Code::AlreadyExists | Code::FailedPrecondition => {
            Failure::new(Exit::Declined, "refused", format!("the bank refused: {message}"))
        }
        _ if !error.maybe_sent => {
            Failure::unavailable(format!("the bank cannot be reached ({})", attempts(error)))
                .assuring("nothing was sent")
        }
        code => {
            Failure::unavailable(format!("the bank gave no answer ({code}, {}): {message}", attempts(error)))
                .assuring("no money was moved")
        }
    }
}

/// How often it was tried, in words.
pub(crate) fn attempts(error: &RetryError) -> String {
    match error.attempts {
        1 => "1 attempt".to_owned(),
        more => format!("{more} attempts"),
    }
}
