//! The simulated device on a real disk: every misfortune, every loss of power, every repeat.

use atm_types::Currency;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const ID: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn notes(text: &str) -> Notes {
    text.parse().unwrap()
}

/// A device that was loaded with ten notes each of 1000 and 100.
fn loaded() -> (TempDir, Simulated) {
    let home = tempfile::tempdir().unwrap();
    let mut device = Simulated::open_for_tests(home.path());
    device.load(Uuid::from_u128(99), &notes("10x100000 10x10000")).unwrap();
    (home, device)
}

/// From the command to its end, as the flow gives them.
fn pay_out(device: &mut Simulated, id: Uuid) -> Result<Dispense, DeviceError> {
    let dispense = device.dispense(id, &notes("2x100000 2x10000"))?;
    if dispense.step == Step::Stacked && device.present(id)?.step == Step::Presented {
        device.collect(id)?;
    }
    Ok(device.recall(id)?.unwrap())
}

#[test]
fn a_good_dispense_takes_the_planned_notes_out_of_the_cassettes_once() {
    let (_home, mut device) = loaded();
    for _ in 0..3 {
        let dispense = pay_out(&mut device, ID).unwrap();
        assert_eq!((dispense.step, dispense.status()), (Step::Taken, PresentStatus::Presented));
        assert_eq!(dispense.presented, notes("2x100000 2x10000"));
        let units = device.cash_units().unwrap();
        assert_eq!(units, CashUnits { cassettes: notes("8x100000 8x10000"), ..CashUnits::default() });
    }
    // Not even with another plan.
    device.dispense(ID, &notes("5x10000")).unwrap();
    assert_eq!(device.cash_units().unwrap().cassettes, notes("8x100000 8x10000"));
    assert_eq!(device.recall(OTHER).unwrap(), None, "it was never told of this one");
}

#[test]
fn every_misfortune_ends_where_it_should_and_happens_to_one_dispense_only() {
    let [all, half, none] = ["2x100000 2x10000", "2x10000", ""].map(notes);
    let (first, picked) = (notes("2x100000"), "8x100000 8x10000");
    for (fault, step, rejected, presented, retracted, cassettes) in [
        (Fault::JamPick, Step::Rejected, &first, &none, &none, "8x100000 10x10000"),
        (Fault::JamStack, Step::Rejected, &all, &none, &none, picked),
        (Fault::JamPresent, Step::Rejected, &all, &none, &none, picked),
        (Fault::Short, Step::Taken, &first, &half, &none, picked),
        (Fault::NotTaken, Step::Retracted, &none, &all, &all, picked),
        (Fault::PartlyTaken, Step::Retracted, &none, &all, &half, picked),
        (Fault::NotTakenUncounted, Step::Retracted, &none, &all, &none, picked),
        (Fault::StatusUnknown, Step::Presenting, &none, &none, &none, picked),
    ] {
        let (_home, mut device) = loaded();
        device.set_fault(fault).unwrap();
        let dispense = pay_out(&mut device, ID).unwrap();
        assert_eq!(dispense.step, step, "{fault:?}");
        assert_eq!((&dispense.rejected, &dispense.presented), (rejected, presented), "{fault:?}");
        assert_eq!(&dispense.retracted, retracted, "{fault:?}");
        assert_eq!(dispense.counted, fault != Fault::NotTakenUncounted, "{fault:?}");
        let units = device.cash_units().unwrap();
        assert_eq!(units.cassettes, notes(cassettes), "{fault:?}");
        assert_eq!((&units.reject, &units.retract), (rejected, retracted), "{fault:?}");
        let lost = matches!(fault, Fault::NotTakenUncounted | Fault::StatusUnknown);
        assert_eq!(units.unknown, if lost { all.clone() } else { none.clone() }, "{fault:?}");

        assert_eq!(pay_out(&mut device, ID).unwrap(), dispense, "a repeat changes nothing");
        assert_eq!(pay_out(&mut device, OTHER).unwrap().step, Step::Taken, "{fault:?}: only one");
    }
}

