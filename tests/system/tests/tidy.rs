//! Rules of the tree that no compiler knows, checked over the tracked files.

use std::path::PathBuf;
use std::process::Command;

use atm_system_tests::{insist, repository, skip, succeeds};

const LONGEST_FILE_LINES: usize = 600;

#[test]
fn no_rust_file_is_too_long_to_read() {
    for (path, text) in tracked(".rs") {
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST_FILE_LINES,
            "{}: {lines} lines; two files would read better",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    // Written in halves, so that this file does not find itself.
    let marks =
        [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("FIX", "ME")];
    for (path, text) in tracked(".rs") {
        for mark in marks {
            assert!(!text.contains(mark), "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut marks = vec![concat!("/ro", "ot/").to_owned(), concat!("/ho", "me/").to_owned()];
    for host in ["index", "registry", "static", "mirror", "deb"] {
        marks.push(format!("://{host}."));
    }
    // The lock file names its registry by rule.
    for (path, text) in tracked("").into_iter().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for mark in &marks {
            assert!(!text.contains(mark), "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn the_readme_starts_with_commands_that_the_checks_run() {
    let read =
        |name| std::fs::read_to_string(repository().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (readme, checks) = (read("README.md"), read(".ci/run"));
    for command in ["cargo run --release -- demo", "cargo test --workspace --locked"] {
        assert!(readme.contains(command), "README.md does not show `{command}`");
        assert!(checks.contains(command), ".ci/run does not run `{command}`");
    }
}

#[test]
fn the_failure_tables_name_tests_and_crash_points_that_exist() {
    let page = std::fs::read_to_string(repository().join("docs/EXACTLY_ONCE.md")).expect("the page is there");
    let code: String = tracked(".rs").into_iter().map(|(_, text)| text).collect();
    let rows = page.lines().filter(|line| line.starts_with('|') && line.matches('|').count() == 7);
    let mut named = 0;
    for row in rows {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        for name in last.split('`').skip(1).step_by(2) {
            // A test is a function; a crash point, fault or scenario stands in quotes or is a variant.
            let is_test = name.contains('_') && name.chars().all(|letter| !letter.is_uppercase());
            let text = if is_test { format!("fn {name}(") } else { name.to_owned() };
            assert!(
                code.is_empty() || code.contains(&text),
                "docs/EXACTLY_ONCE.md names `{name}`, which is nowhere"
            );
            named += 1;
        }
    }
    assert!(named > 40, "the tables were not found: {named}");
}

/// Path and text of every tracked text file whose name ends so; none outside a git work tree, said loudly.
fn tracked(ending: &str) -> Vec<(PathBuf, String)> {
    if !succeeds("git", &["-C", &repository().to_string_lossy(), "rev-parse"]) {
        skip("a tidy test", "this is no git work tree", "CI");
        return Vec::new();
    }
    let listed = insist(Command::new("git").args(["ls-files", "-z"]).current_dir(repository()));
    let names = listed.split_terminator('\0').filter(|name| name.ends_with(ending));
    // A file that is deleted but not yet committed, or not text, has nothing to check.
    names
        .filter_map(|name| Some((name.into(), std::fs::read_to_string(repository().join(name)).ok()?)))
        .collect()
}
