//! What disks do to a journal: cut logs, flipped bytes, no room, thirty days, and a version from before.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use atm_types::{Currency, IdSource, ManualClock, Money, SeededIds, Timestamp};
use rusqlite::Connection;

use super::*;

const TERMINAL: TerminalId = TerminalId::from_bytes([7; 32]);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_seconds(1_700_000_000))
}

pub(super) fn open_at(directory: &Path, clock: &ManualClock) -> Result<Journal, JournalError> {
    Journal::open(directory, TERMINAL, Arc::new(clock.clone()))
}

pub(super) fn intent(ids: &SeededIds, kind: Kind) -> Intent {
    Intent {
        id: ids.transaction_id(),
        kind,
        amount: Money::new(10_000, Currency::BDT),
        card: CardTag::new(&[7; 32], "4000123412349876"),
        to_account: None,
        trace_id: String::new(),
    }
}

/// Begins a withdrawal and brings it to its end.
pub(super) fn one_withdrawal(journal: &mut Journal, ids: &SeededIds) -> TransactionId {
    let intent = intent(ids, Kind::Withdrawal);
    let amount = intent.amount;
    journal.begin(&intent, None).unwrap();
    let events = [
        Event::Held { authorization: vec![0xab; 64], balance: None },
        Event::DispenseBegun {
            dispense_id: ids.uuid_v7(),
            plan: "1x10000".parse().unwrap(),
            cassettes: "9x10000".parse().unwrap(),
        },
        Event::Presented { amount },
        Event::CaptureBegun { retracted: Money::zero(Currency::BDT) },
        Event::Captured { balance: None },
    ];
    for event in events {
        journal.apply(intent.id, &event).unwrap();
    }
    intent.id
}

/// Everything that a journal says.
pub(super) fn everything(journal: &Journal) -> (Vec<Record>, Vec<Movement>, Status, u64) {
    let all = journal.all_transactions().unwrap();
    (all, journal.all_movements().unwrap(), journal.status().unwrap(), journal.seen())
}

/// A directory with the files of another one, but other bytes in one of them.
fn copy_with(directory: &Path, name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in [FILE_NAME, &format!("{FILE_NAME}-wal")] {
        if directory.join(file).exists() {
            fs::copy(directory.join(file), copy.path().join(file)).unwrap();
        }
    }
    fs::write(copy.path().join(name), bytes).unwrap();
    copy
}

#[test]
fn a_log_cut_at_every_frame_and_inside_of_every_frame_leaves_a_beginning_of_the_story() {
    let home = tempfile::tempdir().unwrap();
    let ids = SeededIds::new(1);
    // The tables are in the database file; what follows is in the log alone.
    drop(open_at(home.path(), &clock()).unwrap());
    let mut journal = open_at(home.path(), &clock()).unwrap();
    let first = one_withdrawal(&mut journal, &ids);
    let second = one_withdrawal(&mut journal, &ids);
    let story = |journal: &Journal| {
        let names = |id| journal.story(id).unwrap().into_iter().map(|(event, _)| event).collect::<Vec<_>>();
        (names(first), names(second))
    };
    let whole = story(&journal);
    let wal_name = format!("{FILE_NAME}-wal");
    let wal = fs::read(home.path().join(&wal_name)).unwrap();
    const HEADER: usize = 32;
    let frame = 24 + 4096;
    assert_eq!((wal.len() - HEADER) % frame, 0);
    let frames = (wal.len() - HEADER) / frame;
    let mut lengths = Vec::new();
    for number in 0..frames {
        let begin = HEADER + number * frame;
        lengths.extend([begin, begin + 1, begin + 24, begin + frame / 2, begin + frame - 1]);
    }
    lengths.push(wal.len());
    let mut different = Vec::new();
    for length in lengths {
        let cut = copy_with(home.path(), &wal_name, &wal[..length]);
        let found = story(&open_at(cut.path(), &clock()).unwrap());
        let both = |story: &(Vec<String>, Vec<String>)| [story.0.clone(), story.1.clone()].concat();
        assert!(both(&whole).starts_with(&both(&found)), "cut at {length}: {found:?}");
        if !different.contains(&found) {
            different.push(found);
        }
    }
    assert_eq!(different.len(), 13, "every event was the last one somewhere, and none");
    println!("{frames} frames, {} different beginnings", different.len());
}

