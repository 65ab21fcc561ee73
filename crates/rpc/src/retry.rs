//! The one place that retries: typed, bounded by a deadline, and honest about what may have happened.
//!
//! Only for calls that may be repeated, which in this system is every call with an id of its own.
//!
//! # What `maybe_sent` means
//! Once a request may have left this machine, its effect may exist whatever the status says: the first attempt
//! may have worked and its answer been lost, and a later attempt's UNAUTHENTICATED says nothing about it.
//! So `maybe_sent` starts as true with each attempt that is begun and is taken back only where tonic proves
//! that the request was never written, by a connection that could not be opened. A refusal by the server (no
//! room, bad token) counts as sent; so does an attempt that ran into its timeout, even if it was waiting for
//! a connection: nobody can prove that it was not written a moment later.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status};

use crate::deadline::Deadline;
use crate::throttle::Throttle;
use crate::{status, trace};

/// How often, how long and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The most that the first pause may last.
    pub initial_backoff: Duration,
    /// The most that any pause may last, unless the server asks for a longer one.
    pub max_backoff: Duration,
    /// How much longer the next pause may be, at least 1.
    pub multiplier: f64,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// Attempts in all, the first included; `None` for as many as the deadline allows.
    pub max_attempts: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            multiplier: 2.0,
            attempt_timeout: Duration::from_secs(2),
            max_attempts: None,
        }
    }
}

impl RetryPolicy {
    /// One attempt with all the time there is, and no retries.
    pub const ONCE: Self = Self {
        initial_backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
        multiplier: 1.0,
        attempt_timeout: Duration::MAX,
        max_attempts: Some(1),
    };
}

/// How a call ended that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{} after {attempts} attempts: {}", .status.code(), .status.message())]
pub struct RetryError {
    /// The last answer, or DEADLINE_EXCEEDED if there was none in time.
    pub status: Status,
    /// Attempts that were begun.
    pub attempts: u32,
    /// Whether any attempt may have left the machine; see the module's documentation.
    pub maybe_sent: bool,
    /// Whether it ended because the time was over, or too short for the next attempt.
    pub deadline_over: bool,
}

/// Calls until there is a success, a final status, no more budget, or no more time.
///
/// Each attempt gets a fresh request with what is left of its time in `grpc-timeout`, the current trace,
/// and the number of attempts before it in `grpc-previous-rpc-attempts`. Between attempts it waits with
/// exponential backoff and full jitter, as long at least as the server's `RetryInfo` says, or exactly
/// as long as its `grpc-retry-pushback-ms` (gRPC A6).
///
/// # Errors
/// [`RetryError`] with the last status.
pub async fn retry<Req, Res, F, Fut>(
    policy: &RetryPolicy,
    throttle: &Throttle,
    deadline: Deadline,
    request: Req,
    mut call: F,
) -> Result<Res, RetryError>
where
    Req: Clone,
    F: FnMut(Request<Req>) -> Fut,
    Fut: Future<Output = Result<Response<Res>, Status>>,
{
    let mut progress = Progress { attempts: 0, maybe_sent: false };
    if deadline.is_over() {
        return Err(progress.timed_out());
    }
    let calls = attempts(policy, throttle, deadline, request, &mut call, &mut progress);
    match timeout_at(deadline.instant(), calls).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err((status, deadline_over))) => Err(progress.ended(status, deadline_over)),
        Err(_) => Err(progress.timed_out()),
    }
}

/// What is known about the attempts so far, kept outside of them because the deadline may cut them off.
struct Progress {
    attempts: u32,
    maybe_sent: bool,
}

impl Progress {
    fn ended(self, status: Status, deadline_over: bool) -> RetryError {
        RetryError { status, attempts: self.attempts, maybe_sent: self.maybe_sent, deadline_over }
    }

    fn timed_out(self) -> RetryError {
        self.ended(Status::new(Code::DeadlineExceeded, "no answer in time"), true)
    }
}

