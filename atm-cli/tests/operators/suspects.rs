//! Withdrawals of which nobody knows, shown and decided.

use crate::scene::*;
use crate::support::{Atm, said, text};

#[test]
fn a_suspect_whose_notes_left_is_shown_with_its_evidence_and_decided_once() {
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["agrees"].as_bool()), (0, Some(true)), "{json}");
    let suspect = &json["suspects"][0];
    assert_eq!((text(suspect, "transaction_id"), text(suspect, "amount")), (id.clone(), "680.00".into()));
    assert_eq!(
        (text(suspect, "journal_state"), suspect["at_bank"].as_bool()),
        ("SUSPECT".into(), Some(true))
    );

    let (code, json) = scene.admin_json(&["suspect", &id]);
    assert_eq!(code, 0, "{json}");
    assert_eq!(text(&json["device"], "status"), "unknown");
    assert_eq!(text(&json["ledger"], "current_state"), "suspect");
    let steps = json["journal"]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["event"] == "PRESENTATION_UNKNOWN"), "{json}");
    let said = scene.admin(&["suspect", &id]);
    assert!(said.stdout.contains("680.00 BDT short"), "{said:?}");
    assert!(said.stdout.contains("the notes of this withdrawal left the cassettes"), "{said:?}");

    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!(
        (code, json["explained"].as_bool(), json["agrees"].as_bool()),
        (0, Some(true), Some(false)),
        "{json}"
    );
    assert_eq!(whats(&json), [("cassettes".to_owned(), "suspect".to_owned())]);
    assert_eq!(text(&json["findings"][0], "transaction_id"), id);
    // What a person counts meanwhile is shown and not posted: the decision will post it.
    let typed = format!("cassettes:500={}", scene.notes_of("500.00"));
    let (code, json) = scene.admin_json(&["count", &typed]);
    assert_eq!((code, json["open"][0].as_str()), (1, Some(id.as_str())), "{json}");

    let decide = ["resolve", &id, "--presented", "680", "--operator", "Rahman", "--reason", "camera 2"];
    for _ in 0..2 {
        let (code, json) = scene.admin_json(&decide);
        assert_eq!(
            (code, text(&json, "journal_state"), text(&json, "state")),
            (0, "DONE".into(), "captured".into())
        );
    }
    for other in [vec!["--presented", "500"], vec!["--not-presented"]] {
        let arguments = [&["resolve", &id], &other[..], &["--operator", "Rahman", "--reason", "no"]].concat();
        let (code, json) = scene.admin_json(&arguments);
        assert_eq!((code, text(&json, "reason")), (2, "id_reused".into()), "{json}");
    }
    assert_eq!(scene.house.balance(&scene.customer), ("4220.00".into(), "4220.00".into()));
    scene.assert_all_agrees("after the decision");
    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["suspects"].as_array().unwrap().len()), (0, 0), "{json}");
    let (_, json) = scene.admin_json(&["suspect", &id]);
    assert_eq!(text(&json["ledger"], "resolved_by"), "Rahman");
}

#[test]
fn a_suspect_whose_notes_did_not_leave_frees_the_money_and_says_where_they_are() {
    let scene = Scene::new();
    let id = scene.suspect("power-while-presenting");
    let decide = ["resolve", &id, "--not-presented", "--operator", "Rahman", "--reason", "at the shutter"];
    let (code, json) = scene.admin_json(&decide);
    assert_eq!((code, text(&json, "journal_state")), (0, "VOIDED".into()), "{json}");
    assert!(
        json["notes"][0].as_str().unwrap().ends_with("(680.00 BDT) went from cassettes to reject"),
        "{json}"
    );
    assert_eq!(scene.worth("reject"), "680.00");
    assert_eq!(scene.house.balance(&scene.customer), ("4900.00".into(), "4900.00".into()));
    scene.assert_all_agrees("after the decision");
    assert_eq!(scene.admin(&["unload", "reject"]).code, 0);
    scene.assert_all_agrees("after the reject bin was emptied");
}

#[test]
fn notes_that_the_device_lost_are_counted_where_a_person_found_them() {
    for place in ["cassettes", "reject"] {
        let scene = Scene::new();
        let before = scene.cassettes();
        let id = scene.suspect("status-unknown");
        let decide =
            ["resolve", &id, "--not-presented", "--found-in", place, "--operator", "R", "--reason", "found"];
        assert_eq!(scene.admin(&decide).code, 0, "{place}");
        assert_eq!(scene.cassettes() == before, place == "cassettes");
        scene.assert_all_agrees(place);
    }
    // The customer got a part of it, and nobody knows where the rest is.
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    assert_eq!(
        scene.admin(&["resolve", &id, "--presented", "500", "--operator", "R", "--reason", "camera"]).code,
        0
    );
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, text(&json["findings"][0], "what")), (1, "device_disagrees".into()), "{json}");
    assert_eq!(text(&json["findings"][0], "amount"), "-180.00");

    // Nobody said where: the withdrawal is named, until a count says what is there.
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let said = scene.admin(&["resolve", &id, "--not-presented", "--operator", "R", "--reason", "unclear"]);
    assert!(said.stdout.contains("count it by hand"), "{said:?}");
    let (code, json) = scene.admin_json(&["reconcile"]);
    assert_eq!((code, text(&json["findings"][0], "transaction_id")), (1, id), "{json}");
    let (_, shown) = scene.admin_json(&["count"]);
    let confirm = text(&shown, "confirm");
    assert_eq!(scene.admin(&confirm.split_whitespace().skip(2).collect::<Vec<_>>()).code, 0);
    assert_eq!(scene.books("suspense"), "-680.00");
    scene.assert_all_agrees("after the count");
}

