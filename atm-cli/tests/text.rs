//! The text utility on the command line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use support::{Said, cli, house, said};

fn run(arguments: &[&str]) -> Said {
    said(cli(&house().gateway).arg("text").args(arguments))
}

fn feed(arguments: &[&str], input: &[u8]) -> Said {
    let mut command = cli(&house().gateway);
    command.arg("text").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The program may stop reading when it has seen enough.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Said {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn words_become_small_or_capital_all_of_them() {
    assert_eq!(run(&["lower", "HELLOW"]).stdout, "hellow\n");
    assert_eq!(
        run(&["lower", "HELLOW", "DEAR", "World"]).stdout,
        "hellow dear world\n",
        "not only the first word"
    );
    assert_eq!(run(&["lower", "HELLOW DEAR World"]).stdout, "hellow dear world\n");
    assert_eq!(run(&["upper", "straße", "টাকা"]).stdout, "STRASSE টাকা\n");
    assert_eq!(run(&["lower", "ΟΔΥΣΣΕΥΣ"]).stdout, "οδυσσευς\n");
    assert_eq!(run(&["lower", "HELLOW", "--json"]).json(), serde_json::json!({"text": "hellow"}));
    assert_eq!(run(&["lower", "--", "--JSON"]).stdout, "--json\n");
}

#[test]
fn standard_input_is_converted_line_by_line_whatever_the_length_of_a_line() {
    let long = "LINE OF WORDS ".repeat(100_000);
    let input = format!("ONE\n\n{long}\nTHREE\r\nno end");
    let said = feed(&["lower"], input.as_bytes());
    assert_eq!(said.code, 0);
    assert_eq!(said.stdout.len(), input.len());
    assert!(said.stdout == input.to_lowercase(), "nothing is cut, added or changed");
    assert_eq!(feed(&["upper"], b"").stdout, "");
    let bad = feed(&["lower"], b"FINE\nB\xffD\n");
    assert_eq!((bad.code, bad.stdout.as_str()), (2, "fine\n"), "what was good is not lost");
    assert!(bad.stderr.contains("invalid input: line 2"), "{bad:?}");
}

#[test]
fn a_person_who_types_gets_each_line_before_typing_the_next() {
    let mut command = cli(&house().gateway);
    let mut child =
        command.args(["text", "lower"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for line in ["FIRST\n", "SECOND\n", "THIRD\n"] {
        stdin.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, line.to_lowercase());
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn numbers_are_classified_in_exactly_four_words() {
    for (arguments, word) in [
        (&["prime", "13"][..], "Prime\n"),
        (&["prime", "1"], "NonPrime\n"),
        (&["prime", "0"], "NonPrime\n"),
        (&["prime", "-7"], "NonPrime\n"),
        (&["prime", "170141183460469231731687303715884105727"], "Prime\n"),
        (&["palindrome", "12321"], "Palindrome\n"),
        (&["palindrome", "13"], "NonPalindrome\n"),
        (&["palindrome", "-121"], "NonPalindrome\n"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (0, word), "{arguments:?}: {said:?}");
    }
    let json = run(&["prime", "13", "--json"]).json();
    assert_eq!(json, serde_json::json!({"number": "13", "result": "Prime"}));
}

#[test]
fn what_is_no_integer_is_invalid_input() {
    let huge = "9".repeat(10_000);
    for number in ["", "ten", "1.5", "1e3", "-", "--1", "+5", " 13", "१३", "0x10", &huge] {
        for command in ["prime", "palindrome"] {
            let said = run(&[command, "--", number]);
            assert_eq!(said.code, 2, "{number:?}: {said:?}");
            assert!(said.stderr.contains("invalid input"), "{number:?}: {said:?}");
        }
    }
    // So long that no call would carry it.
    let longer = "7".repeat(100_000);
    let said = run(&["prime", &longer]);
    assert!(said.code == 2 && said.stderr.contains("at most 4096 bits"), "{said:?}");
    assert_eq!(
        run(&["palindrome", &format!("{}7", "0".repeat(2000))]).stdout,
        "Palindrome\n",
        "zeros before it"
    );
    assert!(
        run(&["prime", &huge]).stderr.contains("4096") || run(&["prime", &huge]).stderr.contains("4,096")
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let script = "yes LINE | head -n 100000 | \"$0\" text lower | head -n 1";
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg(assert_cmd::cargo::cargo_bin!("atm-cli"))
        .env("ATM_GATEWAY", &house().gateway);
    let said = said(&mut command);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "line\n", ""));
}
