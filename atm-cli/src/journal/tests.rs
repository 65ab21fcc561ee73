//! The journal on a real disk: what a kill, a torn log, another process, another key or another version do to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use atm_types::{Currency, IdSource, ManualClock, Money, SeededIds, Timestamp};
use rusqlite::Connection;
use uuid::Uuid;

use super::*;

const CARD: &str = "4000123412349876";
const TERMINAL: TerminalId = TerminalId::from_bytes([7; 32]);

fn try_open(directory: &Path) -> Result<Journal, JournalError> {
    Journal::open(directory, TERMINAL, Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000))))
}

fn open(directory: &Path) -> Journal {
    try_open(directory).unwrap()
}

fn intent(seed: u64, kind: Kind) -> Intent {
    Intent {
        id: SeededIds::new(seed).transaction_id(),
        kind,
        amount: Money::new(100_050, Currency::BDT),
        card: CardTag::new(&[7; 32], CARD),
        to_account: (kind == Kind::Transfer).then(|| "Ahona".to_owned()),
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
    }
}

/// Everything that happens to a withdrawal which goes well.
fn good_withdrawal() -> Vec<Event> {
    let balance = Some(AccountBalance { balance: 1_000_000, available: 899_950 });
    vec![
        Event::Held { authorization: vec![0xab; 64], balance },
        Event::DispenseBegun {
            dispense_id: Uuid::from_u128(99),
            plan: "1x100000".parse().unwrap(),
            cassettes: "9x100000".parse().unwrap(),
        },
        Event::Presented { amount: Money::new(100_050, Currency::BDT) },
        Event::CaptureBegun { retracted: Money::new(50, Currency::BDT) },
        Event::Captured { balance: Some(AccountBalance { balance: 899_950, available: 899_950 }) },
    ]
}

/// Copies what is on disk at this moment, as a crash of the machine would leave it.
fn crash_copy(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [FILE_NAME.to_owned(), format!("{FILE_NAME}-wal")] {
        if directory.join(&name).exists() {
            fs::copy(directory.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

#[test]
fn after_every_single_event_a_crash_finds_exactly_what_was_written() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let intent = intent(1, Kind::Withdrawal);
    let mut expected = journal.begin(&intent, None).unwrap();
    for event in good_withdrawal() {
        let crashed = crash_copy(home.path());
        assert_eq!(open(crashed.path()).find(intent.id).unwrap(), Some(expected));
        expected = journal.apply(intent.id, &event).unwrap();
    }
    let crashed = crash_copy(home.path());
    let record = open(crashed.path()).find(intent.id).unwrap().unwrap();
    assert_eq!(record, expected);
    assert_eq!((record.state, record.ending), (State::Done, Some(Ending::Captured)));
    assert_eq!(record.authorization, vec![0xab; 64]);
    assert_eq!((record.presented, record.taken().minor_units()), (Some(intent.amount), 100_000));
    assert_eq!(record.cassettes_before.to_string(), "9x100000");
    assert_eq!(record.balance.map(|balance| balance.balance), Some(899_950));
}

#[test]
fn a_log_that_is_torn_anywhere_gives_a_state_that_once_was_and_never_a_mixture() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let intent = intent(1, Kind::Withdrawal);
    let mut history = vec![None, Some(journal.begin(&intent, None).unwrap())];
    for event in good_withdrawal() {
        history.push(Some(journal.apply(intent.id, &event).unwrap()));
    }
    let wal_name = format!("{FILE_NAME}-wal");
    let whole = fs::read(home.path().join(&wal_name)).unwrap();
    assert!(whole.len() > 5 * 4096, "every event is in the log");
    let (mut newest_seen, mut steps_back) = (0, 0);
    for length in (0..=whole.len()).step_by(509).chain([whole.len()]) {
        for damage in [false, true] {
            let crashed = crash_copy(home.path());
            let mut torn = whole[..length].to_vec();
            if damage && let Some(last) = torn.last_mut() {
                *last ^= 0x55;
            }
            fs::write(crashed.path().join(&wal_name), torn).unwrap();
            // So little of the log may be left that not even the tables are there yet.
            let found = open(crashed.path()).find(intent.id).unwrap();
            let age = history.iter().position(|state| *state == found).expect("a state that once was");
            newest_seen = newest_seen.max(age);
            steps_back += usize::from(age < history.len() - 1);
        }
    }
    assert_eq!(newest_seen, history.len() - 1, "the whole log gives the newest state");
    assert!(steps_back > 50, "the cuts were real");
}

#[test]
fn a_start_moves_everything_out_of_the_log_before_it_answers() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    journal.begin(&intent(1, Kind::Deposit), None).unwrap();
    let crashed = crash_copy(home.path());
    let journal = open(crashed.path());
    assert_eq!(fs::metadata(crashed.path().join(format!("{FILE_NAME}-wal"))).unwrap().len(), 0);
    assert_eq!(journal.open_transactions().unwrap().len(), 1);
}

#[test]
fn a_journal_that_somebody_else_reads_is_not_used_since_its_log_cannot_be_checkpointed() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    journal.begin(&intent(1, Kind::Deposit), None).unwrap();
    let reader = Connection::open(home.path().join(FILE_NAME)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM transactions").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM transactions", [], |row| row.get(0)).unwrap();
    journal.begin(&intent(2, Kind::Deposit), None).unwrap();
    drop(journal);
    let error = try_open(home.path()).err().unwrap();
    assert!(error.to_string().contains("checkpoint") || error.to_string().contains("locked"), "{error}");
    drop(reader);
    assert_eq!(open(home.path()).open_transactions().unwrap().len(), 2);
}

