//! The ledger's log replayed against the plain model of atm-history, which shares no code with the ledger, and every
//! answer at the ledger's door held against it.

use atm_history::{Audit, History, Rule, Step};
use atm_ledger::evidence::as_told;

use super::Violation;
use crate::evidence::Evidence;

/// Days in Dhaka begin six hours before those of UTC.
pub(super) const UTC_OFFSET_SECONDS: i64 = 6 * 60 * 60;

/// 1, 2, 6, 7, 15, 16, 17, 23: every step is what the model would have recorded at its place, and every answer is the
/// model's at some moment of its call.
pub(super) fn replay(evidence: &Evidence) -> Vec<Violation> {
    let steps = steps(evidence);
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    audit.judge(&History { calls: evidence.door.clone(), steps });
    // Held against a wrong log, every answer would be wrong.
    let of_the_log = |rule| matches!(rule, Rule::Sequence | Rule::Sums | Rule::Decision | Rule::Lifetime);
    let log_is_wrong = audit.findings().iter().any(|finding| of_the_log(finding.rule));
    let number = |rule| match rule {
        Rule::Sequence => 16,
        Rule::Sums => 1,
        Rule::RealTime => 17,
        Rule::Bytes => 6,
        Rule::NobodyAsked | Rule::Answer | Rule::CurrentState => 7,
        Rule::Reading => 15,
        Rule::Lifetime => 23,
        // Whatever differs from the model shows in what it did to the accounts.
        Rule::Decision => 2,
    };
    audit
        .findings()
        .iter()
        .filter(|finding| !log_is_wrong || of_the_log(finding.rule))
        .map(|finding| Violation::new(number(finding.rule), finding.what.clone()))
        .collect()
}

/// The ledger's log as it is told; up to the first step that cannot be.
pub(super) fn steps(evidence: &Evidence) -> Vec<Step> {
    let ledger = &evidence.ledger;
    let told = ledger.steps.iter().map(|step| Step::try_from(&as_told(step, &ledger.authorizer)));
    told.map_while(Result::ok).collect()
}
