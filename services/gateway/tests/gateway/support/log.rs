//! What a fake upstream saw, and what it was told to do wrong.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// One way to fail. It is used up by the call that meets it.
pub(crate) enum Fault {
    /// Answers with this, although the request was received.
    Status(Status),
    /// Never answers.
    Silence,
}

struct Seen {
    method: &'static str,
    metadata: MetadataMap,
    message: Box<dyn Any + Send>,
}

/// The log of one fake.
#[derive(Default)]
pub(crate) struct Log {
    seen: Mutex<Vec<Seen>>,
    faults: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
}

impl Log {
    /// Lets the next call of `method` fail; several wait in line.
    pub(crate) fn next(&self, method: &'static str, fault: Fault) {
        self.faults.lock().unwrap().entry(method).or_default().push_back(fault);
    }

    /// Notes a call, checks the service token, and meets the fault that waits for it, if any.
    pub(crate) async fn enter<T: Any + Send>(
        &self,
        method: &'static str,
        request: Request<T>,
    ) -> Result<(), Status> {
        let (metadata, _, message) = request.into_parts();
        let token = metadata.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().push(Seen { method, metadata, message: Box::new(message) });
        if token.as_deref() != Some(super::SERVICE_HEADER) {
            return Err(Status::unauthenticated("service token"));
        }
        let fault = self.faults.lock().unwrap().get_mut(method).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::Status(status)) => Err(status),
            Some(Fault::Silence) => std::future::pending().await,
            None => Ok(()),
        }
    }

    /// How often `method` was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| seen.method == method).count()
    }

    /// The metadata of each call of `method`.
    pub(crate) fn metadata(&self, method: &str) -> Vec<MetadataMap> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.method == method).map(|seen| seen.metadata.clone()).collect()
    }

    /// The requests of each call of `method`.
    pub(crate) fn requests<T: Any + Clone>(&self, method: &str) -> Vec<T> {
        let seen = self.seen.lock().unwrap();
        let of_method = seen.iter().filter(|seen| seen.method == method);
        of_method.map(|seen| seen.message.downcast_ref::<T>().unwrap().clone()).collect()
    }
}