#[test]
fn a_second_process_is_told_who_holds_the_journal() {
    let home = tempfile::tempdir().unwrap();
    let _first = open(home.path());
    let error = try_open(home.path()).err().unwrap();
    assert!(matches!(error, JournalError::Locked(_)));
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn an_id_is_begun_once_and_again_only_if_it_never_left_the_machine() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let first = intent(1, Kind::Transfer);
    journal.begin(&first, None).unwrap();
    assert!(matches!(journal.begin(&first, None), Err(JournalError::Presence { exists: true, .. })));

    journal.apply(first.id, &Event::NotSent).unwrap();
    let other = Intent { amount: Money::new(1, Currency::BDT), ..first.clone() };
    assert!(matches!(journal.begin(&other, None), Err(JournalError::Presence { .. })), "another request");
    let again = journal.begin(&first, None).unwrap();
    assert_eq!((again.state, again.ending), (State::Intent, None));

    journal.apply(first.id, &Event::GivenUp { reason: "no_answer".into() }).unwrap();
    journal.apply(first.id, &Event::Cancelled { reason: None }).unwrap();
    assert!(
        matches!(journal.begin(&first, None), Err(JournalError::Presence { .. })),
        "cancelled is for ever"
    );
}

#[test]
fn an_event_that_must_not_happen_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let intent = intent(1, Kind::Withdrawal);
    journal.begin(&intent, None).unwrap();
    let given_up = journal.apply(intent.id, &Event::GivenUp { reason: "no_answer".into() }).unwrap();
    for event in good_withdrawal() {
        let error = journal.apply(intent.id, &event).unwrap_err();
        assert!(matches!(error, JournalError::Illegal { state: State::VoidPending, .. }), "{error}");
    }
    assert_eq!(journal.find(intent.id).unwrap(), Some(given_up));
    let unknown = SeededIds::new(77).transaction_id();
    assert!(matches!(
        journal.apply(unknown, &Event::NotSent),
        Err(JournalError::Presence { exists: false, .. })
    ));
}

#[test]
fn open_transactions_come_oldest_first_and_closed_ones_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let intents: Vec<_> = [5, 3, 9, 1].map(|seed| intent(seed, Kind::Transfer)).into();
    for intent in &intents {
        journal.begin(intent, None).unwrap();
    }
    journal.apply(intents[1].id, &Event::Posted { balance: None }).unwrap();
    let open = journal.open_transactions().unwrap();
    let ids: Vec<_> = open.iter().map(Record::id).collect();
    assert_eq!(ids, [intents[0].id, intents[2].id, intents[3].id]);
}

