//! What is read from which table, and written to it: each function is one or two statements.

use atm_types::{AccountId, AttemptId, TerminalId, Timestamp};
use rusqlite::types::{FromSql, Value};
use rusqlite::{Row, params};

use super::checksums::{
    ATTEMPTS, CARDS, CheckedRows, META, ORDERS, REVOCATIONS, SESSIONS, TERMINALS, UNKNOWN_NUMBERS,
};
use super::sqlite::statement_failed;
use super::{Expiry, Meta, Rows, StorageError};
use crate::domain::{
    AtmId, Attempt, BootId, BootMark, Card, CardId, DoneOrder, HashCost, LastFour, NumberKey, Order, OrderId,
    Outcome, PinHash, Revocation, RevocationTarget, Session, SessionId, Tag, Terminal, WrongPins,
};

/// The row of `meta` that says how many transactions changed anything.
const TRANSACTIONS: &str = "transactions";

/// Counts a transaction, and says which one it is.
pub(super) fn count_one(rows: &CheckedRows<'_>) -> Result<u64, StorageError> {
    let count = transactions(rows)? + 1;
    rows.put(&META, &[text(TRANSACTIONS), blob(&count.to_be_bytes())])?;
    Ok(count)
}

/// How many transactions changed anything; none before they were counted.
pub(super) fn transactions(rows: &CheckedRows<'_>) -> Result<u64, StorageError> {
    let found = rows.select(&META, "WHERE name = ?1", [TRANSACTIONS], |row| column(row, 1))?;
    Ok(found.into_iter().next().map(u64::from_be_bytes).unwrap_or_default())
}

