//! What a machine tells of a transaction that was not let through, was sent before, or was broken off.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::{Command, Stdio};

use support::proxy::{Mode, Proxy};
use support::{Atm, Customer, House, PIN, Said, house, keys, new_id, said, text, wait_until};

#[test]
fn an_id_that_was_sent_before_never_says_that_nothing_happened_when_nobody_is_let_in() {
    let house = house();
    let customer = house.customer("1000");
    let mut atm = Atm::new(&house.gateway);
    let id = new_id();
    let arguments =
        ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id, "--deadline", "3s"];
    assert_eq!(atm.json(&arguments)["status"], "captured");
    let wrong = said(atm.command(&arguments).arg("--json").env("ATM_PIN", "9999"));
    assert_eq!((wrong.code, text(&wrong.json(), "status")), (3, "unknown".into()), "{wrong:?}");

    atm.behind("http://127.0.0.1:1");
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(keys(&json), "status")), (0, "captured".into()));
    assert!(json["balance"].is_null(), "the balance is for those who are let in");
    let changed = ["withdraw", "101", "--card", &customer.card, "--transaction-id", &id, "--deadline", "3s"];
    assert_eq!(atm.run_json(&changed).0, 2);
}

#[test]
fn a_repeat_asks_nobody_to_take_cash_and_says_when_it_asked_nobody() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("0"));
    for (command, words) in [
        (&["withdraw", "100"][..], "100.00 BDT was withdrawn. No cash is paid out now"),
        (&["deposit", "100"], "100.00 BDT was deposited. Nothing is moved now"),
        (&["transfer", "100", "--to", &other.account], "100.00 BDT was transferred. Nothing is moved now"),
    ] {
        let mut atm = Atm::new(&house.gateway);
        let id = new_id();
        let arguments =
            [command, &["--card", &customer.card, "--transaction-id", &id, "--deadline", "3s"]].concat();
        let first = atm.run(&arguments);
        assert!(first.code == 0 && !first.stdout.contains("before"), "{first:?}");
        let forgotten = [&arguments[..], &["--days-ahead", "40"]].concat();
        // From the journal; from the journal, which forgets it after that; from the bank.
        for again in [&arguments, &forgotten, &forgotten] {
            let said = atm.run(again);
            assert!(said.code == 0 && said.stdout.contains(words), "{said:?}");
            assert!(!said.stdout.contains("take your cash") && !said.stderr.contains("journal"), "{said:?}");
        }
        let id = new_id();
        let arguments =
            [command, &["--card", &customer.card, "--transaction-id", &id, "--deadline", "1s"]].concat();
        assert_eq!(atm.run(&arguments).code, 0);
        atm.behind("http://127.0.0.1:1");
        // Nobody can check the PIN, and the text says so.
        let said = said(atm.command(&arguments).env("ATM_PIN", "9999"));
        assert!(said.code == 0 && said.stdout.contains(words), "{said:?}");
        assert!(said.stderr.contains("the bank did not confirm it, nor the PIN"), "{said:?}");
    }
}

#[test]
fn a_look_up_that_nobody_hears_says_what_to_do_next() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("0"));
    let proxy = Proxy::new(house, 11);
    // Sign-on and log-in pass; the look-up of an id that may have been used before does not.
    proxy.set(Mode::SwallowRequestsAfter(2));
    let atm = Atm::new(&proxy.url());
    let id = new_id();
    let command =
        ["transfer", "50", "--to", &other.account, "--card", &customer.card, "--transaction-id", &id];
    let said = atm.run(&[&command[..], &["--deadline", "2s"]].concat());
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains("run the same command again") && said.stderr.contains(&id), "{said:?}");
    assert!(atm.journaled().is_empty(), "nothing for `recover` to settle");
    proxy.set(Mode::Clean);
    assert_eq!(atm.run(&command).code, 0);
}