#[test]
fn the_whole_story_of_a_transaction_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let intent = intent(1, Kind::Withdrawal);
    journal.begin(&intent, None).unwrap();
    for event in good_withdrawal() {
        journal.apply(intent.id, &event).unwrap();
    }
    let story: Vec<_> = journal.story(intent.id).unwrap().into_iter().map(|(event, _)| event).collect();
    assert_eq!(story, ["INTENT", "HELD", "DISPENSE_BEGUN", "PRESENTED", "CAPTURE_BEGUN", "CAPTURED"]);
}

#[test]
fn the_card_number_is_in_no_file_and_its_tag_needs_the_key() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    journal.begin(&intent(1, Kind::Withdrawal), None).unwrap();
    for entry in fs::read_dir(home.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(CARD.len()).any(|window| window == CARD.as_bytes()));
    }
    assert_eq!(CardTag::new(&[7; 32], CARD), CardTag::new(&[7; 32], CARD));
    assert_ne!(CardTag::new(&[7; 32], CARD).tag, CardTag::new(&[8; 32], CARD).tag);
    assert_eq!(CardTag::new(&[7; 32], CARD).last_four, "9876");
}

#[test]
fn all_files_are_the_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    let mut journal = open(&directory);
    journal.begin(&intent(1, Kind::Withdrawal), None).unwrap();
    let mut files = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 3, "journal, log and lock");
}

#[test]
fn another_terminal_another_version_and_another_database_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    let path = home.path().join(FILE_NAME);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let other = Journal::open(home.path(), TerminalId::from_bytes([8; 32]), clock).err().unwrap();
    assert!(matches!(other, JournalError::OtherTerminal { .. }), "{other}");

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let newer = try_open(home.path()).err().unwrap();
    assert!(newer.to_string().contains("schema version 3; this program knows version 2"), "{newer}");

    Connection::open(&path).unwrap().pragma_update(None, "application_id", 5).unwrap();
    assert!(matches!(try_open(home.path()), Err(JournalError::Damaged(_))));
}

#[test]
fn a_damaged_journal_is_refused_and_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    for seed in 0..200 {
        journal.begin(&intent(seed, Kind::Deposit), None).unwrap();
    }
    drop(journal);
    let path = home.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    for damage in [b"this is no database, and never was".to_vec(), {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xee);
        bytes
    }] {
        fs::write(&path, &damage).unwrap();
        let error = try_open(home.path()).err().unwrap();
        assert!(matches!(error, JournalError::Damaged(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damage);
    }
}

#[test]
fn a_record_survives_its_row_in_every_field() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let transfer = intent(1, Kind::Transfer);
    journal.begin(&transfer, None).unwrap();
    let declined = journal
        .apply(
            transfer.id,
            &Event::Declined {
                reason: "credit_account_not_found".into(),
                balance: Some(AccountBalance { balance: -5, available: i64::MAX }),
            },
        )
        .unwrap();
    drop(journal);
    assert_eq!(open(home.path()).find(transfer.id).unwrap(), Some(declined));
}

#[test]
fn a_deposit_remembers_its_escrow_and_ends_only_when_the_notes_are_where_they_belong() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let paid_in = PaidIn { cash_in_id: Uuid::from_u128(5), notes: "1x100000".parse().unwrap() };
    for (seed, events, end) in [
        (1, [Event::Posted { balance: None }, Event::Stacked], (State::Done, Some(Ending::Posted))),
        (2, [Event::Cancelled { reason: None }, Event::Returned], (State::Voided, Some(Ending::Cancelled))),
    ] {
        let deposit = intent(seed, Kind::Deposit);
        assert_eq!(journal.begin(&deposit, Some(&paid_in)).unwrap().cash_in_id, Some(paid_in.cash_in_id));
        let record = journal.apply(deposit.id, &events[0]).unwrap();
        assert_eq!((record.ending, record.ended), (end.1, None));
        let record = journal.apply(deposit.id, &events[1]).unwrap();
        assert_eq!((record.state, record.ending), end);
        assert!(record.ended.is_some() && record.plan == paid_in.notes);
    }
    assert!(journal.open_transactions().unwrap().is_empty());
}

