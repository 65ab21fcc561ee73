//! Streams, which may live as long as their connection: told apart from unary calls, capped per connection,
//! ended at their caller's deadline if it set one, and ended with UNAVAILABLE when the server goes away, so
//! that one watcher cannot hold up a shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atm_types::IdSource;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::deadline::{self, Deadline};
use crate::{panics, status};

/// When a caller may come back for a stream that was refused or ended by the server.
const COME_BACK: Duration = Duration::from_millis(500);

/// The paths of the methods that answer with a stream. Health's `Watch` and reflection always count as such.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamingMethods {
    paths: &'static [&'static str],
}

impl StreamingMethods {
    /// `paths` such as `/atm.ledger.v1.LedgerService/WatchEntries`.
    pub const fn new(paths: &'static [&'static str]) -> Self {
        Self { paths }
    }

    /// Whether the method at this path answers with a stream.
    pub fn contains(self, path: &str) -> bool {
        self.paths.contains(&path)
            || path == "/grpc.health.v1.Health/Watch"
            || path.starts_with("/grpc.reflection.")
    }
}

/// Caps and ends the streams of one connection. Make one for each connection.
#[derive(Clone)]
pub struct StreamsLayer {
    methods: StreamingMethods,
    most: usize,
    open: Arc<AtomicUsize>,
    going_away: CancellationToken,
    ids: Arc<dyn IdSource>,
}

impl StreamsLayer {
    /// Allows `most` open streams; all of them end when `going_away` is cancelled.
    pub fn new(
        methods: StreamingMethods,
        most: usize,
        going_away: CancellationToken,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self { methods, most, open: Arc::default(), going_away, ids }
    }

    /// Streams open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place for one more stream, if there is one.
    fn enter(&self) -> Option<Place> {
        let place = Place { open: Arc::clone(&self.open) };
        // Counted first and given back by the drop of `place`: two callers cannot both take the last one.
        (self.open.fetch_add(1, Ordering::Relaxed) < self.most).then_some(place)
    }
}

impl<S> Layer<S> for StreamsLayer {
    type Service = StreamsService<S>;

    fn layer(&self, inner: S) -> StreamsService<S> {
        StreamsService { inner, layer: self.clone() }
    }
}

/// A service under a [`StreamsLayer`].
#[derive(Clone)]
pub struct StreamsService<S> {
    inner: S,
    layer: StreamsLayer,
}

impl<S, B> Service<Request<B>> for StreamsService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = StreamsFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.layer.methods.contains(request.uri().path()) {
            let request = request.map(|body| RequestBody { body, going_away: None });
            return StreamsFuture { inner: Some(self.inner.call(request)), stream: None, refusal: None };
        }
        let Some(place) = self.layer.enter() else {
            let refusal = status::resource_exhausted("too many open streams on this connection", COME_BACK);
            return StreamsFuture { inner: None, stream: None, refusal: Some(refusal) };
        };
        let stream = Stream {
            place,
            deadline: request.extensions().get::<Deadline>().copied(),
            going_away: self.layer.going_away.clone(),
            ids: Arc::clone(&self.layer.ids),
        };
        let request = request.map(|body| {
            let going_away = Some(Box::pin(self.layer.going_away.clone().cancelled_owned()));
            RequestBody { body, going_away }
        });
        StreamsFuture { inner: Some(self.inner.call(request)), stream: Some(Box::new(stream)), refusal: None }
    }
}

pin_project! {
    /// What a caller sends. That of a stream fails when the server goes away, or a handler that waits for
    /// more of it would keep its connection open.
    pub struct RequestBody<B> {
        #[pin]
        body: B,
        going_away: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<tonic::codegen::StdError>>,
{
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if this.going_away.as_mut().is_some_and(|wait| wait.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Some(Err(Box::new(going_away()))));
        }
        this.body.poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn going_away() -> Status {
    status::unavailable("the server is going away", COME_BACK)
}

/// One of the places that a connection has for streams; given back on drop.
struct Place {
    open: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a stream carries from its call into its body. Boxed, since a unary call has none of it.
struct Stream {
    place: Place,
    deadline: Option<Deadline>,
    going_away: CancellationToken,
    ids: Arc<dyn IdSource>,
}

pin_project! {
    /// The answer of the inner service; a stream's body is watched over from here on.
    pub struct StreamsFuture<F> {
        #[pin]
        inner: Option<F>,
        stream: Option<Box<Stream>>,
        refusal: Option<Status>,
    }
}

impl<F> Future for StreamsFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return this.refusal.take().map_or(Poll::Pending, |status| Poll::Ready(Ok(status.into_http())));
        };
        let Ok(response) = ready!(inner.poll(context));
        let Some(stream) = this.stream.take() else { return Poll::Ready(Ok(response)) };
        Poll::Ready(Ok(response.map(|body| {
            Body::new(StreamBody {
                body: Some(body),
                sleep: stream.deadline.map(|deadline| tokio::time::sleep_until(deadline.instant())),
                going_away: stream.going_away.cancelled_owned(),
                ids: stream.ids,
                _place: stream.place,
            })
        })))
    }
}

