//! Notes and coins by denomination.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use atm_types::{Currency, Money};

/// What the machine handles, in major units: notes, and coins of 1.
const DENOMINATIONS: [i64; 10] = [1000, 500, 200, 100, 50, 20, 10, 5, 2, 1];
/// How many of each a new machine is loaded with.
const FIRST_LOAD: [u32; 10] = [200, 200, 200, 400, 200, 200, 400, 200, 400, 400];

/// The denominations of a currency in minor units, the largest first.
pub(crate) fn denominations(currency: Currency) -> impl DoubleEndedIterator<Item = i64> {
    let unit = 10_i64.checked_pow(currency.decimals()).unwrap_or(1);
    DENOMINATIONS.into_iter().map(move |major| major * unit)
}

/// What a new machine is loaded with.
pub(crate) fn first_load(currency: Currency) -> Notes {
    denominations(currency).zip(FIRST_LOAD).collect()
}

/// So many notes of each denomination. A denomination of which there are none is not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Notes(BTreeMap<i64, u32>);

impl Notes {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// The fewest notes that make `amount` when there are enough of all; nothing for what they cannot make. With
    /// 1, 2 and 5 and their tens, taking the largest first is right.
    pub(crate) fn counted_in(amount: Money) -> Option<Self> {
        let mut rest = amount.minor_units();
        let mut notes = Self::none();
        for denomination in denominations(amount.currency()) {
            let count = u32::try_from(rest / denomination).ok()?;
            notes.add(denomination, count);
            rest %= denomination;
        }
        (rest == 0).then_some(notes)
    }

    pub(crate) fn add(&mut self, denomination: i64, count: u32) {
        if count > 0 {
            let there = self.0.entry(denomination).or_default();
            *there = there.saturating_add(count);
        }
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        others.iter().for_each(|(denomination, count)| self.add(denomination, count));
    }

    /// These less `others`, or nothing when there are not so many.
    pub(crate) fn less(&self, others: &Self) -> Option<Self> {
        let mut left = self.clone();
        for (denomination, count) in others.iter() {
            let there = left.0.get_mut(&denomination)?;
            *there = there.checked_sub(count)?;
        }
        left.0.retain(|_, count| *count > 0);
        Some(left)
    }

    /// The first `count` of them, largest denomination first, and the rest.
    pub(crate) fn split(&self, count: u32) -> (Self, Self) {
        let (mut first, mut rest, mut wanted) = (Self::none(), Self::none(), count);
        for (denomination, there) in self.iter() {
            let taken = there.min(wanted);
            wanted -= taken;
            first.add(denomination, taken);
            rest.add(denomination, there - taken);
        }
        (first, rest)
    }

    pub(crate) fn of(&self, denomination: i64) -> u32 {
        self.0.get(&denomination).copied().unwrap_or(0)
    }

    /// How many pieces of paper and metal.
    pub(crate) fn count(&self) -> u32 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they are worth, in minor units.
    pub(crate) fn minor_units(&self) -> i64 {
        self.iter().fold(0, |sum: i64, (denomination, count)| {
            sum.saturating_add(denomination.saturating_mul(i64::from(count)))
        })
    }

    pub(crate) fn worth(&self, currency: Currency) -> Money {
        Money::new(self.minor_units(), currency)
    }

    /// Denomination in minor units and count, the largest denomination first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.0.iter().rev().map(|(denomination, count)| (*denomination, *count))
    }

    /// In words for people: `2 x 500, 1 x 100`.
    pub(crate) fn in_words(&self, currency: Currency) -> String {
        if self.is_empty() {
            return "nothing".to_owned();
        }
        let words = self.iter().map(|(denomination, count)| {
            let worth = Money::new(denomination, currency).to_decimal();
            let worth = worth.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0'));
            let decimal = Money::new(denomination, currency).to_decimal();
            format!("{count} x {}", worth.map_or(decimal.as_str(), |(whole, _)| whole))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<(i64, u32)> for Notes {
    fn from_iter<I: IntoIterator<Item = (i64, u32)>>(notes: I) -> Self {
        let mut found = Self::none();
        notes.into_iter().for_each(|(denomination, count)| found.add(denomination, count));
        found
    }
}

/// As both memories keep them: `2x50000 1x10000`, in minor units, the largest first.
impl fmt::Display for Notes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (denomination, count)) in self.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(formatter, "{gap}{count}x{denomination}")?;
        }
        Ok(())
    }
}

/// A text that [`Notes`] never wrote.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} lists no notes")]
pub(crate) struct NotNotes(String);

impl FromStr for Notes {
    type Err = NotNotes;

    fn from_str(text: &str) -> Result<Self, NotNotes> {
        let piece = |piece: &str| {
            let (count, denomination) = piece.split_once('x')?;
            let denomination = denomination.parse().ok().filter(|denomination| *denomination > 0)?;
            Some((denomination, count.parse().ok()?))
        };
        let notes: Option<Self> = text.split_whitespace().map(piece).collect();
        notes.filter(|notes| notes.to_string() == text).ok_or_else(|| NotNotes(text.to_owned()))
    }
}