#[test]
fn cash_that_moved_is_written_with_the_event_that_moved_it_and_stays_until_the_bank_knows() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let withdrawal = intent(1, Kind::Withdrawal);
    journal.begin(&withdrawal, None).unwrap();
    let notes = "2x100".parse().unwrap();
    let places = (Account::Cassettes, Account::Reject);
    let movement = |seed| {
        let id = SeededIds::new(seed).transaction_id();
        Movement::new(id, places, &notes, Currency::BDT, Some(withdrawal.id))
    };
    let given_up = Event::GivenUp { reason: "no_answer".into() };
    journal.apply_with(withdrawal.id, &given_up, &[movement(10), movement(11)]).unwrap();
    assert!(journal.apply_with(withdrawal.id, &given_up, &[movement(12)]).is_err(), "both or neither");
    drop(journal);
    let mut journal = open(home.path());
    let mut both = [movement(10), movement(11)];
    both.sort_by_key(|movement| movement.id);
    assert_eq!(journal.pending_movements().unwrap(), both);
    journal.end_movement(&both[0], None).unwrap();
    journal.end_movement(&both[1], Some("balance_overflow")).unwrap();
    let states: Vec<_> = journal.all_movements().unwrap().iter().map(|movement| movement.state).collect();
    assert_eq!(states, [MovementState::Posted, MovementState::Refused]);
    assert!(journal.pending_movements().unwrap().is_empty());
}

#[test]
fn a_start_keeps_its_number_until_the_bank_knows_it_and_the_next_one_follows_it() {
    let home = tempfile::tempdir().unwrap();
    let ids = SeededIds::new(3);
    let first = open(home.path()).boot(ids.uuid_v7()).unwrap();
    assert_eq!((first.epoch, first.previous), (1, None));
    let mut journal = open(home.path());
    assert_eq!(journal.boot(ids.uuid_v7()).unwrap(), first, "it failed to sign on, and tries again");
    journal.booted().unwrap();
    let second = open_again(journal, home.path()).boot(ids.uuid_v7()).unwrap();
    assert_eq!((second.epoch, second.previous), (2, Some(first.id)));
}

fn open_again(journal: Journal, directory: &Path) -> Journal {
    drop(journal);
    open(directory)
}

#[test]
fn what_was_seen_of_the_ledger_and_an_outage_survive_and_each_intent_notes_what_was_seen() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    journal.saw(70);
    journal.saw(50);
    assert_eq!(journal.begin(&intent(1, Kind::Withdrawal), None).unwrap().noted_sequence, 70);
    journal.go_out_of_service(Outage::BankWentBack).unwrap();
    let mut journal = open_again(journal, home.path());
    assert_eq!((journal.seen(), journal.status().unwrap().outage), (70, Some(Outage::BankWentBack)));
    journal.serve_again(40, 0).unwrap();
    let journal = open_again(journal, home.path());
    assert_eq!((journal.seen(), journal.status().unwrap().outage), (40, None), "its new order is the bank's");
}

#[test]
fn the_journal_knows_its_device_and_the_name_under_which_it_was_enrolled() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = open(home.path());
    let (device, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(journal.pair(device).unwrap() && journal.pair(device).unwrap());
    assert!(!journal.pair(other).unwrap());
    let notes = "5x100".parse().unwrap();
    let id = SeededIds::new(9).transaction_id();
    let load = Movement::new(id, (Account::Vault, Account::Cassettes), &notes, Currency::BDT, None);
    journal.enrol("ATM-1", &load).unwrap();
    let journal = open_again(journal, home.path());
    assert_eq!(journal.status().unwrap().enrolled_as.as_deref(), Some("ATM-1"));
    assert!(load.is_load());
    assert_eq!(journal.pending_movements().unwrap(), [load]);
}
