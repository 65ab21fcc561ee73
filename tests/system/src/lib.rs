//! What the tests in this crate share: where the programs are, how to run one and insist on its success, and how to
//! say that something could not be tested here. The tests themselves stand in `tests/`, one file per story.

mod embedded;

pub use embedded::{EmbeddedBank, free_ports};

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The top directory of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two levels below the top").to_path_buf()
}

/// The `atm-cli` that this build made.
///
/// Cargo builds it before any test of the workspace runs, because that crate has tests of its own that need it;
/// whoever runs this crate's tests alone builds it first.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn atm_cli() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = directory.join("atm-cli");
    assert!(program.exists(), "{} is missing: run `cargo build -p atm-cli` first", program.display());
    program
}

/// Says on the real standard error, past the test harness's capture, that a test did nothing and why.
///
/// # Panics
/// When the environment variable `required_by` is set: then a skip is an error.
pub fn skip(test: &str, reason: &str, required_by: &str) {
    assert!(std::env::var_os(required_by).is_none(), "{test}: {reason}, and {required_by} is set");
    let notice = format!("\n!!! SKIPPED {test}: {reason}\n");
    std::io::stderr().write_all(notice.as_bytes()).expect("standard error is open");
}

/// Whether `program` with these arguments can be run here and succeeds.
#[must_use]
pub fn succeeds<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Panics
/// When it cannot be started or does not exit with 0; the message holds everything it wrote.
pub fn insist(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", told(&output));
    String::from_utf8(output.stdout).expect("programs print UTF-8")
}

/// Everything a program said, for a failure's message.
#[must_use]
pub fn told(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n--- stdout\n{out}\n--- stderr\n{err}", output.status)
}

/// Waits until `condition` gives a value, looking every quarter of a second, at most `looks` times.
///
/// # Panics
/// When it never did.
pub fn wait_for<T>(what: &str, looks: u32, mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..looks {
        if let Some(value) = condition() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("waited in vain: {what}");
}
