//! Logs, and the one trace id that follows a key press through every process.
//!
//! The trace travels in W3C `traceparent` metadata. Inside a process it is task-local ([`scope`], [`current`]),
//! and the formatter writes it on each line: a call that logs nothing pays for no span and no formatting.
//! A task that is spawned must be put into [`scope`] again.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::IsTerminal;
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
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

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

/// Sends this process's logs to standard error: for people on a terminal (in colour unless `NO_COLOR` is set),
/// as JSON lines otherwise. `RUST_LOG` chooses what is logged, INFO by default. A second call changes nothing.
pub fn init(service: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let people = std::io::stderr().is_terminal();
    let colour = people && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let result = if people {
        let lines = Line { inner: format().compact().with_ansi(colour), service, json: false, colour };
        let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(std::io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer))
    } else {
        let layer = json_layer(service).with_writer(std::io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer))
    };
    // In the embedded mode three services share one process and the first has done it.
    let _ = result;
}

type JsonLayer<S> = tracing_subscriber::fmt::Layer<S, format::JsonFields, Line<format::Format<format::Json>>>;

fn json_layer<S>(service: &'static str) -> JsonLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = Line { inner: format().json().flatten_event(true), service, json: true, colour: false };
    tracing_subscriber::fmt::layer().fmt_fields(format::JsonFields::new()).event_format(lines)
}

/// Adds the service and the current trace id to each line, and keeps one event on one line.
struct Line<F> {
    inner: F,
    service: &'static str,
    json: bool,
    colour: bool,
}

/// Writes control characters as escapes, so that a value can neither begin what looks like another event nor
/// command the terminal. With `colour`, the colours of the formatter (`ESC [ … m`) pass.
fn write_visibly(writer: &mut Writer<'_>, text: &str, colour: bool) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| character.is_control() && character != '\t') {
        let (plain, from_control) = rest.split_at(at);
        writer.write_str(plain)?;
        let end = if colour { colour_sequence(from_control) } else { None };
        let (control, after) = match end {
            Some(end) => from_control.split_at(end),
            None => from_control.split_at(from_control.chars().next().map_or(0, char::len_utf8)),
        };
        match end {
            Some(_) => writer.write_str(control)?,
            None => write!(writer, "{}", control.escape_default())?,
        }
        rest = after;
    }
    writer.write_str(rest)
}

/// Where a colour sequence at the beginning of `text` ends, if there is one.
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + "m".len())
}

thread_local! {
    /// Kept between events, so that logging does not allocate for each.
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = BUFFER.take();
        line.clear();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let text = line.trim_end_matches('\n');
        if self.json {
            write!(writer, r#"{{"service":"{}","#, self.service)?;
            if let Some(trace) = current() {
                write!(writer, r#""trace_id":"{trace}","#)?;
            }
            writeln!(writer, "{}", text.strip_prefix('{').unwrap_or(text))?;
        } else {
            write_visibly(&mut writer, text, self.colour)?;
            if let Some(trace) = current() {
                write!(writer, " trace_id={trace}")?;
            }
            writeln!(writer)?;
        }
        BUFFER.set(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    use atm_types::SeededIds;
    use proptest::prelude::*;
    use tower::service_fn;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged as JSON while `work` runs.
    fn logged_json(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = json_layer("ledger").with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        captured.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

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

    #[test]
    fn every_json_line_says_its_service_and_its_trace() {
        let context = TraceContext::parse(TEXT.as_bytes()).unwrap();
        let lines = logged_json(|| {
            sync_scope(context, || tracing::info!(answer = 42, "inside"));
            tracing::info!("outside");
        });
        assert_eq!(lines[0]["trace_id"], context.to_string());
        assert_eq!(lines[0]["service"], "ledger");
        assert_eq!((&lines[0]["answer"], &lines[0]["message"]), (&42.into(), &"inside".into()));
        assert!(lines[1].get("trace_id").is_none());
        assert_eq!(lines[1]["message"], "outside");
    }

    /// What people read of `name` on their terminal.
    fn logged_for_people(name: &str, colour: bool) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let inner = format().compact().with_ansi(colour);
        let lines = Line { inner, service: "ledger", json: false, colour };
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colour)
            .event_format(lines)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(%name, "opened");
        });
        captured.text()
    }

    #[test]
    fn a_value_forges_no_line_and_commands_no_terminal() {
        let name = "Farhan\n2026-11-21 ERROR forged\r\u{1b}[2J\u{9b}2J";
        for colour in [false, true] {
            let text = logged_for_people(name, colour);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(r"forged\r\u{1b}[2J\u{9b}2J"), "{text:?}");
            assert!(!text.contains("\x1b[2J"), "{text:?}");
        }
        assert!(!logged_for_people("Farhan", false).contains('\x1b'));
        assert!(logged_for_people("Farhan", true).contains("\x1b["), "colours pass where they are wanted");
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
