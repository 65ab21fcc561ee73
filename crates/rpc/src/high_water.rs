//! Remembers, outside a database, how far it had come when somebody was last told so.
//!
//! SQLite ends its write-ahead log at the first frame that does not add up, and takes what follows for a write that was
//! never finished. For a log that was cut or damaged after it was synced, that would be a silent loss. So whoever
//! counts its transactions writes the count here too, after the sync and before the answer, without a sync of its own:
//! after a kill it is exact, and after a power cut it is at worst older than the database. If it is ever higher, what
//! was acknowledged is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The open file. It holds the mark and its complement.
#[derive(Debug)]
pub struct HighWater {
    file: File,
}

impl HighWater {
    /// Opens the file, or makes it, and says how high the mark is: `None` when the file is new.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] when it holds something else.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; 16];
        let mark = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {
                let both = u128::from_be_bytes(bytes);
                // The upper half; the lower one is the complement.
                let mark = u64::try_from(both >> 64).unwrap_or_default();
                if both != with_complement(mark) {
                    return Err(ErrorKind::InvalidData.into());
                }
                Some(mark)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self { file }, mark))
    }

    /// Everything up to `mark` is durable and about to be acknowledged. One small write in place, within one sector: it
    /// is there or not.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reach(&self, mark: u64) -> io::Result<()> {
        self.file.write_all_at(&with_complement(mark).to_be_bytes(), 0)
    }
}

fn with_complement(mark: u64) -> u128 {
    u128::from(mark) << 64 | u128::from(!mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mark");
        let (water, mark) = HighWater::open(&path).unwrap();
        assert_eq!(mark, None);
        for mark in [0, 1, u64::MAX] {
            water.reach(mark).unwrap();
            assert_eq!(HighWater::open(&path).unwrap().1, Some(mark));
        }
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..128 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            assert_eq!(HighWater::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