impl Rows for CheckedRows<'_> {
    fn has_room(&self) -> bool {
        self.has_room
    }

    fn meta(&mut self, name: Meta) -> Result<Option<Vec<u8>>, StorageError> {
        let found = self.select(&META, "WHERE name = ?1", [meta_name(name)], |row| get(row, 1))?;
        Ok(found.into_iter().next())
    }

    fn put_meta(&mut self, name: Meta, value: &[u8]) -> Result<(), StorageError> {
        self.put(&META, &[text(meta_name(name)), blob(value)])
    }

    fn card(&mut self, key: &NumberKey) -> Result<Option<Card>, StorageError> {
        let found = self.select(&CARDS, "WHERE number_key = ?1", [key.as_bytes()], read_card)?;
        Ok(found.into_iter().next())
    }

    fn card_by_id(&mut self, id: CardId) -> Result<Option<Card>, StorageError> {
        let found = self.select(&CARDS, "WHERE card_id = ?1", [id.as_bytes()], read_card)?;
        Ok(found.into_iter().next())
    }

    fn put_card(&mut self, card: &Card) -> Result<(), StorageError> {
        let pin = card.pin.as_ref();
        self.put(
            &CARDS,
            &[
                blob(card.number_key.as_bytes()),
                blob(card.card_id.as_bytes()),
                blob(card.account_id.as_bytes()),
                blob(card.last_four.digits()),
                pin.map(|pin| pin.salt.to_vec()).into(),
                pin.map(|pin| pin.hash.to_vec()).into(),
                pin.map(|pin| pin.cost.memory_kib()).into(),
                pin.map(|pin| pin.cost.passes()).into(),
                pin.map(|pin| pin.cost.lanes()).into(),
                card.wrong_pins.count().into(),
                card.blocked.into(),
                card.session_clock.as_nanos().into(),
            ],
        )
    }

    fn has_cards(&mut self) -> Result<bool, StorageError> {
        self.select(&CARDS, "LIMIT 1", [], |_| Ok(())).map(|found| !found.is_empty())
    }

    fn unknown_number(&mut self, key: &NumberKey) -> Result<WrongPins, StorageError> {
        let by = [key.as_bytes()];
        let found = self.select(&UNKNOWN_NUMBERS, "WHERE number_key = ?1", by, |row| get::<u8>(row, 1))?;
        Ok(found.into_iter().next().map(WrongPins::from_count).unwrap_or_default())
    }

    fn put_unknown_number(
        &mut self,
        key: &NumberKey,
        wrong_pins: WrongPins,
        most: usize,
    ) -> Result<(), StorageError> {
        let newest = "ORDER BY touched DESC LIMIT 1";
        let newest = self.select(&UNKNOWN_NUMBERS, newest, [], |row| get::<i64>(row, 2))?;
        let touched = newest.into_iter().next().unwrap_or_default() + 1;
        let row = [blob(key.as_bytes()), wrong_pins.count().into(), touched.into()];
        self.put(&UNKNOWN_NUMBERS, &row)?;
        let beyond = self.count(&UNKNOWN_NUMBERS)?.saturating_sub(most);
        let oldest = "WHERE touched IN (SELECT touched FROM unknown_numbers ORDER BY touched LIMIT ?1)";
        self.delete(&UNKNOWN_NUMBERS, oldest, [i64::try_from(beyond).unwrap_or(i64::MAX)]).map(drop)
    }

    fn forget_unknown_number(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        self.delete(&UNKNOWN_NUMBERS, "WHERE number_key = ?1", [key.as_bytes()]).map(drop)
    }

    fn forget_numbers(&mut self) -> Result<(), StorageError> {
        self.delete(&UNKNOWN_NUMBERS, "", [])?;
        self.delete(&ATTEMPTS, "", []).map(drop)
    }

    fn attempts(
        &mut self,
        key: &NumberKey,
        atm_id: &AtmId,
        attempt_id: AttemptId,
    ) -> Result<Vec<Attempt>, StorageError> {
        let by = params![key.as_bytes(), atm_id.as_str(), attempt_id.as_bytes()];
        self.select(&ATTEMPTS, "WHERE number_key = ?1 AND atm_id = ?2 AND attempt_id = ?3", by, |row| {
            Ok(Attempt {
                number_key: *key,
                atm_id: atm_id.clone(),
                attempt_id,
                tag: Tag::from_bytes(column(row, 3)?),
                time: time(row, 4)?,
                outcome: read_outcome(row, atm_id)?,
            })
        })
    }

    fn put_attempt(&mut self, attempt: &Attempt) -> Result<(), StorageError> {
        let (outcome, session) = match &attempt.outcome {
            Outcome::Opened(session) => (1, Some(session)),
            Outcome::Changed => (2, None),
            Outcome::Wrong => (3, None),
            Outcome::Locked => (4, None),
            Outcome::Blocked => (5, None),
        };
        self.put(
            &ATTEMPTS,
            &[
                blob(attempt.number_key.as_bytes()),
                text(attempt.atm_id.as_str()),
                blob(attempt.attempt_id.as_bytes()),
                blob(attempt.tag.as_bytes()),
                attempt.time.as_nanos().into(),
                outcome.into(),
                session.map(|session| session.session_id.as_bytes().to_vec()).into(),
                session.map(|session| session.card_id.as_bytes().to_vec()).into(),
                session.map(|session| session.account_id.as_bytes().to_vec()).into(),
                session.map(|session| session.terminal_id.as_bytes().to_vec()).into(),
                session.map(|session| session.issue_time.as_nanos()).into(),
                session.map(|session| session.expire_time.as_nanos()).into(),
            ],
        )
    }

    fn forget_opened_attempts(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        self.delete(&ATTEMPTS, "WHERE number_key = ?1 AND outcome = 1", [key.as_bytes()]).map(drop)
    }

    fn terminal(&mut self, atm_id: &AtmId) -> Result<Option<Terminal>, StorageError> {
        let found = self.select(&TERMINALS, "WHERE atm_id = ?1", [atm_id.as_str()], read_terminal)?;
        Ok(found.into_iter().next())
    }

    fn put_terminal(&mut self, atm_id: &AtmId, terminal: &Terminal) -> Result<(), StorageError> {
        let epoch = terminal.boot.map(|boot| i64::try_from(boot.epoch)).transpose();
        self.put(
            &TERMINALS,
            &[
                text(atm_id.as_str()),
                blob(terminal.terminal_id.as_bytes()),
                epoch.map_err(|_| StorageError::Damaged("terminals"))?.into(),
                terminal.boot.map(|boot| boot.boot_id.as_bytes().to_vec()).into(),
            ],
        )
    }

    fn remove_terminal(&mut self, atm_id: &AtmId) -> Result<(), StorageError> {
        self.delete(&TERMINALS, "WHERE atm_id = ?1", [atm_id.as_str()]).map(drop)
    }

    fn terminals(&mut self) -> Result<Vec<(AtmId, Terminal)>, StorageError> {
        self.select(&TERMINALS, "ORDER BY atm_id", [], |row| {
            let atm_id = get::<String>(row, 0)?.parse().map_err(|_| StorageError::Damaged("terminals"))?;
            Ok((atm_id, read_terminal(row)?))
        })
    }

    fn terminal_count(&mut self) -> Result<usize, StorageError> {
        self.count(&TERMINALS)
    }

    fn session_expiry(&mut self, id: SessionId) -> Result<Option<Timestamp>, StorageError> {
        let found = self.select(&SESSIONS, "WHERE session_id = ?1", [id.as_bytes()], |row| time(row, 1))?;
        Ok(found.into_iter().next())
    }

    fn sessions_at(
        &mut self,
        atm_id: &AtmId,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, Timestamp)>, StorageError> {
        let there = "WHERE atm_id = ?1 AND expire_time > ?2 ORDER BY expire_time, session_id";
        self.select(&SESSIONS, there, params![atm_id.as_str(), now.as_nanos()], |row| {
            Ok((SessionId::from_bytes(column(row, 0)?), time(row, 1)?))
        })
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StorageError> {
        let row = [
            blob(session.session_id.as_bytes()),
            session.expire_time.as_nanos().into(),
            text(session.atm_id.as_str()),
        ];
        self.put(&SESSIONS, &row)
    }

    fn put_revocation(&mut self, revocation: &Revocation) -> Result<(), StorageError> {
        let (kind, target) = match &revocation.target {
            RevocationTarget::Session(id) => (1, id.as_bytes()),
            RevocationTarget::Card(id) => (2, id.as_bytes()),
        };
        let row = [
            kind.into(),
            blob(target),
            revocation.revoke_time.as_nanos().into(),
            revocation.relevant_until.as_nanos().into(),
        ];
        self.put(&REVOCATIONS, &row)
    }

    fn revocations(&mut self, now: Timestamp) -> Result<Vec<Revocation>, StorageError> {
        let relevant = "WHERE relevant_until > ?1 ORDER BY revoke_time, kind, target";
        self.select(&REVOCATIONS, relevant, [now.as_nanos()], |row| {
            let target = column(row, 1)?;
            Ok(Revocation {
                target: match get(row, 0)? {
                    1 => RevocationTarget::Session(SessionId::from_bytes(target)),
                    2 => RevocationTarget::Card(CardId::from_bytes(target)),
                    i64::MIN..=0 | 3.. => return Err(StorageError::Damaged("revocations")),
                },
                revoke_time: time(row, 2)?,
                relevant_until: time(row, 3)?,
            })
        })
    }

    fn order(&mut self, id: OrderId) -> Result<Option<DoneOrder>, StorageError> {
        let found = self.select(&ORDERS, "WHERE order_id = ?1", [id.as_bytes()], |row| {
            let affected = get::<i64>(row, 3)?.try_into().map_err(|_| StorageError::Damaged("orders"))?;
            Ok(DoneOrder { id, order: read_order(row)?, affected, time: time(row, 4)? })
        })?;
        Ok(found.into_iter().next())
    }

    fn put_order(&mut self, done: &DoneOrder) -> Result<(), StorageError> {
        let (kind, target) = match &done.order {
            Order::BlockCard(key) => (1, &key.as_bytes()[..]),
            Order::UnblockCard(key) => (2, &key.as_bytes()[..]),
            Order::ForgetStart(atm_id) => (3, atm_id.as_str().as_bytes()),
            Order::ForgetAllStarts => (4, &[][..]),
            Order::ReleaseTerminal(atm_id) => (5, atm_id.as_str().as_bytes()),
        };
        let row = [
            blob(done.id.as_bytes()),
            kind.into(),
            blob(target),
            i64::try_from(done.affected).unwrap_or(i64::MAX).into(),
            done.time.as_nanos().into(),
        ];
        self.put(&ORDERS, &row)
    }

    fn erase(&mut self, expiry: Expiry) -> Result<usize, StorageError> {
        let attempts = self.delete(
            &ATTEMPTS,
            "WHERE time <= ?1 OR time >= ?2",
            [expiry.attempts_until.as_nanos(), expiry.attempts_from.as_nanos()],
        )?;
        let before = [expiry.sessions_before.as_nanos()];
        let sessions = self.delete(&SESSIONS, "WHERE expire_time < ?1", before)?;
        let revocations = self.delete(&REVOCATIONS, "WHERE relevant_until < ?1", before)?;
        Ok(attempts + sessions + revocations)
    }
}

