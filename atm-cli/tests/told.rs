//! What a machine tells of a transaction that was not let through, was sent before, or was broken off.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::proxy::{Mode, Proxy};
use support::{Atm, PIN, house, keys, new_id, said, text, wait_until};

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