#[test]
fn wrong_use_is_one_object_for_programs_too() {
    let atm = Atm::new("http://127.0.0.1:1");
    for arguments in [
        &["withdraw", "1", "--card", "1234567"][..],
        &["deposit", "--card", "123456789", "--deadline", "soon"],
        &["transfer", "1", "--card", "123456789", "--to", "no such/account", "--currency", "USD"],
        &["withdraw", "1", "--card", "123456789", "--crash-at", "NOWHERE"],
    ] {
        let (code, json) = atm.run_json(arguments);
        assert_eq!((code, text(keys(&json), "reason")), (2, "invalid_argument".into()), "{arguments:?}");
        assert_eq!(text(&json, "status"), "declined");
    }
    let (code, json) = atm.run_json(&["transaction", "cancel", "7", "--card", "123456789"]);
    assert_eq!((code, text(keys(&json), "status")), (2, "unknown".into()));
    for (arguments, words) in [
        (&["balance"][..], "--card"),
        (&["balance", "--crash-at", "NOWHERE", "--card", "123456789"], "no such crash point"),
        (&["fly"], "fly"),
        (&[], "a command is missing"),
        (&["text"], "a command is missing"),
    ] {
        let (code, json) = atm.run_json(arguments);
        assert_eq!((code, text(&json, "reason")), (2, "invalid_argument".into()), "{arguments:?}");
        assert!(text(&json, "message").contains(words), "{json}");
    }
    for arguments in [&["--help"][..], &["--version"], &["withdraw", "--help"]] {
        let said = atm.run(&[arguments, &["--json"]].concat());
        assert!(said.code == 0 && !said.stdout.starts_with('{'), "{said:?}");
    }
    let said = atm.run(&["withdraw", "1"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "words for people, and no object");
}

#[test]
fn an_open_transaction_stays_unknown_when_the_bank_cannot_be_reached() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 8);
    proxy.set(Mode::SwallowRequestsAfter(2));
    let mut atm = Atm::new(&proxy.url());
    let (code, json) = atm.run_json(&["deposit", "5", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!(code, 3);
    let id = text(&json, "transaction_id");
    atm.behind("http://127.0.0.1:1");
    let again = ["deposit", "5", "--card", &customer.card, "--transaction-id", &id, "--deadline", "500ms"];
    let (code, json) = atm.run_json(&again);
    assert_eq!((code, text(keys(&json), "status")), (3, "unknown".into()));
}

/// Goal: whatever a cancel says about a transfer that was posted, it is never that nothing happened.
#[test]
fn a_cancel_that_nobody_hears_never_says_that_nothing_happened() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("0"));
    let proxy = Proxy::new(house, 10);
    let mut atm = Atm::new(&proxy.url());
    // Sign-on and log-in are answered; the transfer is posted, and its answer is lost.
    proxy.set(Mode::SwallowAnswersAfter(2));
    let transfer = ["transfer", "100", "--to", &other.account, "--card", &customer.card, "--deadline", "3s"];
    let (code, json) = atm.run_json(&transfer);
    assert_eq!(code, 3, "{json}");
    let id = text(&json, "transaction_id");
    assert_eq!(house.balance(&other).0, "100.00");

    let cancel = ["transaction", "cancel", &id, "--card", &customer.card, "--deadline", "700ms"];
    let unknown = |atm: &Atm, pin: &str, about: &str| {
        let json = said(atm.command(&cancel).arg("--json").env("ATM_PIN", pin));
        assert_eq!(
            (json.code, text(keys(&json.json()), "status")),
            (3, "unknown".into()),
            "{about}: {json:?}"
        );
        assert_eq!(text(&json.json(), "transaction_id"), id);
        let plain = said(atm.command(&cancel).env("ATM_PIN", pin));
        assert_eq!(plain.code, 3, "{about}: {plain:?}");
        for words in ["nothing was sent", "no money was moved", "nothing happened"] {
            assert!(!plain.stderr.contains(words), "{about}: {plain:?}");
        }
        assert!(plain.stderr.contains(&id) && plain.stderr.contains("What to do next"), "{about}: {plain:?}");
    };
    for (requests, about) in [(0, "nobody hears the sign-on"), (1, "nobody hears the log-in")] {
        proxy.set(Mode::SwallowRequestsAfter(requests));
        unknown(&atm, PIN, about);
    }
    atm.behind("http://127.0.0.1:1");
    unknown(&atm, PIN, "unreachable");
    // The same where the journal does not know the id: it may have forgotten it, or been another one.
    unknown(&Atm::new("http://127.0.0.1:1"), PIN, "unreachable from elsewhere");
    atm.behind(&house.gateway);
    unknown(&atm, "9999", "a wrong PIN");

    let (code, json) = atm.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert_eq!((code, text(keys(&json), "status")), (1, "posted".into()));
    // From now on the journal knows.
    unknown(&atm, "9999", "a wrong PIN, and it is known");
    atm.behind("http://127.0.0.1:1");
    let (code, json) = atm.run_json(&cancel);
    assert_eq!((code, text(keys(&json), "status")), (1, "posted".into()));
    assert!(json["balance"].is_null(), "the balance is for those who are let in");
    let stranger = ["transaction", "cancel", &id, "--card", &other.card, "--deadline", "700ms"];
    assert_eq!(atm.run(&stranger).code, 3, "another card learns nothing");
}

