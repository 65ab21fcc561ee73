//! The ids of this service. A card number is none of them: outside [`super::CardNumber`] a card is known by
//! its [`NumberKey`] (in storage) and its [`CardId`] (everywhere else).

use std::fmt;
use std::str::FromStr;

use atm_types::{AttemptId, IdError};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Wraps the sixteen bytes of a UUID, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes, most significant first.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Accepts the one spelling that `Display` writes, by the rule that all ids of the bank share.
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse::<AttemptId>().map(|id| Self(id.as_uuid()))
            }
        }
    };
}

uuid_id! {
    /// Stands for a card in logs, tokens and revocations; made at random when the card is issued.
    CardId
}
uuid_id! {
    /// One session.
    SessionId
}
uuid_id! {
    /// One start of a machine.
    BootId
}
uuid_id! {
    /// One order of an operator.
    OrderId
}

/// Stands for a card number in storage: an HMAC-SHA-256 under a key that only holders of the pepper can
/// derive, so that a stolen database cannot be searched by trying card numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberKey([u8; 32]);

impl NumberKey {
    /// Wraps the thirty-two bytes of the HMAC.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thirty-two bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NumberKey {
    /// Eight digits are enough to tell two apart in a failed test.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NumberKey({}…)", hex::encode(&self.0[..4]))
    }
}

/// Why a text is not the id of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 characters of A-Z a-z 0-9 . _ -")]
pub struct AtmIdError;

/// The name of a machine: 1 to 32 characters of `A-Z a-z 0-9 . _ -`, so that it can stand in a log line or in
/// JSON without any escaping.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtmId(String);

impl AtmId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AtmId {
    type Err = AtmIdError;

    fn from_str(text: &str) -> Result<Self, AtmIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AtmIdError)
        }
    }
}

impl fmt::Display for AtmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for AtmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_machine_is_named_by_plain_characters_only() {
        for good in ["ATM-0042", "a", "A.b_c-9", &"x".repeat(32)] {
            assert_eq!(good.parse::<AtmId>().map(|id| id.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", &"x".repeat(33), "a b", "a\nb", "a\"b", "é", "a/b", "\0"] {
            assert_eq!(bad.parse::<AtmId>(), Err(AtmIdError), "{bad:?}");
        }
    }

    #[test]
    fn a_card_id_has_one_spelling() {
        let text = "018f4e9a-5b2c-7def-8123-456789abcdef";
        assert_eq!(text.parse::<CardId>().map(|id| id.to_string()).as_deref(), Ok(text));
        assert_eq!(text.to_uppercase().parse::<CardId>(), Err(IdError::NotAUuid));
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<SessionId>(), Err(IdError::Nil));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_as_a_machine_needs_no_escaping(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<AtmId>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'));
            }
        }
    }
}