#[test]
fn a_byte_flipped_in_the_log_costs_at_most_the_newest_event_or_stops_the_service() {
    let home = tempfile::tempdir().unwrap();
    let ids = SeededIds::new(9);
    drop(open_at(home.path(), &clock()).unwrap());
    let mut journal = open_at(home.path(), &clock()).unwrap();
    one_withdrawal(&mut journal, &ids);
    let events = |journal: &Journal| {
        let ids: Vec<_> = journal.all_transactions().unwrap().iter().map(Record::id).collect();
        ids.into_iter().map(|id| journal.story(id).unwrap().len()).sum::<usize>()
    };
    let whole = events(&journal);
    // As a kill leaves it: what follows the opening is in the log alone.
    let wal_name = format!("{FILE_NAME}-wal");
    let wal = fs::read(home.path().join(&wal_name)).unwrap();
    let (mut stopped, mut torn) = (0, 0);
    // A prime step, and every byte of the header and of the first frame's header.
    for position in (0..56).chain((56..wal.len()).step_by(53)) {
        let mut damaged = wal.clone();
        damaged[position] ^= 1 << (position % 8);
        let copy = copy_with(home.path(), &wal_name, &damaged);
        match open_at(copy.path(), &clock()) {
            Ok(journal) => {
                assert!(events(&journal) + 1 >= whole, "byte {position}: {} of {whole}", events(&journal));
                torn += 1;
            }
            Err(JournalError::Damaged(_)) => stopped += 1,
            Err(error) => panic!("byte {position}: {error}"),
        }
    }
    println!("{stopped} stopped the service, {torn} looked like a torn end");
    assert!(stopped > 100 && torn > 10, "{stopped} {torn}");
}

#[test]
fn a_byte_flipped_anywhere_is_detected_or_harmless_and_never_silent() {
    let home = tempfile::tempdir().unwrap();
    let ids = SeededIds::new(2);
    let mut journal = open_at(home.path(), &clock()).unwrap();
    journal.saw(12_345);
    for _ in 0..12 {
        one_withdrawal(&mut journal, &ids);
    }
    let last = intent(&ids, Kind::Withdrawal);
    journal.begin(&last, None).unwrap();
    let rejected = Movement::new(
        ids.transaction_id(),
        (Account::Cassettes, Account::Reject),
        &"1x10000".parse().unwrap(),
        Currency::BDT,
        Some(last.id),
    );
    journal.apply_with(last.id, &Event::GivenUp { reason: "jam".into() }, &[rejected]).unwrap();
    journal.boot(ids.uuid_v7()).unwrap();
    let before = everything(&journal);
    drop(journal);
    let bytes = fs::read(home.path().join(FILE_NAME)).unwrap();
    let (mut detected, mut harmless) = (0, 0);
    // A prime step, so that every part of every kind of page is hit.
    for position in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << (position % 8);
        let copy = copy_with(home.path(), FILE_NAME, &damaged);
        match open_at(copy.path(), &clock()) {
            Ok(journal) => {
                assert_eq!(everything(&journal), before, "byte {position}");
                harmless += 1;
            }
            Err(error) => {
                let words = error.to_string();
                if matches!(error, JournalError::Damaged(_)) {
                    assert!(words.contains("keep its whole directory"), "byte {position}: {words}");
                }
                assert_eq!(fs::read(copy.path().join(FILE_NAME)).unwrap().len(), damaged.len());
                detected += 1;
            }
        }
    }
    println!("{} flips: {detected} detected, {harmless} harmless", detected + harmless);
    assert!(detected > 200 && harmless > 20, "{detected} detected, {harmless} harmless");
}

