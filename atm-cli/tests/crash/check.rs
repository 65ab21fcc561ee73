//! What must be true once a machine has recovered: the device, the journal and the books agree to the note.

use std::collections::HashMap;

use atm_proto::gateway::{CashBin, InspectTransactionResponse};
use atm_proto::types::TransactionState;
use rusqlite::Connection;

use crate::scenario::Stage;
use crate::support::Atm;

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: u32,
    /// Runs in which the other fault really struck.
    pub(crate) faults: u32,
    pub(crate) suspects: u32,
    pub(crate) late_captures: u32,
    pub(crate) tombstones: u32,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.faults += other.faults;
        self.suspects += other.suspects;
        self.late_captures += other.late_captures;
        self.tombstones += other.tombstones;
    }
}

/// A withdrawal, deposit or transfer in the journal.
struct Journaled {
    id: String,
    kind: String,
    state: String,
    amount: i64,
    dispense_id: Option<String>,
    steps: Vec<String>,
}

/// A dispense in the device's memory.
struct Dispensed {
    step: String,
    counted: bool,
    looked_at: bool,
    stacked: i64,
    presented: i64,
    retracted: i64,
}

impl Dispensed {
    /// Whether the device itself cannot say what the customer got.
    fn is_unknown(&self) -> bool {
        self.step == "presenting" || !self.counted
    }
}

/// Runs `recover` until nothing is open but what waits for a person.
pub(crate) fn recover(stage: &Stage<'_>, about: &str) {
    let mut last = None;
    for _ in 0..4 {
        let (code, json) = stage.atm.run_json(&["recover"]);
        let transactions = json["transactions"].as_array().unwrap();
        let suspects = transactions.iter().filter(|transaction| transaction["state"] == "SUSPECT").count();
        let done = json["open"].as_u64() == u64::try_from(suspects).ok() && json["movements_pending"] == 0;
        assert!(code == 0 || code == 3, "{about}: {json}");
        if done {
            return;
        }
        last = Some(json);
    }
    panic!("{about}: it never ended: {last:?}");
}

/// Compares everything with everything.
pub(crate) fn check(stage: &Stage<'_>, about: &str) -> Counts {
    let mut counts = Counts::default();
    let journal = open(&stage.atm, "journal.sqlite3");
    let device = open(&stage.atm, "dispenser.sqlite3");
    let (journaled, dispensed) = (journaled(&journal), dispensed(&device));

    let mut frozen = 0;
    for transaction in &journaled {
        frozen += check_transaction(stage, transaction, &dispensed, &mut counts, about);
    }
    // 10, 11: the device never paid anything out that the journal had not announced.
    for id in dispensed.keys() {
        let known = journaled.iter().any(|transaction| transaction.dispense_id.as_ref() == Some(id));
        assert!(known || forgotten(&journal), "{about}: dispense {id} is in no journal");
    }

    // 9: what is out is what was debited, in sum and to the note.
    let out: i64 = dispensed.values().filter(|d| !d.is_unknown()).map(|d| d.presented - d.retracted).sum();
    let stored: i64 = sum(&device, "SELECT notes FROM escrow WHERE ended = 'stored'");
    let sent: i64 = journaled
        .iter()
        .filter(|transaction| transaction.kind == "transfer" && transaction.state == "DONE")
        .map(|transaction| transaction.amount)
        .sum();
    let balance = stage.bank.balance(&stage.customer);
    assert_eq!(balance.balance_minor_units, 100_000 - out + stored - sent, "{about}: cash out = debits");
    assert_eq!(
        balance.available_minor_units,
        balance.balance_minor_units - frozen,
        "{about}: 3, and no hold left"
    );

    check_places(stage, &device, &dispensed, frozen, about);
    counts
}

