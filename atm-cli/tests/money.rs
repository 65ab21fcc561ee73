//! Money commands against a real bank: every exit code, every key.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::proxy::{Mode, Proxy};
use support::{Atm, PIN, house, keys, new_id, said, text, wait_until};

#[test]
fn a_withdrawal_is_captured_and_a_deposit_and_a_transfer_are_posted() {
    let house = house();
    let (joty, ahona) = (house.customer("10000"), house.customer("5000"));
    let atm = Atm::new(&house.gateway);

    let json = atm.json(&["withdraw", "1001", "--card", &joty.card]);
    keys(&json);
    assert_eq!(text(&json, "status"), "captured");
    assert_eq!((text(&json, "amount"), text(&json, "currency")), ("1001.00".into(), "BDT".into()));
    assert_eq!((text(&json, "balance"), text(&json, "available")), ("8999.00".into(), "8999.00".into()));
    assert!(json["reason"].is_null());

    let json = atm.json(&["deposit", "1", "--card", &joty.card]);
    keys(&json);
    assert_eq!((text(&json, "status"), text(&json, "balance")), ("posted".into(), "9000.00".into()));

    let json = atm.json(&["transfer", "500", "--to", &ahona.account, "--card", &joty.card]);
    keys(&json);
    assert_eq!((text(&json, "status"), text(&json, "balance")), ("posted".into(), "8500.00".into()));

    assert_eq!(house.balance(&joty), ("8500.00".into(), "8500.00".into()));
    assert_eq!(house.balance(&ahona), ("5500.00".into(), "5500.00".into()));
    let kinds: Vec<_> = house.movements(&joty).into_iter().map(|(_, kind, amount)| (kind, amount)).collect();
    assert_eq!(
        kinds,
        [
            ("transfer_out".to_owned(), "-500.00".to_owned()),
            ("deposit".into(), "1.00".into()),
            ("withdrawal".into(), "-1001.00".into())
        ]
    );
    assert!(atm.journaled().iter().all(|transaction| transaction.state == "DONE"));
}

#[test]
fn too_little_money_and_an_unknown_account_are_declined_with_exit_code_1_and_a_reason() {
    let house = house();
    let poor = house.customer("100");
    let atm = Atm::new(&house.gateway);
    let (code, json) = atm.run_json(&["withdraw", "101", "--card", &poor.card]);
    assert_eq!(
        (code, text(keys(&json), "status"), text(&json, "reason")),
        (1, "declined".into(), "insufficient_funds".into())
    );
    let (code, json) = atm.run_json(&["transfer", "1", "--to", "Nobody", "--card", &poor.card]);
    assert_eq!((code, text(keys(&json), "status")), (1, "declined".into()));
    assert_eq!(text(&json, "reason"), "credit_account_not_found");
    assert_eq!(house.balance(&poor), ("100.00".into(), "100.00".into()));
    let plain = atm.run(&["withdraw", "101", "--card", &poor.card]);
    assert_eq!(plain.code, 1);
    assert!(plain.stderr.contains("not enough money"), "{plain:?}");
}