#[test]
fn a_cancel_that_may_have_arrived_never_says_that_nothing_happened() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 6);
    let mut atm = Atm::new(&proxy.url());
    // Sign-on and log-in pass; the connection is cut under the cancel, and whoever is behind it is gone.
    proxy.set(Mode::DeadAfter(2));
    let never = new_id();
    let (code, json) =
        atm.run_json(&["transaction", "cancel", &never, "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!((code, text(keys(&json), "status")), (3, "unknown".into()), "{json}");
    atm.behind(&house.gateway);
    let (code, json) = atm.run_json(&["transaction", "cancel", &never, "--card", &customer.card]);
    assert_eq!((code, text(&json, "status")), (0, "cancelled".into()));
}

#[test]
fn a_second_process_on_one_journal_leaves_at_once_and_says_who_holds_it() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 5);
    proxy.set(Mode::SwallowRequestsAfter(2));
    let atm = Atm::new(&proxy.url());
    let mut first =
        atm.command(&["withdraw", "100", "--card", &customer.card, "--deadline", "1m"]).spawn().unwrap();
    wait_until("the first has begun", || atm.journal().exists() && !atm.journaled_if_ready().is_empty());
    let second = said(&mut atm.command(&["withdraw", "1", "--card", &customer.card]));
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.stderr.contains(&first.id().to_string()), "{second:?}");
    assert!(second.stderr.contains("nothing was sent"), "{second:?}");
    // An id that is given may be the one that is under way just now.
    let again = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &new_id()];
    let (code, json) = atm.run_json(&again);
    assert_eq!((code, text(keys(&json), "status")), (3, "unknown".into()), "{json}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn somebody_who_ends_a_money_command_is_told_how_it_stands() {
    let house = house();
    let customer = house.customer("1000");
    for signal in ["TERM", "INT"] {
        // Sign-on and log-in pass; the hold does not leave.
        let (said, atm) = ended(house, &customer, 2, signal);
        assert_eq!((said.code, text(keys(&said.json()), "status")), (3, "unknown".into()), "{said:?}");
        assert_eq!(text(&said.json(), "reason"), "interrupted");
        assert_eq!(text(&said.json(), "transaction_id"), atm.journaled()[0].id);
        assert!(said.stderr.contains("atm-cli recover"), "{said:?}");
        assert_eq!(atm.journaled()[0].state, "INTENT", "as if killed");
        assert_eq!(atm.run(&["recover"]).code, 0);
        assert_eq!(atm.journaled()[0].state, "VOIDED");

        // The hold is answered, the cash is out, and the capture does not leave.
        let (said, atm) = ended(house, &customer, 3, signal);
        assert_eq!(
            (said.code, text(keys(&said.json()), "status")),
            (0, "capture_pending".into()),
            "{said:?}"
        );
        assert_eq!(atm.run(&["recover"]).code, 0);
        assert_eq!(atm.journaled()[0].state, "DONE");

        // The log-in is not heard: nothing has begun.
        let (said, atm) = ended(house, &customer, 1, signal);
        assert_eq!((said.code, text(keys(&said.json()), "reason")), (5, "interrupted".into()), "{said:?}");
        assert!(atm.journaled().is_empty());
    }
    assert_eq!(house.balance(&customer), ("980.00".into(), "980.00".into()), "two of ten");
}

/// A withdrawal of which so many requests pass, ended by a signal when the next one waits for its answer.
fn ended(house: &'static House, customer: &Customer, pass: u32, signal: &str) -> (Said, Atm) {
    let proxy = Proxy::new(house, 12);
    proxy.set(Mode::SwallowRequestsAfter(pass));
    let mut atm = Atm::new(&proxy.url());
    let withdraw = ["withdraw", "10", "--card", &customer.card, "--deadline", "1m", "--json"];
    let mut command = atm.command(&withdraw);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it waits for an answer", || proxy.counts().requests > pass);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    atm.behind(&house.gateway);
    let said = Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    (said, atm)
}

#[test]
fn what_cannot_be_written_to_standard_output_is_no_success() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("0"));
    let atm = Atm::new(&house.gateway);
    let full = |command: &mut Command| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let of = ["--card", &customer.card];
    for (command, code) in [
        (&["balance"][..], 5),
        (&["statement"], 5),
        (&["deposit", "1"], 3),
        (&["transfer", "1", "--to", &other.account], 3),
    ] {
        for mode in [&[][..], &["--json"]] {
            let (got, said) = full(&mut atm.command(&[command, &of, mode].concat()));
            assert_eq!(got, Some(code), "{command:?}: {said}");
            assert!(said.contains("cannot be written") && said.contains("No space left"), "{said}");
            assert_eq!(code == 3, said.contains("transaction show"), "the id and what to do next: {said}");
        }
    }
    assert_eq!(full(&mut atm.command(&["text", "prime", "13"])).0, Some(5));
    let mut trial = atm.command(&["admin", "trial-balance", "--json", "--operator-token-file"]);
    assert_eq!(full(trial.arg(&house.operator_token_file)).0, Some(5));
    // What is no success anyway keeps its own code.
    assert_eq!(full(&mut atm.command(&["withdraw", "5000", "--card", &customer.card])).0, Some(1));
}

#[test]
fn a_state_directory_that_cannot_be_used_says_why() {
    let atm = Atm::new("http://127.0.0.1:1");
    for command in [&["withdraw", "1", "--card", "123456789"][..], &["recover"], &["dispenser", "status"]] {
        let said = said(atm.command(command).args(["--state", "/dev/null/atm"]));
        assert_eq!(said.code, 5, "{said:?}");
        assert!(said.stderr.contains("/dev/null/atm") && said.stderr.contains("Not a directory"), "{said:?}");
    }
}
