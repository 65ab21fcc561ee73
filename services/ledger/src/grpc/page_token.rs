//! Page tokens of a statement: where the next page begins, signed for one account, so that nobody can point
//! the ledger at another account's entries and nothing garbled is taken for a place.

use atm_ledger_core::EntryRef;
use atm_types::{AccountId, TransactionId};

use super::status::{FOREIGN_TOKEN, Malformed};
use crate::authorization::Authorizer;

const VERSION: u8 = 1;
const PLACE_BYTES: usize = 1 + 16 + 1 + 1;
const DOMAIN: &[u8] = b"atm.ledger.v1 page token\0";

/// The token for the page of `account` that begins with `entry`.
pub(super) fn write(account: AccountId, entry: EntryRef, authorizer: &Authorizer) -> String {
    let mut place = [0; PLACE_BYTES];
    place[0] = VERSION;
    place[1..17].copy_from_slice(entry.id.as_bytes());
    place[17] = entry.ordinal;
    place[18] = entry.leg;
    let tag = authorizer.tag(DOMAIN, &[account.as_bytes(), &place]);
    hex::encode(place) + &hex::encode(tag)
}

/// Reads a token back; the empty one begins with the newest entry.
pub(super) fn read(
    account: AccountId,
    token: &str,
    authorizer: &Authorizer,
) -> Result<Option<EntryRef>, Malformed> {
    if token.is_empty() {
        return Ok(None);
    }
    let garbled = Malformed::new("page_token", FOREIGN_TOKEN);
    let mut bytes = [0; PLACE_BYTES + 16];
    hex::decode_to_slice(token, &mut bytes).map_err(|_| garbled.clone())?;
    let (place, tag) = bytes.split_at(PLACE_BYTES);
    let expected = authorizer.tag(DOMAIN, &[account.as_bytes(), place]);
    let genuine: bool = subtle::ConstantTimeEq::ct_eq(tag, &expected[..]).into();
    let mut id = [0; 16];
    id.copy_from_slice(&place[1..17]);
    match (genuine, place[0]) {
        (true, VERSION) => {
            Ok(Some(EntryRef { id: TransactionId::from_bytes(id), ordinal: place[17], leg: place[18] }))
        }
        _ => Err(garbled),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);

    fn authorizer() -> Authorizer {
        Authorizer::new(&[5; 32])
    }

    #[test]
    fn a_token_leads_back_to_its_entry_and_works_for_its_account_only() {
        for leg in 0..3 {
            let entry = EntryRef { id: TransactionId::from_bytes([7; 16]), ordinal: 2, leg };
            let token = write(ACCOUNT, entry, &authorizer());
            assert_eq!(read(ACCOUNT, &token, &authorizer()), Ok(Some(entry)));
            assert!(read(AccountId::from_bytes([2; 16]), &token, &authorizer()).is_err());
            assert!(read(ACCOUNT, &token, &Authorizer::new(&[6; 32])).is_err());
            assert!(read(ACCOUNT, &token[1..], &authorizer()).is_err());
        }
        assert_eq!(read(ACCOUNT, "", &authorizer()), Ok(None));
    }

    proptest! {
        #[test]
        fn a_garbled_token_names_its_field(token in "[0-9a-f]{70}|\\PC+") {
            let error = read(ACCOUNT, &token, &authorizer()).unwrap_err();
            prop_assert_eq!(error.field, "page_token");
        }
    }
}