#[test]
fn a_decision_that_dies_is_finished_by_its_repeat_or_by_recover() {
    for (round, point) in [
        "BEFORE_RESOLVE",
        "RESOLVE_ANSWERED",
        "BEFORE_DEVICE_LOOKED",
        "DEVICE_LOOKED",
        "BEFORE_VOIDED",
        "VOIDED",
    ]
    .into_iter()
    .enumerate()
    {
        let scene = Scene::new();
        let id = scene.suspect("power-while-presenting");
        let decide = ["resolve", &id, "--not-presented", "--operator", "R", "--reason", "shutter"];
        let died = scene.admin(&[&decide[..], &["--crash-at", point]].concat());
        assert_eq!(died.code, -1, "{point}: {died:?}");
        if round % 2 == 1 {
            assert_eq!(scene.atm.run(&["recover"]).code, 0, "{point}");
        } else {
            assert_eq!(scene.admin(&decide).code, 0, "{point}");
        }
        assert_eq!(scene.atm.run(&["recover"]).code, 0, "{point}: nothing is left");
        assert_eq!(scene.worth("reject"), "680.00", "{point}");
        assert_eq!(scene.house.balance(&scene.customer).1, "4900.00", "{point}");
        scene.assert_all_agrees(point);
    }
}

#[test]
fn a_suspect_of_another_machine_is_decided_at_the_bank_and_its_machine_learns_of_it() {
    let scene = Scene::new();
    let id = scene.suspect("status-unknown");
    let office = Atm::new(&scene.house.gateway);
    let elsewhere = |arguments: &[&str]| {
        said(
            office
                .command(&["admin"])
                .args(arguments)
                .arg("--json")
                .arg("--operator-token-file")
                .arg(scene.token()),
        )
    };
    let (_, json) = scene.admin_json(&["reconcile"]);
    let listed = elsewhere(&["suspects", "--atm-id", &text(&json, "atm_id")]).json();
    assert_eq!(
        (listed["journal_asked"].as_bool(), text(&listed["suspects"][0], "transaction_id")),
        (Some(false), id.clone())
    );
    assert_eq!(elsewhere(&["suspects"]).code, 2, "whose?");
    let shown = elsewhere(&["suspect", &id]).json();
    assert!(shown["journal"].is_null() && shown["device"].is_null(), "{shown}");
    let decide = ["resolve", &id, "--presented", "680", "--operator", "R", "--reason", "camera"];
    let decided = elsewhere(&decide);
    assert_eq!((decided.code, decided.json()["journal_state"].is_null()), (0, true), "{decided:?}");
    assert!(!office.journal().exists(), "no machine was made");

    let (code, json) = scene.admin_json(&["suspects"]);
    assert_eq!((code, json["agrees"].as_bool()), (1, Some(false)), "{json}");
    assert_eq!(scene.atm.run(&["recover"]).code, 0);
    assert_eq!(scene.admin(&["suspects"]).code, 0);
    scene.assert_all_agrees("after the machine learned of it");
    let unknown = new_id();
    assert_eq!(elsewhere(&["suspect", &unknown]).code, 1);
    let none = elsewhere(&["resolve", &unknown, "--presented", "1", "--operator", "R", "--reason", "none"]);
    assert_eq!((none.code, text(&none.json(), "reason")), (1, "not_found".into()));
}

#[test]
fn only_a_suspect_can_be_decided_and_only_with_a_decision() {
    let scene = Scene::new();
    let id = scene.atm.journaled()[0].id.clone();
    let done = scene.admin_json(&["resolve", &id, "--presented", "50", "--operator", "R", "--reason", "no"]);
    assert_eq!((done.0, text(&done.1, "reason")), (1, "not_suspect".into()), "{done:?}");
    for arguments in [
        vec!["resolve", &id, "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--not-presented", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "0", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "-5", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--reason", "no"],
        vec!["resolve", &id, "--presented", "5", "--operator", "R"],
        vec!["resolve", &id, "--presented", "5", "--operator", "", "--reason", "no"],
        vec!["resolve", "no-id", "--presented", "5", "--operator", "R", "--reason", "no"],
        vec!["resolve", &id, "--not-presented", "--found-in", "deposit", "--operator", "R", "--reason", "no"],
    ] {
        let said = scene.admin(&arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
    }
    scene.assert_all_agrees("after all that");
}
