//! The client of the experiments: the real retry loop around the real gRPC client, and what it went through.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atm_proto::gateway::WithdrawRequest;
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::text::LowercaseRequest;
use atm_proto::text::text_service_client::TextServiceClient;
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, is_retryable, retry};
use atm_rpc::throttle::{Throttle, ThrottleConfig};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::bank::{AMOUNT, Customer, taka};
use crate::scenario::Call;

/// One transaction from its begin to its answer, or to the end of patience.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Attempts that were begun.
    pub attempts: u32,
    /// From the first attempt to the answer.
    pub elapsed: Duration,
    /// What the attempt took that succeeded.
    pub service: Duration,
    /// What the attempts took that were told of their failure, and how many they were.
    pub failures: (Duration, u32),
    /// Whether an answer came.
    pub known: bool,
}

/// What one transaction needs.
#[derive(Clone)]
pub struct Client {
    /// The way to the gateway, through the proxy.
    pub channel: Channel,
    /// How it repeats.
    pub policy: RetryPolicy,
    /// When it gives up; `None` for never.
    pub deadline: Option<Duration>,
    /// Who is asking.
    pub customer: Customer,
    /// What is called.
    pub call: Call,
}

/// When attempts began and what became of them.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    begun: u32,
    last: Option<Instant>,
    failed: (Duration, u32),
}

/// Longer than any experiment takes.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

impl Client {
    /// Runs one transaction; `seed` decides its pauses.
    ///
    /// Without a deadline it goes on until it is answered, as a machine does whose cash is out: when the throttle of
    /// the retry loop ends a series of attempts, the next series begins.
    ///
    /// # Errors
    /// When it is answered with something that no fault explains.
    pub async fn run(&self, id: &str, seed: u64) -> Result<Sample, Status> {
        let seen = Attempts::default();
        let begin = Instant::now();
        let deadline = Deadline::after(self.deadline.unwrap_or(NEVER));
        loop {
            let config = ThrottleConfig { max_tokens: 1000, seed: Some(seed), ..ThrottleConfig::default() };
            let throttle = Throttle::new(config);
            let known = match self.answered(id, &throttle, deadline, &seen).await {
                Ok(()) => true,
                Err(error) if !is_retryable(&error.status) => return Err(error.status),
                Err(_) if self.deadline.is_some() => false,
                Err(_) => continue,
            };
            let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(Sample {
                attempts: seen.begun,
                elapsed: begin.elapsed(),
                service: seen.last.map_or(Duration::ZERO, |last| last.elapsed()),
                failures: seen.failed,
                known,
            });
        }
    }

    async fn answered(
        &self,
        id: &str,
        throttle: &Throttle,
        deadline: Deadline,
        seen: &Attempts,
    ) -> Result<(), RetryError> {
        match self.call {
            Call::Withdraw => {
                let request = WithdrawRequest { transaction_id: id.to_owned(), amount: taka(AMOUNT) };
                let answer = retry(&self.policy, throttle, deadline, request, |mut request: Request<_>| {
                    self.customer.sign(request.metadata_mut());
                    let mut client = AtmServiceClient::new(self.channel.clone());
                    seen.watch(async move { client.withdraw(request).await })
                });
                let state = answer.await?.current_state();
                expect(state == TransactionState::Posted, || format!("{id} is {}", state.as_str_name()))
            }
            Call::Lowercase => {
                let request = LowercaseRequest { text: format!("HELLOW {}", id.to_uppercase()) };
                let answer = retry(&self.policy, throttle, deadline, request, |request: Request<_>| {
                    let mut client = TextServiceClient::new(self.channel.clone());
                    seen.watch(async move { client.lowercase(request).await })
                });
                let text = answer.await?.text;
                expect(text == format!("hellow {id}"), || format!("the text came back as {text:?}"))
            }
        }
    }
}

/// A wrong answer is a failure that no retry mends.
fn expect(right: bool, wrong: impl FnOnce() -> String) -> Result<(), RetryError> {
    if right {
        return Ok(());
    }
    Err(RetryError {
        status: Status::data_loss(wrong()),
        attempts: 0,
        maybe_sent: true,
        deadline_over: false,
    })
}

impl Attempts {
    /// Notes one attempt.
    fn watch<Res, F>(&self, call: F) -> impl Future<Output = Result<Response<Res>, Status>> + use<Res, F>
    where
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        let seen = Arc::clone(&self.0);
        async move {
            let begin = Instant::now();
            {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.begun += 1;
                seen.last = Some(begin);
            }
            let answer = call.await;
            if answer.is_err() {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.failed.0 += begin.elapsed();
                seen.failed.1 += 1;
            }
            answer
        }
    }
}
