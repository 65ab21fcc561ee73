//! What is on the disk when a program has ended: all that it wrote, or what a power cut left of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::Disk;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What happened to the machine when the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Nothing: what was written is there.
    Kill,
    /// The power went: nothing is there that was not synced.
    PowerCut,
    /// The power went while the disk was writing: of what was not synced, some sectors are there.
    TornPowerCut,
}

impl End {
    /// One of them.
    pub fn draw(dice: &mut fastrand::Rng) -> Self {
        [Self::Kill, Self::PowerCut, Self::TornPowerCut][dice.usize(..3)]
    }
}

/// The files of one directory in another, but for SQLite's index of its log, which is made anew.
///
/// # Panics
/// When they cannot be copied.
#[must_use]
pub fn copy_of(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    for name in names(from) {
        fs::copy(from.join(&name), to.path().join(name)).unwrap_or_else(|error| panic!("{error}"));
    }
    to
}

impl Disk {
    /// Everything in `directory` counts as synced, whoever wrote it.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn settle(&self, directory: &Path) {
        for name in names(directory) {
            let file = directory.join(name);
            fs::copy(&file, self.synced(&file)).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Nobody will ask any more what was synced of `directory`.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub fn forget(&self, directory: &Path) {
        let synced = self.synced(&directory.join(""));
        let (Some(all), Some(prefix)) = (synced.parent(), synced.file_name()) else { return };
        for name in names(all).iter().filter(|name| name.starts_with(&*prefix.to_string_lossy())) {
            fs::remove_file(all.join(name)).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// What is found of `directory` after `end`, in a directory of its own. Only SQLite's files, and those that were
    /// ever synced where they could be read, are at risk; all others are taken to be there.
    ///
    /// # Panics
    /// When they cannot be copied.
    #[must_use]
    pub fn after(&self, end: End, directory: &Path, dice: &mut fastrand::Rng) -> tempfile::TempDir {
        let copy = copy_of(directory);
        if end == End::Kill {
            return copy;
        }
        // A log that was removed last may be there again: that too is only true once it is synced.
        let mut all = names(copy.path());
        all.extend(all.clone().into_iter().map(|name| name + "-wal"));
        for name in all {
            let synced = fs::read(self.synced(&directory.join(&name))).ok();
            let target = copy.path().join(&name);
            let written = fs::read(&target).ok();
            let at_risk = synced.is_some() || name.contains(".db") || name.contains(".sqlite3");
            if !at_risk || (written.is_none() && (synced.is_none() || dice.bool())) {
                continue;
            }
            let (synced, written) = (synced.unwrap_or_default(), written.unwrap_or_default());
            let left = if end == End::PowerCut { synced } else { torn(&synced, &written, dice) };
            fs::write(target, left).unwrap_or_else(|error| panic!("{error}"));
        }
        copy
    }
}

/// Some sectors of what was written over what was synced.
fn torn(synced: &[u8], written: &[u8], dice: &mut fastrand::Rng) -> Vec<u8> {
    // Few, half or nearly all of them.
    let of_ten = [1, 5, 9][dice.usize(..3)];
    let mut left = synced.to_vec();
    for (number, sector) in written.chunks(SECTOR).enumerate() {
        let at = number * SECTOR;
        if dice.u8(..10) < of_ten {
            left.resize(left.len().max(at + sector.len()), 0);
            left[at..at + sector.len()].copy_from_slice(sector);
        }
    }
    left
}

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap_or_else(|error| panic!("{error}")))
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("-shm"))
        .collect()
}
