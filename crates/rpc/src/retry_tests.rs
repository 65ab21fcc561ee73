//! The retry loop against scripted servers, in paused time.

use std::collections::VecDeque;
use std::sync::Arc;

use atm_types::SeededIds;

use super::*;
use crate::throttle::ThrottleConfig;
use crate::trace::TraceContext;

const POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
    multiplier: 2.0,
    attempt_timeout: Duration::from_secs(2),
    max_attempts: None,
};

/// A server that answers attempt after attempt from a script, and notes what it was sent and when.
#[derive(Default)]
struct Server {
    script: VecDeque<Answer>,
    seen: Vec<Seen>,
}

enum Answer {
    Done,
    Status(Status),
    Silence,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    id: &'static str,
    previous: Option<String>,
    timeout: String,
    trace: Option<TraceContext>,
}

impl Server {
    fn answering(script: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: script.into_iter().collect(), seen: Vec::new() }
    }

    async fn asked(&mut self, policy: &RetryPolicy, throttle: &Throttle, time: Duration) -> Outcome {
        let Self { script, seen } = self;
        retry(policy, throttle, Deadline::after(time), "id-1", |request| {
            let text = |key| request.metadata().get(key).map(|value| value.to_str().unwrap().to_owned());
            seen.push(Seen {
                at: Instant::now(),
                id: request.get_ref(),
                previous: text("grpc-previous-rpc-attempts"),
                timeout: text("grpc-timeout").unwrap(),
                trace: TraceContext::from_metadata(request.metadata()),
            });
            let answer = script.pop_front().expect("the script is long enough");
            async {
                match answer {
                    Answer::Done => Ok(Response::new("done")),
                    Answer::Status(status) => Err(status),
                    Answer::Silence => std::future::pending().await,
                }
            }
        })
        .await
    }
}

type Outcome = Result<&'static str, RetryError>;

fn throttle() -> Throttle {
    Throttle::new(ThrottleConfig { max_tokens: 1000, seed: Some(7), ..ThrottleConfig::default() })
}

fn unavailable() -> Answer {
    Answer::Status(Status::unavailable("restarting"))
}

fn with_source(code: Code, source: impl StdError + Send + Sync + 'static) -> Status {
    let mut status = Status::new(code, "transport");
    status.set_source(Arc::new(source));
    status
}

