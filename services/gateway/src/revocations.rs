//! Sessions that ended before their time, as auth tells them, and whether auth was heard of lately.
//!
//! One background task follows auth: it reads the session keys, opens the stream, and adds what it is told,
//! first all that still matters and then each as it happens. A revocation is never taken back, so what was
//! known stays known when the stream is opened again. When nothing was heard for [`SILENCE`], not even a
//! heartbeat, nobody can tell which sessions are still good, so none is accepted: fail closed.
//!
//! A log-out or a block through this gateway counts here at once, whether auth's own word has come or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atm_proto::auth::revocation::Target;
use atm_proto::auth::{GetSessionKeysRequest, Revocation};
use atm_rpc::deadline::Deadline;
use atm_types::{AttemptId, IdSource, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::session::{LONGEST_SESSION, Session, SessionKeys};
use crate::upstream::Auth;

/// After so much silence no session is accepted.
pub const SILENCE: Duration = Duration::from_secs(30);

/// Auth sends something at least every 5 s; after three times that a stream is taken for dead.
const STREAM_SILENCE: Duration = Duration::from_secs(15);

/// How long reading the keys and opening the stream may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The first and the longest pause before the next try.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is known of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It was ended.
    Revoked,
    /// Auth was not heard for too long.
    Unknown,
}

/// All revocations that still matter.
#[derive(Debug)]
pub struct Revocations {
    state: Mutex<State>,
    heard: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    heard: Option<Instant>,
    /// Ended sessions, each with the instant after which it would be over anyway.
    sessions: HashMap<Uuid, Instant>,
    /// Revoked cards, each with the instant after which no session can be concerned any more.
    cards: HashMap<Uuid, (IssuedUntil, Instant)>,
    sweep_at: usize,
}

/// Which sessions of a card are revoked: those issued at this time or before.
type IssuedUntil = Timestamp;

impl Default for Revocations {
    fn default() -> Self {
        Self { state: Mutex::default(), heard: watch::Sender::new(false) }
    }
}

impl Revocations {
    /// How a session stands now.
    pub fn standing(&self, session: &Session) -> Standing {
        let state = self.lock();
        if state.heard.is_none_or(|heard| heard.elapsed() >= SILENCE) {
            return Standing::Unknown;
        }
        if state.concerns(session) { Standing::Revoked } else { Standing::Good }
    }

    /// Waits until auth was heard for the first time, but not for long; says whether it was.
    pub async fn heard_once(&self, most: Duration) -> bool {
        let mut heard = self.heard.subscribe();
        timeout(most, heard.wait_for(|heard| *heard)).await.is_ok_and(|heard| heard.is_ok())
    }

    /// Ends a session here and now.
    pub fn end_session(&self, session_id: Uuid) {
        self.lock().add_session(session_id);
    }

    /// Ends all sessions of a card here that were issued at or before `until`.
    pub fn end_card(&self, card_id: Uuid, until: prost_types::Timestamp) {
        self.lock().add_card(card_id, timestamp(until));
    }