#[test]
fn what_is_no_amount_is_wrong_use_and_reaches_nobody() {
    let atm = Atm::new("http://127.0.0.1:1");
    for (amount, words) in [
        ("10.005", "decimals"),
        ("0", "more than 0"),
        ("-5", "negative"),
        ("ten", "decimal amount"),
        ("1e3", "decimal amount"),
        ("99999999999999999999", "too large"),
    ] {
        for command in ["withdraw", "deposit"] {
            let said = atm.run(&[command, amount, "--card", "123456789"]);
            assert_eq!(said.code, 2, "{said:?}");
            assert!(said.stderr.contains(words), "{said:?}");
        }
        let (code, json) = atm.run_json(&["transfer", amount, "--to", "A", "--card", "123456789"]);
        assert_eq!((code, text(keys(&json), "reason")), (2, "invalid_input".into()));
    }
    for arguments in [
        &["withdraw", "1", "--card", "1234567"][..],
        &["withdraw", "1", "--card", "123456789", "--transaction-id", "7"],
        &["withdraw", "1", "--card", "123456789", "--deadline", "soon"],
        &["withdraw", "1"],
        &["transfer", "1", "--card", "123456789", "--to", "no such/account"],
        &["fly"],
        &[],
    ] {
        assert_eq!(atm.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn a_wrong_pin_is_exit_code_4_and_three_of_them_lock_the_card() {
    let house = house();
    let customer = house.customer("100");
    let atm = Atm::new(&house.gateway);
    for attempt in 1..=3 {
        let said =
            said(atm.command(&["withdraw", "10", "--card", &customer.card, "--json"]).env("ATM_PIN", "9999"));
        assert_eq!(said.code, 4, "attempt {attempt}: {said:?}");
        assert_eq!(text(keys(&said.json()), "status"), "declined");
    }
    let (code, json) = atm.run_json(&["withdraw", "10", "--card", &customer.card]);
    assert_eq!((code, text(&json, "reason")), (4, "card_locked".into()));
    assert_eq!(atm.run(&["balance", "--card", &customer.card]).code, 4);
    assert!(atm.journaled().is_empty(), "no transaction was begun");

    let unblocked = house.admin(&["unblock-card", "--card", &customer.card]);
    assert_eq!(unblocked.code, 0, "{unblocked:?}");
    assert_eq!(atm.json(&["withdraw", "10", "--card", &customer.card])["status"], "captured");

    assert_eq!(house.admin(&["block-card", "--card", &customer.card]).code, 0);
    let (code, json) = atm.run_json(&["withdraw", "10", "--card", &customer.card]);
    assert_eq!((code, text(&json, "reason")), (4, "card_blocked".into()));
    let unknown = atm.run(&["balance", "--card", "999999999999"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
}

#[test]
fn a_bank_that_cannot_be_reached_is_exit_code_5_and_the_same_id_works_afterwards() {
    let house = house();
    let customer = house.customer("100");
    let mut atm = Atm::new("http://127.0.0.1:1");
    let id = new_id();
    let arguments =
        ["withdraw", "40", "--card", &customer.card, "--transaction-id", &id, "--deadline", "500ms"];
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(keys(&json), "reason")), (5, "unavailable".into()));
    assert_eq!(text(&json, "transaction_id"), id);
    for command in [&["balance", "--card", &customer.card][..], &["text", "prime", "13"]] {
        let said = atm.run(&[command, &["--deadline", "300ms"]].concat());
        assert_eq!(said.code, 5, "{said:?}");
    }
    atm.behind(&house.gateway);
    let arguments = ["withdraw", "40", "--card", &customer.card, "--transaction-id", &id];
    assert_eq!(atm.json(&arguments)["status"], "captured");
    assert_eq!(house.balance(&customer).0, "60.00");
}

#[test]
fn the_same_id_again_is_the_same_answer_and_another_request_under_it_is_refused() {
    let house = house();
    let customer = house.customer("1000");
    let other = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    for (kind, moved) in [("withdraw", "900.00"), ("deposit", "1000.00")] {
        let id = new_id();
        let arguments = [kind, "100", "--card", &customer.card, "--transaction-id", &id];
        let first = atm.json(&arguments);
        let again = atm.json(&arguments);
        assert_eq!(first, again, "the first answer, whatever happened since");
        assert_eq!(text(&again, "balance"), moved);
        for changed in [
            [kind, "101", "--card", &customer.card, "--transaction-id", &id],
            [kind, "100", "--card", &other.card, "--transaction-id", &id],
            [
                if kind == "deposit" { "withdraw" } else { "deposit" },
                "100",
                "--card",
                &customer.card,
                "--transaction-id",
                &id,
            ],
        ] {
            let (code, json) = atm.run_json(&changed);
            assert_eq!((code, text(keys(&json), "reason")), (2, "id_reused".into()), "{changed:?}");
        }
    }
    let id = new_id();
    let arguments = ["withdraw", "5000", "--card", &customer.card, "--transaction-id", &id];
    assert_eq!(atm.run_json(&arguments).0, 1);
    assert_eq!(atm.json(&["deposit", "9000", "--card", &customer.card])["status"], "posted");
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(&json, "reason")), (1, "insufficient_funds".into()), "a decline is for ever");
    assert_eq!(house.balance(&other).0, "1000.00");
}

#[test]
fn an_id_that_only_the_bank_knows_is_answered_and_never_dispensed() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let id = new_id();
    let arguments = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id];
    atm.json(&arguments);
    // Forty days later the journal has forgotten it; the bank never does.
    let later = [&arguments[..], &["--days-ahead", "40"]].concat();
    assert_eq!(text(&atm.json(&later), "status"), "captured", "forgotten once the bank is heard");
    let replayed = atm.json(&later);
    assert_eq!((text(&replayed, "status"), text(&replayed, "balance")), ("captured".into(), "900.00".into()));
    assert!(atm.journaled().is_empty(), "nothing was begun, so nothing was dispensed");
    let (code, json) = atm.run_json(&["withdraw", "101", "--card", &customer.card, "--transaction-id", &id]);
    assert_eq!((code, text(&json, "reason")), (2, "id_reused".into()));

    // Another machine does not own the id.
    let other = Atm::new(&house.gateway);
    let (code, json) = other.run_json(&arguments);
    assert_eq!((code, text(&json, "reason")), (2, "id_reused".into()));
    let said = Atm::new(&house.gateway).run(&arguments);
    assert!(said.stderr.contains("used before for something else (by another machine)"), "{said:?}");
    assert_eq!(house.balance(&customer).0, "900.00");
}