#[test]
fn after_a_loss_of_power_the_device_says_what_physically_happened() {
    for (fault, status, end, back) in [
        (Fault::PowerAfterAccept, PresentStatus::NotPresented, Step::Rejected, "10x100000 10x10000"),
        (Fault::PowerAfterPick, PresentStatus::NotPresented, Step::Rejected, "8x100000 8x10000"),
        (Fault::PowerAfterStack, PresentStatus::NotPresented, Step::Rejected, "8x100000 8x10000"),
        (Fault::PowerWhilePresenting, PresentStatus::Unknown, Step::Presenting, "8x100000 8x10000"),
        (Fault::PowerAfterPresent, PresentStatus::Presented, Step::Taken, "8x100000 8x10000"),
        (Fault::PowerAfterTake, PresentStatus::Presented, Step::Taken, "8x100000 8x10000"),
    ] {
        let (home, mut device) = loaded();
        device.set_fault(fault).unwrap();
        assert!(matches!(pay_out(&mut device, ID), Err(DeviceError::PowerLost)), "{fault:?}");
        drop(device);
        let mut device = Simulated::open_for_tests(home.path());
        assert_eq!(device.recall(ID).unwrap().unwrap().status(), status, "{fault:?}");
        // What a recovering machine commands.
        device.reject(ID).unwrap();
        let dispense = device.collect(ID).unwrap();
        assert_eq!((dispense.step, dispense.status()), (end, status), "{fault:?}");
        let units = device.cash_units().unwrap();
        assert_eq!(units.cassettes, notes(back), "{fault:?}");
        let kept = units.cassettes.minor_units() + units.reject.minor_units();
        let gone = dispense.presented.minor_units() + units.unknown.minor_units();
        assert_eq!(kept + gone, notes("10x100000 10x10000").minor_units(), "{fault:?}");
    }
}

#[test]
fn whoever_looks_finds_the_notes_and_the_device_goes_on_saying_what_it_said() {
    for (fault, rejected, retracted) in [
        (Fault::PowerWhilePresenting, "2x100000 2x10000", ""),
        (Fault::StatusUnknown, "", ""),
        (Fault::NotTakenUncounted, "", "2x10000"),
        (Fault::None, "", ""),
    ] {
        let (_home, mut device) = loaded();
        device.set_fault(fault).unwrap();
        let _ = pay_out(&mut device, ID);
        let before = device.recall(ID).unwrap();
        let found = Found { rejected: notes(rejected), retracted: notes(retracted) };
        assert_eq!(device.look(ID).unwrap(), found, "{fault:?}");
        assert_eq!(device.look(ID).unwrap(), found, "{fault:?}: again");
        assert_eq!(device.recall(ID).unwrap(), before, "{fault:?}");
        let units = device.cash_units().unwrap();
        assert_eq!((units.reject, units.retract), (found.rejected, found.retracted), "{fault:?}");
        assert!(units.unknown.is_empty(), "{fault:?}");
    }
}

#[test]
fn the_way_is_cleared_before_the_next_dispense() {
    let (_home, mut device) = loaded();
    device.set_fault(Fault::PowerWhilePresenting).unwrap();
    assert!(pay_out(&mut device, ID).is_err());
    assert_eq!(pay_out(&mut device, OTHER).unwrap().step, Step::Taken);
    assert_eq!(device.cash_units().unwrap().reject, notes("2x100000 2x10000"));
    assert_eq!(
        device.look(ID).unwrap().rejected,
        notes("2x100000 2x10000"),
        "and it is remembered whose they were"
    );
    assert_eq!(device.recall(ID).unwrap().unwrap().status(), PresentStatus::Unknown);
}

#[test]
fn notes_that_are_not_there_are_refused_before_anything_moves() {
    let (_home, mut device) = loaded();
    for plan in ["11x100000", "1x50000", ""] {
        assert!(matches!(device.dispense(ID, &notes(plan)), Err(DeviceError::Refused(_))), "{plan:?}");
    }
    assert_eq!(device.recall(ID).unwrap(), None);
}

