//! Room on the disk that is kept for captures, cancels and suspensions.
//!
//! Cash that has left must be posted even when the disk is full. So some megabytes are taken at the start by
//! a file of nothing; when a commit finds no room, the file goes, and only what ends holds is recorded until
//! there is room again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the file in the data directory.
const FILE: &str = "reserve";
static CHUNK: [u8; 64 << 10] = [0; 64 << 10];

/// The file of nothing.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Takes `bytes` in `directory`; without them the ledger works all the same, until the disk is full.
    pub(super) fn open(directory: &Path, bytes: u64) -> Self {
        let mut reserve = Self { path: directory.join(FILE), bytes, held: false };
        if bytes > 0 && !reserve.restore() {
            tracing::warn!("the disk has no room for the reserve of captures, cancels and suspensions");
        }
        reserve
    }

    /// Gives the room up; whether there was any.
    pub(super) fn release(&mut self) -> bool {
        std::mem::replace(&mut self.held, false) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room again; whether that worked.
    pub(super) fn restore(&mut self) -> bool {
        if !self.held {
            self.held = fill(&self.path, self.bytes).is_ok();
            if !self.held {
                // A part of it is worth less than room for the database.
                let _ = fs::remove_file(&self.path);
            }
        }
        self.held
    }
}

/// Makes a file of zeros that really takes its room.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    let mut file = super::private_file(path)?;
    file.set_len(0)?;
    let mut missing = bytes;
    while missing > 0 {
        let length = usize::try_from(missing).unwrap_or(usize::MAX).min(CHUNK.len());
        file.write_all(&CHUNK[..length])?;
        missing -= length as u64;
    }
    // File systems that allocate late say only now that they are full.
    file.sync_all()
}