#[test]
fn a_machine_that_lost_its_journal_but_kept_its_key_is_fenced_off_and_touches_nothing() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 1);
    // Sign-on and log-in are answered, the hold is not.
    proxy.set(Mode::SwallowAnswersAfter(2));
    let mut atm = Atm::new(&proxy.url());
    let id = new_id();
    let arguments = ["withdraw", "50", "--card", &customer.card, "--transaction-id", &id];
    let mut first = atm.command(&[&arguments[..], &["--deadline", "1m"]].concat()).spawn().unwrap();
    wait_until("the money is held", || house.balance(&customer).1 == "950.00");
    first.kill().unwrap();
    first.wait().unwrap();
    for name in ["journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "journal.acknowledged"] {
        let _ = std::fs::remove_file(atm.state.join(name));
    }

    atm.behind(&house.gateway);
    for _ in 0..2 {
        let (code, json) = atm.run_json(&arguments);
        assert_eq!((code, text(keys(&json), "reason")), (3, "fenced_off".into()), "it is held");
        let cancel = atm.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
        assert_eq!((cancel.0, text(&cancel.1, "reason")), (3, "fenced_off".into()), "it is held");
        assert_eq!(atm.run(&["recover"]).code, 5);
    }
    assert!(atm.journaled().is_empty());
    assert_eq!(house.balance(&customer), ("1000.00".into(), "950.00".into()), "still held, not captured");
}

#[test]
fn what_the_machine_cannot_pay_is_wrong_use_names_the_nearest_amounts_and_needs_no_bank() {
    let house = house();
    let customer = house.customer("1000");
    let mut atm = Atm::new("http://127.0.0.1:1");
    for _ in 0..2 {
        for command in ["withdraw", "deposit"] {
            let (code, json) = atm.run_json(&[command, "10.50", "--card", &customer.card]);
            assert_eq!((code, text(keys(&json), "reason")), (2, "amount_not_payable".into()), "{command}");
            let said = atm.run(&[command, "10.50", "--card", &customer.card]);
            assert!(said.stderr.contains("10.00 BDT and 11.00 BDT"), "{said:?}");
        }
        let said = atm.run(&["deposit", "90000000000000000", "--card", &customer.card]);
        assert!(said.code == 2 && said.stderr.contains("more than this machine can count"), "{said:?}");
        let said = atm.run(&["withdraw", "500000", "--card", &customer.card]);
        assert!(said.code == 2 && said.stderr.contains("100000.00 BDT"), "{said:?}");
        atm.behind(&house.gateway);
        assert_eq!(atm.json(&["withdraw", "10", "--card", &customer.card])["status"], "captured");
        atm.behind("http://127.0.0.1:1");
    }
}

