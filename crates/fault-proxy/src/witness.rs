//! Whoever looks at calls where they reach the server.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};

use crate::upstream::{Carried, Unreachable, Upstream};

/// The answer to a call, whole.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its message, framed as gRPC frames it; empty when there is none.
    pub body: Bytes,
    /// What followed the message.
    pub trailers: HeaderMap,
}

/// Is told of calls on the server's side of the proxy: after what the wire does to a request, before what it does to
/// the answer. Second copies are calls of their own.
pub trait Witness: Send + Sync {
    /// Whether calls of this method matter. They are carried as a whole then, so streams must not.
    fn wants(&self, path: &str) -> bool;
    /// A call is about to be sent to the server. The number by which its end will be told.
    fn began(&self, path: &str, request: &Bytes) -> u64;
    /// The server answered. A call that is given up, or whose connection breaks, never ends.
    fn ended(&self, call: u64, answer: Answered);
}

/// Sends a request and tells the witness what came of it.
pub(crate) async fn send(
    upstream: &Upstream,
    witness: Option<&Arc<dyn Witness>>,
    path: &str,
    request: Request<Carried>,
) -> Result<Response<Carried>, Unreachable> {
    let Some(witness) = witness.filter(|witness| witness.wants(path)) else {
        return upstream.send(request).await.map(|answer| answer.map(BodyExt::boxed_unsync));
    };
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(Unreachable::Broken)?.to_bytes();
    let call = witness.began(path, &body);
    let answer = upstream.send(Request::from_parts(parts, whole(body))).await?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(Unreachable::Broken)?;
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    let told = trailers.clone().unwrap_or_default();
    witness.ended(call, Answered { headers: parts.headers.clone(), body: body.clone(), trailers: told });
    let body = whole(body);
    let body = match trailers {
        Some(trailers) => body.with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync(),
        None => body,
    };
    Ok(Response::from_parts(parts, body))
}

fn whole(body: Bytes) -> Carried {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
