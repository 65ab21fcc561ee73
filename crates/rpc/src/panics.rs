//! A panic in a handler costs one call: its caller gets INTERNAL with an error id, and the connection with
//! everybody else's calls lives on. What it said is logged by the panic hook ([`crate::telemetry::init`]).

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atm_types::IdSource;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::status;

/// Turns panics into INTERNAL.
#[derive(Clone)]
pub struct CatchPanicLayer {
    ids: Arc<dyn IdSource>,
}

impl CatchPanicLayer {
    /// Error ids come from `ids`.
    pub fn new(ids: Arc<dyn IdSource>) -> Self {
        Self { ids }
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanicService<S>;

    fn layer(&self, inner: S) -> CatchPanicService<S> {
        CatchPanicService { inner, ids: Arc::clone(&self.ids) }
    }
}

/// A service under a [`CatchPanicLayer`].
#[derive(Clone)]
pub struct CatchPanicService<S> {
    inner: S,
    ids: Arc<dyn IdSource>,
}

impl<S, B> Service<Request<B>> for CatchPanicService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = &mut self.inner;
        match catch_unwind(AssertUnwindSafe(move || inner.call(request))) {
            Ok(inner) => {
                CatchPanicFuture { inner: Some(inner), answer: None, ids: Some(Arc::clone(&self.ids)) }
            }
            Err(_) => {
                let status = panicked(&*self.ids);
                CatchPanicFuture { inner: None, answer: Some(status.into_http()), ids: None }
            }
        }
    }
}

pin_project! {
    /// The answer of the inner service, or INTERNAL if it panics.
    pub struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
        answer: Option<Response<Body>>,
        ids: Option<Arc<dyn IdSource>>,
    }
}

impl<F> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Some(answer) = this.answer.take() {
            return Poll::Ready(Ok(answer));
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Pending };
        // What the handler shares with others is behind locks that survive a poisoning, or dropped with it.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(poll) => poll,
            Err(_) => {
                // A future that has panicked must not be polled again; nor may its drop take down the task.
                let _ = catch_unwind(AssertUnwindSafe(|| this.inner.set(None)));
                let status = match this.ids.take() {
                    Some(ids) => panicked(&*ids),
                    None => Status::internal("internal error"),
                };
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

/// Logs that a handler panicked under a new error id, and says what the caller may know of it.
pub(crate) fn panicked(ids: &dyn IdSource) -> Status {
    let error_id = status::error_id(ids);
    tracing::error!(%error_id, "a handler panicked");
    status::internal_with_id(&error_id)
}

#[cfg(test)]
mod tests {
    use atm_types::SeededIds;
    use tonic::Code;
    use tower::service_fn;

    use super::*;

    async fn status_of<S>(handler: S) -> Option<Status>
    where
        S: Service<Request<()>, Response = Response<Body>, Error = Infallible>,
    {
        let mut service = CatchPanicLayer::new(Arc::new(SeededIds::new(1))).layer(handler);
        let response = service.call(Request::new(())).await.unwrap();
        Status::from_header_map(response.headers())
    }

    #[tokio::test]
    async fn a_panic_while_working_becomes_internal_and_says_nothing_of_its_reason() {
        let status = status_of(service_fn(|_| async {
            tokio::task::yield_now().await;
            panic!("the password is hunter2")
        }))
        .await
        .unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("hunter2"), "{}", status.message());
        assert!(status.message().ends_with(&status::error_id(&SeededIds::new(1))), "{}", status.message());
    }

    #[tokio::test]
    async fn a_panic_before_the_first_await_becomes_internal_too() {
        fn explode(_: Request<()>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
            panic!("at once")
        }
        assert_eq!(status_of(service_fn(explode)).await.map(|status| status.code()), Some(Code::Internal));
    }

    #[tokio::test]
    async fn a_panic_in_the_drop_of_a_panicked_handler_is_caught_as_well() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic!("and again");
                }
            }
        }
        let handler = service_fn(|_| {
            let bomb = Bomb;
            async move {
                let _kept = &bomb;
                panic!("first")
            }
        });
        assert_eq!(status_of(handler).await.map(|status| status.code()), Some(Code::Internal));
    }

    #[tokio::test]
    async fn a_handler_that_works_is_left_alone() {
        let handler = service_fn(|_| async { Ok(Response::new(Body::empty())) });
        assert!(status_of(handler).await.is_none());
    }
}