#[test]
fn no_answer_by_the_deadline_is_exit_code_3_and_recover_cancels_for_good() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 1);
    let mut atm = Atm::new(&proxy.url());
    proxy.set(Mode::SwallowRequestsAfter(2));
    let (code, json) = atm.run_json(&["withdraw", "100", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!((code, text(keys(&json), "status")), (3, "unknown".into()));
    let id = text(&json, "transaction_id");
    assert_eq!(atm.journaled()[0].state, "VOID_PENDING");

    // As long as it is open, nothing more is dispensed on this card.
    let (code, json) = atm.run_json(&["withdraw", "100", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!(code, 5, "{json}");

    let still = atm.run(&["recover", "--deadline", "500ms"]);
    assert_eq!(still.code, 3, "{still:?}");
    assert!(still.stdout.contains("0 settled, 1 still open"), "{still:?}");

    atm.behind(&house.gateway);
    let (code, json) = atm.run_json(&["recover"]);
    assert_eq!((code, json["settled"].as_u64(), json["open"].as_u64()), (0, Some(1), Some(0)));
    assert_eq!(text(&json["transactions"][0], "status"), "cancelled");
    assert_eq!(house.balance(&customer), ("1000.00".into(), "1000.00".into()));

    // The id is burnt: asking again tells so and dispenses nothing.
    let (code, json) = atm.run_json(&["withdraw", "100", "--card", &customer.card, "--transaction-id", &id]);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()));
    assert_eq!(house.balance(&customer), ("1000.00".into(), "1000.00".into()));
    assert_eq!(atm.run(&["recover"]).code, 0);
}

#[test]
fn a_hold_whose_answer_is_lost_for_good_is_released_by_recover() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 2);
    let mut atm = Atm::new(&proxy.url());
    proxy.set(Mode::SwallowAnswersAfter(2));
    let said = atm.run(&["withdraw", "100", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!(said.code, 3, "{said:?}");
    let id = atm.journaled()[0].id.clone();
    assert!((said.stdout.clone() + &said.stderr).contains(&id), "the id is printed: {said:?}");
    assert!(said.stderr.contains("atm-cli recover"), "what to do next is printed: {said:?}");
    atm.behind(&house.gateway);
    let said = atm.run(&["recover"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains(&id) && said.stdout.contains("Nothing was moved"), "{said:?}");
    assert_eq!(house.balance(&customer), ("1000.00".into(), "1000.00".into()));
    assert!(house.movements(&customer).is_empty());
}

#[test]
fn cash_that_is_out_is_exit_code_0_with_capture_pending_and_captured_later() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 3);
    let mut atm = Atm::new(&proxy.url());
    // Sign-on, log-in and hold pass; the capture does not leave.
    proxy.set(Mode::SwallowRequestsAfter(3));
    let (code, json) = atm.run_json(&["withdraw", "100", "--card", &customer.card, "--deadline", "3s"]);
    assert_eq!((code, text(keys(&json), "status")), (0, "capture_pending".into()));
    assert_eq!((text(&json, "balance"), text(&json, "available")), ("1000.00".into(), "900.00".into()));
    let id = text(&json, "transaction_id");
    assert_eq!(house.balance(&customer), ("1000.00".into(), "900.00".into()), "held");

    // A customer's cancel is refused: the cash is out.
    atm.behind(&house.gateway);
    let pending = atm.journaled();
    assert_eq!(pending[0].state, "CAPTURE_PENDING");
    let (code, json) = atm.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert_eq!((code, text(keys(&json), "reason")), (1, "cash_presented".into()));
    assert_eq!(text(&json, "status"), "capture_pending");

    // The next money command posts it first.
    let said = atm.run(&["deposit", "1", "--card", &customer.card]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains(&id), "{said:?}");
    assert_eq!(house.balance(&customer), ("901.00".into(), "901.00".into()));
    let again = atm.json(&["withdraw", "100", "--card", &customer.card, "--transaction-id", &id]);
    assert_eq!(text(&again, "status"), "captured");
    assert_eq!(house.movements(&customer).len(), 2, "one debit, one deposit");
}

