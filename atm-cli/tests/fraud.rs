//! Three ways to get cash for nothing, each tried against the real bank and each harmless (design rules 2, 6, 7).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use atm_types::{IdSource, SystemIds};
use support::proxy::{Mode, Proxy};
use support::{Atm, house, text, wait_until};

fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}

#[test]
fn a_cancel_from_elsewhere_while_notes_are_being_presented_frees_nothing() {
    let house = house();
    let customer = house.customer("100");
    let (atm, elsewhere) = (Atm::new(&house.gateway), Atm::new(&house.gateway));
    let id = new_id();
    let arguments = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id];
    // The notes are in the customer's hand, and nobody has told the bank.
    atm.run(&[&arguments[..], &["--crash-at", "DEVICE_PRESENTED"]].concat());
    let (code, json) = elsewhere.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert_eq!((code, text(&json, "reason")), (1, "not_found".into()), "it is another machine's");
    assert_eq!(house.balance(&customer), ("100.00".into(), "0.00".into()), "still held");
    let (code, json) = elsewhere.run_json(&["withdraw", "100", "--card", &customer.card]);
    assert_eq!((code, text(&json, "reason")), (1, "insufficient_funds".into()), "nothing to spend twice");
    // Nor does its own machine cancel it: the device says that the notes are out.
    let (code, json) = atm.run_json(&["transaction", "cancel", &id, "--card", &customer.card]);
    assert_eq!((code, text(&json, "status")), (1, "captured".into()));
    assert_eq!(atm.run(&["recover"]).code, 0);
    assert_eq!(house.balance(&customer), ("0.00".into(), "0.00".into()));
    assert_eq!(house.movements(&customer).len(), 1);
}

#[test]
fn the_same_id_run_again_from_another_state_directory_pays_nothing_out() {
    let house = house();
    let customer = house.customer("1000");
    let (atm, elsewhere) = (Atm::new(&house.gateway), Atm::new(&house.gateway));
    elsewhere.json(&["withdraw", "1", "--card", &customer.card]);
    for crash_at in ["AUTHORIZED", "BEFORE_PRESENTED", "DONE"] {
        let id = new_id();
        let arguments = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id];
        atm.run(&[&arguments[..], &["--crash-at", crash_at]].concat());
        let before = elsewhere.json(&["dispenser", "status"]);
        let (code, json) = elsewhere.run_json(&arguments);
        assert_eq!((code, text(&json, "reason")), (2, "id_reused".into()), "{crash_at}");
        assert_eq!(elsewhere.json(&["dispenser", "status"]), before, "{crash_at}");
        assert_eq!(atm.run(&["recover"]).code, 0, "{crash_at}");
    }
    assert_eq!(house.balance(&customer), ("799.00".into(), "799.00".into()), "the first was cancelled");
}

#[test]
fn a_cancel_delayed_in_the_network_until_after_a_run_again_undoes_nothing() {
    let house = house();
    let customer = house.customer("1000");
    let proxy = Proxy::new(house, 51);
    let mut atm = Atm::new(&proxy.url());
    let id = new_id();
    let arguments = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id];
    // Held, and then killed; the next start cancels, and everything that it sends hangs in the network.
    atm.run(&[&arguments[..], &["--crash-at", "AUTHORIZED"]].concat());
    proxy.set(Mode::HoldBackAfter(1));
    let mut recovering = atm.command(&["recover"]).spawn().unwrap();
    wait_until("the cancel is in the network", || proxy.held_back() > 0);
    // Killed and not given up: a caller that gives up takes back what has not arrived.
    recovering.kill().unwrap();
    recovering.wait().unwrap();
    assert_eq!(house.balance(&customer).1, "900.00", "it has not arrived");

    // The customer tries again, under the same id and under a new one.
    atm.behind(&house.gateway);
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()), "given up is for ever");
    let again = atm.json(&["withdraw", "100", "--card", &customer.card]);
    assert_eq!(text(&again, "status"), "captured");
    // Now the old cancels arrive.
    proxy.release();
    wait_until("the wire is quiet", || proxy.quiet());
    assert_eq!(house.balance(&customer), ("900.00".into(), "900.00".into()));
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()));
    assert_eq!(house.movements(&customer).len(), 1, "one debit");
}

#[test]
fn an_id_that_was_cancelled_before_it_began_never_begins_while_its_cancel_may_still_arrive() {
    let house = house();
    let customer = house.customer("100");
    let proxy = Proxy::new(house, 52);
    let mut atm = Atm::new(&house.gateway);
    atm.json(&["balance", "--card", &customer.card]);
    // A cancel of an id that this machine never sent hangs in the network, and its sender dies.
    let id = new_id();
    atm.behind(&proxy.url());
    proxy.set(Mode::HoldBackAfter(2));
    let mut cancelling =
        atm.command(&["transaction", "cancel", &id, "--card", &customer.card]).spawn().unwrap();
    wait_until("the cancel is in the network", || proxy.held_back() > 0);
    cancelling.kill().unwrap();
    cancelling.wait().unwrap();

    // Under the same id nothing is paid out any more, whether the bank knows of the cancel by now or not.
    atm.behind(&house.gateway);
    let arguments = ["withdraw", "100", "--card", &customer.card, "--transaction-id", &id];
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()), "{json}");
    proxy.release();
    wait_until("the wire is quiet", || proxy.quiet());
    let (code, json) = atm.run_json(&arguments);
    assert_eq!((code, text(&json, "status")), (1, "cancelled".into()), "{json}");
    assert_eq!(house.balance(&customer), ("100.00".into(), "100.00".into()));
    // Another id is another matter.
    assert_eq!(text(&atm.json(&["withdraw", "100", "--card", &customer.card]), "status"), "captured");
}
