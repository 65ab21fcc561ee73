//! PINs and sessions: 19, 20 and 21.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atm_auth::domain::REMEMBERED;
use atm_proto::gateway::{LogInRequest, LogInResponse};
use prost::Message;

use super::Violation;
use super::decode::{answer, token_of};
use crate::evidence::{AttemptRow, AttemptSummary, Evidence, LogLine};
use crate::world::TICK;

/// So many wrong PINs in a row are verified at most.
const MOST: usize = 3;

/// What happened to a card, in the order of time.
struct Card<'a> {
    /// Attempts with a wrong PIN, those that locked included.
    wrong: Vec<&'a AttemptRow>,
    /// When the count began anew.
    resets: Vec<Duration>,
}

fn cards(evidence: &Evidence) -> BTreeMap<String, Card<'_>> {
    let mut cards: BTreeMap<String, Card<'_>> = BTreeMap::new();
    for card in &evidence.auth.cards {
        cards.insert(card.last_four.to_string(), Card { wrong: Vec::new(), resets: Vec::new() });
    }
    for row in &evidence.auth.attempts {
        let Some(card) = row.attempt.last_four.as_deref().and_then(|four| cards.get_mut(four)) else {
            continue;
        };
        match row.attempt.outcome {
            "wrong" | "locked" => card.wrong.push(row),
            "opened" | "changed" => card.resets.push(row.seen),
            _ => {}
        }
    }
    for change in evidence.auth.counts.iter().filter(|change| change.wrong_pins == 0) {
        if let Some(card) = cards.get_mut(change.last_four.as_str()) {
            card.resets.push(change.at);
        }
    }
    // An operator's order may come in the same moment as the next wrong PIN, and then no count of 0 is seen.
    let unblocked =
        |line: &&LogLine| line.target == "atm_auth::cards" && line.text.contains("unblocked a card");
    for line in evidence.log.iter().filter(unblocked) {
        let ours = |four: &str| line.text.chars().rev().take(4).eq(four.chars().rev().take(4));
        let resets = cards.iter_mut().filter(|(four, _)| ours(four)).map(|(_, card)| &mut card.resets);
        resets.for_each(|resets| resets.push(seen(line.at)));
    }
    for card in cards.values_mut() {
        card.resets.sort_unstable();
    }
    cards
}

/// When what happened at this time is read from the disks: after its tick.
fn seen(at: Duration) -> Duration {
    let ticks = at.as_nanos() / TICK.as_nanos() + 1;
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

impl Card<'_> {
    /// How many distinct wrong attempts there were since the last reset at `until`: at least and at most, since what
    /// was seen in the same moment as the reset may have come before or after it, and since auth forgets an attempt
    /// when its clock is set wrong by a minute.
    fn count(&self, until: Duration) -> (usize, usize) {
        let reset = self.resets.iter().rev().find(|reset| **reset <= until).copied();
        let rows = |since: &dyn Fn(Duration) -> bool| -> Vec<&AttemptSummary> {
            let rows = self.wrong.iter().filter(|row| row.seen <= until && since(row.seen));
            rows.map(|row| &row.attempt).collect()
        };
        let (least, most) = match reset {
            None => (rows(&|_| true), rows(&|_| true)),
            Some(reset) => (rows(&|seen| seen > reset), rows(&|seen| seen >= reset)),
        };
        let distinct: BTreeSet<_> = least.iter().map(|attempt| &attempt.attempt_id).collect();
        (distinct.len(), most.len() - remembered(&most))
    }
}

/// How many of the attempts were repeats that auth should have known.
fn remembered(attempts: &[&AttemptSummary]) -> usize {
    let is_known = |(index, attempt): (usize, &&AttemptSummary)| {
        attempts[..index].iter().any(|before| {
            before.attempt_id == attempt.attempt_id
                && attempt.time.saturating_since(before.time) < REMEMBERED
                && before.time.saturating_since(attempt.time) < REMEMBERED
        })
    };
    attempts.iter().enumerate().filter(|attempt| is_known(*attempt)).count()
}

/// 19: at most three wrong PINs are verified between resets.
pub(super) fn lockout(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (last_four, card) in cards(evidence) {
        for row in &card.wrong {
            let (least, _) = card.count(row.seen);
            if least > MOST {
                let what = format!(
                    "attempt {} was wrong PIN number {least} of card …{last_four}",
                    row.attempt.attempt_id
                );
                found.push(Violation::new(19, what));
            }
        }
    }
    found
}

/// 20: so many distinct wrong attempts count exactly so much, and nobody is told of one that was not counted.
pub(super) fn counts(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let cards = cards(evidence);
    for stored in &evidence.auth.cards {
        let Some(card) = cards.get(&stored.last_four.to_string()) else { continue };
        let (least, most) = card.count(Duration::MAX);
        let count = usize::from(stored.wrong_pins.count());
        if count < least.min(MOST) || count > most.min(MOST) {
            let what = format!(
                "card …{} has {count} wrong PINs, and {least} to {most} were entered",
                stored.last_four
            );
            found.push(Violation::new(20, what));
        }
    }
    for change in &evidence.auth.counts {
        let Some(card) = cards.get(change.last_four.as_str()) else { continue };
        let (least, most) = card.count(change.at);
        let count = usize::from(change.wrong_pins);
        if count < least.min(MOST) || count > most {
            let what =
                format!("card …{} counted {count} when {least} to {most} were entered", change.last_four);
            found.push(Violation::new(20, what));
        }
    }
    let rows: BTreeSet<&str> =
        evidence.auth.attempts.iter().map(|row| row.attempt.attempt_id.as_str()).collect();
    for call in evidence.calls.iter().filter(|call| call.method == "LogIn") {
        let Some((_, Err(status))) = &call.answer else { continue };
        let Ok(request) = LogInRequest::decode(&call.request[..]) else { continue };
        if status.code == tonic::Code::Unauthenticated && !rows.contains(request.attempt_id.as_str()) {
            let what = format!("attempt {} was told to be wrong and is not recorded", request.attempt_id);
            found.push(Violation::new(20, what));
        }
    }
    found
}

/// 21: a session works at the machine that it was opened at, and not after its log-out.
pub(super) fn sessions(evidence: &Evidence) -> Vec<Violation> {
    let mut opened: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for call in evidence.calls.iter().filter(|call| call.method == "LogIn") {
        if let Some(session) = answer::<LogInResponse>(call) {
            opened.entry(session.session_token).or_default().insert(&call.caller);
        }
    }
    let mut ended: BTreeMap<String, Duration> = BTreeMap::new();
    for call in evidence.calls.iter().filter(|call| call.method == "LogOut") {
        if let (Some((at, Ok(_))), Some(session)) = (&call.answer, &call.session) {
            ended.entry(token_of(session).to_owned()).or_insert(*at);
        }
    }
    let mut found = Vec::new();
    for call in evidence.calls.iter().filter(|call| call.method != "LogOut") {
        let (Some((_, Ok(_))), Some(session)) = (&call.answer, &call.session) else { continue };
        let session = token_of(session);
        if ended.get(session).is_some_and(|at| *at < call.began) {
            found.push(Violation::new(
                21,
                format!("{} by {} worked after the log-out", call.method, call.caller),
            ));
        }
        if opened.get(session).is_some_and(|at| !at.contains(call.caller.as_str())) {
            found.push(Violation::new(
                21,
                format!("{} by {} worked with another's session", call.method, call.caller),
            ));
        }
    }
    found
}