fn text(text: &str) -> Value {
    text.to_owned().into()
}

fn blob(bytes: &[u8]) -> Value {
    bytes.to_vec().into()
}

fn get<T: FromSql>(row: &Row<'_>, index: usize) -> Result<T, StorageError> {
    row.get(index).map_err(statement_failed)
}

fn meta_name(name: Meta) -> &'static str {
    match name {
        Meta::PepperCanary => "pepper_canary",
    }
}

fn column<const N: usize>(row: &Row<'_>, index: usize) -> Result<[u8; N], StorageError> {
    get(row, index)
}

fn time(row: &Row<'_>, index: usize) -> Result<Timestamp, StorageError> {
    get(row, index).map(Timestamp::from_nanos)
}

fn read_order(row: &Row<'_>) -> Result<Order, StorageError> {
    let key = || column(row, 2).map(NumberKey::from_bytes);
    let atm_id = || {
        let name = String::from_utf8(get(row, 2)?).ok().and_then(|name| name.parse().ok());
        name.ok_or(StorageError::Damaged("orders"))
    };
    Ok(match get(row, 1)? {
        1 => Order::BlockCard(key()?),
        2 => Order::UnblockCard(key()?),
        3 => Order::ForgetStart(atm_id()?),
        4 => Order::ForgetAllStarts,
        5 => Order::ReleaseTerminal(atm_id()?),
        i64::MIN..=0 | 6.. => return Err(StorageError::Damaged("orders")),
    })
}

