//! Kinds, currencies, ids and places of entries as the numbers that stand for them on storage; all of them for ever.

use atm_ledger_core::{AccountKind, EntryRef};
use atm_types::{AccountId, Currency, TerminalId, TransactionId};

use super::DecodeError;

/// The number that stands for a kind of account on storage; for ever.
pub(crate) const fn account_kind_number(kind: AccountKind) -> u32 {
    match kind {
        AccountKind::Customer => 1,
        AccountKind::Cash => 2,
        AccountKind::Suspense => 3,
        AccountKind::OpeningBalance => 4,
    }
}

/// The kind of account that a number stands for.
pub(crate) const fn account_kind_of(number: u32) -> Option<AccountKind> {
    match number {
        1 => Some(AccountKind::Customer),
        2 => Some(AccountKind::Cash),
        3 => Some(AccountKind::Suspense),
        4 => Some(AccountKind::OpeningBalance),
        _ => None,
    }
}

pub(super) fn currency_number(currency: Currency) -> u32 {
    currency.code().bytes().fold(0, |number, letter| number << 8 | u32::from(letter))
}

pub(super) fn currency_of(number: u32) -> Result<Currency, DecodeError> {
    let [zero, letters @ ..] = number.to_be_bytes();
    let code = std::str::from_utf8(&letters).ok().filter(|_| zero == 0);
    code.and_then(|code| code.parse().ok()).ok_or(DecodeError("its currency is not known"))
}

pub(super) fn account_of(high: u64, low: u64) -> AccountId {
    AccountId::from_uuid(uuid::Uuid::from_u64_pair(high, low))
}

/// How many entries the first two legs of all ordinals make.
const FIRST_LEGS: u32 = 2 * 256;

/// An entry as a number and the two halves of its transaction's id. The number is 0 when there is no entry;
/// 1 + 2 × ordinal + leg on the first two legs, which were all there was once; and 513 + ordinal on the third,
/// with another 256 for each leg after it.
pub(super) fn entry_numbers(entry: Option<EntryRef>) -> (u32, u64, u64) {
    let Some(entry) = entry else { return (0, 0, 0) };
    let (high, low) = entry.id.as_uuid().as_u64_pair();
    let (ordinal, leg) = (u32::from(entry.ordinal), u32::from(entry.leg));
    let place = if leg < 2 { 2 * ordinal + leg } else { FIRST_LEGS + 256 * (leg - 2) + ordinal };
    (1 + place, high, low)
}

pub(super) fn entry_of(place: u32, high: u64, low: u64) -> Result<Option<EntryRef>, DecodeError> {
    let Some(place) = place.checked_sub(1) else { return Ok(None) };
    let (ordinal, leg) = match place.checked_sub(FIRST_LEGS) {
        None => (place / 2, place % 2),
        Some(place) => (place % 256, 2 + place / 256),
    };
    let byte =
        |number: u32| u8::try_from(number).map_err(|_| DecodeError("the entry before it is not known"));
    let id = TransactionId::from_uuid(uuid::Uuid::from_u64_pair(high, low));
    Ok(Some(EntryRef { id, ordinal: byte(ordinal)?, leg: byte(leg)? }))
}

pub(super) fn terminal_words(terminal: TerminalId) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(terminal.as_bytes().as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

pub(super) fn terminal_of(words: [u64; 4]) -> TerminalId {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_be_bytes();
    }
    TerminalId::from_bytes(bytes)
}
