//! What customers were told of their money, held against the books: 9 and 14.

use std::collections::BTreeMap;

use atm_ledger::storage::Head;
use atm_ledger_core::{Action, Step};
use atm_types::TransactionId;

use super::Violation;
use crate::evidence::{Evidence, Told};

/// What the books have under an id.
#[derive(Clone, Copy, Default)]
struct Booked {
    /// What was posted, in minor units.
    posted: i64,
    /// The first step that posted any of it.
    first: Option<u64>,
    /// Whether the withdrawal was frozen: then a person decides, whatever a customer was told before.
    suspended: bool,
}

/// A receipt is true for ever: "nothing was moved" as well as "it was".
pub(super) fn receipts_are_true(evidence: &Evidence) -> Vec<Violation> {
    let books = booked(&evidence.ledger.steps);
    let of = |id: TransactionId| books.get(&id).copied().unwrap_or_default();
    evidence.told.iter().filter_map(|told| judge(evidence, told, of(told.transaction?))).collect()
}

fn judge(evidence: &Evidence, told: &Told, booked: Booked) -> Option<Violation> {
    let id = told.transaction?;
    let (invariant, wrong) = match told.status.as_str() {
        _ if nothing_happened(told) => {
            (9, booked.posted != 0 && (is_last(evidence, told, id) || was_posted(evidence, told, id, booked)))
        }
        "captured" | "posted" if booked.posted == 0 => (14, true),
        "capture_pending" if booked.posted == 0 => (14, !booked.suspended),
        // What was presented counts as out until the device was asked how much of it was taken.
        "capture_pending" => (9, !booked.suspended && told.amount.is_some_and(|most| booked.posted > most)),
        "captured" | "posted" => (9, told.amount.is_some_and(|amount| amount != booked.posted)),
        "declined" | "cancelled" => {
            let is_final = told.exit == 1 || (told.kind == "cancel" && told.exit == 0);
            (9, is_final && booked.posted != 0)
        }
        _ => (9, false),
    };
    let Booked { posted, .. } = booked;
    let said = format!("{} told a customer that {} {id} is {}", told.machine, told.kind, told.status);
    wrong.then(|| {
        let exit = told.exit;
        let what = format!("{said}, exit {exit}, {:?}, and {posted} is in the books", told.amount);
        Violation::new(invariant, what)
    })
}

/// Whether the exit code promises that nothing was moved: wrong use, not let in, not available. An id that was used for
/// something else is no word about that.
fn nothing_happened(told: &Told) -> bool {
    matches!(told.exit, 2 | 4 | 5) && told.reason.as_deref() != Some("id_reused")
}

/// Whether nobody pressed a key for this transaction again: these exit codes speak of one key press, and the same id may
/// begin again.
fn is_last(evidence: &Evidence, told: &Told, id: TransactionId) -> bool {
    evidence.pressed.iter().all(|pressed| pressed.transaction != id || pressed.at <= told.at)
}

/// Whether the books had it already when the key was pressed.
fn was_posted(evidence: &Evidence, told: &Told, id: TransactionId, booked: Booked) -> bool {
    let presses = evidence.pressed.iter().filter(|press| press.transaction == id && press.at <= told.at);
    let began = presses.map(|press| press.at).max();
    let posted = |head: &Head| booked.first.is_some_and(|first| head.sequence >= first);
    let seen = evidence.ledger.heads.iter().find(|(_, head)| posted(head)).map(|(at, _)| *at);
    seen.zip(began).is_some_and(|(seen, began)| seen < began)
}

fn booked(steps: &[Step]) -> BTreeMap<TransactionId, Booked> {
    let mut books: BTreeMap<TransactionId, Booked> = BTreeMap::new();
    for step in steps {
        let entry = books.entry(step.id).or_default();
        match &step.action {
            Action::Post { transfer, .. }
            | Action::Capture { transfer, .. }
            | Action::CaptureLate { transfer, .. }
            | Action::Resolve { transfer, .. } => {
                entry.posted += transfer.amount;
                entry.first.get_or_insert(step.commit_sequence);
            }
            Action::Suspend { .. } => entry.suspended = true,
            Action::OpenAccount(_)
            | Action::Hold { .. }
            | Action::Decline { .. }
            | Action::Tombstone
            | Action::Cancel { .. }
            | Action::Expire { .. } => {}
        }
    }
    books
}
