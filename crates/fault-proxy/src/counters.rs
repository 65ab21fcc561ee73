//! What the proxy did, per method and fault; readable at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::policy::{End, Fate};

/// What can be done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request was never forwarded.
    LostRequest,
    /// The answer was thrown away.
    LostAnswer,
    /// The request was forwarded twice.
    Duplicated,
    /// The request took longer.
    DelayedRequest,
    /// The answer took longer.
    DelayedAnswer,
    /// Later calls were let through first.
    HeldBack,
    /// The connection was cut.
    Reset,
    /// The connection went dark.
    Blackholed,
}

/// One method's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MethodCounters {
    /// Calls that came in.
    pub calls: u64,
    /// Requests that were sent on, second copies included.
    pub forwarded: u64,
    /// Answers that came back from the server, those to second copies included.
    pub answered: u64,
    /// Requests that the server could not be given, or that it never answered because its connection broke.
    pub unreachable: u64,
    /// How often each fault was done.
    pub faults: BTreeMap<Fault, u64>,
}

/// A shared view of all counters. Clones see the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<String, MethodCounters>>>);

/// Whoever invents more methods than this is counted together.
const MAX_METHODS: usize = 1000;
const OTHERS: &str = "(others)";

impl Counters {
    /// The numbers as they are now, by method.
    pub fn snapshot(&self) -> BTreeMap<String, MethodCounters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a fault was done to any method.
    pub fn total(&self, fault: Fault) -> u64 {
        self.snapshot().values().filter_map(|method| method.faults.get(&fault)).sum()
    }

    pub(crate) fn decided(&self, path: &str, fate: &Fate) {
        self.change(path, |method| {
            method.calls += 1;
            let mut count = |fault, happened: bool| {
                if happened {
                    *method.faults.entry(fault).or_default() += 1;
                }
            };
            // A request cannot be repeated that was not sent once. What becomes of the answer is counted when there is
            // one: [`Counters::came_back`].
            let sent = fate.request == End::Passes;
            let ends = |end: End| fate.request == end || sent && fate.answer == end;
            count(Fault::LostRequest, matches!(fate.request, End::Lost(_)));
            count(Fault::Duplicated, sent && fate.duplicate.is_some());
            count(Fault::DelayedRequest, sent && !fate.delay_request.is_zero());
            count(Fault::HeldBack, sent && fate.hold_back.is_some());
            count(Fault::Reset, ends(End::Cut));
            count(Fault::Blackholed, ends(End::Dark));
        });
    }

    /// The server answered a call, and this is what becomes of its answer.
    pub(crate) fn came_back(&self, path: &str, fate: &Fate) {
        let fault = match fate.answer {
            End::Lost(_) => Fault::LostAnswer,
            End::Passes if !fate.delay_answer.is_zero() => Fault::DelayedAnswer,
            // A connection is broken whether there is an answer or not, so that was counted before.
            End::Passes | End::Cut | End::Dark => return,
        };
        self.change(path, |method| *method.faults.entry(fault).or_default() += 1);
    }

    pub(crate) fn forwarded(&self, path: &str) {
        self.change(path, |method| method.forwarded += 1);
    }

    pub(crate) fn answered(&self, path: &str) {
        self.change(path, |method| method.answered += 1);
    }

    pub(crate) fn unreachable(&self, path: &str) {
        self.change(path, |method| method.unreachable += 1);
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut MethodCounters)) {
        let mut methods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = methods.contains_key(path) || methods.len() < MAX_METHODS;
        change(methods.entry(if known { path } else { OTHERS }.to_owned()).or_default());
    }
}