async fn attempts<Req, Res, F, Fut>(
    policy: &RetryPolicy,
    throttle: &Throttle,
    deadline: Deadline,
    request: Req,
    call: &mut F,
    progress: &mut Progress,
) -> Result<Res, (Status, bool)>
where
    Req: Clone,
    F: FnMut(Request<Req>) -> Fut,
    Fut: Future<Output = Result<Response<Res>, Status>>,
{
    let context = trace::current();
    let mut most = policy.initial_backoff;
    loop {
        let attempt_deadline = deadline.min(Deadline::after(policy.attempt_timeout));
        let mut attempt = Request::new(request.clone());
        attempt_deadline.set_on(&mut attempt);
        if let Some(context) = context {
            context.attach(&mut attempt);
        }
        if progress.attempts > 0 {
            attempt.metadata_mut().insert("grpc-previous-rpc-attempts", progress.attempts.into());
        }
        progress.attempts += 1;
        let sent_before = std::mem::replace(&mut progress.maybe_sent, true);

        let status = match timeout_at(attempt_deadline.instant(), call(attempt)).await {
            Ok(Ok(response)) => {
                throttle.on_success();
                return Ok(response.into_inner());
            }
            Ok(Err(status)) => normalized(status),
            Err(_) => Status::new(Code::DeadlineExceeded, "no answer to this attempt in time"),
        };
        if provably_not_sent(&status) {
            progress.maybe_sent = sent_before;
        }
        if !is_retryable(&status) {
            return Err((status, false));
        }
        throttle.on_failure();
        if policy.max_attempts.is_some_and(|limit| progress.attempts >= limit) || !throttle.allows_retry() {
            return Err((status, deadline.is_over()));
        }
        let pause = match pushback(&status) {
            Pushback::Never => return Err((status, false)),
            Pushback::After(pause) => {
                most = policy.initial_backoff;
                pause
            }
            Pushback::None => {
                let pause = throttle.jitter(most) + status::retry_delay(&status).unwrap_or_default();
                most = most.mul_f64(policy.multiplier.max(1.0)).min(policy.max_backoff);
                pause
            }
        };
        if Instant::now().checked_add(pause).is_none_or(|next| next >= deadline.instant()) {
            return Err((status, true));
        }
        sleep(pause).await;
    }
}

/// Whether the same request may be sent again with hope: the server says so, or the transport failed.
///
/// UNAVAILABLE; RESOURCE_EXHAUSTED that says when to come back; DEADLINE_EXCEEDED of an attempt; and what
/// tonic makes of a broken connection (CANCELLED, UNKNOWN or INTERNAL with a transport error as the source).
/// The same codes from a server's handler have no source and are final.
pub fn is_retryable(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::ResourceExhausted => {
            status::retry_delay(status).is_some() || matches!(pushback(status), Pushback::After(_))
        }
        Code::Cancelled | Code::Unknown | Code::Internal => from_transport(status),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// Whether the request certainly never left this machine: no connection could be opened for it.
pub fn provably_not_sent(status: &Status) -> bool {
    caused_by::<tonic::ConnectError>(status)
}

fn from_transport(status: &Status) -> bool {
    caused_by::<tonic::transport::Error>(status)
        || caused_by::<hyper::Error>(status)
        || caused_by::<h2::Error>(status)
        || caused_by::<std::io::Error>(status)
}

fn caused_by<E: StdError + 'static>(status: &Status) -> bool {
    sources(status).any(<dyn StdError>::is::<E>)
}

/// The causes of a status, nearest first. Cut off after sixteen, lest a cycle hang us.
fn sources(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(StdError::source(status), |&source| source.source()).take(16)
}

/// tonic's client times calls by the `grpc-timeout` that they carry and reports that as CANCELLED; what it means
/// is DEADLINE_EXCEEDED. [`retry`] does this by itself; do it to the statuses of calls made without.
pub fn normalized(status: Status) -> Status {
    if status.code() == Code::Cancelled && caused_by::<tonic::TimeoutExpired>(&status) {
        return Status::new(Code::DeadlineExceeded, "no answer to this attempt in time");
    }
    status
}

enum Pushback {
    None,
    After(Duration),
    Never,
}

/// The server's word on retrying (gRPC A6): not a number, or a negative one, means never.
fn pushback(status: &Status) -> Pushback {
    let Some(value) = status.metadata().get("grpc-retry-pushback-ms") else { return Pushback::None };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(millis) => Pushback::After(Duration::from_millis(millis)),
        None => Pushback::Never,
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
