//! The text utility; it needs nobody's identity.

use std::time::Duration;

use atm_proto::text::text_service_client::TextServiceClient;
use atm_proto::text::{CheckPalindromeRequest, CheckPrimeRequest, LowercaseRequest, UppercaseRequest};
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryError, RetryPolicy, retry};
use atm_rpc::throttle::Throttle;
use tonic::transport::Channel;

use super::Way;
use crate::exit::Failure;

/// Which letters to make of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
}

/// A client of `TextService`. `patience` bounds each call.
pub(crate) struct TextClient {
    client: TextServiceClient<Channel>,
    throttle: Throttle,
    policy: RetryPolicy,
    patience: Duration,
}

impl TextClient {
    pub(crate) fn new(way: impl Into<Way>, patience: Duration) -> Result<Self, Failure> {
        let way = way.into();
        Ok(Self {
            client: TextServiceClient::new(super::channel(&way, patience)?),
            throttle: super::throttle(way.jitter_seed),
            policy: super::policy(patience.mul_f64(0.45).min(Duration::from_secs(5))),
            patience,
        })
    }

    pub(crate) async fn convert(&self, case: Case, text: String) -> Result<String, RetryError> {
        let deadline = Deadline::after(self.patience);
        match case {
            Case::Lower => {
                retry(&self.policy, &self.throttle, deadline, LowercaseRequest { text }, |request| {
                    let mut client = self.client.clone();
                    async move { client.lowercase(request).await }
                })
                .await
                .map(|answer| answer.text)
            }
            Case::Upper => {
                retry(&self.policy, &self.throttle, deadline, UppercaseRequest { text }, |request| {
                    let mut client = self.client.clone();
                    async move { client.uppercase(request).await }
                })
                .await
                .map(|answer| answer.text)
            }
        }
    }

    pub(crate) async fn is_prime(&self, number: String) -> Result<bool, RetryError> {
        let deadline = Deadline::after(self.patience);
        retry(&self.policy, &self.throttle, deadline, CheckPrimeRequest { number }, |request| {
            let mut client = self.client.clone();
            async move { client.check_prime(request).await }
        })
        .await
        .map(|answer| answer.prime)
    }

    pub(crate) async fn is_palindrome(&self, number: String) -> Result<bool, RetryError> {
        let deadline = Deadline::after(self.patience);
        retry(&self.policy, &self.throttle, deadline, CheckPalindromeRequest { number }, |request| {
            let mut client = self.client.clone();
            async move { client.check_palindrome(request).await }
        })
        .await
        .map(|answer| answer.palindrome)
    }
}
