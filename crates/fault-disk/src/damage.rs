//! Damage to files that were whole: cut, with garbage behind their end, or with a bit flipped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// Bytes of a page of SQLite.
const PAGE: usize = 4096;

/// One damage.
#[derive(Clone, Debug)]
pub struct Damage {
    file: &'static str,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// The file ends here.
    Cut { at: usize },
    /// So many bytes behind its end: zeros, ones, or its own beginning again.
    Tail { kind: u8, bytes: usize },
    /// This bit is the other one.
    Flip { at: usize, bit: u8 },
    /// A page is as it once was: its last writes never came to the disk, or came to another place.
    Old { at: usize, bytes: Vec<u8> },
}

impl Damage {
    /// Draws a flip, in any of `files` that is in the directory and not empty.
    ///
    /// # Panics
    /// When there is none.
    pub fn flip(directory: &Path, files: &[&'static str], dice: &mut fastrand::Rng) -> Self {
        let (file, length) = pick(directory, files, dice);
        // Headers decide most, and are small; what is empty is most of a file, and decides least.
        let near = if dice.u8(..8) == 0 { length.min(128) } else { length };
        let bytes = read(&directory.join(file));
        let mut at = dice.usize(..near);
        for _ in 0..dice.u8(..64) {
            if bytes[at] != 0 {
                break;
            }
            at = dice.usize(..near);
        }
        Self { file, what: What::Flip { at, bit: dice.u8(..8) } }
    }

    /// Draws a cut anywhere in one of `files`.
    ///
    /// # Panics
    /// When there is none that is not empty.
    pub fn cut(directory: &Path, files: &[&'static str], dice: &mut fastrand::Rng) -> Self {
        let (file, length) = pick(directory, files, dice);
        Self { file, what: What::Cut { at: dice.usize(..length) } }
    }

    /// Draws a tail behind one of `files`.
    ///
    /// # Panics
    /// When there is none that is not empty.
    pub fn tail(directory: &Path, files: &[&'static str], dice: &mut fastrand::Rng) -> Self {
        let (file, length) = pick(directory, files, dice);
        Self { file, what: What::Tail { kind: dice.u8(..3), bytes: dice.usize(1..=length) } }
    }

    /// Draws a page of `file` that has changed since `older` was copied, and puts the old one in its place.
    ///
    /// # Panics
    /// When none has.
    pub fn old_page(directory: &Path, older: &Path, file: &'static str, dice: &mut fastrand::Rng) -> Self {
        let (now, then) = (read(&directory.join(file)), read(&older.join(file)));
        let pages = now.chunks(PAGE).zip(then.chunks(PAGE)).enumerate();
        let changed: Vec<_> = pages.filter(|(_, (now, then))| now != then).collect();
        let (page, (_, old)) = changed[dice.usize(..changed.len())];
        Self { file, what: What::Old { at: page * PAGE, bytes: old.to_vec() } }
    }

    /// What kind of damage it is, for the counts.
    #[must_use]
    pub fn kind(&self) -> String {
        let what = match self.what {
            What::Cut { .. } => "cut",
            What::Tail { .. } => "with a torn tail",
            What::Flip { .. } => "flipped",
            What::Old { .. } => "with an old page",
        };
        format!("{} {what}", self.file)
    }

    /// Does it.
    ///
    /// # Panics
    /// When the file cannot be read or written.
    pub fn strike(&self, directory: &Path) {
        let path = directory.join(self.file);
        let mut bytes = read(&path);
        match &self.what {
            What::Cut { at } => bytes.truncate(*at),
            What::Tail { kind, bytes: count } => {
                let tail = match kind {
                    0 => vec![0; *count],
                    1 => vec![0xff; *count],
                    _ => bytes[..*count].to_vec(),
                };
                bytes.extend(tail);
            }
            What::Flip { at, bit } => bytes[*at] ^= 1 << bit,
            What::Old { at, bytes: old } => bytes[*at..*at + old.len()].copy_from_slice(old),
        }
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pick(directory: &Path, files: &[&'static str], dice: &mut fastrand::Rng) -> (&'static str, usize) {
    let length = |file: &str| fs::metadata(directory.join(file)).map_or(0, |found| found.len());
    let found: Vec<_> = files.iter().copied().filter(|file| length(file) > 0).collect();
    let file = found[dice.usize(..found.len())];
    (file, usize::try_from(length(file)).unwrap_or(usize::MAX))
}

/// How many cases of each kind came to what.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, BTreeMap<&'static str, u64>>);

impl Tally {
    /// One more.
    pub fn count(&mut self, kind: impl Into<String>, result: &'static str) {
        *self.0.entry(kind.into()).or_default().entry(result).or_default() += 1;
    }

    /// How many came to this, of all kinds.
    #[must_use]
    pub fn of(&self, result: &str) -> u64 {
        self.0.values().filter_map(|counts| counts.get(result)).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, counts) in &self.0 {
            let total: u64 = counts.values().sum();
            let parts: Vec<_> = counts.iter().map(|(result, count)| format!("{count} {result}")).collect();
            writeln!(f, "{kind}: {total} cases, {}", parts.join(", "))?;
        }
        Ok(())
    }
}
