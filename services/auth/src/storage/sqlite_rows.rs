//! The SQL, and nothing else: each function is one or two statements.

use atm_types::{AccountId, AttemptId, TerminalId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::sqlite::statement_failed;
use super::{Expiry, Meta, Rows, StorageError};
use crate::domain::{
    AtmId, Attempt, BootId, BootMark, Card, CardId, HashCost, LastFour, NumberKey, Outcome, PinHash,
    Revocation, RevocationTarget, Session, SessionId, Tag, Terminal, WrongPins,
};

/// The rows of an open transaction.
pub(super) struct SqliteRows<'a> {
    connection: &'a Connection,
}

impl<'a> SqliteRows<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StorageError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(statement_failed)?;
        statement.execute(params).map_err(statement_failed)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StorageError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(statement_failed)?;
        statement.query_row(params, read).optional().map_err(statement_failed)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(statement_failed)?;
        let mut rows = statement.query(params).map_err(statement_failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(statement_failed)? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    fn count(&self, sql: &str) -> Result<usize, StorageError> {
        let count = self.one(sql, [], |row| row.get::<_, i64>(0))?.unwrap_or_default();
        usize::try_from(count).map_err(|_| StorageError::Corrupt("count"))
    }
}

const CARD: &str = "SELECT number_key, card_id, account_id, last_four, pin_salt, pin_hash, hash_memory_kib, \
                    hash_passes, hash_lanes, wrong_pins, blocked, session_clock FROM cards";

