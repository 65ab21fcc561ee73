//! Looks through a write-ahead log before SQLite does.
//!
//! SQLite reads its log up to the first frame whose checksum is wrong, takes that for the end, and says nothing
//! (<https://www.sqlite.org/walformat.html>). After a power cut that is right: only the newest transaction can be
//! torn, since each was flushed before the next began. But when whole transactions stand behind the bad frame, the
//! disk has lost something that was promised, and a machine that forgot a dispense would cancel what it paid out.

use std::fs;
use std::io;
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// Whether a log lost transactions in its middle; one that is not there lost nothing.
pub(super) fn lost_its_middle(log: &Path) -> io::Result<bool> {
    match fs::read(log) {
        Ok(bytes) => Ok(Log::of(&bytes).is_some_and(|log| log.commits_behind_the_first_bad_frame() > 1)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

struct Log<'a> {
    big_endian: bool,
    /// The checksum of the header; nothing when it is wrong itself.
    sum: Option<(u32, u32)>,
    /// What every frame since the log was begun anew carries.
    salt: &'a [u8],
    frames: Vec<&'a [u8]>,
}

impl<'a> Log<'a> {
    /// Nothing when it is too short to hold a frame, or not to be read as a log at all.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let page = usize::try_from(number(header, 8)).ok()?;
        let page = if (512..=65_536).contains(&page) && page.is_power_of_two() { page } else { 4096 };
        let frames: Vec<_> = rest.chunks_exact(FRAME_HEADER + page).collect();
        let big_endian = number(header, 0) & 1 == 1;
        let sum = checksum((0, 0), &header[..24], big_endian);
        let whole = number(header, 0) & !1 == MAGIC && sum == (number(header, 24), number(header, 28));
        let salt = if whole { &header[16..24] } else { &frames.first()?[8..16] };
        Some(Self { big_endian, sum: whole.then_some(sum), salt, frames })
    }

    fn commits_behind_the_first_bad_frame(&self) -> usize {
        let mut good = 0;
        if let Some(mut sum) = self.sum {
            for frame in &self.frames {
                sum = checksum(sum, &frame[..8], self.big_endian);
                sum = checksum(sum, &frame[FRAME_HEADER..], self.big_endian);
                if frame[8..16] != *self.salt || sum != (number(frame, 16), number(frame, 20)) {
                    break;
                }
                good += 1;
            }
        }
        self.frames[good..].iter().filter(|frame| frame[8..16] == *self.salt && number(frame, 4) != 0).count()
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The checksum of the log format, over a whole number of 8 bytes.
fn checksum(before: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    bytes.chunks_exact(8).fold(before, |(one, two), pair| {
        let word = |at| if big_endian { number(pair, at) } else { number(pair, at).swap_bytes() };
        let one = one.wrapping_add(word(0)).wrapping_add(two);
        (one, two.wrapping_add(word(4)).wrapping_add(one))
    })
}