pin_project! {
    /// The messages of a stream until it ends, its time is over, it panics, or the server goes away.
    struct StreamBody {
        #[pin]
        body: Option<Body>,
        #[pin]
        sleep: Option<Sleep>,
        #[pin]
        going_away: WaitForCancellationFutureOwned,
        ids: Arc<dyn IdSource>,
        _place: Place,
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // The end comes before the next message, or a stream that never pauses would never end.
        let end = if this.going_away.poll(context).is_ready() {
            going_away()
        } else if this.sleep.as_pin_mut().is_some_and(|sleep| sleep.poll(context).is_ready()) {
            deadline::over()
        } else {
            match catch_unwind(AssertUnwindSafe(|| body.poll_frame(context))) {
                Ok(poll) => return poll,
                Err(_) => panics::panicked(&**this.ids),
            }
        };
        let _ = catch_unwind(AssertUnwindSafe(|| this.body.set(None)));
        let mut trailers = HeaderMap::new();
        end.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use atm_types::SeededIds;
    use http_body_util::{BodyExt, StreamBody as Messages};
    use tokio_stream::StreamExt;
    use tonic::Code;
    use tower::service_fn;

    use super::*;

    const WATCH: &str = "/bank/Watch";

    fn layer(most: usize, going_away: &CancellationToken) -> StreamsLayer {
        let ids = Arc::new(SeededIds::new(1));
        StreamsLayer::new(StreamingMethods::new(&[WATCH]), most, going_away.clone(), ids)
    }

    /// Answers every call with one message and then silence.
    fn endless() -> impl Service<Request<RequestBody<()>>, Response = Response<Body>, Error = Infallible> {
        service_fn(|_: Request<RequestBody<()>>| async {
            let first = tokio_stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"first")))]);
            Ok(Response::new(Body::new(Messages::new(first.chain(tokio_stream::pending())))))
        })
    }

    fn request(path: &str, deadline: Option<Deadline>) -> Request<()> {
        let mut request = Request::builder().uri(path).body(()).unwrap();
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        request
    }

    fn refused(response: &Response<Body>) -> Option<Code> {
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    /// The code in the trailers with which a stream ends after its first message.
    async fn end_of(mut body: Body) -> Code {
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert!(body.frame().await.is_none(), "nothing follows the trailers");
        Status::from_header_map(&trailers).unwrap().code()
    }

    #[tokio::test]
    async fn streams_over_the_cap_are_refused_until_one_is_closed() {
        let mut service = layer(2, &CancellationToken::new()).layer(endless());
        let mut open = vec![
            service.call(request(WATCH, None)).await.unwrap(),
            service.call(request(WATCH, None)).await.unwrap(),
        ];
        assert!(open.iter().all(|response| refused(response).is_none()));
        let third = service.call(request(WATCH, None)).await.unwrap();
        assert_eq!(refused(&third), Some(Code::ResourceExhausted));
        open.pop();
        let fourth = service.call(request(WATCH, None)).await.unwrap();
        assert_eq!(refused(&fourth), None);
    }

    #[tokio::test]
    async fn unary_calls_do_not_count() {
        let mut service = layer(0, &CancellationToken::new()).layer(endless());
        let response = service.call(request("/bank/Post", None)).await.unwrap();
        assert_eq!(refused(&response), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_the_deadline_its_caller_set() {
        let mut service = layer(1, &CancellationToken::new()).layer(endless());
        let deadline = Some(Deadline::after(Duration::from_secs(3)));
        let response = service.call(request(WATCH, deadline)).await.unwrap();
        assert_eq!(end_of(response.into_body()).await, Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn every_stream_ends_when_the_server_goes_away() {
        let going_away = CancellationToken::new();
        let mut service = layer(1, &going_away).layer(endless());
        let response = service.call(request(WATCH, None)).await.unwrap();
        let watcher = tokio::spawn(end_of(response.into_body()));
        tokio::task::yield_now().await;
        going_away.cancel();
        assert_eq!(watcher.await.unwrap(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_panic_in_the_middle_of_a_stream_ends_it_with_internal() {
        let handler = service_fn(|_: Request<RequestBody<()>>| async {
            let mut sent = false;
            let messages = tokio_stream::iter(std::iter::from_fn(move || {
                assert!(!sent, "after the first message");
                sent = true;
                Some(Ok::<_, Status>(Frame::data(Bytes::from_static(b"first"))))
            }));
            Ok(Response::new(Body::new(Messages::new(messages))))
        });
        let mut service = layer(1, &CancellationToken::new()).layer(handler);
        let response = service.call(request(WATCH, None)).await.unwrap();
        assert_eq!(end_of(response.into_body()).await, Code::Internal);
    }

    #[test]
    fn health_watches_and_reflection_are_streams_without_being_listed() {
        let methods = StreamingMethods::new(&[WATCH]);
        assert!(methods.contains(WATCH));
        assert!(methods.contains("/grpc.health.v1.Health/Watch"));
        assert!(methods.contains("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        assert!(methods.contains("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"));
        assert!(!methods.contains("/grpc.health.v1.Health/Check"));
        assert!(!methods.contains("/bank/Post"));
    }
}
