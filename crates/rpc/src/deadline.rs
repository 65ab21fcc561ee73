//! The caller's deadline, from the wire to the handler and on to the next hop.
//!
//! tonic's server honours `grpc-timeout` but answers CANCELLED, and nothing carries the deadline any further.
//! [`DeadlineLayer`] reads the header, gives callers without one a default, puts a [`Deadline`] into the
//! request's extensions, and answers DEADLINE_EXCEEDED a few milliseconds early, while the caller is still
//! listening. Since a unary handler runs only after its request body has been read, the same clock bounds a
//! body that trickles in. A stream gets no deadline imposed, but has to produce its response headers in time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::status;
use crate::streams::StreamingMethods;

/// How long before the caller's own deadline it is told that the time is over.
const ANSWER_EARLY: Duration = Duration::from_millis(5);

/// The instant after which nobody waits for the answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `duration` from now. What is too far away to be represented is thirty years away.
    pub fn after(duration: Duration) -> Self {
        let far = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        Self(Instant::now() + duration.min(far))
    }

    /// The deadline at `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// The time that is left; zero when it is over.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the time is over.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// This deadline, `margin` earlier: what is given to the next hop, so that its answer still arrives.
    #[must_use]
    pub fn less(self, margin: Duration) -> Self {
        Self(self.0.checked_sub(margin).unwrap_or(self.0))
    }

    /// The deadline of the call that a handler is serving. Absent on streams whose caller set none, and
    /// outside a server with a [`DeadlineLayer`].
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get::<Self>().copied()
    }

    /// Tells the next server how much time is left, in `grpc-timeout`.
    pub fn set_on<T>(self, request: &mut tonic::Request<T>) {
        request.set_timeout(self.remaining());
    }
}

/// Puts every call under a deadline.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    default: Duration,
    longest: Duration,
    streaming: StreamingMethods,
}

impl DeadlineLayer {
    /// Unary callers who send no `grpc-timeout` get `default`; nobody's unary call gets more than `longest`.
    pub fn new(default: Duration, longest: Duration, streaming: StreamingMethods) -> Self {
        Self { default, longest: longest.max(default), streaming }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner, layer: self.clone() }
    }
}

/// A service under a [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, B> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asked = match timeout_in(request.headers()) {
            Ok(asked) => asked,
            Err(Malformed) => {
                let status = status::invalid_argument("grpc-timeout", "must be 1 to 8 digits and a unit");
                return DeadlineFuture::answered(status);
            }
        };
        let streams = self.layer.streaming.contains(request.uri().path());
        let allowed = match asked {
            Some(asked) if streams => early(asked),
            Some(asked) => early(asked.min(self.layer.longest)),
            None => self.layer.default,
        };
        if allowed.is_zero() {
            return DeadlineFuture::answered(over());
        }
        let deadline = Deadline::after(allowed);
        if asked.is_some() || !streams {
            request.extensions_mut().insert(deadline);
        }
        let sleep = tokio::time::sleep_until(deadline.instant());
        DeadlineFuture { state: State::Running { inner: self.inner.call(request), sleep } }
    }
}

pin_project! {
    /// The answer of the inner service, or DEADLINE_EXCEEDED when the time is over first. The handler is
    /// dropped then; work that must not be interrupted belongs into a task of its own.
    pub struct DeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F> {
        Running { #[pin] inner: F, #[pin] sleep: Sleep },
        Answered { answer: Option<Response<Body>> },
    }
}

impl<F> DeadlineFuture<F> {
    fn answered(status: Status) -> Self {
        Self { state: State::Answered { answer: Some(status.into_http()) } }
    }
}

impl<F> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            Projected::Running { inner, sleep } => {
                if let Poll::Ready(answer) = inner.poll(context) {
                    return Poll::Ready(answer);
                }
                sleep.poll(context).map(|()| Ok(over().into_http()))
            }
            Projected::Answered { answer } => answer.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
        }
    }
}

/// What a caller reads whose time is over.
pub(crate) fn over() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline is over")
}

/// Leaves the caller time to hear the answer: five milliseconds, or a tenth of a very short deadline.
fn early(timeout: Duration) -> Duration {
    timeout - ANSWER_EARLY.min(timeout / 10)
}

#[derive(Debug, PartialEq)]
struct Malformed;

