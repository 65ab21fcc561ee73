//! A disk that is none: SQLite's in-memory database, kept alive between the openings of a simulated machine.
//!
//! The same SQL runs on it as on a file, and it can fail as a disk does: a commit can be lost, or take effect although
//! it failed, or find no room. SQLite rolls a torn commit back when it is opened again, so a torn commit is a lost one.
//! After a failed commit, and after somebody else opened the disk, an opening is dead: whatever it still wants, fails.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It never reaches the disk, and fails.
    Lost,
    /// It reaches the disk, and fails all the same: nobody can know.
    Unknown,
    /// It finds no room, and neither does any other until [`SimulatedDisk::make_room`], save on the room that was kept.
    Full,
}

/// What survives the crash of a simulated machine. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    name: PathBuf,
    content: Arc<Mutex<Content>>,
}

struct Content {
    connection: Connection,
    /// The number of the opening that may use it.
    opening: u64,
    dead: bool,
    /// The fault that waits for a commit, and how many commits pass before it.
    fault: Option<(u64, DiskFault)>,
    commits: u64,
    full: bool,
    reserve: bool,
    syncs: bool,
    /// What there was before the last commit, if that was not synced.
    synced: Option<Connection>,
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimulatedDisk").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk; its name stands in messages.
    ///
    /// # Errors
    /// What SQLite says when it has no memory.
    pub fn new(name: &str) -> Result<Self, rusqlite::Error> {
        let content = Content {
            connection: Connection::open_in_memory()?,
            opening: 0,
            dead: false,
            fault: None,
            commits: 0,
            full: false,
            reserve: false,
            syncs: true,
            synced: None,
        };
        Ok(Self { name: PathBuf::from(name), content: Arc::new(Mutex::new(content)) })
    }

    /// Another disk with the same content, as after copying it while the machine was off.
    ///
    /// # Errors
    /// What SQLite says when it has no memory.
    pub fn copy(&self, name: &str) -> Result<Self, rusqlite::Error> {
        let copy = Self::new(name)?;
        {
            let (content, mut target) = (self.lock(), copy.lock());
            copy_all(&content.connection, &mut target.connection)?;
        }
        Ok(copy)
    }

    /// Lets `fault` happen to the commit after the next `commits` ones.
    pub fn fail_after(&self, commits: u64, fault: DiskFault) {
        self.lock().fault = Some((commits, fault));
    }

    /// A fault that waits does not happen any more, and a full disk has room again.
    pub fn make_room(&self) {
        let mut content = self.lock();
        content.fault = None;
        content.full = false;
    }

    /// From now on a commit is only safe once the next one is made, as with `synchronous=OFF`.
    pub fn stop_syncing(&self) {
        self.lock().syncs = false;
    }

    /// The power goes: what was not synced is lost.
    pub fn cut_power(&self) {
        let mut content = self.lock();
        if let Some(synced) = content.synced.take() {
            content.connection = synced;
            content.dead = true;
        }
    }

    /// How many commits took effect.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Whether a fault that was asked for is still to come.
    pub fn has_fault_waiting(&self) -> bool {
        self.lock().fault.is_some()
    }

    pub(super) fn name(&self) -> &PathBuf {
        &self.name
    }

    /// Opens it; every opening before this one is dead from now on.
    pub(super) fn open(&self) -> Opening {
        let mut content = self.lock();
        content.opening += 1;
        content.dead = false;
        Opening { disk: self.clone(), number: content.opening }
    }

