//! 22: no PIN, card number, token, key or pepper is written down anywhere.

use super::Violation;
use crate::evidence::Evidence;

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
    let mut found = Vec::new();
    for (place, text) in &texts {
        for secret in evidence.secrets.iter().filter(|secret| contains(text, &secret.text)) {
            found.push(Violation::new(22, format!("{} is in {place}", secret.what)));
        }
    }
    found
}

/// Whether the text has the secret as a word of its own: five digits are easily a part of a number.
fn contains(text: &str, secret: &str) -> bool {
    let word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    text.match_indices(secret).any(|(at, found)| {
        !word(text[..at].chars().next_back()) && !word(text[at + found.len()..].chars().next())
    })
}
