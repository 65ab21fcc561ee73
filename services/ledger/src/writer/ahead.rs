//! Deciding and writing a large batch at the same time.
//!
//! Deciding and inserting take about as long as each other. So a second thread, which lives as long as the
//! batch is being decided, inserts what has been decided so far into the storage transaction; the commit that
//! follows inserts the rest, and only then is anything visible, durable or answered. Nothing is decided before
//! the batch before it is committed, so that there is nothing to take back but this batch itself.

use std::sync::mpsc::{Receiver, sync_channel};

use super::decide::Undecided;
use super::{Fatal, Writer};
use crate::handle::Answer;
use crate::storage::{CommitError, EncodedSteps, Head, Store};

/// A batch with fewer commands is decided and written by one thread: another one would cost more than it saves.
pub(super) const COMMANDS: usize = 1_024;
/// How many steps are handed over at once.
const CHUNK: usize = 512;
/// How many chunks may wait for the second thread.
const WAITING: usize = 4;

impl Writer {
    /// Decides the batch and writes most of it ahead of its commit.
    pub(super) fn decide_and_write_ahead(
        &mut self,
        batch: &Undecided<'_>,
    ) -> Result<Vec<Vec<Answer>>, Fatal> {
        let Self { store, memory, .. } = self;
        let store = &mut **store;
        let readers = store.readers();
        let mut view = readers.view()?;
        let expected = memory.head;
        let (sender, chunks) = sync_channel(WAITING);
        std::thread::scope(|scope| {
            let writing = std::thread::Builder::new()
                .name("ledger-ahead".to_owned())
                .spawn_scoped(scope, move || write(store, &expected, &chunks))
                .map_err(Fatal::Thread)?;
            let mut handed_over = 0;
            let answers = memory.decide_all(&mut *view, batch, |steps| {
                if steps.len() - handed_over >= CHUNK {
                    // If nobody takes it, writing has failed and says so below.
                    let _ = sender.send(steps.since(handed_over));
                    handed_over = steps.len();
                }
            });
            drop(sender);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let answers = answers?;
            written?;
            Ok(answers)
        })
    }
}

fn write(store: &mut dyn Store, expected: &Head, chunks: &Receiver<EncodedSteps>) -> Result<(), CommitError> {
    chunks.iter().try_for_each(|chunk| store.write_ahead(expected, &chunk))
}