impl Rows for SqliteRows<'_> {
    fn meta(&mut self, name: Meta) -> Result<Option<Vec<u8>>, StorageError> {
        self.one("SELECT value FROM meta WHERE name = ?1", [meta_name(name)], |row| row.get(0))
    }

    fn put_meta(&mut self, name: Meta, value: &[u8]) -> Result<(), StorageError> {
        let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql, params![meta_name(name), value]).map(drop)
    }

    fn card(&mut self, key: &NumberKey) -> Result<Option<Card>, StorageError> {
        let sql = format!("{CARD} WHERE number_key = ?1");
        self.all(&sql, [&key.as_bytes()[..]], read_card).map(|mut cards| cards.pop())
    }

    fn card_by_id(&mut self, id: CardId) -> Result<Option<Card>, StorageError> {
        let sql = format!("{CARD} WHERE card_id = ?1");
        self.all(&sql, [&id.as_bytes()[..]], read_card).map(|mut cards| cards.pop())
    }

    fn put_card(&mut self, card: &Card) -> Result<(), StorageError> {
        let sql = "INSERT INTO cards (number_key, card_id, account_id, last_four, pin_salt, pin_hash, \
                   hash_memory_kib, hash_passes, hash_lanes, wrong_pins, blocked, session_clock) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                   ON CONFLICT (number_key) DO UPDATE SET pin_salt = excluded.pin_salt, \
                   pin_hash = excluded.pin_hash, hash_memory_kib = excluded.hash_memory_kib, \
                   hash_passes = excluded.hash_passes, hash_lanes = excluded.hash_lanes, \
                   wrong_pins = excluded.wrong_pins, blocked = excluded.blocked, \
                   session_clock = excluded.session_clock";
        let pin = card.pin.as_ref();
        self.execute(
            sql,
            params![
                &card.number_key.as_bytes()[..],
                &card.card_id.as_bytes()[..],
                &card.account_id.as_bytes()[..],
                &card.last_four.digits()[..],
                pin.map(|pin| &pin.salt[..]),
                pin.map(|pin| &pin.hash[..]),
                pin.map(|pin| pin.cost.memory_kib()),
                pin.map(|pin| pin.cost.passes()),
                pin.map(|pin| pin.cost.lanes()),
                card.wrong_pins.count(),
                card.blocked,
                card.session_clock.as_nanos(),
            ],
        )
        .map(drop)
    }

    fn has_cards(&mut self) -> Result<bool, StorageError> {
        self.one("SELECT 1 FROM cards LIMIT 1", [], |_| Ok(())).map(|found| found.is_some())
    }

    fn unknown_number(&mut self, key: &NumberKey) -> Result<WrongPins, StorageError> {
        let sql = "SELECT wrong_pins FROM unknown_numbers WHERE number_key = ?1";
        let count = self.one(sql, [&key.as_bytes()[..]], |row| row.get::<_, u8>(0))?;
        Ok(count.map(WrongPins::from_count).unwrap_or_default())
    }

    fn put_unknown_number(
        &mut self,
        key: &NumberKey,
        wrong_pins: WrongPins,
        most: usize,
    ) -> Result<(), StorageError> {
        let sql = "INSERT INTO unknown_numbers (number_key, wrong_pins, touched) \
                   VALUES (?1, ?2, (SELECT coalesce(max(touched), 0) + 1 FROM unknown_numbers)) \
                   ON CONFLICT (number_key) DO UPDATE SET wrong_pins = excluded.wrong_pins, \
                   touched = excluded.touched";
        self.execute(sql, params![&key.as_bytes()[..], wrong_pins.count()])?;
        let beyond = self.count("SELECT count(*) FROM unknown_numbers")?.saturating_sub(most);
        let sql = "DELETE FROM unknown_numbers WHERE touched IN \
                   (SELECT touched FROM unknown_numbers ORDER BY touched LIMIT ?1)";
        self.execute(sql, [i64::try_from(beyond).unwrap_or(i64::MAX)]).map(drop)
    }

    fn forget_unknown_number(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        let sql = "DELETE FROM unknown_numbers WHERE number_key = ?1";
        self.execute(sql, [&key.as_bytes()[..]]).map(drop)
    }

    fn forget_numbers(&mut self) -> Result<(), StorageError> {
        self.execute("DELETE FROM unknown_numbers", [])?;
        self.execute("DELETE FROM attempts", []).map(drop)
    }

    fn attempts(
        &mut self,
        key: &NumberKey,
        atm_id: &AtmId,
        attempt_id: AttemptId,
    ) -> Result<Vec<Attempt>, StorageError> {
        let sql = "SELECT tag, time, outcome, session_id, card_id, account_id, terminal_id, issue_time, \
                   expire_time FROM attempts WHERE number_key = ?1 AND atm_id = ?2 AND attempt_id = ?3";
        let by = params![&key.as_bytes()[..], atm_id.as_str(), &attempt_id.as_bytes()[..]];
        self.all(sql, by, |row| {
            Ok(Attempt {
                number_key: *key,
                atm_id: atm_id.clone(),
                attempt_id,
                tag: Tag::from_bytes(column(row, 0)?),
                time: time(row, 1)?,
                outcome: read_outcome(row, atm_id)?,
            })
        })
    }

    fn put_attempt(&mut self, attempt: &Attempt) -> Result<(), StorageError> {
        let sql = "INSERT OR REPLACE INTO attempts (number_key, atm_id, attempt_id, tag, time, outcome, \
                   session_id, card_id, account_id, terminal_id, issue_time, expire_time) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let (outcome, session) = match &attempt.outcome {
            Outcome::Opened(session) => (1, Some(session)),
            Outcome::Changed => (2, None),
            Outcome::Wrong => (3, None),
            Outcome::Locked => (4, None),
            Outcome::Blocked => (5, None),
        };
        self.execute(
            sql,
            params![
                &attempt.number_key.as_bytes()[..],
                attempt.atm_id.as_str(),
                &attempt.attempt_id.as_bytes()[..],
                &attempt.tag.as_bytes()[..],
                attempt.time.as_nanos(),
                outcome,
                session.map(|session| &session.session_id.as_bytes()[..]),
                session.map(|session| &session.card_id.as_bytes()[..]),
                session.map(|session| &session.account_id.as_bytes()[..]),
                session.map(|session| &session.terminal_id.as_bytes()[..]),
                session.map(|session| session.issue_time.as_nanos()),
                session.map(|session| session.expire_time.as_nanos()),
            ],
        )
        .map(drop)
    }

    fn forget_opened_attempts(&mut self, key: &NumberKey) -> Result<(), StorageError> {
        let sql = "DELETE FROM attempts WHERE number_key = ?1 AND outcome = 1";
        self.execute(sql, [&key.as_bytes()[..]]).map(drop)
    }

    fn terminal(&mut self, atm_id: &AtmId) -> Result<Option<Terminal>, StorageError> {
        let sql = "SELECT terminal_id, boot_epoch, boot_id FROM terminals WHERE atm_id = ?1";
        let found = self.all(sql, [atm_id.as_str()], |row| {
            Ok(Terminal { terminal_id: TerminalId::from_bytes(column(row, 0)?), boot: read_boot(row)? })
        })?;
        Ok(found.into_iter().next())
    }

    fn put_terminal(&mut self, atm_id: &AtmId, terminal: &Terminal) -> Result<(), StorageError> {
        let sql = "INSERT OR REPLACE INTO terminals (atm_id, terminal_id, boot_epoch, boot_id) \
                   VALUES (?1, ?2, ?3, ?4)";
        let epoch = terminal.boot.map(|boot| i64::try_from(boot.epoch)).transpose();
        let by = params![
            atm_id.as_str(),
            &terminal.terminal_id.as_bytes()[..],
            epoch.map_err(|_| StorageError::Corrupt("boot epoch"))?,
            terminal.boot.as_ref().map(|boot| &boot.boot_id.as_bytes()[..]),
        ];
        self.execute(sql, by).map(drop)
    }

    fn terminal_count(&mut self) -> Result<usize, StorageError> {
        self.count("SELECT count(*) FROM terminals")
    }

    fn session_expiry(&mut self, id: SessionId) -> Result<Option<Timestamp>, StorageError> {
        let sql = "SELECT expire_time FROM sessions WHERE session_id = ?1";
        let found = self.one(sql, [&id.as_bytes()[..]], |row| row.get(0))?;
        Ok(found.map(Timestamp::from_nanos))
    }

    fn sessions_at(
        &mut self,
        atm_id: &AtmId,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, Timestamp)>, StorageError> {
        let sql = "SELECT session_id, expire_time FROM sessions WHERE atm_id = ?1 AND expire_time > ?2 \
                   ORDER BY expire_time, session_id";
        self.all(sql, params![atm_id.as_str(), now.as_nanos()], |row| {
            Ok((SessionId::from_bytes(column(row, 0)?), time(row, 1)?))
        })
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StorageError> {
        let sql = "INSERT OR REPLACE INTO sessions (session_id, expire_time, atm_id) VALUES (?1, ?2, ?3)";
        let id = &session.session_id.as_bytes()[..];
        self.execute(sql, params![id, session.expire_time.as_nanos(), session.atm_id.as_str()]).map(drop)
    }

    fn put_revocation(&mut self, revocation: &Revocation) -> Result<(), StorageError> {
        let sql = "INSERT OR REPLACE INTO revocations (kind, target, revoke_time, relevant_until) \
                   VALUES (?1, ?2, ?3, ?4)";
        let (kind, target) = match &revocation.target {
            RevocationTarget::Session(id) => (1, id.as_bytes()),
            RevocationTarget::Card(id) => (2, id.as_bytes()),
        };
        let times = [revocation.revoke_time.as_nanos(), revocation.relevant_until.as_nanos()];
        self.execute(sql, params![kind, &target[..], times[0], times[1]]).map(drop)
    }

    fn revocations(&mut self, now: Timestamp) -> Result<Vec<Revocation>, StorageError> {
        let sql = "SELECT kind, target, revoke_time, relevant_until FROM revocations \
                   WHERE relevant_until > ?1 ORDER BY revoke_time, kind, target";
        self.all(sql, [now.as_nanos()], |row| {
            let target = column(row, 1)?;
            Ok(Revocation {
                target: match row.get(0).map_err(statement_failed)? {
                    1 => RevocationTarget::Session(SessionId::from_bytes(target)),
                    2 => RevocationTarget::Card(CardId::from_bytes(target)),
                    i64::MIN..=0 | 3.. => return Err(StorageError::Corrupt("revocation")),
                },
                revoke_time: time(row, 2)?,
                relevant_until: time(row, 3)?,
            })
        })
    }

    fn erase(&mut self, expiry: Expiry) -> Result<usize, StorageError> {
        let attempts = self.execute(
            "DELETE FROM attempts WHERE time <= ?1 OR time >= ?2",
            [expiry.attempts_until.as_nanos(), expiry.attempts_from.as_nanos()],
        )?;
        let before = [expiry.sessions_before.as_nanos()];
        let sessions = self.execute("DELETE FROM sessions WHERE expire_time < ?1", before)?;
        let revocations = self.execute("DELETE FROM revocations WHERE relevant_until < ?1", before)?;
        Ok(attempts + sessions + revocations)
    }
}

