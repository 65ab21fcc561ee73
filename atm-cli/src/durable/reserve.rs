//! Room on the disk that is kept for what must not fail.
//!
//! Once a transaction has begun it must be possible to write down how it goes on, even when the disk is full. So a
//! file of nothing takes some room before each beginning; when a write finds no room, the file goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

static CHUNK: [u8; 64 << 10] = [0; 64 << 10];

/// The file of nothing.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of a database: a file of `bytes` beside it.
    pub(super) fn of(database: &Path, bytes: u64) -> Self {
        Self { path: database.with_extension("reserve"), bytes }
    }

    /// Takes the room if it is not taken; whether it is there now.
    pub(super) fn take(&self) -> bool {
        let taken = fill(&self.path, self.bytes);
        if taken.is_err() {
            // A part of it is worth less than room for the database.
            let _ = fs::remove_file(&self.path);
        }
        taken.is_ok()
    }

    /// Gives the room up; whether there was any.
    pub(super) fn release(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

/// Makes a file of zeros that really takes its room.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    // A kill while it grows leaves a file that is seen to be too short.
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut missing = bytes;
    while missing > 0 {
        let length = usize::try_from(missing).unwrap_or(usize::MAX).min(CHUNK.len());
        file.write_all(&CHUNK[..length])?;
        missing -= length as u64;
    }
    // File systems that allocate late say only now that they are full.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_really_taken_given_up_once_and_taken_again() {
        use std::os::unix::fs::MetadataExt;
        let home = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&home.path().join("journal.sqlite3"), 300_000);
        assert!(reserve.take() && reserve.take());
        let file = fs::metadata(home.path().join("journal.reserve")).unwrap();
        assert_eq!(file.len(), 300_000);
        assert!(file.blocks() * 512 >= 300_000, "no sparse file");
        assert!(reserve.release() && !reserve.release());
        assert!(reserve.take());
    }

    #[test]
    fn half_a_reserve_that_a_kill_left_is_completed() {
        let home = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&home.path().join("journal.sqlite3"), 1000);
        fs::write(home.path().join("journal.reserve"), [0; 10]).unwrap();
        assert!(reserve.take());
        assert_eq!(fs::metadata(home.path().join("journal.reserve")).unwrap().len(), 1000);
    }
}
