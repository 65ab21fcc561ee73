//! Remembers, outside the database, the last batch that was acknowledged.
//!
//! SQLite ends its log at the first frame that does not add up, and takes what follows for a write that was
//! never finished. For a log that was cut or damaged after it was synced, that would be a silent loss. So the
//! head is also written here, after the sync and before the answers, without a sync of its own: after a kill
//! it is exact, and after a power cut it is at worst older than the database. If it is ever newer, steps that
//! were acknowledged are gone, and the ledger does not start.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::{Hash, Head, StoreError};
use super::unusable;

/// The name of the file in the data directory.
const FILE: &str = "acknowledged";
/// Sequence (8, big-endian), chain hash (32), and the first 8 bytes of the SHA-256 of both.
const BYTES: usize = 48;

/// The end of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) sequence: u64,
    pub(super) hash: Hash,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    path: PathBuf,
    last: Option<Last>,
}

impl Acknowledged {
    /// Opens the file in `directory`, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let io = unusable::<io::Error>("the file of acknowledged steps cannot be used");
        let path = directory.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(&io)?;
        let mut bytes = [0; BYTES];
        let last = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Some(decode(&bytes).ok_or_else(|| {
                StoreError::damaged(format!(
                    "{} is unreadable; remove it to accept what the database has",
                    path.display()
                ))
            })?),
            // Removed by somebody who accepts a loss, or never made.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(io(error)),
        };
        Ok(Self { file, path, last })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file said when it was opened; `None` when it was new.
    pub(super) fn last(&self) -> Option<Last> {
        self.last
    }

    /// Writes the head that the ledger starts with, and makes sure that the file is there for good.
    pub(super) fn initialise(&self, head: &Head) -> Result<(), StoreError> {
        let durable = || {
            self.write(head)?;
            self.file.sync_all()?;
            match self.path.parent() {
                Some(directory) => File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        };
        durable().map_err(unusable("the file of acknowledged steps cannot be written"))
    }

    /// Notes that everything up to `head` is durable and about to be acknowledged.
    pub(super) fn advance(&self, head: &Head) -> Result<(), StoreError> {
        self.write(head).map_err(unusable("the file of acknowledged steps cannot be written"))
    }

    /// One small write in place, within one sector: it is there or not.
    fn write(&self, head: &Head) -> io::Result<()> {
        self.file.write_all_at(&encode(head), 0)
    }
}

fn encode(head: &Head) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&head.sequence.to_be_bytes());
    bytes[8..40].copy_from_slice(&head.hash);
    let sum = Sha256::digest(&bytes[..40]);
    bytes[40..].copy_from_slice(&sum[..8]);
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Option<Last> {
    let (sequence, rest) = bytes.split_first_chunk::<8>()?;
    let (hash, sum) = rest.split_first_chunk::<32>()?;
    let expected = Sha256::digest(&bytes[..40]);
    (sum == &expected[..8]).then_some(Last { sequence: u64::from_be_bytes(*sequence), hash: *hash })
}
