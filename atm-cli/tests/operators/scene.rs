//! A machine with its operators: a bank, a customer, and words for what is looked at.

use std::collections::BTreeMap;

use atm_types::{IdSource, SystemIds};
use serde_json::Value;

use crate::support::{Atm, Customer, House, Said, house, said, text};

/// A machine with its first load, and a customer who took 100 from it.
pub(crate) struct Scene {
    pub(crate) house: &'static House,
    pub(crate) atm: Atm,
    pub(crate) customer: Customer,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let house = house();
        let scene = Self { house, atm: Atm::new(&house.gateway), customer: house.customer("5000") };
        assert_eq!(scene.withdraw("100").code, 0);
        scene
    }

    pub(crate) fn withdraw(&self, amount: &str) -> Said {
        self.atm.run(&["withdraw", amount, "--card", &self.customer.card, "--json"])
    }

    /// A withdrawal of 680 that goes wrong in this way and ends as SUSPECT; returns its id.
    pub(crate) fn suspect(&self, fault: &str) -> String {
        assert_eq!(self.atm.run(&["dispenser", "fault", fault]).code, 0);
        self.withdraw("680");
        self.atm.run(&["recover"]);
        let record = self.atm.journaled().into_iter().find(|record| record.state == "SUSPECT").unwrap();
        assert_eq!(record.minor_units, 68_000);
        record.id
    }

    /// An operators' command at this machine.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Said {
        said(self.atm.command(&["admin"]).args(arguments).arg("--operator-token-file").arg(self.token()))
    }

    pub(crate) fn token(&self) -> &std::path::Path {
        &self.house.operator_token_file
    }

    pub(crate) fn admin_json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = self.admin(&[arguments, &["--json"]].concat());
        (said.code, said.json())
    }

    /// What is in the cassettes by the device: count by denomination.
    pub(crate) fn cassettes(&self) -> BTreeMap<String, u64> {
        let status = self.atm.json(&["dispenser", "status"]);
        let notes = status["cassettes"].as_array().unwrap();
        notes.iter().map(|note| (text(note, "denomination"), note["count"].as_u64().unwrap())).collect()
    }

    pub(crate) fn notes_of(&self, denomination: &str) -> u64 {
        self.cassettes().get(denomination).copied().unwrap_or(0)
    }

    /// The worth of a place by the device.
    pub(crate) fn worth(&self, place: &str) -> String {
        let status = self.atm.json(&["dispenser", "status"]);
        let places = status["places"].as_array().unwrap();
        text(places.iter().find(|found| found["place"] == place).unwrap(), "amount")
    }

    pub(crate) fn assert_all_agrees(&self, when: &str) {
        let (code, json) = self.admin_json(&["reconcile"]);
        assert_eq!((code, json["agrees"].as_bool()), (0, Some(true)), "{when}: {json}");
        for place in json["places"].as_array().unwrap() {
            assert_eq!(place["journal"], place["books"], "{when}: {json}");
            let device = &place["device"];
            assert!(device.is_null() || *device == place["books"], "{when}: {json}");
        }
    }

    /// The books' word on a place.
    pub(crate) fn books(&self, place: &str) -> String {
        let (_, json) = self.admin_json(&["reconcile"]);
        let places = json["places"].as_array().unwrap();
        text(places.iter().find(|found| found["place"] == place).unwrap(), "books")
    }

    /// A note goes from one place of the device to another, and its memory adds up all the same.
    pub(crate) fn displace(&self, denomination: i64, from: &str, to: &str) {
        let device = rusqlite::Connection::open(self.atm.state.join("dispenser.sqlite3")).unwrap();
        for (place, by) in [(from, -1), (to, 1)] {
            let sql = "INSERT INTO places VALUES (?1, ?2, ?3)
                       ON CONFLICT (place, denomination) DO UPDATE SET count = count + excluded.count";
            device.execute(sql, rusqlite::params![place, denomination, by]).unwrap();
        }
    }
}

pub(crate) fn whats(json: &Value) -> Vec<(String, String)> {
    let findings = json["findings"].as_array().unwrap();
    findings.iter().map(|finding| (text(finding, "place"), text(finding, "what"))).collect()
}

pub(crate) fn new_id() -> String {
    SystemIds.transaction_id().to_string()
}
