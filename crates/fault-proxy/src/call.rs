//! Carries one call: waits, forwards, and loses as its fate says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::policy::{End, Fate};
use crate::proxy::Shared;
use crate::rules::Heard;
use crate::stream::Switch;
use crate::upstream::{Carried, Unreachable, Upstream};
use crate::witness;

/// One client's connection, as its calls see it.
pub(crate) struct Wire {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstream: Upstream,
    pub(crate) cut: CancellationToken,
    pub(crate) switch: Switch,
}

type Answer = Result<Response<Carried>, Unreachable>;

/// The largest request that faults may strike.
const LARGEST_REQUEST: usize = 64 * 1024 * 1024;
/// How long a stream is read to whose client nothing of it will be given.
const LINGER: Duration = Duration::from_secs(60);

impl Wire {
    /// Carries a call; an error resets its stream.
    pub(crate) async fn carry(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Carried>, h2::Error> {
        let path: Arc<str> = request.uri().path().into();
        let (number, fate) = self.shared.decide(&path);
        if fate == Fate::NONE {
            return Ok(give(self.forward(&path, number, request.map(BodyExt::boxed_unsync)).await));
        }
        let (parts, body) = request.into_parts();
        if fate.request != End::Passes {
            drain(body.boxed_unsync()).await;
            return self.end(fate.request).await;
        }
        let whole = Limited::new(body, LARGEST_REQUEST).collect().await;
        let body = whole.map_err(|_| h2::Error::from(h2::Reason::CANCEL))?.to_bytes();
        // A task of its own, which lives on when the client has gone away: that is what networks do.
        let carried = self.shared.late.spawn(Arc::clone(&self).bring(path, number, fate, parts, body));
        let answer = carried.await.map_err(|_| h2::Error::from(h2::Reason::INTERNAL_ERROR))?;
        match fate.answer {
            End::Passes => {
                sleep(fate.delay_answer).await;
                Ok(give(answer))
            }
            lost => self.end(lost).await,
        }
    }

    /// Forwards the request when its time has come, twice if it must be, and reads the answer if nobody else will.
    async fn bring(
        self: Arc<Self>,
        path: Arc<str>,
        number: u64,
        fate: Fate,
        parts: Parts,
        body: Bytes,
    ) -> Answer {
        if let Some((calls, at_most)) = fate.hold_back {
            let overtaken = self.shared.overtaking.wait(number, calls);
            let _ = timeout(at_most, overtaken).await;
        }
        sleep(fate.delay_request).await;
        let request = move || {
            let body = Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
            Request::from_parts(parts.clone(), body)
        };
        let answer = match fate.duplicate {
            None => self.forward(&path, number, request()).await,
            Some(later) => self.twice(&path, number, later, request).await,
        };
        if answer.is_ok() {
            self.shared.counters.came_back(&path, &fate);
        }
        match answer {
            Ok(answer) if fate.answer != End::Passes => {
                let (parts, body) = answer.into_parts();
                let _ = timeout(LINGER, drain(body)).await;
                Ok(Response::from_parts(parts, nothing()))
            }
            other => other,
        }
    }

    /// Forwards twice and gives the answer that comes first; the other is read and thrown away.
    async fn twice(
        self: &Arc<Self>,
        path: &Arc<str>,
        number: u64,
        later: Duration,
        request: impl Fn() -> Request<Carried>,
    ) -> Answer {
        let send = |request, after| {
            let (wire, path) = (Arc::clone(self), Arc::clone(path));
            self.shared.late.spawn(async move {
                sleep(after).await;
                wire.forward(&path, number, request).await
            })
        };
        let (first, again) = (send(request(), Duration::ZERO), send(request(), later));
        let (answer, other) = match select(first, again).await {
            Either::Left(done) | Either::Right(done) => done,
        };
        self.shared.late.spawn(async move {
            if let Ok(Ok(answer)) = other.await {
                let _ = timeout(LINGER, drain(answer.into_body())).await;
            }
        });
        answer.unwrap_or_else(|_| Err(Unreachable::NotSent(std::io::ErrorKind::Interrupted.into())))
    }

    async fn forward(&self, path: &str, number: u64, request: Request<Carried>) -> Answer {
        self.shared.counters.forwarded(path);
        let answer = witness::send(&self.upstream, self.shared.witness.as_ref(), path, request).await;
        match answer {
            Ok(answer) => {
                self.shared.counters.answered(path);
                self.shared.overtaking.answered(number);
                Ok(answer)
            }
            Err(error) => {
                tracing::debug!(%error, path, "a call was not answered");
                self.shared.counters.unreachable(path);
                Err(error)
            }
        }
    }

    /// What becomes of a call whose request or answer does not arrive.
    async fn end(&self, end: End) -> Result<Response<Carried>, h2::Error> {
        match end {
            End::Passes | End::Lost(Heard::Never) => {}
            End::Lost(Heard::Reset) => return Err(h2::Reason::INTERNAL_ERROR.into()),
            End::Cut => self.cut.cancel(),
            End::Dark => self.switch.turn_off(),
        }
        std::future::pending().await
    }
}

async fn drain(mut body: Carried) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn nothing() -> Carried {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The answer, or what a gRPC client makes of a server that cannot be reached: UNAVAILABLE.
fn give(answer: Answer) -> Response<Carried> {
    let error = match answer {
        Ok(response) => return response,
        Err(error) => error,
    };
    let mut response = Response::new(nothing());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    if let Ok(message) = HeaderValue::from_str(&error.to_string()) {
        headers.insert("grpc-message", message);
    }
    response
}
