//! Who gets in when more arrives than can be served.
//!
//! One count of calls in flight for the whole server, and a line for each priority: reads are turned away
//! first, then holds and postings, and the last places are kept for captures and cancels, which finish what was
//! begun. Nobody waits here; a refusal is immediate and says when to come back. A call whose deadline
//! leaves no room for an answer is refused before it costs anything.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::deadline::Deadline;
use crate::status;

/// How much it matters that a call gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Captures and cancels: they end what holds money or cash.
    Critical,
    /// Holds and postings.
    Normal,
    /// Reads, which can be repeated later.
    Low,
    /// Health checks and reflection: never refused here.
    Exempt,
}

/// How many calls are served at once, and for whom the last places are kept.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionConfig {
    /// Calls in flight on the whole server, at least 1.
    pub max_in_flight: usize,
    /// Of these, the places that only [`Priority::Critical`] may take.
    pub reserved_for_critical: usize,
    /// Of the rest, the places that [`Priority::Low`] may not take.
    pub reserved_for_normal: usize,
    /// With less than this until its deadline a call is refused, since its answer could hardly arrive.
    pub min_remaining: Duration,
    /// When a refused caller may come back.
    pub retry_after: Duration,
    /// The priority of the method at a path such as `/atm.ledger.v1.LedgerService/PostTransaction`.
    pub classify: fn(&str) -> Priority,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 4096,
            reserved_for_critical: 512,
            reserved_for_normal: 1024,
            min_remaining: Duration::from_millis(2),
            retry_after: Duration::from_millis(200),
            classify,
        }
    }
}

/// Exempts health checks and reflection, and takes everything else for [`Priority::Normal`].
pub fn classify(path: &str) -> Priority {
    if is_exempt(path) { Priority::Exempt } else { Priority::Normal }
}

/// Whether a path belongs to health checks or reflection.
pub fn is_exempt(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.")
}

/// Lets calls in, or not.
#[derive(Clone, Debug)]
pub struct AdmissionLayer {
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    config: AdmissionConfig,
    in_flight: AtomicUsize,
}

impl AdmissionLayer {
    /// One gate; all clones share its count.
    pub fn new(config: AdmissionConfig) -> Self {
        Self { gate: Arc::new(Gate { config, in_flight: AtomicUsize::new(0) }) }
    }

    /// Calls in flight now, exempt ones not included.
    pub fn in_flight(&self) -> usize {
        self.gate.in_flight.load(Ordering::Relaxed)
    }
}

impl Gate {
    /// The number of calls in flight at which a priority is refused.
    fn line(&self, priority: Priority) -> usize {
        let most = self.config.max_in_flight.max(1);
        let normal = most.saturating_sub(self.config.reserved_for_critical);
        match priority {
            Priority::Critical => most,
            Priority::Normal => normal,
            Priority::Low => normal.saturating_sub(self.config.reserved_for_normal),
            Priority::Exempt => usize::MAX,
        }
    }
}

/// A place among the calls in flight; given back on drop, however the call ends.
struct Permit {
    gate: Arc<Gate>,
}

impl Permit {
    fn take(gate: &Arc<Gate>, priority: Priority) -> Option<Self> {
        let permit = Self { gate: Arc::clone(gate) };
        // Counted first and given back by the drop of `permit`: no two callers can take the last place.
        (gate.in_flight.fetch_add(1, Ordering::Relaxed) < gate.line(priority)).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> AdmissionService<S> {
        AdmissionService { inner, gate: Arc::clone(&self.gate) }
    }
}

/// A service behind an [`AdmissionLayer`].
#[derive(Clone, Debug)]
pub struct AdmissionService<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> AdmissionService<S> {
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Permit>, Status> {
        let config = &self.gate.config;
        let priority = (config.classify)(request.uri().path());
        if priority == Priority::Exempt {
            return Ok(None);
        }
        let deadline = request.extensions().get::<Deadline>();
        if deadline.is_some_and(|deadline| deadline.remaining() < config.min_remaining) {
            return Err(Status::new(Code::DeadlineExceeded, "not enough time is left; nothing was done"));
        }
        match Permit::take(&self.gate, priority) {
            Some(permit) => Ok(Some(permit)),
            None => {
                Err(status::resource_exhausted("the server is busy; nothing was done", config.retry_after))
            }
        }
    }
}

impl<S, B> Service<Request<B>> for AdmissionService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AdmissionFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.admit(&request) {
            Ok(permit) => {
                AdmissionFuture { inner: Some(self.inner.call(request)), refusal: None, _permit: permit }
            }
            Err(refusal) => AdmissionFuture { inner: None, refusal: Some(refusal), _permit: None },
        }
    }
}

