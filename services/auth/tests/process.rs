//! The program itself: what it says when it does not start, and what a kill leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may stop where it is")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atm_proto::auth::VerifyPinRequest;
use atm_rpc::process::SecretFile;
use atm_types::SystemIds;
use support::{CARD, Home, cards, press, reason};

#[test]
fn row_02_beyond_loopback_only_with_insecure() {
    let home = Home::new();
    let refused = home.refused(&["--listen", "0.0.0.0:0"]);
    assert!(refused.contains("0.0.0.0:0") && refused.contains("--insecure"), "{refused}");
    assert!(!home.data().exists(), "nothing was made");
    home.start(&[]).kill();
}

#[test]
fn what_is_wrong_with_a_flag_or_a_file_is_said_in_a_sentence() {
    let home = Home::new();
    let cheap = home.refused(&["--hash-memory-kib", "8"]);
    assert!(cheap.contains("at least 19456 KiB"), "{cheap}");
    std::fs::write(home.data(), "a file").unwrap();
    let in_the_way = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(in_the_way.contains("cannot lock") && in_the_way.contains("data"), "{in_the_way}");
    std::fs::remove_file(home.token()).unwrap();
    let tokenless = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(tokenless.contains("service.token does not exist"), "{tokenless}");
}

#[test]
fn row_27_a_second_process_on_the_same_data_leaves_and_names_the_first() {
    let home = Home::new();
    let mut first = home.start(&[]);
    let refused = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(refused.contains(&format!("process {}", first.child.id())), "{refused}");
    first.kill();
    home.start(&[]).kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_a_wrong_or_missing_pepper_is_told_to_the_operator() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    process.kill();
    std::fs::rename(home.pepper(), home.0.path().join("kept")).unwrap();
    let missing = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(missing.contains("missing although cards exist"), "{missing}");
    SecretFile::create_or_load(&home.pepper(), &SystemIds).unwrap();
    let wrong = home.refused(&["--listen", "127.0.0.1:0"]);
    assert!(wrong.contains("every PIN would be wrong"), "{wrong}");
    std::fs::rename(home.0.path().join("kept"), home.pepper()).unwrap();
    home.start(&[]).kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_every_answered_guess_survives_a_kill() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    for expected in ["WRONG_CARD_OR_PIN", "WRONG_CARD_OR_PIN", "CARD_LOCKED", "CARD_LOCKED"] {
        let answer = home.client(&process).verify_pin(press("4321")).await;
        // The moment the answer is here.
        process.kill();
        assert_eq!(reason(&answer).as_deref(), Some(expected));
        process = home.start(&[]);
    }
    let answer = home.client(&process).verify_pin(press("1234")).await;
    assert_eq!(reason(&answer).as_deref(), Some("CARD_LOCKED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_guesses_never_gives_a_fourth_one_away() {
    let home = Home::new();
    let mut process = home.start(&[]);
    home.client(&process).issue_cards(cards("1234")).await.unwrap();
    let mut told_wrong = 0;
    for round in 0..8_u64 {
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut client = home.client(&process);
            guesses.spawn(async move { client.verify_pin(press("4321")).await });
        }
        // At another moment of the verifications each time.
        tokio::time::sleep(Duration::from_millis(10 + 7 * round)).await;
        process.kill();
        while let Some(answer) = guesses.join_next().await {
            told_wrong += usize::from(reason(&answer.unwrap()).as_deref() == Some("WRONG_CARD_OR_PIN"));
        }
        process = home.start(&[]);
        assert!(told_wrong <= 2, "round {round}: {told_wrong} guesses were told that they were wrong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_ends_well_and_health_tells_whether_it_serves() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let health = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atm-auth"));
        // As in a container, whose environment is that of the service.
        for (name, value) in [
            ("ATM_AUTH_DATA", "/data"),
            ("ATM_SERVICE_TOKEN_FILE", "/secrets/service.token"),
            ("ATM_PEPPER_FILE", "/secrets/pepper"),
            ("ATM_AUTH_LISTEN", "0.0.0.0:50052"),
            ("ATM_INSECURE", "true"),
        ] {
            command.env(name, value);
        }
        command.args(["health", "--url", url]).status().unwrap().code()
    };
    assert_eq!(health(&process.url), Some(0));
    assert!(process.terminate().success());
    assert_eq!(health(&process.url), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_the_program_prints_no_secret_even_at_trace() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let (pin, wrong) = ("739104628517", "518273640951");
    home.client(&process).issue_cards(cards(pin)).await.unwrap();
    let token = home.client(&process).verify_pin(press(pin)).await.unwrap().into_inner().session_token;
    assert!(home.client(&process).verify_pin(press(wrong)).await.is_err());
    assert!(process.terminate().success());
    let output = process.output.lock().unwrap().clone();
    assert!(output.contains("TRACE") && output.contains("verified a PIN"), "nothing was captured");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    for secret in [pin, wrong, CARD, &token, &read(&home.token()), &read(&home.pepper())] {
        assert!(!output.contains(secret), "{secret} was printed");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn hashing_takes_the_memory_of_its_permits_and_gives_it_back() {
    const MIB: u64 = 1024;
    let home = Home::new();
    let process = home.start(&["--hash-permits", "2", "--hash-queue", "64"]);
    let kib = |what: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = kib("VmRSS");
    let client = home.client(&process);
    for round in 0..3 {
        let mut guesses = tokio::task::JoinSet::new();
        for number in 0..20 {
            let mut client = client.clone();
            let request =
                VerifyPinRequest { card_number: format!("55550{round}{number:02}"), ..press("1234") };
            guesses.spawn(async move { client.verify_pin(request).await });
        }
        while let Some(answer) = guesses.join_next().await {
            assert_eq!(reason(&answer.unwrap()).as_deref(), Some("WRONG_CARD_OR_PIN"));
        }
    }
    // 60 hashes of 19 MiB each, never more than two of them at once; the rest is threads and connections.
    let (peak, after) = (kib("VmHWM"), kib("VmRSS"));
    assert!(peak < before + 2 * 19 * MIB + 12 * MIB, "{before} KiB became {peak} KiB");
    assert!(after < before + 12 * MIB, "{before} KiB stayed {after} KiB");
}