fn meta_name(name: Meta) -> &'static str {
    match name {
        Meta::PepperCanary => "pepper_canary",
    }
}

fn column<const N: usize>(row: &Row<'_>, index: usize) -> Result<[u8; N], StorageError> {
    row.get(index).map_err(statement_failed)
}

fn time(row: &Row<'_>, index: usize) -> Result<Timestamp, StorageError> {
    row.get(index).map(Timestamp::from_nanos).map_err(statement_failed)
}

fn read_boot(row: &Row<'_>) -> Result<Option<BootMark>, StorageError> {
    let epoch: Option<i64> = row.get(1).map_err(statement_failed)?;
    let boot_id: Option<[u8; 16]> = row.get(2).map_err(statement_failed)?;
    match (epoch.map(u64::try_from), boot_id) {
        (None, None) => Ok(None),
        (Some(Ok(epoch)), Some(id)) => Ok(Some(BootMark { epoch, boot_id: BootId::from_bytes(id) })),
        (None, Some(_)) | (Some(_), None) | (Some(Err(_)), Some(_)) => Err(StorageError::Corrupt("boot")),
    }
}

fn read_card(row: &Row<'_>) -> Result<Card, StorageError> {
    let number = |index| row.get::<_, u32>(index).map_err(statement_failed);
    let hash: Option<[u8; 32]> = row.get(5).map_err(statement_failed)?;
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
        wrong_pins: WrongPins::from_count(row.get(9).map_err(statement_failed)?),
        blocked: row.get(10).map_err(statement_failed)?,
        session_clock: time(row, 11)?,
    })
}

fn read_outcome(row: &Row<'_>, atm_id: &AtmId) -> Result<Outcome, StorageError> {
    Ok(match row.get(2).map_err(statement_failed)? {
        1 => Outcome::Opened(Session {
            session_id: SessionId::from_bytes(column(row, 3)?),
            card_id: CardId::from_bytes(column(row, 4)?),
            account_id: AccountId::from_bytes(column(row, 5)?),
            atm_id: atm_id.clone(),
            terminal_id: TerminalId::from_bytes(column(row, 6)?),
            issue_time: time(row, 7)?,
            expire_time: time(row, 8)?,
        }),
        2 => Outcome::Changed,
        3 => Outcome::Wrong,
        4 => Outcome::Locked,
        5 => Outcome::Blocked,
        i64::MIN..=0 | 6.. => return Err(StorageError::Corrupt("attempt")),
    })
}
