//! The one trace id that follows a key press through every process.
//!
//! It travels in W3C `traceparent` metadata. Inside a process it is task-local ([`scope`], [`current`]): a call
//! that logs nothing pays for no span and no formatting. A task that is spawned must be put into [`scope`] again.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use atm_types::IdSource;
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tower::{Layer, Service};

const TRACEPARENT: &str = "traceparent";

/// The trace that a piece of work belongs to (W3C Trace Context, level 1).
///
/// No spans are exported yet, so the parent id is handed on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Sixteen bytes, not all zero: the same from the key press to the disk.
    pub trace_id: [u8; 16],
    /// Eight bytes, not all zero: the caller's own step in the trace.
    pub parent_id: [u8; 8],
}

impl TraceContext {
    /// Starts a trace.
    pub fn new(ids: &dyn IdSource) -> Self {
        let mut random = [0; 24];
        ids.fill(&mut random);
        let mut context = Self { trace_id: [0; 16], parent_id: [0; 8] };
        context.trace_id.copy_from_slice(&random[..16]);
        context.parent_id.copy_from_slice(&random[16..]);
        // All zero means "none", and would be one in 2^64 of the parents.
        context.parent_id[7] |= 1;
        context.trace_id[15] |= 1;
        context
    }

    /// The trace that a call belongs to, if it says so in a way that can be read.
    pub fn from_metadata(metadata: &MetadataMap) -> Option<Self> {
        Self::from_headers(metadata.as_ref())
    }

    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?.as_bytes())
    }

    /// Reads `version-traceid-parentid-flags`; later versions may have more after it.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(55)?;
        let version = hex_bytes::<1>(&known[..2])?;
        let dashes = [known[2], known[35], known[52]];
        let longer = match rest.first() {
            None => true,
            Some(b'-') => version != [0],
            Some(_) => false,
        };
        if dashes != [b'-'; 3] || version == [0xff] || !longer {
            return None;
        }
        let (trace_id, parent_id) = (hex_bytes(&known[3..35])?, hex_bytes(&known[36..52])?);
        hex_bytes::<1>(&known[53..])?;
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self { trace_id, parent_id })
    }

    /// Adds the trace to a call.
    pub fn attach<T>(&self, request: &mut tonic::Request<T>) {
        request.metadata_mut().insert(TRACEPARENT, self.header());
    }

    fn header(&self) -> MetadataValue<Ascii> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        // The slices have exactly the lengths of the ids.
        let _ = hex::encode_to_slice(self.trace_id, &mut text[3..35]);
        let _ = hex::encode_to_slice(self.parent_id, &mut text[36..52]);
        MetadataValue::try_from(text.as_slice()).unwrap_or_else(|_| MetadataValue::from_static(""))
    }
}

/// Writes the trace id: 32 lowercase hexadecimal digits.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        let _ = hex::encode_to_slice(self.trace_id, &mut text);
        formatter.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Lowercase hexadecimal only, as the specification demands.
fn hex_bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lowercase = !text.iter().any(u8::is_ascii_uppercase);
    (lowercase && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// The trace of the task that asks, if it is in one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Does `future`'s work in the trace `context`.
pub fn scope<F: Future>(context: TraceContext, future: F) -> TaskLocalFuture<TraceContext, F> {
    CURRENT.scope(context, future)
}

/// Does `work` in the trace `context`, on a thread that is no task.
pub fn sync_scope<T>(context: TraceContext, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, work)
}

/// Puts every call into its caller's trace, or into a new one, and logs at DEBUG how it ended.
#[derive(Clone)]
pub struct TraceLayer {
    ids: Arc<dyn IdSource>,
}

impl TraceLayer {
    /// Calls that belong to no trace get an id from `ids`.
    pub fn new(ids: Arc<dyn IdSource>) -> Self {
        Self { ids }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner, ids: Arc::clone(&self.ids) }
    }
}

/// A service under a [`TraceLayer`].
#[derive(Clone)]
pub struct TraceService<S> {
    inner: S,
    ids: Arc<dyn IdSource>,
}

impl<S, B> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = TaskLocalFuture<TraceContext, LogFuture<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let trace =
            TraceContext::from_headers(request.headers()).unwrap_or_else(|| TraceContext::new(&*self.ids));
        let log = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| Box::new((request.uri().path().to_owned(), Instant::now())));
        scope(trace, LogFuture { inner: self.inner.call(request), log })
    }
}

pin_project! {
    /// The answer of the inner service, logged if anybody wants to know.
    pub struct LogFuture<F> {
        #[pin]
        inner: F,
        log: Option<Box<(String, Instant)>>,
    }
}

impl<F> Future for LogFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(context));
        if let Some(log) = this.log.take() {
            let (path, start) = *log;
            let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(%path, grpc_status = code.unwrap_or("0"), micros, "answered");
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use atm_types::SeededIds;
    use proptest::prelude::*;
    use tower::service_fn;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_survives_the_wire() {
        let context = TraceContext::parse(TEXT.as_bytes()).unwrap();
        let mut request = tonic::Request::new(());
        context.attach(&mut request);
        assert_eq!(request.metadata().get(TRACEPARENT).unwrap(), TEXT);
        assert_eq!(TraceContext::from_metadata(request.metadata()), Some(context));
        assert_eq!(context.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text:?}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::parse(later.as_bytes()).is_some());
    }

    #[tokio::test]
    async fn a_handler_works_in_its_callers_trace_or_in_a_new_one() {
        let handler = service_fn(|_: Request<()>| async {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(current());
            Ok(response)
        });
        let mut service = TraceLayer::new(Arc::new(SeededIds::new(1))).layer(handler);
        let seen = |response: Response<Body>| response.extensions().get::<Option<TraceContext>>().copied();

        let request = Request::builder().header(TRACEPARENT, TEXT).body(()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(seen(response), Some(TraceContext::parse(TEXT.as_bytes())));

        let response = service.call(Request::new(())).await.unwrap();
        assert_eq!(seen(response), Some(Some(TraceContext::new(&SeededIds::new(1)))));
        assert_eq!(current(), None, "a trace ends with its call");
    }

    proptest! {
        #[test]
        fn reading_a_traceparent_never_panics(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&text);
        }

        #[test]
        fn every_new_trace_is_a_valid_one(seed: u64) {
            let context = TraceContext::new(&SeededIds::new(seed));
            prop_assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
        }
    }
}
