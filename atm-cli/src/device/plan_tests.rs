//! The note plan against every possible bundle of small cassettes, and against what a person expects of real ones.

use atm_types::Currency;
use proptest::prelude::*;

use super::super::first_load;
use super::*;

/// Every bundle that the cassettes could give, found the slow way.
fn every_bundle(cassettes: &Notes) -> Vec<Notes> {
    let mut bundles = vec![Notes::none()];
    for (denomination, there) in cassettes.iter() {
        bundles = bundles
            .iter()
            .flat_map(|bundle| {
                (0..=there).map(move |count| {
                    let mut more = bundle.clone();
                    more.add(denomination, count);
                    more
                })
            })
            .collect();
    }
    bundles.retain(|bundle| !bundle.is_empty() && bundle.count() <= u32::from(STACKER_HOLDS));
    bundles
}

fn unevenness(cassettes: &Notes, bundle: &Notes) -> u64 {
    cassettes.iter().map(|(denomination, there)| u64::from(there - bundle.of(denomination)).pow(2)).sum()
}

proptest! {
    /// Goal: for every amount the plan is as good as the best of all bundles, and where there is none the nearest
    /// amounts are the nearest.
    #[test]
    fn no_bundle_is_better_than_the_plan(
        cassettes in prop::collection::vec((1_i64..30, 0_u32..6), 1..5),
        amount in 1_i64..200,
    ) {
        let cassettes: Notes = cassettes.into_iter().collect();
        let bundles = every_bundle(&cassettes);
        let rank = |bundle: &Notes| (bundle.count(), unevenness(&cassettes, bundle));
        let best = bundles.iter().filter(|bundle| bundle.minor_units() == amount).map(rank).min();
        match plan(&cassettes, amount) {
            Ok(notes) => {
                prop_assert_eq!(notes.minor_units(), amount);
                prop_assert!(cassettes.less(&notes).is_some(), "they are there");
                prop_assert_eq!(Some(rank(&notes)), best);
            }
            Err(cannot) => {
                prop_assert_eq!(best, None);
                let worths = || bundles.iter().map(Notes::minor_units);
                prop_assert_eq!(cannot.below, worths().filter(|worth| *worth < amount).max());
                prop_assert_eq!(cannot.above, worths().filter(|worth| *worth > amount).min());
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn a_new_machine_pays_every_whole_amount_and_no_fraction(major in 1_i64..=90_000) {
        let cassettes = first_load(Currency::BDT);
        let paid = plan(&cassettes, major * 100);
        prop_assert_eq!(paid.map(|notes| notes.minor_units()), Ok(major * 100));
    }
}

fn notes(text: &str) -> Notes {
    text.parse().unwrap()
}

#[test]
fn the_largest_note_first_would_be_wrong_here() {
    assert_eq!(plan(&notes("9x50 9x20"), 60), Ok(notes("3x20")));
    assert_eq!(plan(&notes("1x50 4x20 9x10"), 80), Ok(notes("1x50 1x20 1x10")));
    assert_eq!(plan(&notes("5x7 5x5 5x1"), 10), Ok(notes("2x5")));
}

#[test]
fn among_equally_few_notes_the_fuller_cassette_pays() {
    // 40 = 30 + 10 = 20 + 20.
    assert_eq!(plan(&notes("9x30 2x20 9x10"), 40), Ok(notes("1x30 1x10")));
    assert_eq!(plan(&notes("2x30 9x20 2x10"), 40), Ok(notes("2x20")));
}

#[test]
fn what_cannot_be_paid_says_what_can() {
    let cannot = |below, above| Err(CannotPay { below, above });
    assert_eq!(plan(&notes("9x50000 9x10000"), 25_000), cannot(Some(20_000), Some(30_000)));
    assert_eq!(plan(&notes("2x500"), 100), cannot(None, Some(500)));
    assert_eq!(plan(&notes("2x500"), 100_000), cannot(Some(1000), None));
    assert_eq!(plan(&notes("2x500"), i64::MAX), cannot(Some(1000), None));
    assert_eq!(plan(&Notes::none(), 100), cannot(None, None));
    assert_eq!(plan(&first_load(Currency::BDT), 100_050), cannot(Some(100_000), Some(100_100)));
}

#[test]
fn no_more_notes_than_the_stacker_holds() {
    assert_eq!(plan(&notes("500x1"), 100), Ok(notes("100x1")));
    assert_eq!(plan(&notes("500x1"), 101), Err(CannotPay { below: Some(100), above: None }));
}

#[test]
fn a_tie_in_all_respects_is_decided_for_the_larger_note() {
    // 60 = 50 + 10 = 40 + 20, and both leave 3, 3, 4, 4.
    assert_eq!(plan(&notes("4x50 4x40 4x20 4x10"), 60), Ok(notes("1x50 1x10")));
}