    /// Looks at what is on it without opening it: for whoever watches a simulation.
    pub(super) fn look(&self) -> Opening {
        Opening { disk: self.clone(), number: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        // Whoever died while holding it rolled its transaction back.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One opening of a disk; number 0 only looks.
#[derive(Debug)]
pub(super) struct Opening {
    disk: SimulatedDisk,
    number: u64,
}

impl Opening {
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let content = self.disk.lock();
        if self.number > 0 {
            self.alive(&content)?;
        }
        work(&content.connection)
    }

    pub(super) fn write<T>(
        &mut self,
        work: &mut impl FnMut(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let mut guard = self.disk.lock();
        let content = &mut *guard;
        self.alive(content)?;
        let fault = content.next_fault();
        if !content.syncs {
            let mut synced = Connection::open_in_memory()?;
            copy_all(&content.connection, &mut synced)?;
            content.synced = Some(synced);
        }
        let transaction = content.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        if fault == Some(DiskFault::Full) {
            content.full = true;
        }
        if content.full && content.reserve {
            return Err(failure(ffi::SQLITE_FULL));
        }
        if fault == Some(DiskFault::Lost) {
            content.dead = true;
            return Err(failure(ffi::SQLITE_IOERR_FSYNC));
        }
        transaction.commit()?;
        content.commits += 1;
        if fault == Some(DiskFault::Unknown) {
            content.dead = true;
            return Err(failure(ffi::SQLITE_IOERR_FSYNC));
        }
        Ok(value)
    }

    /// Takes the kept room, if there is any to take.
    pub(super) fn take_reserve(&self) -> bool {
        let mut content = self.disk.lock();
        content.reserve |= !content.full;
        content.reserve && !content.full
    }

    /// Gives the kept room up; whether there was any.
    pub(super) fn release_reserve(&self) -> bool {
        std::mem::replace(&mut self.disk.lock().reserve, false)
    }

    fn alive(&self, content: &Content) -> Result<(), rusqlite::Error> {
        if content.dead || content.opening != self.number {
            return Err(failure(ffi::SQLITE_IOERR));
        }
        Ok(())
    }
}

impl Content {
    fn next_fault(&mut self) -> Option<DiskFault> {
        match &mut self.fault {
            Some((0, _)) => self.fault.take().map(|(_, fault)| fault),
            Some((commits, _)) => {
                *commits -= 1;
                None
            }
            None => None,
        }
    }
}

fn copy_all(from: &Connection, to: &mut Connection) -> Result<(), rusqlite::Error> {
    Backup::new(from, to)?.run_to_completion(i32::MAX, Duration::ZERO, None)
}

fn failure(code: std::os::raw::c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("the simulated disk failed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(opening: &mut Opening, value: i64) -> Result<(), rusqlite::Error> {
        opening.write(&mut |transaction| {
            transaction.execute_batch("CREATE TABLE IF NOT EXISTS t (v INTEGER)")?;
            transaction.execute("INSERT INTO t VALUES (?1)", [value]).map(drop)
        })
    }

    fn sum(opening: &Opening) -> i64 {
        opening.read(|connection| connection.query_row("SELECT sum(v) FROM t", [], |row| row.get(0))).unwrap()
    }

    #[test]
    fn what_was_committed_survives_and_an_opening_that_was_replaced_is_dead() {
        let disk = SimulatedDisk::new("disk").unwrap();
        let mut first = disk.open();
        insert(&mut first, 1).unwrap();
        let mut second = disk.open();
        assert!(insert(&mut first, 10).is_err());
        insert(&mut second, 2).unwrap();
        assert_eq!((sum(&second), disk.commits()), (3, 2));
    }

    #[test]
    fn a_lost_commit_leaves_nothing_and_an_unknown_one_everything_and_both_kill_the_opening() {
        for (fault, expected) in [(DiskFault::Lost, 1), (DiskFault::Unknown, 11)] {
            let disk = SimulatedDisk::new("disk").unwrap();
            let mut opening = disk.open();
            disk.fail_after(1, fault);
            insert(&mut opening, 1).unwrap();
            assert!(insert(&mut opening, 10).is_err());
            assert!(insert(&mut opening, 100).is_err(), "dead");
            assert_eq!(sum(&disk.open()), expected, "{fault:?}");
        }
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        let disk = SimulatedDisk::new("disk").unwrap();
        let mut opening = disk.open();
        insert(&mut opening, 1).unwrap();
        disk.cut_power();
        assert_eq!(sum(&opening), 1, "synced");
        disk.stop_syncing();
        insert(&mut opening, 10).unwrap();
        insert(&mut opening, 100).unwrap();
        disk.cut_power();
        assert!(insert(&mut opening, 1_000).is_err(), "dead");
        assert_eq!(sum(&disk.open()), 11);
    }

    #[test]
    fn a_full_disk_takes_nothing_until_the_kept_room_is_given_up() {
        let disk = SimulatedDisk::new("disk").unwrap();
        let mut opening = disk.open();
        assert!(opening.take_reserve());
        disk.fail_after(0, DiskFault::Full);
        let error = insert(&mut opening, 1).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
        assert!(opening.release_reserve());
        insert(&mut opening, 1).unwrap();
        assert!(!opening.take_reserve(), "still full");
        disk.make_room();
        assert!(opening.take_reserve());
        assert_eq!(sum(&opening), 1);
    }
}