#[test]
fn a_deposit_whose_answer_is_lost_counts_once_and_recover_says_so() {
    let house = house();
    let (customer, other) = (house.customer("1000"), house.customer("0"));
    for command in [&["deposit", "100"][..], &["transfer", "100", "--to", &other.account]] {
        let proxy = Proxy::new(house, 4);
        let mut atm = Atm::new(&proxy.url());
        proxy.set(Mode::SwallowAnswersAfter(2));
        let arguments = [command, &["--card", &customer.card, "--deadline", "3s"]].concat();
        let (code, json) = atm.run_json(&arguments);
        assert_eq!((code, text(keys(&json), "status")), (3, "unknown".into()));
        atm.behind(&house.gateway);
        let (code, json) = atm.run_json(&["recover"]);
        assert_eq!((code, text(&json["transactions"][0], "status")), (0, "posted".into()));
        assert_eq!(atm.journaled()[0].state, "DONE");
    }
    assert_eq!(house.balance(&customer).0, "1000.00", "100 in, 100 out");
    assert_eq!(house.balance(&other).0, "100.00");
}

#[test]
fn a_transaction_can_be_looked_up_and_fenced_off() {
    let house = house();
    let customer = house.customer("1000");
    let stranger = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let done = atm.json(&["withdraw", "100", "--card", &customer.card]);
    let id = text(&done, "transaction_id");

    let shown = atm.json(&["transaction", "show", &id, "--card", &customer.card]);
    assert_eq!((text(&shown, "transaction_id"), text(&shown, "state")), (id.clone(), "captured".into()));
    let states: Vec<_> =
        shown["outcomes"].as_array().unwrap().iter().map(|outcome| text(outcome, "state")).collect();
    assert_eq!(states, ["held", "captured"]);
    let plain = atm.run(&["transaction", "show", &id, "--card", &customer.card]);
    assert!(plain.stdout.contains("captured") && plain.stdout.contains("900.00"), "{plain:?}");

    let elsewhere = Atm::new(&house.gateway);
    assert_eq!(elsewhere.run(&["transaction", "show", &id, "--card", &stranger.card]).code, 1);

    // Cancelling what is done changes nothing and says what it is.
    let (code, json) = atm.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert_eq!((code, text(keys(&json), "status")), (1, "captured".into()));
    let plain = atm.run(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert!(plain.stderr.contains("cannot be cancelled any more: 100.00 BDT was withdrawn"), "{plain:?}");
    assert!(!plain.stdout.contains("take your cash"), "{plain:?}");

    // Cancelling what never was makes sure that it never will be.
    let never = new_id();
    let (code, json) = atm.run_json(&["transaction", "cancel", &never, "--card", &customer.card]);
    assert_eq!((code, text(keys(&json), "status")), (0, "cancelled".into()));
    let plain = atm.run(&["transaction", "cancel", &never, "--card", &customer.card]);
    assert!(plain.code == 0 && plain.stdout.contains("It is cancelled."), "{plain:?}");
    assert_eq!(plain.stderr, "");
    let burnt = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &never];
    let (code, json) = atm.run_json(&burnt);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()));
    let plain = atm.run(&burnt);
    assert!(plain.stderr.contains("The withdrawal is cancelled. Nothing was moved"), "{plain:?}");
    let (code, json) = atm.run_json(&["transaction", "cancel", &never, "--card", &stranger.card]);
    assert_eq!((code, json["status"].as_str()), (0, Some("cancelled")), "{json}");
    assert_eq!(house.balance(&customer).0, "900.00");
}

