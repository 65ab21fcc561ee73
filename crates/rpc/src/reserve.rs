//! Room on the disk that a service keeps for what has to go on when the disk is full.
//!
//! Some megabytes are taken at the start by a file of nothing; when a write finds no room, the file goes, and what may
//! wait is refused until there is room again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of the file in the data directory.
const FILE: &str = "reserve";
static CHUNK: [u8; 64 << 10] = [0; 64 << 10];

/// The file of nothing.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Takes `bytes` in `directory`. Without them the service takes the disk for full.
    pub fn open(directory: &Path, bytes: u64) -> Self {
        let mut reserve = Self { path: directory.join(FILE), bytes, held: false };
        if let Err(error) = reserve.take() {
            tracing::warn!(path = %reserve.path.display(), %error, "the reserve cannot be kept");
        }
        reserve
    }

    /// Whether the room is taken.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the room up; whether there was any.
    pub fn release(&mut self) -> bool {
        std::mem::replace(&mut self.held, false) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room again; whether that worked.
    pub fn restore(&mut self) -> bool {
        self.take().is_ok()
    }

    fn take(&mut self) -> io::Result<()> {
        if self.held || self.bytes == 0 {
            return Ok(());
        }
        let taken = fill(&self.path, self.bytes);
        self.held = taken.is_ok();
        if !self.held {
            // A part of it is worth less than room for the database.
            let _ = fs::remove_file(&self.path);
        }
        taken
    }
}

/// Makes a file of zeros that really takes its room.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
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
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_room_is_really_taken_given_up_once_and_taken_again() {
        let home = tempfile::tempdir().unwrap();
        let file = || fs::metadata(home.path().join(FILE));
        let mut reserve = Reserve::open(home.path(), 300_000);
        assert!(reserve.is_held() && reserve.restore());
        assert_eq!(file().unwrap().len(), 300_000);
        assert!(file().unwrap().blocks() * 512 >= 300_000, "no sparse file");
        assert!(reserve.release() && !reserve.release() && !reserve.is_held());
        assert!(file().is_err());
        assert!(reserve.restore() && reserve.is_held());
    }

    #[test]
    fn half_a_reserve_that_a_kill_left_is_completed() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), [0; 10]).unwrap();
        assert!(Reserve::open(home.path(), 1000).is_held());
        assert_eq!(fs::metadata(home.path().join(FILE)).unwrap().len(), 1000);
    }

    #[test]
    fn where_there_is_no_room_nothing_is_kept() {
        // A directory in the place of the file, which cannot be written.
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(FILE)).unwrap();
        let mut reserve = Reserve::open(home.path(), 1000);
        assert!(!reserve.is_held() && !reserve.release() && !reserve.restore());
    }
}