pin_project! {
    /// The answer of the inner service, or the refusal. The permit is held until the response begins: a
    /// unary method has done its work by then, and open streams are counted per connection instead.
    pub struct AdmissionFuture<F> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Status>,
        _permit: Option<Permit>,
    }
}

impl<F> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll(context),
            None => this.refusal.take().map_or(Poll::Pending, |status| Poll::Ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;

    /// Eight places: three for captures only, and reads may take only two of the other five.
    const CONFIG: AdmissionConfig = AdmissionConfig {
        max_in_flight: 8,
        reserved_for_critical: 3,
        reserved_for_normal: 3,
        min_remaining: Duration::from_millis(10),
        retry_after: Duration::from_millis(200),
        classify: |path| match path {
            "/Capture" => Priority::Critical,
            "/Read" => Priority::Low,
            other => classify(other),
        },
    };

    type Call = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

    /// Calls that have been let in and are kept waiting; dropping one ends it.
    struct House {
        layer: AdmissionLayer,
        inside: Vec<Call>,
    }

    impl House {
        fn new() -> Self {
            Self { layer: AdmissionLayer::new(CONFIG), inside: Vec::new() }
        }

        /// Sends a call that stays in flight; the status with which it is turned away, if it is.
        async fn knock(&mut self, path: &str, deadline: Option<Deadline>) -> Option<Status> {
            let handler = service_fn(|_: Request<()>| std::future::pending());
            let mut request = Request::builder().uri(path).body(()).unwrap();
            if let Some(deadline) = deadline {
                request.extensions_mut().insert(deadline);
            }
            let mut call = Box::pin(self.layer.layer(handler).call(request));
            match futures_util::poll!(&mut call) {
                Poll::Ready(Ok(response)) => Status::from_header_map(response.headers()),
                Poll::Pending => {
                    self.inside.push(call);
                    None
                }
            }
        }

        /// Knocks until turned away; how many got in, and the refusal.
        async fn fill(&mut self, path: &str) -> (usize, Status) {
            let mut admitted = 0;
            loop {
                match self.knock(path, None).await {
                    None => admitted += 1,
                    Some(refusal) => return (admitted, refusal),
                }
            }
        }
    }

    #[tokio::test]
    async fn reads_are_refused_first_then_holds_and_captures_last() {
        let mut house = House::new();
        assert_eq!(house.fill("/Read").await.0, 2);
        assert_eq!(house.fill("/Hold").await.0, 3);
        assert_eq!(house.fill("/Capture").await.0, 3);
        assert_eq!(house.layer.in_flight(), 8);
    }

    #[tokio::test]
    async fn a_flood_of_holds_leaves_the_reserved_places_to_captures() {
        let mut house = House::new();
        let (admitted, refusal) = house.fill("/Hold").await;
        assert_eq!((admitted, refusal.code()), (5, Code::ResourceExhausted));
        assert_eq!(status::retry_delay(&refusal), Some(CONFIG.retry_after));
        assert_eq!(house.fill("/Capture").await.0, 3);
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_call_ends_or_is_dropped() {
        let mut house = House::new();
        house.fill("/Hold").await;
        house.inside.clear();
        assert_eq!(house.layer.in_flight(), 0);
        assert_eq!(house.fill("/Hold").await.0, 5);
    }

    #[tokio::test]
    async fn health_and_reflection_get_in_even_when_the_house_is_full() {
        let mut house = House::new();
        house.fill("/Capture").await;
        for path in
            ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            assert!(house.knock(path, Some(Deadline::after(Duration::ZERO))).await.is_none(), "{path}");
        }
        assert_eq!(house.layer.in_flight(), 8, "exempt calls are not counted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_a_hopeless_deadline_is_refused_even_if_there_is_room() {
        let mut house = House::new();
        let hopeless = Some(Deadline::after(Duration::from_millis(9)));
        let refusal = house.knock("/Capture", hopeless).await.unwrap();
        assert_eq!(refusal.code(), Code::DeadlineExceeded);
        assert!(house.knock("/Capture", Some(Deadline::after(Duration::from_millis(10)))).await.is_none());
    }

    #[test]
    fn contended_places_are_never_given_twice() {
        let layer = AdmissionLayer::new(CONFIG);
        let admitted = AtomicUsize::new(0);
        let done = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let permits: Vec<_> =
                        (0..8).filter_map(|_| Permit::take(&layer.gate, Priority::Critical)).collect();
                    admitted.fetch_add(permits.len(), Ordering::SeqCst);
                    done.wait();
                });
            }
        });
        assert!((1..=8).contains(&admitted.load(Ordering::SeqCst)));
        assert_eq!(layer.in_flight(), 0);
    }
}
