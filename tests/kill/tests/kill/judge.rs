//! What must be true of a machine that has recovered: its customer's balance is what she began with, less what the
//! device gave out, plus what it took in; the statement has every transaction that took place once, and no other; what
//! she was told is so; and device, journal and books agree to the note.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::Connection;
use serde_json::Value;

use crate::machine::{Machine, OPENING};

/// Sums over machines, in minor units.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    machines: u32,
    opened: i64,
    given_out: i64,
    taken_in: i64,
    pub(crate) sent: i64,
    /// Transactions of which customers were told that they took place.
    pub(crate) acknowledged: usize,
    transactions: usize,
    suspects: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.machines += other.machines;
        self.opened += other.opened;
        self.given_out += other.given_out;
        self.taken_in += other.taken_in;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.transactions += other.transactions;
        self.suspects += other.suspects;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machines, opened, given_out, taken_in, sent, acknowledged, transactions, suspects } = self;
        write!(
            f,
            "{machines} machines judged: {transactions} transactions took place, {acknowledged} of them acknowledged, \
             {suspects} decided by a person; of {opened} minor units opened {given_out} were given out and {sent} \
             sent away, {taken_in} were taken in"
        )
    }
}

/// A transaction in the journal.
struct Journaled {
    kind: String,
    state: String,
    minor_units: i64,
    dispense_id: Option<String>,
}

impl Machine {
    /// Settles what is open, has a person decide the rest, and compares everything with everything.
    pub(crate) async fn judge(&self) -> Tally {
        let suspects = self.settle().await;
        let read = |name: &str| Connection::open(self.program.state().join(name)).unwrap();
        let journaled = journaled(&read("journal.sqlite3"));
        let device = read("dispenser.sqlite3");
        let (given_out, taken_in) = (given_out(&device), taken_in(&device));

        let mut expected = BTreeMap::new();
        let mut sent = 0;
        for (id, transaction) in &journaled {
            let amount = transaction.minor_units;
            let given = transaction.dispense_id.as_ref().and_then(|id| given_out.get(id)).copied();
            let moved = match (transaction.state.as_str(), transaction.kind.as_str()) {
                ("VOIDED", _) => {
                    assert_eq!(given.unwrap_or(0), 0, "{id} was cancelled");
                    continue;
                }
                ("DONE", "withdrawal") => {
                    assert_eq!(given, Some(amount), "{id}");
                    -amount
                }
                ("DONE", "deposit") => amount,
                ("DONE", "transfer") => {
                    sent += amount;
                    -amount
                }
                (state, kind) => panic!("{kind} {id} is {state}"),
            };
            expected.insert(id.clone(), moved);
        }
        assert_eq!(self.statement().await, expected, "the statement has what took place, once");

        let (out, stored): (i64, i64) = (given_out.values().sum(), taken_in);
        let balance = OPENING - out + stored - sent;
        let told = self.program.insist(&["balance", "--card", &self.card]).await;
        assert_eq!(minor_units(&told["balance"]), balance, "{OPENING} - {out} + {stored} - {sent}");
        assert_eq!(minor_units(&told["available"]), balance, "no hold is left");
        let reconciled = self.program.insist(&["admin", "reconcile"]).await;
        assert_eq!(reconciled["agrees"], true, "{reconciled}");
        Tally {
            machines: 1,
            opened: OPENING,
            given_out: out,
            taken_in: stored,
            sent,
            acknowledged: self.check_diary(&expected),
            transactions: expected.len(),
            suspects,
        }
    }

    /// Until nothing is open; how many suspects a person decided. Whoever opens the machine finds the notes at the
    /// shutter, since nobody was there to take them.
    async fn settle(&self) -> usize {
        let suspects = self.recover().await;
        for id in &suspects {
            let decide =
                ["admin", "resolve", id, "--not-presented", "--operator", "T", "--reason", "at the shutter"];
            self.program.insist(&decide).await;
        }
        assert_eq!(self.recover().await, [""; 0], "they are decided");
        suspects.len()
    }

    /// What the bank says of the customer: id and amount, signed, of each movement.
    async fn statement(&self) -> BTreeMap<String, i64> {
        let statement = self.program.insist(&["statement", "--limit", "1000", "--card", &self.card]).await;
        let mut posted = BTreeMap::new();
        for line in statement["lines"].as_array().unwrap() {
            if line["kind"] != "opening_balance" {
                let id = line["transaction_id"].as_str().unwrap().to_owned();
                let before = posted.insert(id, minor_units(&line["amount"]));
                assert_eq!(before, None, "twice: {line}");
            }
        }
        posted
    }

    /// Whether what the customer was told is so; how often she was told that money moved.
    fn check_diary(&self, expected: &BTreeMap<String, i64>) -> usize {
        let mut acknowledged = 0;
        for told in &self.diary {
            let moved = expected.get(&told.id).copied();
            match told.status.as_str() {
                "captured" | "capture_pending" | "posted" => {
                    acknowledged += 1;
                    assert_eq!(moved.map(i64::abs), Some(told.minor_units), "she was told so: {told:?}");
                }
                "declined" | "cancelled" => {
                    assert_eq!(moved, None, "she was told that it never will: {told:?}");
                }
                "unknown" => {}
                status => panic!("{status}: {told:?}"),
            }
        }
        acknowledged
    }
}

fn journaled(journal: &Connection) -> BTreeMap<String, Journaled> {
    let mut rows =
        journal.prepare("SELECT id, kind, state, amount_minor_units, dispense_id FROM transactions").unwrap();
    let rows = rows.query_map([], |row| {
        let transaction = Journaled {
            kind: row.get(1)?,
            state: row.get(2)?,
            minor_units: row.get(3)?,
            dispense_id: row.get(4)?,
        };
        Ok((row.get(0)?, transaction))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What the device says that customers took, for each dispense. Of one that the kill met while it was presenting it does
/// not know; that one was decided by a person.
fn given_out(device: &Connection) -> BTreeMap<String, i64> {
    let mut rows = device.prepare("SELECT id, presented, retracted FROM dispenses").unwrap();
    let rows = rows.query_map([], |row| {
        let (presented, retracted): (String, String) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, worth(&presented) - worth(&retracted)))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What the device stored for good.
fn taken_in(device: &Connection) -> i64 {
    let mut rows = device.prepare("SELECT notes FROM escrow WHERE ended = 'stored'").unwrap();
    let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|notes| worth(&notes.unwrap())).sum()
}

/// `2x50000 1x10000` in minor units.
fn worth(notes: &str) -> i64 {
    let piece = |piece: &str| -> i64 {
        let (count, denomination) = piece.split_once('x').unwrap();
        count.parse::<i64>().unwrap() * denomination.parse::<i64>().unwrap()
    };
    notes.split_whitespace().map(piece).sum()
}

/// `-12.50` in minor units.
pub(crate) fn minor_units(decimal: &Value) -> i64 {
    decimal.as_str().map_or(0, |text| text.replace('.', "").parse().unwrap())
}
