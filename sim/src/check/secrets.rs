//! 22: no PIN, card number, token, key or pepper is written down anywhere.

use std::collections::BTreeSet;

use super::Violation;
use super::decode::token_of;
use crate::evidence::{Evidence, Secret};

/// See the module.
pub(super) fn nowhere(evidence: &Evidence) -> Vec<Violation> {
    let mut texts: Vec<(String, String)> = evidence
        .log
        .iter()
        .map(|line| (format!("a log line of {}", line.target), line.text.clone()))
        .collect();
    for machine in &evidence.machines {
        let journal = &machine.journal;
        texts.extend(journal.records.iter().map(|r| {
            (
                format!("the journal of {}", machine.name),
                format!("{} {:?} {:?}", r.last_four, r.reason, r.to_account),
            )
        }));
        texts.extend(
            journal.steps.iter().map(|s| {
                (format!("the journal of {}", machine.name), format!("{} {:?}", s.subject, s.reason))
            }),
        );
    }
    texts.extend(
        evidence.told.iter().map(|told| {
            ("what a customer was told".to_owned(), format!("{} {:?}", told.status, told.reason))
        }),
    );
    let sessions = sessions(evidence);
    let secrets: Vec<&Secret> = evidence.secrets.iter().chain(&sessions).collect();
    let mut found = Vec::new();
    for (place, text) in &texts {
        for secret in secrets.iter().filter(|secret| contains(text, &secret.text)) {
            found.push(Violation::new(22, format!("{} is in {place}", secret.what)));
        }
    }
    found
}

/// The tokens of all sessions that were used.
fn sessions(evidence: &Evidence) -> Vec<Secret> {
    let tokens: BTreeSet<&str> =
        evidence.calls.iter().filter_map(|call| call.session.as_deref()).map(token_of).collect();
    tokens
        .into_iter()
        .map(|text| Secret { what: "a session's token".to_owned(), text: text.to_owned() })
        .collect()
}

/// Whether the text has the secret as a word of its own: five digits are easily a part of a number.
fn contains(text: &str, secret: &str) -> bool {
    let word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    text.match_indices(secret).any(|(at, found)| {
        !word(text[..at].chars().next_back()) && !word(text[at + found.len()..].chars().next())
    })
}