/// What tonic answers when nobody listens.
fn not_connected() -> Status {
    with_source(Code::Unavailable, tonic::ConnectError(std::io::Error::other("refused").into()))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn every_attempt_is_a_fresh_request_with_the_same_id_and_says_how_many_came_before() {
    let mut server = Server::answering([unavailable(), unavailable(), Answer::Done]);
    let context = TraceContext::new(&SeededIds::new(3));
    let throttle = throttle();
    let outcome = trace::scope(context, server.asked(&POLICY, &throttle, LONG)).await;
    assert_eq!(outcome.unwrap(), "done");
    let previous: Vec<_> = server.seen.iter().map(|seen| seen.previous.as_deref()).collect();
    assert_eq!(previous, [None, Some("1"), Some("2")]);
    assert!(server.seen.iter().all(|seen| seen.id == "id-1" && seen.trace == Some(context)));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_on_the_wire_is_the_attempts_own_and_shrinks_with_the_deadline() {
    let mut server = Server::answering([Answer::Silence, Answer::Silence]);
    let error = server.asked(&POLICY, &throttle(), Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(server.seen[0].timeout, "2000000u");
    let second: u64 = server.seen[1].timeout.trim_end_matches(char::is_alphabetic).parse().unwrap();
    assert!(server.seen[1].timeout.ends_with('u') && second <= 1_000_000, "{:?}", server.seen[1]);
    assert_eq!((error.attempts, error.deadline_over, error.maybe_sent), (2, true, true));
    assert_eq!(error.status.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_final_status_ends_it_at_once_but_counts_as_sent() {
    for code in [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::DataLoss,
        Code::Unauthenticated,
        Code::Internal,
        Code::Unknown,
        Code::Cancelled,
        Code::ResourceExhausted,
    ] {
        let mut server = Server::answering([Answer::Status(Status::new(code, "no"))]);
        let error = server.asked(&POLICY, &throttle(), LONG).await.unwrap_err();
        assert_eq!((error.status.code(), error.attempts), (code, 1));
        assert!(error.maybe_sent && !error.deadline_over, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn maybe_sent_is_false_only_if_no_connection_was_ever_opened() {
    let no_connection = || Answer::Status(not_connected());
    let once_and_again = RetryPolicy { max_attempts: Some(3), ..POLICY };
    let outcome = async |script: [Answer; 3]| {
        Server::answering(script).asked(&once_and_again, &throttle(), LONG).await.unwrap_err()
    };
    assert!(!outcome([no_connection(), no_connection(), no_connection()]).await.maybe_sent);
    assert!(outcome([no_connection(), unavailable(), no_connection()]).await.maybe_sent);
    assert!(outcome([Answer::Silence, no_connection(), no_connection()]).await.maybe_sent);
    assert!(outcome([no_connection(), no_connection(), Answer::Silence]).await.maybe_sent);
    let busy = status::resource_exhausted("busy", Duration::from_millis(1));
    assert!(outcome([no_connection(), no_connection(), Answer::Status(busy)]).await.maybe_sent);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_is_over_is_never_begun() {
    let mut server = Server::default();
    let error = server.asked(&POLICY, &throttle(), Duration::ZERO).await.unwrap_err();
    assert_eq!((error.attempts, error.maybe_sent, error.deadline_over), (0, false, true));
    assert!(server.seen.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_cut_off_by_the_overall_deadline_may_have_been_sent() {
    let mut server = Server::answering([Answer::Silence]);
    let error = server.asked(&POLICY, &throttle(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!((error.attempts, error.maybe_sent, error.deadline_over), (1, true, true));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_up_to_the_limit_with_full_jitter() {
    let mut server = Server::answering((0..200).map(|_| unavailable()).chain([Answer::Done]));
    server.asked(&POLICY, &throttle(), Duration::from_secs(10_000)).await.unwrap();
    let pauses: Vec<_> = server.seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (number, most) in [100_u64, 200, 400, 800, 1000, 1000].into_iter().enumerate() {
        // tokio's timer counts whole milliseconds.
        assert!(pauses[number] <= Duration::from_millis(most + 1), "{number}: {:?}", pauses[number]);
    }
    let late = &pauses[10..];
    let short = late.iter().filter(|pause| **pause < Duration::from_millis(500)).count();
    assert!((late.len() / 4..late.len() * 3 / 4).contains(&short), "{short} of {} are short", late.len());
}

#[tokio::test(start_paused = true)]
async fn retry_info_is_the_least_and_pushback_exactly_what_is_waited() {
    let busy = status::resource_exhausted("busy", Duration::from_secs(5));
    let mut pushed = Status::unavailable("later");
    pushed.metadata_mut().insert("grpc-retry-pushback-ms", 7000.into());
    let mut server = Server::answering([Answer::Status(busy), Answer::Status(pushed), Answer::Done]);
    server.asked(&POLICY, &throttle(), LONG).await.unwrap();
    let pauses: Vec<_> = server.seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses[0] >= Duration::from_secs(5) && pauses[0] < Duration::from_millis(5150), "{pauses:?}");
    assert_eq!(pauses[1], Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_server_can_forbid_the_retry() {
    for word in ["-1", "never", "", "1.5"] {
        let mut status = Status::unavailable("no more");
        status.metadata_mut().insert("grpc-retry-pushback-ms", word.parse().unwrap());
        let mut server = Server::answering([Answer::Status(status)]);
        let error = server.asked(&POLICY, &throttle(), LONG).await.unwrap_err();
        assert_eq!((error.attempts, error.deadline_over), (1, false), "{word:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_would_outlast_the_deadline_is_not_begun() {
    let start = Instant::now();
    let mut server =
        Server::answering([Answer::Status(status::unavailable("later", Duration::from_secs(30)))]);
    let error = server.asked(&POLICY, &throttle(), Duration::from_secs(10)).await.unwrap_err();
    assert_eq!((error.status.code(), error.deadline_over), (Code::Unavailable, true));
    assert_eq!(start.elapsed(), Duration::ZERO, "the caller hears it at once");
}

#[tokio::test(start_paused = true)]
async fn a_drained_throttle_allows_first_attempts_only() {
    let throttle = Throttle::new(ThrottleConfig { seed: Some(1), ..ThrottleConfig::default() });
    let mut attempts = 0;
    for _ in 0..100 {
        let mut server = Server::answering((0..10).map(|_| unavailable()));
        attempts += server.asked(&POLICY, &throttle, LONG).await.unwrap_err().attempts;
    }
    assert!(attempts <= 110, "{attempts} attempts for 100 calls in an outage");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_attempts_can_be_limited() {
    let mut server = Server::answering([unavailable()]);
    let error = server.asked(&RetryPolicy::ONCE, &throttle(), LONG).await.unwrap_err();
    assert_eq!((error.attempts, error.deadline_over), (1, false));
}

#[test]
fn codes_of_a_broken_transport_are_retried_and_the_same_codes_of_a_handler_are_not() {
    for code in [Code::Cancelled, Code::Unknown, Code::Internal] {
        let broken_pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_retryable(&with_source(code, broken_pipe)), "{code:?}");
        assert!(is_retryable(&with_source(code, h2::Error::from(h2::Reason::CANCEL))), "{code:?}");
        assert!(!is_retryable(&Status::new(code, "said the handler")), "{code:?}");
        assert!(!is_retryable(&with_source(code, std::fmt::Error)), "{code:?}");
    }
    assert!(!provably_not_sent(&with_source(Code::Unknown, std::io::Error::other("broken"))));
    assert!(provably_not_sent(&not_connected()));
}

#[test]
fn tonics_own_timeout_is_a_deadline() {
    let status = normalized(with_source(Code::Cancelled, tonic::TimeoutExpired(())));
    assert_eq!(status.code(), Code::DeadlineExceeded);
}