fn read_terminal(row: &Row<'_>) -> Result<Terminal, StorageError> {
    Ok(Terminal { terminal_id: TerminalId::from_bytes(column(row, 1)?), boot: read_boot(row)? })
}

fn read_boot(row: &Row<'_>) -> Result<Option<BootMark>, StorageError> {
    let epoch: Option<i64> = get(row, 2)?;
    let boot_id: Option<[u8; 16]> = get(row, 3)?;
    match (epoch.map(u64::try_from), boot_id) {
        (None, None) => Ok(None),
        (Some(Ok(epoch)), Some(id)) => Ok(Some(BootMark { epoch, boot_id: BootId::from_bytes(id) })),
        (None, Some(_)) | (Some(_), None) | (Some(Err(_)), Some(_)) => {
            Err(StorageError::Damaged("terminals"))
        }
    }
}

fn read_card(row: &Row<'_>) -> Result<Card, StorageError> {
    let number = |index| get::<u32>(row, index);
    let hash: Option<[u8; 32]> = get(row, 5)?;
    let pin = match hash {
        None => None,
        Some(hash) => Some(PinHash {
            salt: column(row, 4)?,
            hash,
            cost: HashCost::from_stored(number(6)?, number(7)?, number(8)?),
        }),
    };
    Ok(Card {
        number_key: NumberKey::from_bytes(column(row, 0)?),
        card_id: CardId::from_bytes(column(row, 1)?),
        account_id: AccountId::from_bytes(column(row, 2)?),
        last_four: LastFour::from_digits(column(row, 3)?),
        pin,
        wrong_pins: WrongPins::from_count(get(row, 9)?),
        blocked: get(row, 10)?,
        session_clock: time(row, 11)?,
    })
}

fn read_outcome(row: &Row<'_>, atm_id: &AtmId) -> Result<Outcome, StorageError> {
    Ok(match get(row, 5)? {
        1 => Outcome::Opened(Session {
            session_id: SessionId::from_bytes(column(row, 6)?),
            card_id: CardId::from_bytes(column(row, 7)?),
            account_id: AccountId::from_bytes(column(row, 8)?),
            atm_id: atm_id.clone(),
            terminal_id: TerminalId::from_bytes(column(row, 9)?),
            issue_time: time(row, 10)?,
            expire_time: time(row, 11)?,
        }),
        2 => Outcome::Changed,
        3 => Outcome::Wrong,
        4 => Outcome::Locked,
        5 => Outcome::Blocked,
        i64::MIN..=0 | 6.. => return Err(StorageError::Damaged("attempts")),
    })
}
