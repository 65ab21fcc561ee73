//! 17, without the ledger's log: is there any order that explains what was answered at the ledger's door?
//!
//! The search takes small histories, so the run is cut where nothing answered is under way. What the books were at a
//! cut is taken from the log; what happens until the next one, the search must find by itself.

use std::collections::BTreeMap;

use atm_history::linear::linearize;
use atm_history::{Answer, Audit, Call, Kind, LedgerSpecification, Model, Step};
use atm_types::Timestamp;

use super::Violation;
use super::model::{UTC_OFFSET_SECONDS, steps};
use crate::evidence::Evidence;

/// A window has at least so many calls, where the run has them.
const ENOUGH: usize = 6;
/// The search is not asked for more at once.
const MOST: usize = 20;

/// Some calls, and the books before them.
#[derive(Debug)]
pub struct Window {
    /// The calls, those included that began earlier and were never answered.
    pub calls: Vec<Call>,
    /// The books before them.
    pub books: Model,
    /// When they were decided.
    pub time: Timestamp,
}

impl Window {
    /// Whether an order explains the answers.
    pub fn is_explained(&self) -> bool {
        let specification = LedgerSpecification::new(self.books.clone(), self.time);
        linearize(&specification, &LedgerSpecification::events(&self.calls)).is_ok()
    }

    /// Whether two answered calls were under way at once.
    pub fn has_concurrency(&self) -> bool {
        let answered = || self.calls.iter().filter_map(|call| Some((call.begun, call.ended?)));
        answered().any(|(begun, ended)| answered().any(|(other, _)| begun < other && other < ended))
    }
}

/// 17: every window is explained.
pub(super) fn every_window_is_explained(evidence: &Evidence) -> Vec<Violation> {
    let unexplained = windows(evidence).into_iter().find(|window| !window.is_explained());
    let what = |window: Window| {
        let calls: Vec<u64> = window.calls.iter().map(|call| call.call).collect();
        Violation::new(
            17,
            format!("no order explains what was answered to calls {calls:?} at the ledger's door"),
        )
    };
    unexplained.map(what).into_iter().collect()
}

/// The run in windows. Those in which a hold expires or a day ends are left out: time stands still for the search.
pub fn windows(evidence: &Evidence) -> Vec<Window> {
    let log = steps(evidence);
    let openings: BTreeMap<_, _> =
        log.iter().filter_map(|step| Some((step.opened.as_ref()?.account, step.outcome.sequence))).collect();
    let shown = |call: &Call| match &call.answer {
        Answer::Recorded { outcome, .. } => outcome.sequence,
        Answer::Opened { terms, .. } => openings.get(&terms.account).copied().unwrap_or(0),
        Answer::Account(view) => view.sequence,
        Answer::TrialBalance { sequence, .. } => *sequence,
        Answer::Refused(_) | Answer::Unknown => 0,
    };
    let mut cutting =
        Cutting { audit: Audit::new(UTC_OFFSET_SECONDS), log: &log, base: 0, windows: Vec::new() };
    let (mut window, mut unanswered) = (Vec::new(), Vec::new());
    let (mut last_end, mut known) = (0, 0);
    for call in &evidence.door {
        if window.len() >= ENOUGH && last_end < call.begun {
            cutting.cut(std::mem::take(&mut window), &unanswered, known);
        }
        known = known.max(shown(call));
        match call.ended {
            Some(ended) => {
                last_end = last_end.max(ended);
                window.push(call.clone());
            }
            None => unanswered.push(call.clone()),
        }
    }
    cutting.cut(window, &unanswered, known);
    cutting.windows
}

struct Cutting<'a> {
    audit: Audit,
    log: &'a [Step],
    /// The last step that the books have.
    base: usize,
    windows: Vec<Window>,
}

impl Cutting<'_> {
    /// Ends a window in which all steps up to `end` were seen.
    fn cut(&mut self, mut calls: Vec<Call>, unanswered: &[Call], end: u64) {
        let end = usize::try_from(end).unwrap_or(usize::MAX).clamp(self.base, self.log.len());
        let within = &self.log[self.base..end];
        let day =
            |step: &Step| (step.outcome.time.as_seconds() + UTC_OFFSET_SECONDS).div_euclid(24 * 60 * 60);
        let still =
            within.iter().all(|step| step.outcome.kind != Kind::Expire && day(step) == day(&within[0]));
        // Who never heard an answer may have been the one whose step this is.
        let may_matter = |call: &&Call| within.iter().any(|step| Some(step.outcome.id) == call.ask.id());
        calls.extend(unanswered.iter().filter(may_matter).cloned());
        let time = within.first().or(self.log.last()).map(|step| step.outcome.time);
        if still
            && calls.len() <= MOST
            && let Some(time) = time
        {
            self.windows.push(Window { calls, books: self.audit.model().clone(), time });
        }
        self.audit.replay(within);
        self.base = end;
    }
}
