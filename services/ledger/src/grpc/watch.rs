//! The stream of recorded steps.
//!
//! It is pulled, not pushed: a page is read from storage only when the reader has room for it, so that a slow
//! reader costs one page of memory and holds nobody up; and since each page begins where the one before
//! ended, in the middle of a batch too, nothing can be missed or told twice.

use atm_proto::ledger as wire;
use futures_util::stream;
use tokio::sync::watch::Receiver;
use tonic::{Request, Response, Status};

use super::status::Failure;
use super::{Answer, Api, Messages, outcome};

/// Steps in one message.
const PAGE: usize = 256;

/// Where one reader stands.
struct Position {
    api: Api,
    after_sequence: u64,
    committed: Receiver<u64>,
}

pub(super) async fn entries(
    api: &Api,
    request: Request<wire::WatchEntriesRequest>,
) -> Answer<Messages<wire::WatchEntriesResponse>> {
    let after_sequence = request.get_ref().after_sequence;
    // Through the queue, so that it includes whatever the caller was already answered.
    let last_sequence =
        api.ledger.steps_after(after_sequence, 1).await.map_err(|error| api.unanswered(error))?.last_sequence;
    if after_sequence > last_sequence {
        return Err(Failure::SequenceAhead { last_sequence }.into());
    }
    let position = Position { api: api.clone(), after_sequence, committed: api.ledger.committed() };
    Ok(Response::new(Box::pin(stream::try_unfold(position, next))))
}

async fn next(mut position: Position) -> Result<Option<(wire::WatchEntriesResponse, Position)>, Status> {
    loop {
        // Marked as seen before the page is read: a commit in between wakes the wait below at once.
        position.committed.borrow_and_update();
        let page = position
            .api
            .ledger
            .steps_after(position.after_sequence, PAGE)
            .await
            .map_err(|error| position.api.unanswered(error))?;
        if let Some(last) = page.steps.last() {
            position.after_sequence = last.commit_sequence;
            let authorizer = &position.api.authorizer;
            let steps = page.steps.iter().map(|step| outcome::step(step, authorizer)).collect();
            return Ok(Some((wire::WatchEntriesResponse { steps }, position)));
        }
        if position.committed.changed().await.is_err() {
            return Err(Failure::Stopped.into());
        }
    }
}
