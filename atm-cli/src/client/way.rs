//! The way to the gateway: a URL over TCP, or whatever a simulation puts in its place, and who looks on.

use std::any::type_name;
use std::future::Future;
use std::sync::Arc;

use atm_rpc::network::Connect;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::simulation::Witness;

/// How the gateway is reached.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) url: String,
    /// `None` is TCP.
    pub(crate) network: Option<Arc<dyn Connect>>,
    /// What the jitter of backoffs follows from; `None` for one that nobody knows.
    pub(crate) jitter_seed: Option<u64>,
    /// Who is told of every attempt.
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

impl From<&str> for Way {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), network: None, jitter_seed: None, witness: None }
    }
}

/// The calls of a client, watched if there is a witness.
#[derive(Clone)]
pub(super) struct Watched(Option<Arc<dyn Witness>>);

/// One call with all its attempts.
pub(super) struct Call<'a>(Option<(&'a dyn Witness, u64)>);

/// One attempt.
pub(super) struct Attempt<'a>(Option<(&'a dyn Witness, usize)>);

impl Watched {
    pub(super) fn new(witness: Option<Arc<dyn Witness>>) -> Self {
        Self(witness)
    }

    pub(super) fn call(&self) -> Call<'_> {
        Call(self.0.as_deref().map(|witness| (witness, witness.call())))
    }
}

impl<'a> Call<'a> {
    pub(super) fn attempt<Req: Message>(&self, request: &Request<Req>) -> Attempt<'a> {
        Attempt(self.0.map(|(witness, call)| {
            let session = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            let encoded = request.get_ref().encode_to_vec();
            (witness, witness.began(call, method_of::<Req>(), encoded, session))
        }))
    }
}

impl Attempt<'_> {
    pub(super) async fn watch<Res: Message>(
        self,
        answer: impl Future<Output = Result<Response<Res>, Status>>,
    ) -> Result<Response<Res>, Status> {
        let answer = answer.await;
        if let Some((witness, attempt)) = self.0 {
            witness.ended(attempt, answer.as_ref().map(|answer| answer.get_ref().encode_to_vec()));
        }
        answer
    }
}

/// The RPC that takes this request; every RPC has a request of its own, named after it.
fn method_of<Req>() -> &'static str {
    let name = type_name::<Req>();
    let name = name.rsplit("::").next().unwrap_or(name);
    name.strip_suffix("Request").unwrap_or(name)
}