#[test]
fn what_somebody_changed_with_the_right_tool_is_noticed_too() {
    for sql in [
        "UPDATE transactions SET presented_minor_units = 99",
        "UPDATE transactions SET state = 'VOIDED' WHERE state = 'DONE'",
        "DELETE FROM transactions",
        "UPDATE steps SET reason = 'other' WHERE sequence = 4",
        "DELETE FROM steps WHERE sequence = 4",
        "DELETE FROM steps WHERE sequence = (SELECT max(sequence) FROM steps)",
        "DELETE FROM steps WHERE sequence <= 3",
        "UPDATE anchor SET hash = randomblob(32)",
        "UPDATE machine SET outage = NULL, enrolled_as = 'ATM-2'",
        "UPDATE steps SET seen_sequence = 1 WHERE sequence = 5",
    ] {
        let home = tempfile::tempdir().unwrap();
        let mut journal = open_at(home.path(), &clock()).unwrap();
        journal.saw(7);
        one_withdrawal(&mut journal, &SeededIds::new(3));
        drop(journal);
        Connection::open(home.path().join(FILE_NAME)).unwrap().execute_batch(sql).unwrap();
        assert!(matches!(open_at(home.path(), &clock()), Err(JournalError::Damaged(_))), "{sql}");
    }
}

#[test]
fn what_ended_thirty_days_ago_is_forgotten_in_pieces_and_what_is_open_never() {
    let home = tempfile::tempdir().unwrap();
    let (clock, ids) = (clock(), SeededIds::new(4));
    // A start whose bank has answered.
    let start = |clock: &ManualClock| {
        let mut journal = open_at(home.path(), clock).unwrap();
        journal.forget().unwrap();
        journal
    };
    let mut journal = open_at(home.path(), &clock).unwrap();
    let old: Vec<_> = (0..300).map(|_| one_withdrawal(&mut journal, &ids)).collect();
    let open = intent(&ids, Kind::Withdrawal);
    journal.begin(&open, None).unwrap();
    let behind = one_withdrawal(&mut journal, &ids);
    clock.advance(29 * DAY);
    let young = one_withdrawal(&mut journal, &ids);
    // Every start writes something about the machine itself.
    journal.boot(ids.uuid_v7()).unwrap();
    drop(journal);
    assert_eq!(start(&clock).all_transactions().unwrap().len(), 303);

    clock.advance(2 * DAY);
    let opened = open_at(home.path(), &clock).unwrap();
    assert_eq!(opened.all_transactions().unwrap().len(), 303, "nothing before the bank was heard");
    drop(opened);
    let sizes: Vec<_> = (0..4).map(|_| start(&clock).all_transactions().unwrap().len()).collect();
    assert!(sizes[0] < 303 && sizes[0] > 100, "one piece at a start: {sizes:?}");
    assert_eq!(sizes[3], 3, "{sizes:?}");
    let mut journal = open_at(home.path(), &clock).unwrap();
    assert!(old.iter().all(|id| journal.find(*id).unwrap().is_none()));
    assert_eq!(journal.find(open.id).unwrap().unwrap().state, State::Intent);
    assert!(journal.find(behind).unwrap().is_some(), "it waits behind the open one");
    assert!(journal.find(young).unwrap().is_some());

    journal.apply(open.id, &Event::NotSent).unwrap();
    journal.booted().unwrap();
    drop(journal);
    clock.advance(40 * DAY);
    for _ in 0..3 {
        drop(start(&clock));
    }
    assert!(start(&clock).all_transactions().unwrap().is_empty());
}

#[test]
fn a_full_disk_is_refused_before_a_beginning_and_never_after_it() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open_at(home.path(), &clock()).unwrap();
    journal.make_room().unwrap();
    assert!(home.path().join("journal.reserve").metadata().unwrap().len() >= 1 << 20);
    // A directory in its place: the reserve cannot be made.
    fs::remove_file(home.path().join("journal.reserve")).unwrap();
    fs::create_dir(home.path().join("journal.reserve")).unwrap();
    let error = journal.make_room().unwrap_err();
    assert!(matches!(error, JournalError::NoRoom), "{error}");
}

