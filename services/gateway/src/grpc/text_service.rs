//! The handlers of TextService. Prime tests run on threads of their own, few at a time, so that a flood of
//! them cannot take the cores from money; whoever finds the queue full is told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atm_proto::text as proto;
use atm_proto::text::text_service_server::TextService;
use atm_rpc::deadline::Deadline;
use atm_types::IdSource;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::status::status;
use crate::failure::{Defect, Failure};
use crate::text::prime::Abandoned;
use crate::text::{Integer, NumberError, case};

/// Numbers of so few digits are tested where they stand: that takes some microseconds.
const SMALL_DIGITS: usize = 40;

/// The text utility.
pub struct Text {
    ids: Arc<dyn IdSource>,
    workers: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// How long a full queue takes to make room, roughly.
    retry_after: Duration,
}

impl Text {
    /// A utility that runs `workers` prime tests at once and lets `queue` more wait.
    pub fn new(ids: Arc<dyn IdSource>, workers: usize, queue: usize) -> Self {
        let workers = workers.max(1);
        Self {
            ids,
            workers: Arc::new(Semaphore::new(workers)),
            queue: Arc::new(Semaphore::new(workers + queue)),
            retry_after: Duration::from_millis(250),
        }
    }

    fn refuse(&self, failure: Failure) -> Status {
        status(self.ids.as_ref(), failure)
    }

    async fn is_prime(&self, number: String, deadline: Option<Deadline>) -> Result<bool, Failure> {
        let small = integer(&number)?.digits() <= SMALL_DIGITS;
        if small {
            return integer(&number)?.is_prime(|| true).map_err(|Abandoned| Failure::DeadlineOver);
        }
        let busy = |_| Failure::Busy { retry_after: self.retry_after };
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(busy)?;
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Failure::DeadlineOver)?;
        test_apart(number, deadline, place, worker).await
    }
}

/// Tests a large number on a blocking thread, as long as somebody waits for the answer.
async fn test_apart(
    number: String,
    deadline: Option<Deadline>,
    place: OwnedSemaphorePermit,
    worker: OwnedSemaphorePermit,
) -> Result<bool, Failure> {
    let waiting = Waiting::default();
    let flag = Arc::clone(&waiting.gone);
    let test = tokio::task::spawn_blocking(move || {
        let is_wanted = || !flag.load(Ordering::Relaxed) && !deadline.is_some_and(Deadline::is_over);
        let result = integer(&number)?.is_prime(is_wanted).map_err(|Abandoned| Failure::DeadlineOver);
        drop((place, worker));
        result
    });
    let result = test.await;
    drop(waiting);
    result.unwrap_or_else(|error| {
        let message = error.to_string();
        Err(Failure::Defect(Defect { upstream: "prime test", code: tonic::Code::Internal, message }))
    })
}

/// Tells the thread that its caller is gone, when it is dropped with the call.
#[derive(Default)]
struct Waiting {
    gone: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

fn integer(text: &str) -> Result<Integer<'_>, Failure> {
    Integer::parse(text).map_err(|error: NumberError| Failure::invalid("number", error.to_string()))
}

#[tonic::async_trait]
impl TextService for Text {
    async fn lowercase(
        &self,
        request: Request<proto::LowercaseRequest>,
    ) -> Result<Response<proto::LowercaseResponse>, Status> {
        Ok(Response::new(proto::LowercaseResponse { text: case::lower(&request.into_inner().text) }))
    }

    async fn uppercase(
        &self,
        request: Request<proto::UppercaseRequest>,
    ) -> Result<Response<proto::UppercaseResponse>, Status> {
        Ok(Response::new(proto::UppercaseResponse { text: case::upper(&request.into_inner().text) }))
    }

    async fn check_prime(
        &self,
        request: Request<proto::CheckPrimeRequest>,
    ) -> Result<Response<proto::CheckPrimeResponse>, Status> {
        let deadline = Deadline::of(&request);
        let prime = self.is_prime(request.into_inner().number, deadline).await;
        prime.map(|prime| Response::new(proto::CheckPrimeResponse { prime })).map_err(|f| self.refuse(f))
    }

    async fn check_palindrome(
        &self,
        request: Request<proto::CheckPalindromeRequest>,
    ) -> Result<Response<proto::CheckPalindromeResponse>, Status> {
        let number = request.into_inner().number;
        let palindrome = integer(&number).map(|integer| integer.is_palindrome());
        palindrome
            .map(|palindrome| Response::new(proto::CheckPalindromeResponse { palindrome }))
            .map_err(|failure| self.refuse(failure))
    }
}
