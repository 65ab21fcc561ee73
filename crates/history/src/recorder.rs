//! Takes down calls as they happen, from any number of callers at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::answer::Answer;
use crate::ask::Ask;
use crate::history::Call;

/// Takes down calls. What begins after something ended has the greater number: that is all the time there is.
#[derive(Debug, Default)]
pub struct Recorder {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    ticks: u64,
    taken: u64,
    calls: Vec<Call>,
}

/// A call that is under way.
#[derive(Debug)]
#[must_use]
pub struct Ticket(u64);

impl Recorder {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down that a call begins. Call it before anything is sent.
    pub fn begin(&self, caller: u64, ask: Ask) -> Ticket {
        let mut book = self.book();
        book.ticks += 1;
        let call = book.taken + book.calls.len() as u64;
        let begun = book.ticks;
        book.calls.push(Call { call, caller, ask, begun, ended: None, answer: Answer::Unknown });
        Ticket(call)
    }

    /// Takes down how it ended. A call without an end may still take effect at any time.
    pub fn end(&self, ticket: &Ticket, answer: Answer) {
        let mut book = self.book();
        book.ticks += 1;
        let (ticks, taken) = (book.ticks, book.taken);
        let place = usize::try_from(ticket.0.saturating_sub(taken)).unwrap_or(usize::MAX);
        if let Some(call) = book.calls.get_mut(place) {
            call.ended = (answer != Answer::Unknown).then_some(ticks);
            call.answer = answer;
        }
    }

    /// Takes the calls out. Do so only while none is under way.
    pub fn take(&self) -> Vec<Call> {
        let mut book = self.book();
        book.taken += book.calls.len() as u64;
        std::mem::take(&mut book.calls)
    }
}