/// Reads `grpc-timeout`: one to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn timeout_in(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let Some((unit, digits)) = value.as_bytes().split_last() else { return Err(Malformed) };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let amount = digits.iter().fold(0_u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(Malformed),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::service_fn;

    use super::*;

    const DEFAULT: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Counts itself while it lives, to see whether a handler was dropped.
    struct Alive(Arc<AtomicUsize>);

    impl Alive {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn request(path: &str, timeout: Option<&str>) -> Request<()> {
        let mut request = Request::builder().uri(path);
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        request.body(()).unwrap()
    }

    /// Sends one call to a handler that works for `work` and answers OK with its own deadline in a header.
    async fn call(path: &str, timeout: Option<&str>, work: Duration) -> (Code, Option<Duration>, Duration) {
        let start = Instant::now();
        let handler = service_fn(move |request: Request<()>| async move {
            let left = request.extensions().get::<Deadline>().map(|deadline| deadline.instant() - start);
            tokio::time::sleep(work).await;
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(left);
            Ok::<_, Infallible>(response)
        });
        let layer = DeadlineLayer::new(DEFAULT, LONGEST, StreamingMethods::new(&["/bank/Watch"]));
        let response = layer.layer(handler).call(request(path, timeout)).await.unwrap();
        let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
        let left = response.extensions().get::<Option<Duration>>().copied().flatten();
        (code, left, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_timeout_reaches_the_handler_and_is_answered_early_as_deadline_exceeded() {
        let (code, _, took) = call("/bank/Post", Some("1S"), Duration::from_secs(5)).await;
        assert_eq!(code, Code::DeadlineExceeded);
        assert!(took < Duration::from_secs(1) && took > Duration::from_millis(980), "{took:?}");
        let (code, left, _) = call("/bank/Post", Some("1S"), Duration::ZERO).await;
        assert_eq!((code, left), (Code::Ok, Some(Duration::from_millis(995))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_unary_caller_without_a_deadline_gets_the_default_one() {
        let (code, _, took) = call("/bank/Post", None, Duration::from_secs(3600)).await;
        assert_eq!(code, Code::DeadlineExceeded);
        assert!(took >= DEFAULT && took < DEFAULT + Duration::from_millis(10), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_may_ask_for_a_thousand_years() {
        let (code, left, took) = call("/bank/Post", Some("99999999H"), Duration::from_secs(3600)).await;
        assert_eq!((code, left), (Code::DeadlineExceeded, None));
        assert!(took < LONGEST + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_gets_no_deadline_but_its_own_and_must_still_begin_in_time() {
        let (code, left, _) = call("/bank/Watch", None, Duration::ZERO).await;
        assert_eq!((code, left), (Code::Ok, None));
        let (code, left, _) = call("/bank/Watch", Some("1H"), Duration::ZERO).await;
        assert_eq!(code, Code::Ok);
        assert!(left.is_some_and(|left| left > LONGEST), "{left:?}");
        let (code, _, took) = call("/bank/Watch", None, Duration::from_secs(3600)).await;
        assert_eq!(code, Code::DeadlineExceeded);
        assert!(took < DEFAULT + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_is_never_called_when_the_deadline_is_over_or_garbled() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let handler = service_fn(move |_: Request<()>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        });
        let mut service = DeadlineLayer::new(DEFAULT, LONGEST, StreamingMethods::default()).layer(handler);
        for (timeout, code) in [
            ("0n", Code::DeadlineExceeded),
            ("0S", Code::DeadlineExceeded),
            ("", Code::InvalidArgument),
            ("S", Code::InvalidArgument),
            ("5", Code::InvalidArgument),
            ("-1S", Code::InvalidArgument),
            ("1s", Code::InvalidArgument),
            ("123456789S", Code::InvalidArgument),
        ] {
            let response = service.call(request("/bank/Post", Some(timeout))).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), code, "{timeout:?}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handler_is_dropped_with_the_call_that_ran_out_of_time() {
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let handler = service_fn(move |_: Request<()>| {
            let alive = Alive::new(&counted);
            async move {
                let _alive = alive;
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        let mut service = DeadlineLayer::new(DEFAULT, LONGEST, StreamingMethods::default()).layer(handler);
        let call = service.call(request("/bank/Post", Some("10m")));
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        call.await.unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_hop_is_told_what_is_left_less_the_margin() {
        let deadline = Deadline::after(Duration::from_secs(2));
        tokio::time::advance(Duration::from_millis(500)).await;
        let mut request = tonic::Request::new(());
        deadline.less(Duration::from_millis(100)).set_on(&mut request);
        let told = timeout_in(request.metadata().as_ref()).unwrap().unwrap();
        assert_eq!(told, Duration::from_millis(1400));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(deadline.is_over());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    #[test]
    fn every_unit_of_the_wire_format_is_understood() {
        for (text, duration) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ] {
            assert_eq!(timeout_in(request("/", Some(text)).headers()), Ok(Some(duration)), "{text}");
        }
    }
}
