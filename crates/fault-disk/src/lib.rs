//! A disk for tests of programs that keep money: its writes and syncs fail as told, in a power cut it forgets what was
//! not synced, and it is damaged byte by byte.
//!
//! The first two are done by a library of C (`shim.c`) that is compiled here and preloaded into the program that is
//! tried, since SQLite does its own input and output. [`Damage`] works on the files of a program that is not running.

mod damage;
mod power;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use damage::{Damage, Tally};
pub use power::{End, copy_of};

const HOME: &str = "ATM_FAULT_DISK";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A number of the environment, such as how many cases are to be tried.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The dice of a test, which says how they can be thrown again.
#[must_use]
pub fn dice(cases: &str, count: u64) -> fastrand::Rng {
    let seed = number("ATM_SEED", 20_261_121);
    println!("{cases}={count} ATM_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// How a strike shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The call fails: an input/output error.
    Fails,
    /// The call fails: there is no room.
    Full,
    /// The process is gone before the call does anything.
    Kill,
}

/// One way for the disk to strike.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `sync` or `write`.
    pub operation: &'static str,
    /// Which of the matching calls of a process is the first.
    pub nth: u64,
    /// Whether all matching calls after it are struck too.
    pub onwards: bool,
    /// What they meet.
    pub blow: Blow,
    /// How the path of the file ends that it is about.
    pub file: &'static str,
}

impl Fault {
    /// Draws one of the first syncs of one of `files`, each with how many it sees, or of the writes that belong to them.
    #[must_use]
    pub fn draw(dice: &mut fastrand::Rng, files: &[(&'static str, u64)], blows: &[Blow]) -> Self {
        let (file, most) = files[dice.usize(..files.len())];
        // A transaction of SQLite's is a few writes and one sync.
        let (operation, most) = if dice.bool() { ("sync", most) } else { ("write", 3 * most) };
        Self {
            operation,
            nth: dice.u64(1..=most),
            onwards: dice.bool(),
            blow: blows[dice.usize(..blows.len())],
            file,
        }
    }
}

/// The library, and the directory through which it is told what to do.
#[derive(Debug)]
pub struct Disk {
    home: PathBuf,
    /// Removed when this is dropped, by whoever made it.
    _made: Option<tempfile::TempDir>,
}

impl Disk {
    /// Compiles the library.
    ///
    /// # Panics
    /// Without a C compiler; there is one wherever SQLite could be built.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that cannot go on fails")]
    pub fn new() -> Self {
        let made = tempfile::tempdir().expect("there is room for temporary files");
        let home = made.path().to_owned();
        fs::create_dir(home.join("synced")).expect("the directory was just made");
        fs::write(home.join("shim.c"), include_str!("shim.c")).expect("the directory was just made");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([home.join("shim.so"), home.join("shim.c")])
            .arg("-ldl")
            .status()
            .expect("there is a C compiler");
        assert!(built.success(), "the library is compiled");
        Self { home, _made: Some(made) }
    }

    /// The disk under this very process, if it runs on one.
    #[must_use]
    pub fn under_this_process() -> Option<Self> {
        std::env::var_os(HOME).map(|home| Self { home: home.into(), _made: None })
    }

    /// What a program has in its environment that is to run on this disk.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.home.join("shim.so").into()), (HOME, self.home.clone().into())]
    }

    /// Strikes from now on as `fault` says, which is number `case`.
    ///
    /// # Panics
    /// When this disk's own directory is gone; so do the others.
    pub fn strike(&self, case: u64, fault: &Fault) {
        let Fault { operation, nth, onwards, blow, file } = fault;
        let errno = match blow {
            Blow::Fails => EIO,
            Blow::Full => ENOSPC,
            Blow::Kill => 0,
        };
        self.control(&format!("{case} {operation} {nth} {} {errno} {file}\n", u8::from(*onwards)));
    }

    /// Strikes no more.
    pub fn heal(&self) {
        self.control("");
    }

    #[expect(clippy::expect_used, reason = "a test that cannot go on fails")]
    fn control(&self, line: &str) {
        // A new file in its place: whoever reads it reads all of the old one or all of the new one.
        let (fresh, control) = (self.home.join("control.new"), self.home.join("control"));
        fs::write(&fresh, line).and_then(|()| fs::rename(&fresh, &control)).expect("the disk is told");
    }

    /// How many calls were struck so far.
    #[must_use]
    pub fn strikes(&self) -> u64 {
        fs::metadata(self.home.join("struck")).map_or(0, |file| file.len())
    }

    fn synced(&self, file: &Path) -> PathBuf {
        self.home.join("synced").join(file.to_string_lossy().replace('/', "%"))
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}
