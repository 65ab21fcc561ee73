//! Clients that are not ours, against `atm-cli serve`: the README's own `grpcurl` lines, and `buf curl` over both
//! versions of reflection. Neither is given a proto file.
//!
//! A missing client is said loudly; ATM_REQUIRE_CLIENTS=1, which `.ci/run` sets, makes it an error.

use std::net::SocketAddr;
use std::process::{Command, Output};

use atm_system_tests::{EmbeddedBank, insist, repository, skip, succeeds, told};

const REQUIRED: &str = "ATM_REQUIRE_CLIENTS";

/// What must stand in the answer to a README line that contains the first text.
const ANSWERS: [(&str, &str); 7] = [
    (" list", "atm.gateway.v1.AtmService"),
    (" describe ", "rpc "),
    ("TextService/Lowercase", "hellow"),
    ("TextService/CheckPrime", "prime"),
    ("TextService/CheckPalindrome", "palindrome"),
    ("AuthService/GetSessionKeys", "publicKeys"),
    ("LedgerService/GetTrialBalance", "balanced"),
];

#[test]
fn the_readme_calls_of_grpcurl_give_what_they_promise() {
    if !succeeds("grpcurl", &["--version"]) {
        return skip(
            "the grpcurl test",
            "grpcurl (or its port, the crate grpcurl-rs) is not installed",
            REQUIRED,
        );
    }
    let bank = EmbeddedBank::start();
    let calls = readme_calls();
    assert!(calls.len() >= 5, "README.md shows fewer than five grpcurl calls: {calls:?}");
    for wanted in [" list", " describe ", "localhost:50051", "localhost:50052", "localhost:50053"] {
        assert!(
            calls.iter().any(|call| call.contains(wanted)),
            "README.md has no grpcurl call with `{wanted}`"
        );
    }
    for call in calls {
        let (_, answer) = ANSWERS
            .iter()
            .find(|(wanted, _)| call.contains(wanted))
            .unwrap_or_else(|| panic!("this test does not know what `{call}` of README.md should answer"));
        let printed = insist(Command::new("sh").args(["-c", &here(&call, &bank)]));
        assert!(printed.contains(answer), "`{call}` printed no {answer}:\n{printed}");
    }
}

#[test]
fn both_versions_of_reflection_serve_calls_to_every_service() {
    if !succeeds("buf", &["--version"]) {
        return skip("the reflection test", "buf (PyPI: buf-bin) is not installed", REQUIRED);
    }
    let bank = EmbeddedBank::start();
    let token = std::fs::read_to_string(bank.service_token_file()).expect("serve has made the token");
    let bearer = format!("authorization: Bearer {}", token.trim());
    for version in ["grpc-v1", "grpc-v1alpha"] {
        let curl = |address: SocketAddr, call: &[&str]| buf_curl(version, address, call);
        let good = |output: Output| {
            assert!(output.status.success(), "{version}: {}", told(&output));
            String::from_utf8(output.stdout).expect("buf prints UTF-8")
        };

        let lowered =
            good(curl(bank.gateway, &["-d", r#"{"text":"HELLOW"}"#, "atm.text.v1.TextService/Lowercase"]));
        assert!(lowered.contains("hellow"), "{version}: {lowered}");
        let prime =
            good(curl(bank.gateway, &["-d", r#"{"number":"13"}"#, "atm.text.v1.TextService/CheckPrime"]));
        assert!(prime.contains("true"), "{version}: {prime}");
        let keys = good(curl(bank.auth, &["-H", &bearer, "atm.auth.v1.AuthService/GetSessionKeys"]));
        assert!(keys.contains("publicKeys"), "{version}: {keys}");
        let books = good(curl(bank.ledger, &["-H", &bearer, "atm.ledger.v1.LedgerService/GetTrialBalance"]));
        assert!(books.contains("balanced"), "{version}: {books}");

        for (address, method) in [
            (bank.auth, "atm.auth.v1.AuthService/GetSessionKeys"),
            (bank.ledger, "atm.ledger.v1.LedgerService/GetTrialBalance"),
        ] {
            let refused = curl(address, &[method]);
            assert!(!refused.status.success(), "{version}: {method} answered without the service token");
            assert!(told(&refused).contains("unauthenticated"), "{version}: {}", told(&refused));
        }
    }
}

/// The `grpcurl` lines of README.md, those that go on after a backslash put together.
fn readme_calls() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md can be read");
    let joined = readme.replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| line.starts_with("grpcurl ")).map(str::to_owned).collect()
}

/// A README line with this bank's addresses and token file in the place of the usual ones.
fn here(call: &str, bank: &EmbeddedBank) -> String {
    let mut line = call.to_owned();
    for (port, address) in [(50051, bank.gateway), (50052, bank.auth), (50053, bank.ledger)] {
        line = line.replace(&format!("localhost:{port}"), &address.to_string());
    }
    if let Some((before, rest)) = line.split_once("$(cat ")
        && let Some((_, after)) = rest.split_once(')')
    {
        line = format!("{before}$(cat '{}'){after}", bank.service_token_file().display());
    }
    line
}

/// Runs `buf curl` with a method (the last of `call`) and flags (the others), the schema taken by reflection.
fn buf_curl(version: &str, address: SocketAddr, call: &[&str]) -> Output {
    let (method, flags) = call.split_last().expect("a method to call");
    Command::new("buf")
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", version])
        .args(flags)
        .arg(format!("http://{address}/{method}"))
        .output()
        .expect("buf can be started")
}