#[test]
fn what_is_paid_in_waits_in_escrow_and_goes_one_way_once() {
    let (home, mut device) = loaded();
    device.cash_in(ID, &notes("3x10000")).unwrap();
    device.cash_in(ID, &notes("3x10000")).unwrap();
    assert!(matches!(device.cash_in(OTHER, &notes("1x10000")), Err(DeviceError::Refused(_))));
    drop(device);
    let mut device = Simulated::open_for_tests(home.path());
    assert_eq!(device.escrow().unwrap(), Some(Escrow { id: ID, notes: notes("3x10000") }));
    device.store(OTHER).unwrap();
    device.store(ID).unwrap();
    device.roll_back(ID).unwrap();
    assert_eq!(device.cash_units().unwrap().deposit, notes("3x10000"));

    device.cash_in(OTHER, &notes("1x10000")).unwrap();
    device.roll_back(OTHER).unwrap();
    device.store(OTHER).unwrap();
    device.cash_in(OTHER, &notes("1x10000")).unwrap();
    assert_eq!(device.escrow().unwrap(), None, "an id is counted in once");
    assert_eq!(device.cash_units().unwrap().deposit, notes("3x10000"));
}

#[test]
fn operators_load_unload_and_recount_once_for_each_id() {
    let (_home, mut device) = loaded();
    for _ in 0..2 {
        device.load(ID, &notes("5x100000")).unwrap();
    }
    assert_eq!(device.cash_units().unwrap().cassettes, notes("15x100000 10x10000"));
    for _ in 0..2 {
        let before = device.recount(OTHER, Bin::Cassettes, &notes("14x100000 10x10000")).unwrap();
        assert_eq!(before, notes("15x100000 10x10000"));
    }
    device.set_fault(Fault::JamStack).unwrap();
    pay_out(&mut device, ID).unwrap();
    let third = Uuid::from_u128(3);
    for _ in 0..2 {
        assert_eq!(device.unload(third, Bin::Reject).unwrap(), notes("2x100000 2x10000"));
    }
    assert!(device.cash_units().unwrap().reject.is_empty());
    assert!(device.load(Uuid::from_u128(4), &notes("1x7")).is_err(), "no cassette for it");
}

#[test]
fn a_device_is_its_owners_alone_keeps_its_number_and_notices_counters_that_do_not_add_up() {
    use std::os::unix::fs::PermissionsExt;
    let (home, device) = loaded();
    let serial = device.serial();
    drop(device);
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
    assert_eq!(Simulated::open_for_tests(home.path()).serial(), serial);
    let path = home.path().join("dispenser.sqlite3");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE places SET count = count + 1", []).unwrap();
    let ids = atm_types::SeededIds::new(5);
    let error = Simulated::open(home.path(), Currency::BDT, &ids).err().unwrap();
    assert!(error.to_string().contains("do not add up"), "{error}");
}

#[test]
fn notes_are_written_and_read_back_in_one_way() {
    for text in ["", "2x50000 1x10000", "1x100"] {
        assert_eq!(notes(text).to_string(), text);
    }
    for text in ["1x", "x1", "0x100", "1x100 1x100", "1x100 2x500", "1x-5", "two"] {
        assert!(text.parse::<Notes>().is_err(), "{text}");
    }
    assert_eq!(notes("2x50000 1x5").in_words(Currency::BDT), "2 x 500, 1 x 0.05");
    let paid_in = Notes::counted_in(atm_types::Money::new(388_800, Currency::BDT)).unwrap();
    assert_eq!(paid_in, notes("3x100000 1x50000 1x20000 1x10000 1x5000 1x2000 1x1000 1x500 1x200 1x100"));
    assert_eq!(Notes::counted_in(atm_types::Money::new(50, Currency::BDT)), None);
}
