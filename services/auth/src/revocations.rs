//! Ending sessions before their time, telling gateways about it, and erasing what is over.

use std::sync::Arc;
use std::time::Duration;

use atm_faults::fault_point;
use atm_types::Timestamp;
use tokio::sync::broadcast;

use crate::auth::Auth;
use crate::domain::{LONGEST_SESSION, REMEMBERED, Revocation, RevocationTarget, SessionId};
use crate::failure::Failure;
use crate::storage::Expiry;

/// By so much a gateway's clock may differ from ours without missing a revocation.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5 * 60);

/// A revocation stays in the database for so long after the last session it concerns has ended: if a clock
/// that ran an hour fast is set right, sessions that seemed to be over are not, and neither may this be.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60);

/// How often what is over is erased.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Auth {
    /// Ends a session. A session that this database does not know is revoked too: a restored backup may have
    /// forgotten it, and gateways have not.
    pub(crate) async fn close_session(self: &Arc<Self>, session_id: SessionId) -> Result<(), Failure> {
        let (now, auth) = (self.clock.now(), Arc::clone(self));
        self.to_the_end(async move {
            fault_point!("AUTH_BEFORE_REVOCATION");
            let revocation = auth.store.vital_transaction(move |rows| {
                let expire_time = rows.session_expiry(session_id)?;
                let revocation = Revocation {
                    target: RevocationTarget::Session(session_id),
                    revoke_time: now,
                    relevant_until: expire_time.unwrap_or(now.saturating_add(LONGEST_SESSION)),
                };
                rows.put_revocation(&revocation)?;
                Ok(revocation)
            });
            let revocation = revocation.await?;
            fault_point!("AUTH_REVOCATION");
            auth.announce(revocation);
            Ok(())
        })
        .await
    }

    /// Tells all watchers. Called after the commit and before the answer, and never skipped in between.
    pub(crate) fn announce(&self, revocation: Revocation) {
        // No watcher is no error: whoever comes later reads it from the database.
        let _ = self.news.send(revocation);
    }

    /// All revocations that still matter, and a receiver of those to come. None is missed: the receiver
    /// listens before the database is read.
    pub(crate) async fn watch_revocations(
        &self,
    ) -> Result<(Vec<Revocation>, broadcast::Receiver<Revocation>), Failure> {
        let receiver = self.news.subscribe();
        let now = unheard_before(self.clock.now());
        let relevant = self.store.transaction(move |rows| rows.revocations(now)).await?;
        Ok((relevant, receiver))
    }

    /// Erases attempts, sessions and revocations whose time is over, from the log of earlier writes too; and looks
    /// whether a disk that was full has room again.
    pub(crate) async fn sweep(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let expiry = Expiry {
            attempts_until: before(now, REMEMBERED),
            attempts_from: now.saturating_add(REMEMBERED),
            sessions_before: before(now, KEPT),
        };
        if self.store.vital_transaction(move |rows| rows.erase(expiry)).await? > 0 {
            self.store.scrub().await?;
        }
        Ok(self.store.look_for_room().await?)
    }
}

/// Sessions that ended before this are over for every gateway, whatever its clock says.
pub(crate) fn unheard_before(now: Timestamp) -> Timestamp {
    before(now, CLOCK_DIFFERENCE)
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos))
}
