//! Which notes to pay an amount with.
//!
//! The rule, in this order: notes that are there, and no more of them than the stacker holds; the fewest notes;
//! among equally few, those after which the counts left in the cassettes are most even (the smallest sum of their
//! squares), so that no cassette runs empty long before the others; among those, the larger denominations.
//!
//! Always taking the largest note first is wrong as soon as a cassette is empty or unusual (60 from notes of 50
//! and 20, without a 10), so this looks at all amounts up to the one asked for. `fewest[i][a]` is the least number
//! of notes out of the cassettes from the i-th on that makes `a`; a plan that meets the rule follows this table, and
//! the small part of it where several paths are equally short is searched for the most even one.

use std::collections::HashMap;

use super::Notes;

/// The most notes that one bundle may have.
pub(crate) const STACKER_HOLDS: u16 = 100;

/// An amount that the notes there cannot make, and the nearest that they can, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CannotPay {
    /// The largest amount below that can be paid; nothing when none can.
    pub(crate) below: Option<i64>,
    /// The smallest amount above that can be paid; nothing when none can.
    pub(crate) above: Option<i64>,
}

/// The notes to pay `amount` minor units with, which is more than 0.
pub(crate) fn plan(cassettes: &Notes, amount: i64) -> Result<Notes, CannotPay> {
    let unit =
        cassettes.iter().fold(0, |unit, (denomination, _)| greatest_common_divisor(unit, denomination));
    if unit == 0 {
        return Err(CannotPay { below: None, above: None });
    }
    // No bundle is worth more than the stacker full of the largest notes there are.
    let most = cassettes.split(u32::from(STACKER_HOLDS)).0.minor_units() / unit;
    let wanted = amount / unit;
    if amount % unit == 0 && wanted <= most {
        let table = Table::new(cassettes, unit, wanted);
        if let Some(notes) = table.best() {
            return Ok(notes);
        }
    }
    let payable = Table::new(cassettes, unit, most).payable();
    let below = payable.iter().rev().find(|units| **units * unit < amount);
    let above = payable.iter().find(|units| **units * unit > amount);
    Err(CannotPay { below: below.map(|units| units * unit), above: above.map(|units| units * unit) })
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// No number of notes makes it.
const NEVER: u16 = u16::MAX;

struct Table {
    /// Denomination in units and count, the largest first.
    cassettes: Vec<(usize, u32)>,
    unit: i64,
    /// One row more than there are cassettes: no cassette makes 0 with no note.
    fewest: Vec<Vec<u16>>,
}

impl Table {
    /// For all amounts up to `highest` units.
    fn new(cassettes: &Notes, unit: i64, highest: i64) -> Self {
        let size = usize::try_from(highest).unwrap_or(0);
        let cassettes: Vec<(usize, u32)> = cassettes
            .iter()
            .map(|(denomination, count)| (usize::try_from(denomination / unit).unwrap_or(usize::MAX), count))
            .collect();
        let mut row = vec![NEVER; size + 1];
        row[0] = 0;
        let mut fewest = vec![row];
        for &(worth, count) in cassettes.iter().rev() {
            let mut row = fewest.last().cloned().unwrap_or_default();
            for bundle in bundles(count.min(u32::from(STACKER_HOLDS))) {
                take_at_most_once(&mut row, worth.saturating_mul(usize::from(bundle)), bundle);
            }
            fewest.push(row);
        }
        fewest.reverse();
        Self { cassettes, unit, fewest }
    }

    fn best(&self) -> Option<Notes> {
        let wanted = self.fewest[0].len() - 1;
        if self.fewest[0][wanted] > STACKER_HOLDS {
            return None;
        }
        let mut known = HashMap::new();
        self.most_even(0, wanted, &mut known);
        let (mut notes, mut rest) = (Notes::none(), wanted);
        for (index, &(worth, _)) in self.cassettes.iter().enumerate() {
            let (_, count) = known.get(&(index, rest))?;
            notes.add(i64::try_from(worth).ok()?.checked_mul(self.unit)?, *count);
            rest -= worth * usize::try_from(*count).ok()?;
        }
        Some(notes)
    }

    /// The smallest sum of squares that fewest notes out of the cassettes from `index` on can leave when they make
    /// `rest`; remembers how many of the first cassette that takes.
    fn most_even(&self, index: usize, rest: usize, known: &mut HashMap<(usize, usize), (u64, u32)>) -> u64 {
        let Some(&(worth, there)) = self.cassettes.get(index) else { return 0 };
        if let Some((cost, _)) = known.get(&(index, rest)) {
            return *cost;
        }
        let mut best: Option<(u64, u32)> = None;
        for taken in 0..=there.min(u32::from(self.fewest[index][rest])) {
            let Some(left) = worth.checked_mul(taken as usize).and_then(|w| rest.checked_sub(w)) else {
                break;
            };
            let others = u32::from(self.fewest[index + 1][left]);
            if others == u32::from(NEVER) || others + taken != u32::from(self.fewest[index][rest]) {
                continue;
            }
            let square = u64::from(there - taken) * u64::from(there - taken);
            let cost = square.saturating_add(self.most_even(index + 1, left, known));
            // On a tie the later one, which takes more of the larger denomination.
            if best.is_none_or(|(least, _)| cost <= least) {
                best = Some((cost, taken));
            }
        }
        let best = best.unwrap_or((u64::MAX, 0));
        known.insert((index, rest), best);
        best.0
    }

    /// Every amount above 0 that can be paid, in units, the smallest first.
    fn payable(&self) -> Vec<i64> {
        let makes = self.fewest[0].iter().enumerate().skip(1);
        makes
            .filter(|(_, notes)| **notes <= STACKER_HOLDS)
            .filter_map(|(amount, _)| i64::try_from(amount).ok())
            .collect()
    }
}

/// Sizes of which some add up to every number up to `count` and none to more: 1, 2, 4, … and a rest.
fn bundles(count: u32) -> impl Iterator<Item = u16> {
    let (mut left, mut size) = (u16::try_from(count).unwrap_or(STACKER_HOLDS), 1);
    std::iter::from_fn(move || {
        let bundle = left.min(size);
        left -= bundle;
        size *= 2;
        (bundle > 0).then_some(bundle)
    })
}

fn take_at_most_once(row: &mut [u16], worth: usize, notes: u16) {
    for amount in (worth..row.len()).rev() {
        let with = row[amount - worth].saturating_add(notes);
        if row[amount - worth] != NEVER && with < row[amount] {
            row[amount] = with;
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