#[test]
fn what_the_machine_can_pay_no_more_is_still_answered_when_it_is_repeated() {
    let house = house();
    let customer = house.customer("400000");
    let atm = Atm::new(&house.gateway);
    let id = new_id();
    let first = ["withdraw", "100000", "--card", &customer.card, "--transaction-id", &id];
    let receipt = atm.json(&first);
    while atm.run(&["withdraw", "100000", "--card", &customer.card]).code == 0 {}
    assert_eq!(
        atm.run(&["withdraw", "100000", "--card", &customer.card]).code,
        2,
        "no notes are left for it"
    );
    assert_eq!(atm.json(&first), receipt);
}

#[test]
fn the_pin_comes_from_a_file_as_well_and_without_any_there_is_a_sentence() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pin");
    std::fs::write(&file, format!("{PIN}\n")).unwrap();
    let mut command =
        atm.command(&["balance", "--card", &customer.card, "--pin-file", file.to_str().unwrap()]);
    assert_eq!(said(command.env("ATM_PIN", "9999")).code, 0, "the file comes before the environment");
    let none = said(atm.command(&["balance", "--card", &customer.card]).env_remove("ATM_PIN"));
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("--pin-file") && none.stderr.contains("ATM_PIN"), "{none:?}");
    let bad = said(atm.command(&["balance", "--card", &customer.card]).env("ATM_PIN", "12x4"));
    assert_eq!(bad.code, 2);
    assert!(!bad.stderr.contains("12x4"), "{bad:?}");
}

#[test]
fn people_get_words_and_programs_one_object() {
    let house = house();
    let customer = house.customer("1000");
    let atm = Atm::new(&house.gateway);
    let said = atm.run(&["withdraw", "100", "--card", &customer.card]);
    assert!(said.stdout.contains("Withdrawn 100.00 BDT") && said.stdout.contains("900.00"), "{said:?}");
    let asked = |name: &str| {
        let mut command = atm.command(&["balance", "--card", &customer.card]);
        support::said(command.env_remove("NO_COLOR").env(name, "1")).stdout.contains('\u{1b}')
    };
    assert!(asked("CLICOLOR_FORCE"), "colours exist");
    assert!(!asked("NO_COLOR") && !asked("NOTHING"), "NO_COLOR and pipes get none");
    let balance = atm.json(&["balance", "--card", &customer.card]);
    assert_eq!(
        (text(&balance, "balance"), text(&balance, "available"), text(&balance, "currency")),
        ("900.00".into(), "900.00".into(), "BDT".into())
    );
    assert_eq!(
        (text(&balance, "account"), text(&balance, "holder")),
        (customer.account.clone(), "Test".into())
    );
    let statement = atm.run(&["statement", "--card", &customer.card, "--limit", "1"]);
    assert!(
        statement.stdout.contains("withdrawal") && !statement.stdout.contains("opening"),
        "{statement:?}"
    );
}

#[test]
fn a_deadline_bounds_the_whole_command() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 6);
    proxy.set(Mode::SwallowRequestsAfter(0));
    let atm = Atm::new(&proxy.url());
    // Not measured: a log-in that is never answered ends at all, with the right code.
    let (code, json) = atm.run_json(&["withdraw", "100", "--card", &customer.card, "--deadline", "700ms"]);
    assert_eq!((code, text(keys(&json), "reason")), (5, "unavailable".into()));
    assert!(proxy.counts().requests >= 2, "it tried again: {:?}", proxy.counts());
}
