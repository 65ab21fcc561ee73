//! Accounts as rows, each with a checksum: totals are answered from a row without a replay, so a flipped bit
//! must not go unnoticed.

use atm_ledger_core::{Account, AccountTerms, EntryRef, Totals, Withdrawn};
use atm_types::{AccountId, Timestamp, TransactionId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use super::super::StoreError;
use super::rows::{blob, collect, integer, limit_of, misshapen, text};
use super::unreadable;
use crate::codec::{account_kind_number, account_kind_of};

/// All columns, in the order of the table.
macro_rules! columns {
    () => {
        "account_id, kind, currency, number, holder_name, overdraft_limit, daily_withdrawal_limit, \
         create_time, debits_posted, credits_posted, debits_pending, credits_pending, withdrawn_day, \
         withdrawn_amount, newest_entry, checksum"
    };
}

pub(super) fn read(connection: &Connection, id: AccountId) -> Result<Option<Account>, StoreError> {
    connection
        .prepare_cached(concat!("SELECT ", columns!(), " FROM account WHERE account_id = ?1"))
        .and_then(|mut select| select.query_row([id.as_bytes()], |row| Ok(account(row))).optional())
        .map_err(unreadable)?
        .transpose()
}

pub(super) fn read_after(
    connection: &Connection,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Account>, StoreError> {
    let sql =
        concat!("SELECT ", columns!(), " FROM account WHERE account_id > ?1 ORDER BY account_id LIMIT ?2");
    // No blob sorts before the empty one.
    let after = after.as_ref().map_or(&[][..], |after| after.as_bytes());
    collect(connection, sql, params![after, limit_of(limit)], account)
}

/// The statement for [`write`].
pub(super) fn prepare_write(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(concat!(
        "INSERT OR REPLACE INTO account (",
        columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
    ))
}

pub(super) fn write(insert: &mut CachedStatement<'_>, account: &Account) -> rusqlite::Result<()> {
    let Account { terms, create_time, totals, withdrawn, newest_entry } = account;
    insert.execute(params![
        terms.account_id.as_bytes(),
        account_kind_number(terms.kind),
        terms.currency.code(),
        terms.number,
        terms.holder_name,
        terms.overdraft_limit,
        terms.daily_withdrawal_limit,
        create_time.as_nanos(),
        totals.debits_posted,
        totals.credits_posted,
        totals.debits_pending,
        totals.credits_pending,
        withdrawn.day,
        withdrawn.amount,
        entry_bytes(*newest_entry).as_ref().map_or(&[][..], |bytes| &bytes[..]),
        checksum(account),
    ])?;
    Ok(())
}

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    let id = blob(row, 0)?.try_into().map_err(|_| misshapen(row, 0))?;
    let kind = u32::try_from(integer(row, 1)?).ok().and_then(account_kind_of);
    let account = Account {
        terms: AccountTerms {
            account_id: AccountId::from_bytes(id),
            kind: kind.ok_or_else(|| misshapen(row, 1))?,
            currency: text(row, 2)?.parse().map_err(|_| misshapen(row, 2))?,
            number: text(row, 3)?.into(),
            holder_name: text(row, 4)?.into(),
            overdraft_limit: integer(row, 5)?,
            daily_withdrawal_limit: integer(row, 6)?,
        },
        create_time: Timestamp::from_nanos(integer(row, 7)?),
        totals: Totals {
            debits_posted: integer(row, 8)?,
            credits_posted: integer(row, 9)?,
            debits_pending: integer(row, 10)?,
            credits_pending: integer(row, 11)?,
        },
        withdrawn: Withdrawn {
            day: i32::try_from(integer(row, 12)?).map_err(|_| misshapen(row, 12))?,
            amount: integer(row, 13)?,
        },
        newest_entry: entry(row, 14)?,
    };
    if integer(row, 15)? != checksum(&account) {
        let id = account.terms.account_id;
        return Err(StoreError::damaged(format!("the row of account {id} does not match its checksum")));
    }
    Ok(account)
}

/// The first 8 bytes of a SHA-256 over all fields, each of fixed length or after its length.
fn checksum(account: &Account) -> i64 {
    let Account { terms, create_time, totals, withdrawn, newest_entry } = account;
    let mut hash = Sha256::new();
    hash.update(terms.account_id.as_bytes());
    hash.update(account_kind_number(terms.kind).to_be_bytes());
    for text in [terms.currency.code(), &terms.number, &terms.holder_name] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    for number in [
        terms.overdraft_limit,
        terms.daily_withdrawal_limit,
        create_time.as_nanos(),
        totals.debits_posted,
        totals.credits_posted,
        totals.debits_pending,
        totals.credits_pending,
        i64::from(withdrawn.day),
        withdrawn.amount,
    ] {
        hash.update(number.to_be_bytes());
    }
    hash.update(entry_bytes(*newest_entry).unwrap_or_default());
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn entry_bytes(entry: Option<EntryRef>) -> Option<[u8; 18]> {
    let entry = entry?;
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(entry.id.as_bytes());
    bytes[16] = entry.ordinal;
    bytes[17] = entry.leg;
    Some(bytes)
}

fn entry(row: &Row<'_>, index: usize) -> Result<Option<EntryRef>, StoreError> {
    let bytes = blob(row, index)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let [id @ .., ordinal, leg]: [u8; 18] = bytes.try_into().map_err(|_| misshapen(row, index))?;
    Ok(Some(EntryRef { id: TransactionId::from_bytes(id), ordinal, leg }))
}