/// A journal as the version before this one wrote it.
fn journal_of_schema_1(directory: &Path, ids: &SeededIds) -> [TransactionId; 4] {
    let connection = Connection::open(directory.join(FILE_NAME)).unwrap();
    connection.execute_batch(include_str!("../../tests/data/journal_schema_1.sql")).unwrap();
    connection.execute("INSERT INTO terminal VALUES (1, ?1)", [TERMINAL.to_string()]).unwrap();
    type Row = (&'static str, Option<&'static str>, Option<&'static str>, &'static [&'static str]);
    let rows: [Row; 4] = [
        ("DONE", Some("captured"), None, &["INTENT", "HELD", "DISPENSE_BEGUN", "PRESENTED", "CAPTURED"]),
        ("DISPENSING", None, None, &["INTENT", "HELD", "DISPENSE_BEGUN"]),
        ("SUSPECT", None, Some("presentation_unknown"), &["INTENT", "PRESENTATION_UNKNOWN"]),
        ("SUSPECT", None, Some("capture_refused_not_found"), &["INTENT", "CAPTURE_REFUSED"]),
    ];
    rows.map(|(state, ending, reason, events)| {
        let id = ids.transaction_id();
        connection
            .execute(
                "INSERT INTO transactions (id, kind, state, currency, amount_minor_units, card_tag, card_last_four,
                     trace_id, ending, reason, presented_minor_units)
                 VALUES (?1, 'withdrawal', ?2, 'BDT', 5000, zeroblob(32), '9876', '', ?3, ?4, 5000)",
                rusqlite::params![id.to_string(), state, ending, reason],
            )
            .unwrap();
        for event in events {
            connection
                .execute(
                    "INSERT INTO steps (transaction_id, event, state, time_nanos) VALUES (?1, ?2, ?3, 77)",
                    [&id.to_string(), *event, state],
                )
                .unwrap();
        }
        id
    })
}

#[test]
fn a_journal_of_the_version_before_is_brought_up_once_and_is_whole_afterwards() {
    let home = tempfile::tempdir().unwrap();
    let ids = SeededIds::new(5);
    let [done, dispensing, unknown, refused] = journal_of_schema_1(home.path(), &ids);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let journal = open_at(home.path(), &ManualClock::new(Timestamp::from_nanos(99))).unwrap();
        let state = |id| journal.find(id).unwrap().unwrap().state;
        assert_eq!(state(done), State::Done);
        assert_eq!(state(dispensing), State::Dispensing);
        assert_eq!(state(unknown), State::SuspendPending, "the bank was never told to freeze it");
        assert_eq!(state(refused), State::Suspect);
        assert_eq!(journal.find(done).unwrap().unwrap().ended, Some(Timestamp::from_nanos(77)));
        assert_eq!(journal.story(done).unwrap().len(), 5);
        seen.push(everything(&journal));
    }
    assert_eq!(seen[0], seen[1]);
    Connection::open(home.path().join(FILE_NAME))
        .unwrap()
        .execute_batch("UPDATE transactions SET amount_minor_units = 1")
        .unwrap();
    assert!(open_at(home.path(), &clock()).is_err(), "and it is protected from now on");
}

#[test]
fn what_was_forgotten_still_counts_as_a_sum_and_the_sum_is_guarded() {
    let home = tempfile::tempdir().unwrap();
    let (clock, ids) = (clock(), SeededIds::new(6));
    let mut journal = open_at(home.path(), &clock).unwrap();
    for _ in 0..300 {
        one_withdrawal(&mut journal, &ids);
    }
    let sums = |journal: &Journal| {
        let expected = journal.expected().unwrap();
        Account::ALL.iter().map(|place| (expected.notes(*place), expected.value(*place))).collect::<Vec<_>>()
    };
    let before = sums(&journal);
    assert!(before.iter().any(|(notes, value)| !notes.is_zero() && *value != 0), "{before:?}");
    journal.boot(ids.uuid_v7()).unwrap();
    drop(journal);
    clock.advance(31 * DAY);
    let kept: Vec<_> = (0..4)
        .map(|_| {
            let mut journal = open_at(home.path(), &clock).unwrap();
            journal.forget().unwrap();
            assert_eq!(sums(&journal), before);
            journal.all_transactions().unwrap().len()
        })
        .collect();
    assert!(kept[0] > 0 && kept[3] == 0, "in pieces: {kept:?}");
    for sql in [
        "UPDATE carried SET count = count + 1 WHERE place = 'cassettes'",
        "DELETE FROM carried WHERE place = 'cassettes' AND denomination = 0",
        "DELETE FROM carried",
    ] {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(home.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        Connection::open(copy.path().join(FILE_NAME)).unwrap().execute_batch(sql).unwrap();
        assert!(matches!(open_at(copy.path(), &clock), Err(JournalError::Damaged(_))), "{sql}");
    }
}
