//! The ids of the bank, each a type of its own so that none is handed in where another belongs.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not a lowercase hyphenated UUID.
    #[error("must be a lowercase hyphenated UUID such as 018f4e9a-5b2c-7def-8123-456789abcdef")]
    NotAUuid,
    /// All bits are zero, which is nobody's id.
    #[error("must not be the nil UUID")]
    Nil,
    /// The text is not 64 lowercase hexadecimal digits.
    #[error("must be 64 lowercase hexadecimal digits")]
    NotHex,
}

/// Accepts only the one spelling that `Display` writes, so that one id has one text.
fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    // Of the spellings that a UUID may have, only the hyphenated one is this long.
    if text.len() != Hyphenated::LENGTH || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(IdError::NotAUuid);
    }
    let uuid = Uuid::try_parse(text).map_err(|_| IdError::NotAUuid)?;
    if uuid.is_nil() {
        return Err(IdError::Nil);
    }
    Ok(uuid)
}

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

            /// The UUID inside.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
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

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One transaction, from key press to posting. Minted by the client, once, and kept for ever.
    TransactionId
}
uuid_id! {
    /// One account of the ledger.
    AccountId
}
uuid_id! {
    /// One press of the enter key behind a PIN; retries of it keep the id.
    AttemptId
}

/// Names the ids that are derived from another id or from a name instead of being minted.
///
/// A derived id is a UUIDv5 (RFC 9562 §5.5) in this project's namespace, so that everybody who derives it
/// gets the same one: that is what makes an import that is run twice post nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionIdKind {
    /// The posting that gives a new account its opening balance.
    OpeningBalance,
}

/// UUIDv5 of the DNS name `exactly-once-atm.invalid`; fixed for ever, since ids derive from it.
const NAMESPACE: Uuid = Uuid::from_u128(0xf32b_c163_f1d9_5c8d_8b0c_e3ed_a488_31de);

impl TransactionId {
    /// The id of the one transaction of this `kind` that belongs to `account`.
    pub fn derived(kind: TransactionIdKind, account: AccountId) -> Self {
        let name = match kind {
            TransactionIdKind::OpeningBalance => format!("opening-balance:{account}"),
        };
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

impl AccountId {
    /// The account that carries this customer-facing number, such as `Farhan` or `BD-0042`.
    pub fn of_number(number: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("account:{number}").as_bytes()))
    }

    /// The account of the cash in this machine's cassettes.
    pub fn of_cash(atm_id: &str, currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("cash:{atm_id}:{currency}").as_bytes()))
    }

    /// The account of the notes in this machine's reject bin.
    pub fn of_reject(atm_id: &str, currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("reject:{atm_id}:{currency}").as_bytes()))
    }

    /// The account of the notes in this machine's retract bin.
    pub fn of_retract(atm_id: &str, currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("retract:{atm_id}:{currency}").as_bytes()))
    }

    /// The account of the notes that were paid in at this machine.
    pub fn of_deposit_box(atm_id: &str, currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("deposit-box:{atm_id}:{currency}").as_bytes()))
    }

    /// The account of the bank's vault, from which machines are loaded.
    pub fn of_vault(currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("vault:{currency}").as_bytes()))
    }

    /// The account that opening balances of this currency come from.
    pub fn of_opening_balances(currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("opening-balances:{currency}").as_bytes()))
    }

    /// The account for this machine's money whose fate is not known yet.
    pub fn of_suspense(atm_id: &str, currency: crate::Currency) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("suspense:{atm_id}:{currency}").as_bytes()))
    }
}

/// Who owns a transaction: the SHA-256 of a terminal's secret key, or all zero for the service itself.
///
/// On the wire it is 64 lowercase hexadecimal digits; empty stands for [`TerminalId::SERVICE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TerminalId([u8; 32]);

impl TerminalId {
    /// The holder of the service token itself, with no terminal behind it.
    pub const SERVICE: Self = Self([0; 32]);

    /// Wraps the thirty-two bytes of a SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thirty-two bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The value of each lowercase hexadecimal digit; 16 for every other byte.
const HEX_DIGIT: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

impl fmt::Display for TerminalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TerminalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for TerminalId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Ok(Self::SERVICE);
        }
        let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| IdError::NotHex)?;
        let mut bytes = [0; 32];
        // Every call brings one, so it is read without a branch for each digit.
        let mut worst = 0;
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (HEX_DIGIT[usize::from(pair[0])], HEX_DIGIT[usize::from(pair[1])]);
            worst |= high | low;
            *byte = high << 4 | low;
        }
        if worst < 16 { Ok(Self(bytes)) } else { Err(IdError::NotHex) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_exactly_one_spelling() {
        let text = "018f4e9a-5b2c-7def-8123-456789abcdef";
        assert_eq!(text.parse::<TransactionId>().map(|id| id.to_string()).as_deref(), Ok(text));
        for other in [
            "018F4E9A-5B2C-7DEF-8123-456789ABCDEF",
            "018f4e9a5b2c7def8123456789abcdef",
            "{018f4e9a-5b2c-7def-8123-456789abcdef}",
            "018f4e9a-5b2c-7def-8123-456789abcde",
            "",
            " 018f4e9a-5b2c-7def-8123-456789abcdef",
            "018f4e9a-5b2c-7def-8123_456789abcdef",
            "018f4e9a-5b2c-7def-8123-456789abcdeg",
        ] {
            assert_eq!(other.parse::<TransactionId>(), Err(IdError::NotAUuid), "{other:?}");
        }
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(nil.parse::<TransactionId>(), Err(IdError::Nil));
    }

    #[test]
    fn a_terminal_id_survives_its_text_and_empty_is_the_service() {
        let id = TerminalId::from_bytes([0xa5; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("".parse(), Ok(TerminalId::SERVICE));
        assert_eq!("A5".repeat(32).parse::<TerminalId>(), Err(IdError::NotHex));
        assert_eq!(format!("{}g", "0".repeat(63)).parse::<TerminalId>(), Err(IdError::NotHex));
        assert_eq!("a5".parse::<TerminalId>(), Err(IdError::NotHex));
    }

    #[test]
    fn derived_ids_never_change() {
        let account = AccountId::of_number("Farhan");
        assert_eq!(account, AccountId::of_number("Farhan"));
        assert_ne!(account, AccountId::of_number("farhan"));
        assert_eq!(account.as_uuid().get_version_num(), 5);
        assert_ne!(
            TransactionId::derived(TransactionIdKind::OpeningBalance, account).as_uuid(),
            account.as_uuid()
        );
    }
}
