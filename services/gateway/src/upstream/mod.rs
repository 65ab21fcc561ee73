//! The way to auth and ledger: lazy channels, the service token, the deadline less a margin, the current
//! trace, and at most one repetition.
//!
//! Each call is built from nothing. No metadata of the caller is handed on, so that nobody can smuggle a token
//! or a timeout through the gateway.

mod auth;
mod ledger;
pub mod methods;
pub mod refusal;

pub use auth::Auth;
pub use ledger::Ledger;
pub use refusal::Asked;

use std::future::Future;
use std::time::Duration;

use atm_faults::fault_point;
use atm_rpc::credentials::BearerToken;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, retry};
use atm_rpc::throttle::Throttle;
use tonic::{Request, Response, Status};

/// The pause before the one repetition: long enough for a service that restarts to listen again, short enough
/// not to be felt.
const PAUSE: Duration = Duration::from_millis(25);

/// One upstream service: what all calls to it share.
#[derive(Debug)]
struct Upstream {
    token: BearerToken,
    margin: Duration,
    throttle: Throttle,
}

impl Upstream {
    fn new(token: BearerToken, margin: Duration) -> Self {
        Self { token, margin, throttle: Throttle::default() }
    }

    /// Calls once, and once more only if the first request provably never left this machine: only the cash
    /// machine, which has a journal, may repeat what might have been processed.
    async fn call<Req, Res, F, Fut>(
        &self,
        path: &str,
        deadline: Deadline,
        request: Req,
        call: F,
    ) -> Result<Res, RetryError>
    where
        Req: Clone,
        F: Fn(Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Res>, Status>>,
    {
        let deadline = hand_on(deadline, self.margin);
        let attempt = |mut request: Request<Req>| {
            self.token.attach(&mut request);
            call(request)
        };
        fault_point!("GATEWAY_BEFORE_UPSTREAM");
        let first = retry(&RetryPolicy::ONCE, &self.throttle, deadline, request.clone(), attempt).await;
        fault_point!("GATEWAY_UPSTREAM_ANSWERED");
        let Err(error) = first else { return first };
        let provably_nothing = error.attempts == 1 && !error.maybe_sent && !error.deadline_over;
        if !(provably_nothing && methods::may_retry(path) && self.throttle.allows_retry()) {
            return Err(error);
        }
        fault_point!("GATEWAY_BEFORE_SECOND_ATTEMPT");
        tokio::time::sleep(PAUSE.min(deadline.remaining())).await;
        let again = |mut request: Request<Req>| {
            request.metadata_mut().insert("grpc-previous-rpc-attempts", 1.into());
            attempt(request)
        };
        retry(&RetryPolicy::ONCE, &self.throttle, deadline, request, again).await
    }
}

/// The deadline for the next hop: earlier by the margin, or by a fifth of a time that is very short.
fn hand_on(deadline: Deadline, margin: Duration) -> Deadline {
    deadline.less(margin.min(deadline.remaining() / 5))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
    use atm_proto::ledger::{GetTrialBalanceRequest, GetTrialBalanceResponse};
    use atm_rpc::channel::{ChannelConfig, lazy_channel};
    use tonic::Code;

    use super::*;

    const PATH: &str = "/atm.ledger.v1.LedgerService/GetTrialBalance";

    fn upstream() -> Upstream {
        Upstream::new(BearerToken::new("canary").unwrap(), Duration::from_millis(50))
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_handed_on_less_the_margin() {
        let deadline = Deadline::after(Duration::from_secs(2));
        let handed = hand_on(deadline, Duration::from_millis(50));
        assert_eq!(handed.remaining(), Duration::from_millis(1950));
        let short = Deadline::after(Duration::from_millis(100));
        assert_eq!(hand_on(short, Duration::from_millis(50)).remaining(), Duration::from_millis(80));
    }

    #[tokio::test]
    async fn a_request_that_may_have_been_processed_is_never_sent_again() {
        for status in [
            Status::unavailable("going away"),
            Status::unknown("broken pipe"),
            Status::cancelled("connection closed"),
            Status::resource_exhausted("full"),
            Status::deadline_exceeded("late"),
            Status::internal("?"),
        ] {
            let sent = AtomicU32::new(0);
            let result: Result<GetTrialBalanceResponse, _> = upstream()
                .call(PATH, soon(), GetTrialBalanceRequest {}, |_| {
                    sent.fetch_add(1, Ordering::SeqCst);
                    let status = status.clone();
                    async move { Err(status) }
                })
                .await;
            assert!(result.unwrap_err().maybe_sent);
            assert_eq!(sent.load(Ordering::SeqCst), 1, "{status:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_found_no_connection_is_sent_once_more_and_no_more() {
        // A port that was free a moment ago and is closed now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let channel = lazy_channel(&format!("http://127.0.0.1:{port}"), &ChannelConfig::default()).unwrap();
        for (path, attempts) in [(PATH, 2), ("/somewhere.Else/Pay", 1)] {
            let sent = AtomicU32::new(0);
            let result: Result<GetTrialBalanceResponse, _> = upstream()
                .call(path, soon(), GetTrialBalanceRequest {}, |request| {
                    sent.fetch_add(1, Ordering::SeqCst);
                    let mut client = LedgerServiceClient::new(channel.clone());
                    async move { client.get_trial_balance(request).await }
                })
                .await;
            let error = result.unwrap_err();
            assert_eq!((error.status.code(), error.maybe_sent), (Code::Unavailable, false));
            assert_eq!(sent.load(Ordering::SeqCst), attempts);
        }
    }
}