/// One transaction against the ledger and the device; what of it is frozen.
fn check_transaction(
    stage: &Stage<'_>,
    transaction: &Journaled,
    dispensed: &HashMap<String, Dispensed>,
    counts: &mut Counts,
    about: &str,
) -> i64 {
    let Journaled { id, kind, state, amount, steps, .. } = transaction;
    let about = format!("{about}: {kind} {id} {state} {steps:?}");
    let at = |name: &str| steps.iter().position(|step| step == name);
    // 12, 13: nothing is cancelled after it was presented, nothing is held after it was given up.
    if let Some(presented) = at("PRESENTED") {
        assert!(!steps[presented..].iter().any(|step| step == "CANCELLED"), "{about}");
        assert!(at("HELD").is_some_and(|held| held < presented), "10: {about}");
    }
    if let Some(given_up) = at("GIVEN_UP") {
        assert!(
            !steps[given_up..].iter().any(|step| ["HELD", "DISPENSE_BEGUN"].contains(&&**step)),
            "{about}"
        );
    }
    let recorded = stage.bank.inspect(id);
    let ledger = recorded.as_ref().map(InspectTransactionResponse::current_state);
    let outcomes = recorded.map(|found| found.outcomes).unwrap_or_default();
    counts.late_captures +=
        u32::from(outcomes.iter().any(|outcome| outcome.state() == TransactionState::CapturedLate));
    counts.tombstones += u32::from(outcomes.len() == 1 && ledger == Some(TransactionState::Cancelled));
    // 4: at most one hold and one end.
    let holds = outcomes.iter().filter(|outcome| outcome.state() == TransactionState::Held).count();
    assert!(holds <= 1 && outcomes.len() <= 3, "{about}: {outcomes:?}");
    let paid = transaction.dispense_id.as_ref().and_then(|id| dispensed.get(id));
    let moved = outcomes.last().and_then(|outcome| outcome.amount.as_ref()).map(|amount| amount.minor_units);
    match (state.as_str(), kind.as_str()) {
        ("DONE", "withdrawal") => {
            let paid = paid.unwrap_or_else(|| panic!("{about}: never dispensed"));
            assert!(
                matches!(ledger, Some(TransactionState::Captured | TransactionState::CapturedLate)),
                "{about}"
            );
            // 5, 9: captured is what the customer kept, and never more than was held.
            assert_eq!(moved, Some(paid.presented - paid.retracted), "{about}");
            assert!(paid.presented - paid.retracted <= *amount, "{about}");
            0
        }
        ("DONE", _) => {
            assert_eq!((ledger, moved), (Some(TransactionState::Posted), Some(*amount)), "{about}");
            0
        }
        ("VOIDED", _) => {
            let nothing = paid.is_none_or(|paid| paid.presented == 0);
            assert!(nothing, "{about}: cash is out");
            assert!(
                matches!(ledger, None | Some(TransactionState::Cancelled | TransactionState::Declined)),
                "{about}: {ledger:?}"
            );
            0
        }
        ("SUSPECT", "withdrawal") => {
            // 24: only where the device itself does not know.
            assert!(paid.is_some_and(Dispensed::is_unknown), "{about}: the device knows");
            assert_eq!(ledger, Some(TransactionState::Suspect), "{about}");
            counts.suspects += 1;
            *amount
        }
        _ => panic!("{about}: it did not end"),
    }
}

/// 8: each place holds what the books say of it; what nobody knows is still in the books' cassettes.
fn check_places(
    stage: &Stage<'_>,
    device: &Connection,
    dispensed: &HashMap<String, Dispensed>,
    frozen: i64,
    about: &str,
) {
    let booked = stage.bank.booked(&stage.atm.atm_id());
    let counted = |place: &str| -> i64 {
        let sql = "SELECT coalesce(sum(denomination * count), 0) FROM places WHERE place = ?1";
        device.query_row(sql, [place], |row| row.get(0)).unwrap()
    };
    let unknown: i64 = dispensed
        .values()
        .filter(|dispense| dispense.is_unknown() && !dispense.looked_at)
        .map(|dispense| if dispense.step == "presenting" { dispense.stacked } else { dispense.presented })
        .sum();
    assert_eq!(booked(CashBin::Cassettes).balance, counted("cassettes") + unknown, "{about}: cassettes");
    for (bin, place) in
        [(CashBin::Reject, "reject"), (CashBin::Retract, "retract"), (CashBin::Deposit, "deposit")]
    {
        assert_eq!(booked(bin).balance, counted(place), "{about}: {place}");
    }
    assert_eq!(booked(CashBin::Suspense).pending, frozen, "{about}: suspense");
    for place in ["stacker", "exit", "escrow"] {
        assert_eq!(counted(place), 0, "{about}: {place} is empty");
    }
}

/// Whether older steps were cut off.
fn forgotten(journal: &Connection) -> bool {
    journal.query_row("SELECT sequence > 0 FROM anchor", [], |row| row.get(0)).unwrap()
}

fn open(atm: &Atm, name: &str) -> Connection {
    Connection::open(atm.state.join(name)).unwrap()
}

fn journaled(journal: &Connection) -> Vec<Journaled> {
    let mut rows = journal
        .prepare("SELECT id, kind, state, amount_minor_units, dispense_id FROM transactions ORDER BY id")
        .unwrap();
    let mut steps = journal.prepare("SELECT event FROM steps WHERE subject = ?1 ORDER BY sequence").unwrap();
    let rows = rows.query_map([], |row| {
        let id: String = row.get(0)?;
        Ok(Journaled {
            steps: steps.query_map([&id], |row| row.get(0))?.map(Result::unwrap).collect(),
            id,
            kind: row.get(1)?,
            state: row.get(2)?,
            amount: row.get(3)?,
            dispense_id: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn dispensed(device: &Connection) -> HashMap<String, Dispensed> {
    let mut rows = device
        .prepare("SELECT id, step, counted, looked_at, stacked, presented, retracted FROM dispenses")
        .unwrap();
    let rows = rows.query_map([], |row| {
        let id: String = row.get(0)?;
        let worth = |index| -> Result<i64, rusqlite::Error> { Ok(worth(&row.get::<_, String>(index)?)) };
        Ok((
            id,
            Dispensed {
                step: row.get(1)?,
                counted: row.get(2)?,
                looked_at: row.get(3)?,
                stacked: worth(4)?,
                presented: worth(5)?,
                retracted: worth(6)?,
            },
        ))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What all rows of notes are worth together.
fn sum(device: &Connection, sql: &str) -> i64 {
    let mut rows = device.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| worth(&row.unwrap())).sum()
}

/// `2x50000 1x10000` in minor units.
fn worth(notes: &str) -> i64 {
    let piece = |piece: &str| -> i64 {
        let (count, denomination) = piece.split_once('x').unwrap();
        count.parse::<i64>().unwrap() * denomination.parse::<i64>().unwrap()
    };
    notes.split_whitespace().map(piece).sum()
}
