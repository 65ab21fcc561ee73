//! The device's memory: SQL and its conversions, and nothing that decides.
//!
//! `places` counts the notes of each denomination in each place. Notes only ever move from one place to another,
//! the vault and the customers included, so all counts of a denomination add up to 0; opening checks that.

use std::path::Path;

use atm_types::{Currency, IdSource};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::{DeviceError, Dispense, Escrow, Fault, Notes, Place, Step};
use crate::crash::crash_point;
use crate::durable::{Database, Shape, SimulatedDisk};
use crate::simulation::{DeviceDispense, DeviceEvidence};

/// "ATMd" in `PRAGMA application_id`.
const SHAPE: Shape = Shape { application_id: 0x4154_4d64, version: 1, oldest: 1, reserve: 512 << 10 };

const SCHEMA: &str = "
CREATE TABLE device (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    serial TEXT NOT NULL,
    currency TEXT NOT NULL,
    next_fault TEXT NOT NULL
) STRICT;
CREATE TABLE places (
    place TEXT NOT NULL,
    denomination INTEGER NOT NULL CHECK (denomination > 0),
    count INTEGER NOT NULL,
    PRIMARY KEY (place, denomination)
) STRICT, WITHOUT ROWID;
CREATE TABLE dispenses (
    id TEXT PRIMARY KEY,
    step TEXT NOT NULL,
    fault TEXT NOT NULL,
    planned TEXT NOT NULL,
    stacked TEXT NOT NULL,
    rejected TEXT NOT NULL,
    presented TEXT NOT NULL,
    retracted TEXT NOT NULL,
    counted INTEGER NOT NULL,
    looked_at INTEGER NOT NULL,
    found_rejected TEXT NOT NULL,
    found_retracted TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE escrow (
    id TEXT PRIMARY KEY,
    notes TEXT NOT NULL,
    ended TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE exchanges (
    id TEXT PRIMARY KEY,
    what TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The name of the device's file in the state directory.
const FILE_NAME: &str = "dispenser.sqlite3";

/// A dispense with what only the simulation knows.
pub(super) struct Remembered {
    pub(super) dispense: Dispense,
    pub(super) fault: Fault,
    /// What was found by whoever looked for its notes; nothing before somebody did.
    pub(super) found: Option<super::Found>,
}

pub(super) struct Store {
    database: Database,
    pub(super) serial: Uuid,
    pub(super) currency: Currency,
}

impl Store {
    pub(super) fn open(
        directory: &Path,
        currency: Currency,
        ids: &dyn IdSource,
    ) -> Result<Self, DeviceError> {
        Self::with(Database::open(&directory.join(FILE_NAME), &SHAPE)?, currency, ids)
    }

    /// The same on a simulated disk.
    pub(super) fn open_on(
        disk: &SimulatedDisk,
        currency: Currency,
        ids: &dyn IdSource,
    ) -> Result<Self, DeviceError> {
        Self::with(Database::open_on(disk, &SHAPE)?, currency, ids)
    }

    fn with(
        (mut database, version): (Database, i64),
        currency: Currency,
        ids: &dyn IdSource,
    ) -> Result<Self, DeviceError> {
        if version == 0 {
            let serial = ids.uuid_v7().to_string();
            crash_point!("BEFORE_DEVICE_MADE");
            database.write(|transaction| {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SHAPE.version)?;
                transaction.pragma_update(None, "application_id", SHAPE.application_id)?;
                transaction.execute(
                    "INSERT INTO device VALUES (1, ?1, ?2, 'none')",
                    params![serial, currency.code()],
                )
            })?;
            crash_point!("DEVICE_MADE");
        }
        let (serial, code): (String, String) = database.read(|connection| {
            connection.query_row("SELECT serial, currency FROM device WHERE only = 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })?;
        let sums: i64 = database.read(|connection| {
            connection.query_row(
                "SELECT count(*) FROM (SELECT 1 FROM places GROUP BY denomination HAVING sum(count) <> 0)",
                [],
                |row| row.get(0),
            )
        })?;
        if sums != 0 {
            return Err(database.damaged("its counters do not add up").into());
        }
        let damaged = |what: &str| DeviceError::from(database.damaged(what));
        let serial = Uuid::try_parse(&serial).map_err(|_| damaged("it has no serial number"))?;
        let currency = code.parse().map_err(|_| damaged("it has no currency"))?;
        Ok(Self { database, serial, currency })
    }

    pub(super) fn has_room(&mut self) -> bool {
        self.database.has_room()
    }

    pub(super) fn write<T>(
        &mut self,
        work: impl FnMut(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, DeviceError> {
        Ok(self.database.write(work)?)
    }

    /// What is in a place. Only the vault and the customers may owe notes, and nobody asks for those.
    pub(super) fn notes_in(&self, place: Place) -> Result<Notes, DeviceError> {
        let rows: Vec<(i64, i64)> = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT denomination, count FROM places WHERE place = ?1")?
                .query_map([place.name()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(denomination, count)| Some((denomination, u32::try_from(count).ok()?)))
            .collect::<Option<Notes>>()
            .ok_or_else(|| DeviceError::Damaged(format!("{} holds less than nothing", place.name())))
    }

    pub(super) fn next_fault(&self) -> Result<Fault, DeviceError> {
        let name: String = self.database.read(|connection| {
            connection.query_row("SELECT next_fault FROM device WHERE only = 1", [], |row| row.get(0))
        })?;
        Fault::of_name(&name).ok_or_else(|| DeviceError::Damaged(format!("{name:?} is no fault")))
    }

    pub(super) fn dispense(&self, id: Uuid) -> Result<Option<Remembered>, DeviceError> {
        let row = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM dispenses WHERE id = ?1")?
                .query_row([id.to_string()], read_dispense)
                .optional()
        })?;
        row.map(RawDispense::into_remembered).transpose()
    }

    /// All dispenses there ever were.
    pub(super) fn dispenses(&self) -> Result<Vec<Remembered>, DeviceError> {
        let rows: Vec<RawDispense> = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM dispenses ORDER BY id")?
                .query_map([], read_dispense)?
                .collect()
        })?;
        rows.into_iter().map(RawDispense::into_remembered).collect()
    }

    /// Dispenses that took notes out of the cassettes and are not at their end.
    pub(super) fn unfinished(&self) -> Result<Vec<Remembered>, DeviceError> {
        let rows: Vec<RawDispense> = self.database.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM dispenses WHERE looked_at = 0
                     AND (step NOT IN ('taken', 'retracted', 'rejected') OR (step = 'retracted' AND counted = 0))",
                )?
                .query_map([], read_dispense)?
                .collect()
        })?;
        rows.into_iter().map(RawDispense::into_remembered).collect()
    }

    pub(super) fn escrow(&self) -> Result<Option<Escrow>, DeviceError> {
        let row: Option<(String, String)> = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT id, notes FROM escrow WHERE ended IS NULL")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        row.map(|(id, notes)| {
            let id = Uuid::try_parse(&id).map_err(|_| DeviceError::Damaged("escrow has no id".to_owned()))?;
            Ok(Escrow { id, notes: read_notes(&notes)? })
        })
        .transpose()
    }

    /// Whether this id was counted into escrow, and how that ended.
    pub(super) fn escrow_ended(&self, id: Uuid) -> Result<Option<Option<String>>, DeviceError> {
        Ok(self.database.read(|connection| {
            connection
                .prepare_cached("SELECT ended FROM escrow WHERE id = ?1")?
                .query_row([id.to_string()], |row| row.get(0))
                .optional()
        })?)
    }

    /// What an exchange found and left, if it was made.
    pub(super) fn exchange(&self, id: Uuid) -> Result<Option<(String, Notes)>, DeviceError> {
        let row: Option<(String, String)> = self.database.read(|connection| {
            connection
                .prepare_cached("SELECT what, before FROM exchanges WHERE id = ?1")?
                .query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        row.map(|(what, before)| Ok((what, read_notes(&before)?))).transpose()
    }
}

/// What a simulated device remembers, whoever has it open.
pub(super) fn evidence(disk: &SimulatedDisk) -> Result<DeviceEvidence, DeviceError> {
    let database = Database::look_at(disk);
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'dispenses'";
    if !database.read(|connection| connection.query_row(sql, [], |row| row.get::<_, bool>(0)))? {
        return Ok(DeviceEvidence::default());
    }
    let places = database.read(|connection| {
        connection
            .prepare_cached("SELECT place, denomination, count FROM places ORDER BY place, denomination")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    })?;
    let rows: Vec<RawDispense> = database.read(|connection| {
        connection
            .prepare_cached("SELECT * FROM dispenses ORDER BY id")?
            .query_map([], read_dispense)?
            .collect()
    })?;
    let dispenses = rows.into_iter().map(|row| Ok(summary(&row.into_remembered()?)));
    Ok(DeviceEvidence { places, dispenses: dispenses.collect::<Result<_, DeviceError>>()? })
}

fn summary(remembered: &Remembered) -> DeviceDispense {
    let Remembered { dispense, fault, found } = remembered;
    DeviceDispense {
        id: dispense.id,
        step: dispense.step.name(),
        fault: fault.name(),
        planned: dispense.planned.minor_units(),
        stacked: dispense.stacked.minor_units(),
        rejected: dispense.rejected.minor_units(),
        presented: dispense.presented.minor_units(),
        retracted: dispense.retracted.minor_units(),
        counted: dispense.counted,
        found: found.as_ref().map(|found| (found.rejected.minor_units(), found.retracted.minor_units())),
    }
}

/// Moves notes from one place to another.
pub(super) fn move_notes(
    transaction: &Transaction<'_>,
    from: Place,
    to: Place,
    notes: &Notes,
) -> Result<(), rusqlite::Error> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO places VALUES (?1, ?2, ?3)
         ON CONFLICT (place, denomination) DO UPDATE SET count = count + excluded.count",
    )?;
    for (denomination, count) in notes.iter() {
        add.execute(params![from.name(), denomination, -i64::from(count)])?;
        add.execute(params![to.name(), denomination, i64::from(count)])?;
    }
    Ok(())
}