    /// Adds what auth told, which may be nothing: a heartbeat.
    pub fn hear(&self, revocations: &[Revocation]) {
        self.lock().hear(revocations);
        self.heard.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hear(&mut self, revocations: &[Revocation]) {
        for revocation in revocations {
            let id = |id: &str| id.parse::<AttemptId>().ok().map(|id| id.as_uuid());
            match &revocation.target {
                Some(Target::SessionId(text)) => {
                    if let Some(id) = id(text) {
                        self.add_session(id);
                    }
                }
                Some(Target::CardId(text)) => {
                    if let Some(id) = id(text) {
                        // Without a time it means all that there are.
                        let latest = Timestamp::from_nanos(i64::MAX);
                        self.add_card(id, revocation.revoke_time.map_or(latest, timestamp));
                    }
                }
                None => tracing::warn!("auth told a revocation without a target"),
            }
        }
        self.heard = Some(Instant::now());
    }

    fn concerns(&self, session: &Session) -> bool {
        self.sessions.contains_key(&session.session_id)
            || self.cards.get(&session.card_id).is_some_and(|(until, _)| session.issue_time <= *until)
    }

    fn add_session(&mut self, id: Uuid) {
        self.sweep();
        self.sessions.insert(id, forget_at());
    }

    fn add_card(&mut self, id: Uuid, until: IssuedUntil) {
        self.sweep();
        let known = self.cards.entry(id).or_insert((until, forget_at()));
        *known = (known.0.max(until), forget_at());
    }

    /// Forgets what can concern no session any more, whenever the number has doubled.
    fn sweep(&mut self) {
        let count = |state: &Self| state.sessions.len() + state.cards.len();
        if count(self) < self.sweep_at.max(1_024) {
            return;
        }
        let now = Instant::now();
        self.sessions.retain(|_, forget| *forget > now);
        self.cards.retain(|_, (_, forget)| *forget > now);
        self.sweep_at = 2 * count(self);
    }
}

/// From then on no session can be left that a revocation of now concerns.
fn forget_at() -> Instant {
    Instant::now() + LONGEST_SESSION
}

fn timestamp(time: prost_types::Timestamp) -> Timestamp {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Follows auth until `shutdown`: keys first, then revocations, again and again with growing pauses.
pub async fn follow(
    auth: Arc<Auth>,
    keys: Arc<SessionKeys>,
    revocations: Arc<Revocations>,
    ids: Arc<dyn IdSource>,
    shutdown: CancellationToken,
) {
    let listen = async {
        let mut longest = BACKOFF.0;
        loop {
            match subscribe(&auth, &keys, &revocations).await {
                Ended::AfterHearing => longest = BACKOFF.0,
                Ended::Unheard => longest = BACKOFF.1.min(longest * 2),
            }
            tokio::time::sleep(jittered(ids.as_ref(), longest)).await;
        }
    };
    shutdown.run_until_cancelled(listen).await;
}

enum Ended {
    AfterHearing,
    Unheard,
}

/// One stream, from the keys to its end.
async fn subscribe(auth: &Auth, keys: &SessionKeys, revocations: &Revocations) -> Ended {
    let deadline = Deadline::after(CONNECT_TIMEOUT);
    match auth.get_session_keys(deadline, GetSessionKeysRequest {}).await {
        Ok(answer) if keys.replace(&answer.public_keys) > 0 => {}
        Ok(_) => {
            tracing::error!("auth has no session key that can be used");
            return Ended::Unheard;
        }
        Err(failure) => {
            tracing::warn!(?failure, "cannot read the session keys");
            return Ended::Unheard;
        }
    }
    let mut stream = match timeout(CONNECT_TIMEOUT, auth.watch_revocations()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(status)) => {
            tracing::warn!(code = ?status.code(), "cannot follow revocations");
            return Ended::Unheard;
        }
        Err(_) => {
            tracing::warn!("cannot follow revocations: no answer in time");
            return Ended::Unheard;
        }
    };
    let mut ended = Ended::Unheard;
    loop {
        match timeout(STREAM_SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => {
                if matches!(ended, Ended::Unheard) {
                    tracing::info!(count = message.revocations.len(), "following revocations");
                }
                revocations.hear(&message.revocations);
                ended = Ended::AfterHearing;
            }
            Ok(Ok(None)) => {
                tracing::info!("auth ended the stream of revocations");
                return ended;
            }
            Ok(Err(status)) => {
                tracing::warn!(code = ?status.code(), "the stream of revocations broke");
                return ended;
            }
            Err(_) => {
                tracing::warn!("auth is silent: opening the stream of revocations again");
                return ended;
            }
        }
    }
}

/// A random part of `most` (full jitter), so that gateways do not come back in step.
fn jittered(ids: &dyn IdSource, most: Duration) -> Duration {
    let mut random = [0; 4];
    ids.fill(&mut random);
    most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use atm_types::{AccountId, TerminalId};

    use super::*;

    const ISSUED: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn session(session: u128, card: u128) -> Session {
        Session {
            session_id: Uuid::from_u128(session),
            card_id: Uuid::from_u128(card),
            account_id: AccountId::of_number("Farhan"),
            atm_id: "ATM-1".parse().unwrap(),
            terminal_id: TerminalId::from_bytes([1; 32]),
            issue_time: ISSUED,
            expire_time: ISSUED.saturating_add(Duration::from_secs(300)),
        }
    }

    fn of_session(id: u128) -> Revocation {
        let target = Some(Target::SessionId(Uuid::from_u128(id).to_string()));
        Revocation { target, revoke_time: None }
    }

    fn of_card(id: u128, seconds: i64) -> Revocation {
        let target = Some(Target::CardId(Uuid::from_u128(id).to_string()));
        Revocation { target, revoke_time: Some(self::seconds(seconds)) }
    }

    fn seconds(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_before_auth_was_heard_nor_after_thirty_silent_seconds() {
        let revocations = Revocations::default();
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Unknown);
        revocations.hear(&[]);
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Good);
        tokio::time::advance(SILENCE - Duration::from_millis(1)).await;
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Good);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Unknown);
        revocations.hear(&[]);
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Good, "a heartbeat is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_alone_and_a_card_ends_what_was_issued_until_then() {
        let revocations = Revocations::default();
        revocations.hear(&[
            of_session(1),
            of_card(7, ISSUED.as_seconds()),
            of_card(8, ISSUED.as_seconds() - 1),
        ]);
        assert_eq!(revocations.standing(&session(1, 1)), Standing::Revoked);
        assert_eq!(revocations.standing(&session(2, 1)), Standing::Good);
        assert_eq!(revocations.standing(&session(3, 7)), Standing::Revoked);
        assert_eq!(
            revocations.standing(&session(4, 8)),
            Standing::Good,
            "issued after the card's revocation"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_begins_again_takes_nothing_back() {
        let revocations = Revocations::default();
        revocations.hear(&[of_session(1)]);
        revocations.end_session(Uuid::from_u128(2));
        revocations.end_card(Uuid::from_u128(7), seconds(ISSUED.as_seconds()));
        revocations.hear(&[]);
        for ended in [session(1, 1), session(2, 1), session(3, 7)] {
            assert_eq!(revocations.standing(&ended), Standing::Revoked);
        }
        assert_eq!(revocations.standing(&session(4, 4)), Standing::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_through_this_gateway_ends_old_sessions_and_no_new_ones_however_often_it_comes() {
        let revocations = Revocations::default();
        revocations.hear(&[]);
        let mut later = session(2, 7);
        later.issue_time = ISSUED.saturating_add(Duration::from_nanos(1));
        for _ in 0..2 {
            revocations.end_card(Uuid::from_u128(7), seconds(ISSUED.as_seconds()));
            assert_eq!(revocations.standing(&session(1, 7)), Standing::Revoked);
            assert_eq!(revocations.standing(&later), Standing::Good, "opened after the block was lifted");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn revocations_are_forgotten_when_no_session_can_be_left() {
        let revocations = Revocations::default();
        for id in 0..5_000 {
            revocations.end_session(Uuid::from_u128(id));
            if id == 2_500 {
                tokio::time::advance(LONGEST_SESSION * 2).await;
            }
        }
        assert!(revocations.lock().sessions.len() <= 2_600);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_random_and_never_longer_than_they_may_be() {
        let ids = atm_types::SeededIds::new(3);
        let pauses: Vec<_> = (0..100).map(|_| jittered(&ids, BACKOFF.1)).collect();
        assert!(
            pauses.iter().all(|pause| *pause <= BACKOFF.1) && pauses.windows(2).any(|two| two[0] != two[1])
        );
    }
}
