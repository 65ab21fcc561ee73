//! 20: only the PIN that was set last is right, and a change of PIN is made once, and is on the disk before it is told.

use std::collections::{BTreeMap, BTreeSet};

use atm_auth::domain::REMEMBERED;
use atm_proto::gateway::{ChangePinRequest, ChangePinResponse, LogInRequest};
use prost::Message;

use super::Violation;
use super::decode::answer;
use crate::evidence::{AttemptRow, Evidence};
use crate::plan::CUSTOMERS;

/// What was typed in an attempt.
struct Typed {
    pin: String,
    new_pin: Option<String>,
}

fn typed(evidence: &Evidence) -> BTreeMap<String, Typed> {
    let read = |call: &crate::evidence::Call| match call.method {
        "LogIn" => {
            let request = LogInRequest::decode(&call.request[..]).ok()?;
            Some((request.attempt_id, Typed { pin: request.pin, new_pin: None }))
        }
        "ChangePin" => {
            let request = ChangePinRequest::decode(&call.request[..]).ok()?;
            let ChangePinRequest { attempt_id, old_pin, new_pin } = request;
            Some((attempt_id, Typed { pin: old_pin, new_pin: Some(new_pin) }))
        }
        _ => None,
    };
    evidence.calls.iter().filter_map(read).collect()
}

/// See the module.
pub(super) fn right_pins(evidence: &Evidence) -> Vec<Violation> {
    let typed = typed(evidence);
    let mut found = Vec::new();
    for who in &CUSTOMERS {
        let last_four: String = who.card.chars().skip(who.card.len() - 4).collect();
        let ours = |row: &&AttemptRow| {
            row.attempt.last_four.as_ref().is_some_and(|shown| shown.ends_with(&last_four))
        };
        let rows: Vec<&AttemptRow> = evidence.auth.attempts.iter().filter(ours).collect();
        found.extend(judge(who.pin, &rows, &typed));
        found.extend(made_again(&rows));
    }
    found.extend(told(evidence));
    found
}

/// Follows the PIN of one card. What was seen at the end of the same tick may have happened in any order.
fn judge(issued: &str, rows: &[&AttemptRow], typed: &BTreeMap<String, Typed>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut current = BTreeSet::from([issued.to_owned()]);
    for rows in rows.chunk_by(|one, next| one.seen == next.seen) {
        // The auditor's attempts are none of the machines'; he judges them himself. Once he has changed the PIN, a late
        // copy of a machine's attempt may well be wrong.
        if rows
            .iter()
            .any(|row| row.attempt.outcome == "changed" && !typed.contains_key(&row.attempt.attempt_id))
        {
            break;
        }
        let known = rows.iter().filter_map(|row| Some((*row, typed.get(&row.attempt.attempt_id)?)));
        let known: Vec<(&AttemptRow, &Typed)> = known.collect();
        let changed = known.iter().filter(|(row, _)| row.attempt.outcome == "changed");
        let set: BTreeSet<String> = changed.filter_map(|(_, typed)| typed.new_pin.clone()).collect();
        let possible = &current | &set;
        for (row, typed) in known {
            let right = possible.contains(&typed.pin);
            let only = right && possible.len() == 1;
            let wrong = match row.attempt.outcome {
                "opened" | "changed" | "blocked" => !right,
                _ => only,
            };
            if wrong {
                let (id, outcome) = (&row.attempt.attempt_id, row.attempt.outcome);
                let was = if right { "the PIN that was set last" } else { "another PIN" };
                found.push(Violation::new(20, format!("attempt {id} with {was} came to {outcome}")));
            }
        }
        if !set.is_empty() {
            current = set;
        }
    }
    found
}

/// A change that auth still remembered is not tried again.
fn made_again(rows: &[&AttemptRow]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let (attempt, earlier) = (&row.attempt, &rows[..index]);
        let again = earlier.iter().map(|row| &row.attempt).any(|before| {
            before.outcome == "changed"
                && before.attempt_id == attempt.attempt_id
                && attempt.time.saturating_since(before.time) < REMEMBERED
                && before.time.saturating_since(attempt.time) < REMEMBERED
        });
        if again {
            let what =
                format!("the change of PIN {} was tried again: {}", attempt.attempt_id, attempt.outcome);
            found.push(Violation::new(20, what));
        }
    }
    found
}

/// Whoever is told that a PIN is changed, or that the old one was wrong, is told what is on the disk.
fn told(evidence: &Evidence) -> Vec<Violation> {
    let recorded: BTreeSet<(&str, bool)> = evidence
        .auth
        .attempts
        .iter()
        .map(|row| (row.attempt.attempt_id.as_str(), row.attempt.outcome == "changed"))
        .collect();
    let mut found = Vec::new();
    for call in evidence.calls.iter().filter(|call| call.method == "ChangePin") {
        let Ok(request) = ChangePinRequest::decode(&call.request[..]) else { continue };
        let refused = call.answer.as_ref().and_then(|(_, answer)| answer.as_ref().err());
        let wrong = refused.is_some_and(|status| status.reason.as_deref() == Some("WRONG_CARD_OR_PIN"));
        let changed = answer::<ChangePinResponse>(call).is_some();
        let id = request.attempt_id.as_str();
        if changed && !recorded.contains(&(id, true)) {
            found.push(Violation::new(20, format!("the change of PIN {id} was told and is not recorded")));
        }
        if wrong && !recorded.contains(&(id, false)) {
            found.push(Violation::new(20, format!("attempt {id} was told to be wrong and is not recorded")));
        }
    }
    found
}
