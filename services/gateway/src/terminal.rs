//! Who is calling: a terminal is known by the SHA-256 of its secret key, and a machine by its name.

use std::fmt;
use std::str::FromStr;

use atm_types::TerminalId;
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;

use crate::failure::Failure;

/// The metadata with the terminal's key: 64 lowercase hexadecimal digits.
pub const TERMINAL_KEY: &str = "atm-terminal-key";
/// The metadata with the machine's name. A session names it too; without one it is only a hint.
pub const ATM_ID: &str = "atm-id";

/// What [`AtmId`] must look like, completing the sentence "`atm_id` …".
pub const ATM_ID_RULE: &str = "must be 1 to 32 characters of A-Z a-z 0-9 . _ -";

/// The name of a machine: 1 to 32 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtmId(String);

impl AtmId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AtmId {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Failure::invalid("atm_id", ATM_ID_RULE))
        }
    }
}

impl fmt::Display for AtmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The terminal behind a call.
///
/// # Errors
/// [`Failure::TerminalKeyRequired`] unless there is exactly one well-formed key.
pub fn terminal(metadata: &MetadataMap) -> Result<TerminalId, Failure> {
    let text = single(metadata, TERMINAL_KEY).ok_or(Failure::TerminalKeyRequired)?;
    if text.len() != 64 {
        return Err(Failure::TerminalKeyRequired);
    }
    // A key is written exactly like a terminal id, so the same parser reads its bytes.
    let key: TerminalId = text.parse().map_err(|_| Failure::TerminalKeyRequired)?;
    Ok(TerminalId::from_bytes(Sha256::digest(key.as_bytes()).into()))
}

/// The machine that a call says it comes from, if it says so.
///
/// # Errors
/// [`Failure::Invalid`] when it is named twice or not by a name.
pub fn atm_id(metadata: &MetadataMap) -> Result<Option<AtmId>, Failure> {
    if metadata.get(ATM_ID).is_none() {
        return Ok(None);
    }
    let text = single(metadata, ATM_ID).ok_or_else(|| Failure::invalid(ATM_ID, ATM_ID_RULE))?;
    text.parse().map(Some).map_err(|_| Failure::invalid(ATM_ID, ATM_ID_RULE))
}

/// The value of a key that is there exactly once, in visible ASCII.
pub(crate) fn single<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    let mut values = metadata.get_all(key).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(values: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in values {
            metadata.append(*key, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn a_terminal_is_the_hash_of_its_keys_bytes() {
        // SHA-256 of thirty-two zero bytes.
        let id = terminal(&metadata(&[(TERMINAL_KEY, &"00".repeat(32))])).unwrap();
        assert_eq!(id.to_string(), "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925");
    }

    #[test]
    fn a_key_that_is_missing_malformed_or_given_twice_is_none() {
        let good = "ab".repeat(32);
        let upper = "AB".repeat(32);
        for values in [
            &[][..],
            &[(TERMINAL_KEY, "")],
            &[(TERMINAL_KEY, "ab")],
            &[(TERMINAL_KEY, upper.as_str())],
            &[(TERMINAL_KEY, &good[1..])],
            &[(TERMINAL_KEY, good.as_str()), (TERMINAL_KEY, good.as_str())],
        ] {
            assert_eq!(terminal(&metadata(values)), Err(Failure::TerminalKeyRequired), "{values:?}");
        }
    }

    #[test]
    fn a_machine_is_named_by_plain_characters() {
        assert_eq!(atm_id(&metadata(&[])), Ok(None));
        let named = atm_id(&metadata(&[(ATM_ID, "ATM-0042")])).unwrap().unwrap();
        assert_eq!(named.as_str(), "ATM-0042");
        for bad in ["", "a b", "a/b", &"x".repeat(33), "a\tb"] {
            assert!(matches!(atm_id(&metadata(&[(ATM_ID, bad)])), Err(Failure::Invalid { .. })), "{bad:?}");
        }
    }
}