pub(super) fn write_dispense(
    transaction: &Transaction<'_>,
    remembered: &Remembered,
) -> Result<(), rusqlite::Error> {
    let Remembered { dispense, fault, found } = remembered;
    let (rejected, retracted) =
        found.as_ref().map(|found| (found.rejected.to_string(), found.retracted.to_string())).unzip();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO dispenses VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            dispense.id.to_string(),
            dispense.step.name(),
            fault.name(),
            dispense.planned.to_string(),
            dispense.stacked.to_string(),
            dispense.rejected.to_string(),
            dispense.presented.to_string(),
            dispense.retracted.to_string(),
            dispense.counted,
            found.is_some(),
            rejected.unwrap_or_default(),
            retracted.unwrap_or_default(),
        ])?;
    Ok(())
}

/// A row as SQLite gives it, before anybody believes it.
struct RawDispense {
    id: String,
    step: String,
    fault: String,
    notes: [String; 5],
    counted: bool,
    looked_at: bool,
    found: [String; 2],
}

fn read_dispense(row: &Row<'_>) -> Result<RawDispense, rusqlite::Error> {
    Ok(RawDispense {
        id: row.get(0)?,
        step: row.get(1)?,
        fault: row.get(2)?,
        notes: [row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?],
        counted: row.get(8)?,
        looked_at: row.get(9)?,
        found: [row.get(10)?, row.get(11)?],
    })
}

