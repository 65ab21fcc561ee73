//! The judge that knows the ledger's own order.
//!
//! It goes over a history in two passes. First the log is replayed (`replay`): every step must be just what the model
//! would have recorded at that place. Then each call is judged (`calls`): its answer must be the model's answer at some
//! place of the order that lies between the call's beginning and its end. Those two places are bounded by what others
//! had seen before the call began, and by what was recorded for calls that began after it ended.

mod calls;
mod replay;

use std::collections::{BTreeMap, HashMap};

use atm_types::{AccountId, Timestamp, TransactionId};

use crate::ask::Ask;
use crate::history::History;
use crate::model::{Model, Totals};
use crate::step::Step;

/// What cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The log has a gap, goes back, or is not one order.
    Sequence,
    /// A step is not what the model would have recorded there.
    Decision,
    /// The debits of a step or of the books are not their credits.
    Sums,
    /// A hold does not end when its caller said.
    Lifetime,
    /// A step was recorded that nobody had asked for.
    NobodyAsked,
    /// An answer is not one that the model gives at any time during its call.
    Answer,
    /// An answer is not, byte for byte, what is recorded.
    Bytes,
    /// A call began after another had ended, and was recorded before it.
    RealTime,
    /// A transaction was said to stand where it did not.
    CurrentState,
    /// An account or a trial balance was read that never was so.
    Reading,
}

/// A contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that it breaks.
    pub rule: Rule,
    /// What contradicts what.
    pub what: String,
}

/// The books so far, and everything found against them. A long run is judged in parts, each of which ends when
/// nothing is under way.
#[derive(Debug)]
pub struct Audit {
    model: Model,
    time: Timestamp,
    /// The steps of this part by their sequence.
    log: BTreeMap<u64, Step>,
    /// Totals of each account at the beginning of this part and after each change since.
    totals: HashMap<AccountId, Vec<(u64, Totals)>>,
    /// Calls of earlier parts of which nobody knows whether they will take effect.
    open: HashMap<TransactionId, Vec<Ask>>,
    /// The step that this part begins after.
    beginning: u64,
    findings: Vec<Finding>,
}

impl Audit {
    /// Of a bank whose days begin this long before those of UTC.
    pub fn new(utc_offset_seconds: i64) -> Self {
        Self {
            model: Model::new(utc_offset_seconds),
            time: Timestamp::from_nanos(0),
            log: BTreeMap::new(),
            totals: HashMap::new(),
            open: HashMap::new(),
            beginning: 0,
            findings: Vec::new(),
        }
    }

    /// Judges the next part of a run: its calls, and the steps that were recorded since the last part.
    pub fn judge(&mut self, part: &History) {
        self.replay(&part.steps);
        self.judge_calls(&part.calls);
    }

    /// Replays the next steps of a log, of which nobody recorded the calls.
    pub fn replay(&mut self, steps: &[Step]) {
        self.beginning = self.model.sequence();
        self.log.clear();
        self.totals.clear();
        for account in self.model.accounts() {
            self.totals.insert(account.terms.account, vec![(self.beginning, account.totals)]);
        }
        for step in steps {
            if let Err(finding) = self.replay_step(step) {
                // What follows a wrong step is wrong as well, and says nothing more.
                self.findings.push(finding);
                break;
            }
        }
    }

    /// What was found so far.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The books as the model has them.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn find(&mut self, rule: Rule, what: String) {
        self.findings.push(Finding { rule, what });
    }
}
