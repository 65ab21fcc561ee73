//! The ledger as a sequential specification, for the search that knows nothing of its log.
//!
//! Answers are compared by what they say of money and not by their place in the order, so that the search really
//! searches. Time does not pass: a history with expiries belongs to the audit.

use atm_types::Timestamp;

use crate::answer::Answer;
use crate::ask::Ask;
use crate::history::Call;
use crate::linear::{Event, Specification};
use crate::model::{Expected, Model, Recorded};
use crate::step::Outcome;

/// A ledger, beginning with these books.
#[derive(Clone, Debug)]
pub struct LedgerSpecification {
    books: Model,
    time: Timestamp,
}

impl LedgerSpecification {
    /// A ledger whose books were `books` at `time`, before any of the calls began.
    pub fn new(books: Model, time: Timestamp) -> Self {
        Self { books, time }
    }

    /// The calls of a history as the search takes them.
    pub fn events(calls: &[Call]) -> Vec<Event<(Ask, Answer)>> {
        let event = |call: &Call| Event {
            operation: (call.ask.clone(), call.answer.clone()),
            begun: call.begun,
            ended: call.ended,
        };
        calls.iter().map(event).collect()
    }
}

impl Specification for LedgerSpecification {
    type State = Model;
    type Operation = (Ask, Answer);

    fn begin(&self) -> Model {
        self.books.clone()
    }

    fn apply(&self, state: &Model, (ask, answer): &Self::Operation) -> Option<Model> {
        if let Ask::GetAccount { account } = ask {
            let read = state.account(*account);
            let fits = match answer {
                Answer::Account(view) => {
                    read.is_some_and(|a| a.totals == view.totals && a.balance() == view.balance)
                }
                Answer::Refused(_) => read.is_none(),
                Answer::Unknown => true,
                _ => false,
            };
            return fits.then(|| state.clone());
        }
        match state.ask(ask, self.time) {
            None => Some(state.clone()),
            Some(Expected::New(effect)) => {
                let mut next = state.clone();
                next.apply(&effect);
                says(answer, &effect.recorded).then_some(next)
            }
            Some(Expected::Again(recorded)) => says(answer, &recorded).then(|| state.clone()),
            Some(Expected::Refused(expected)) => match answer {
                Answer::Refused(refused) => (*refused == expected).then(|| state.clone()),
                Answer::Unknown => Some(state.clone()),
                _ => None,
            },
        }
    }
}

/// Whether the answer tells this.
fn says(answer: &Answer, recorded: &Recorded) -> bool {
    match answer {
        Answer::Unknown => true,
        Answer::Recorded { outcome, .. } => {
            let Outcome { kind, state, decline, transfer, balances, .. } = outcome;
            (kind, state, decline, transfer, balances)
                == (
                    &recorded.kind,
                    &recorded.state,
                    &recorded.decline,
                    &recorded.transfer,
                    &recorded.balances,
                )
        }
        Answer::Opened { terms, .. } => Some(terms) == recorded.terms.as_ref(),
        Answer::Account(_) | Answer::TrialBalance { .. } | Answer::Refused(_) => false,
    }
}