impl RawDispense {
    fn into_remembered(self) -> Result<Remembered, DeviceError> {
        let damaged = |what: &str| DeviceError::Damaged(format!("dispense {} has no valid {what}", self.id));
        let [planned, stacked, rejected, presented, retracted] = &self.notes;
        let found =
            super::Found { rejected: read_notes(&self.found[0])?, retracted: read_notes(&self.found[1])? };
        Ok(Remembered {
            dispense: Dispense {
                id: Uuid::try_parse(&self.id).map_err(|_| damaged("id"))?,
                step: Step::of_name(&self.step).ok_or_else(|| damaged("step"))?,
                planned: read_notes(planned)?,
                stacked: read_notes(stacked)?,
                rejected: read_notes(rejected)?,
                presented: read_notes(presented)?,
                retracted: read_notes(retracted)?,
                counted: self.counted,
            },
            fault: Fault::of_name(&self.fault).ok_or_else(|| damaged("fault"))?,
            found: self.looked_at.then_some(found),
        })
    }
}

fn read_notes(text: &str) -> Result<Notes, DeviceError> {
    text.parse().map_err(|error: super::notes::NotNotes| DeviceError::Damaged(error.to_string()))
}

/// Gives an enum its names in the device's memory.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(crate) fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

names!(Step {
    Accepted = "accepted",
    Picked = "picked",
    Stacked = "stacked",
    Presenting = "presenting",
    Presented = "presented",
    Taken = "taken",
    Retracted = "retracted",
    Rejected = "rejected",
});
impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cassettes => "cassettes",
            Self::Stacker => "stacker",
            Self::Shutter => "shutter",
            Self::Exit => "exit",
            Self::Customers => "customers",
            Self::Reject => "reject",
            Self::Retract => "retract",
            Self::RetractUncounted => "retract_uncounted",
            Self::Escrow => "escrow",
            Self::Deposit => "deposit",
            Self::Vault => "vault",
        }
    }
}
