//! The stream of revocations: first all that still matter, then each as it happens, and a heartbeat whenever
//! it would be silent for too long, so that a gateway notices when it has lost the stream.

use std::pin::Pin;
use std::time::Duration;

use atm_proto::auth::WatchRevocationsResponse;
use atm_rpc::status;
use futures_util::{Stream, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;
use tonic::Status;

use super::convert;
use crate::domain::Revocation;

/// What `WatchRevocations` answers with.
pub(crate) type Revocations = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

/// Revocations in one message: at most 60 bytes each, this stays well below the limit of a message.
const MOST_IN_A_MESSAGE: usize = 16_384;

struct Watch {
    /// What was relevant at the beginning and has not been sent yet.
    relevant: Option<Vec<Revocation>>,
    news: broadcast::Receiver<Revocation>,
    heartbeat: Duration,
    ended: bool,
}

/// The stream. It ends with an error when the watcher reads too slowly, for it would miss revocations; it
/// gets all of them when it subscribes again.
pub(super) fn stream(
    relevant: Vec<Revocation>,
    news: broadcast::Receiver<Revocation>,
    heartbeat: Duration,
) -> Revocations {
    let watch = Watch { relevant: Some(relevant), news, heartbeat, ended: false };
    Box::pin(stream::unfold(watch, |mut watch| async move {
        if watch.ended {
            return None;
        }
        let message = watch.next().await;
        watch.ended = message.is_err();
        Some((message, watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Result<WatchRevocationsResponse, Status> {
        if let Some(mut relevant) = self.relevant.take() {
            // The first message is whole for up to 16,384 of them; more follow at once.
            let rest = relevant.split_off(relevant.len().min(MOST_IN_A_MESSAGE));
            self.relevant = Some(rest).filter(|rest| !rest.is_empty());
            return Ok(message(relevant));
        }
        let first = match timeout(self.heartbeat, self.news.recv()).await {
            Err(_silence) => return Ok(message(Vec::new())),
            Ok(Ok(revocation)) => revocation,
            Ok(Err(error)) => return Err(lost(&error)),
        };
        let mut news = vec![first];
        while news.len() < MOST_IN_A_MESSAGE {
            match self.news.try_recv() {
                Ok(revocation) => news.push(revocation),
                // If some were missed, the next message says so.
                Err(TryRecvError::Empty | TryRecvError::Closed | TryRecvError::Lagged(_)) => break,
            }
        }
        Ok(message(news))
    }
}

fn message(revocations: Vec<Revocation>) -> WatchRevocationsResponse {
    WatchRevocationsResponse { revocations: revocations.into_iter().map(convert::revocation).collect() }
}

fn lost(error: &RecvError) -> Status {
    let message = match error {
        RecvError::Lagged(_) => "revocations were missed; subscribe again",
        RecvError::Closed => "the service is stopping",
    };
    status::unavailable(message, Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use atm_types::Timestamp;
    use futures_util::StreamExt;
    use tonic::Code;

    use super::*;
    use crate::domain::{RevocationTarget, SessionId};

    fn revocation(number: u32) -> Revocation {
        let mut id = [1; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Revocation {
            target: RevocationTarget::Session(SessionId::from_bytes(id)),
            revoke_time: Timestamp::from_seconds(1_800_000_000),
            relevant_until: Timestamp::from_seconds(1_800_000_300),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_message_has_everything_and_silence_is_broken_by_heartbeats() {
        let news = broadcast::Sender::new(4);
        let mut stream = stream(vec![revocation(1)], news.subscribe(), Duration::from_secs(2));
        assert_eq!(stream.next().await.unwrap().unwrap().revocations.len(), 1);
        for _ in 0..3 {
            let before = tokio::time::Instant::now();
            assert!(stream.next().await.unwrap().unwrap().revocations.is_empty());
            assert!(before.elapsed() <= Duration::from_secs(5));
        }
        news.send(revocation(2)).unwrap();
        news.send(revocation(3)).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().revocations.len(), 2);
    }

    #[tokio::test]
    async fn with_nothing_to_say_the_first_message_still_comes_at_once() {
        let news = broadcast::Sender::new(4);
        let mut stream = stream(Vec::new(), news.subscribe(), Duration::from_secs(3600));
        assert!(stream.next().await.unwrap().unwrap().revocations.is_empty());
    }

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_is_told_to_subscribe_again() {
        let news = broadcast::Sender::new(2);
        let mut stream = stream(Vec::new(), news.subscribe(), Duration::from_secs(2));
        stream.next().await.unwrap().unwrap();
        (0..5).for_each(|number| drop(news.send(revocation(number))));
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(stream.next().await.is_none(), "and that is the end");
    }

    #[tokio::test]
    async fn a_very_long_list_is_split_into_messages_that_fit() {
        use prost::Message;
        let count = u32::try_from(MOST_IN_A_MESSAGE).unwrap() + 5;
        let news = broadcast::Sender::new(2);
        let mut stream =
            stream((0..count).map(revocation).collect(), news.subscribe(), Duration::from_secs(2));
        let first = stream.next().await.unwrap().unwrap();
        assert!(first.encoded_len() < atm_rpc::limits::BATCH_BYTES / 2 + 100_000, "{}", first.encoded_len());
        assert_eq!(first.revocations.len(), MOST_IN_A_MESSAGE);
        assert_eq!(stream.next().await.unwrap().unwrap().revocations.len(), 5);
    }
}
