//! Which ids are known to be new without a look into storage.
//!
//! Ids minted later are greater (UUIDv7), so an id above every stored one is new. But callers mint at the same
//! time and arrive a little out of order; so the ids recorded last are kept here, and whatever is above all
//! ids recorded *before those* and not among them is new as well.

use std::collections::HashSet;

use atm_types::TransactionId;
use foldhash::fast::RandomState;

/// How many ids one generation holds. There are two, so that some are always remembered.
const GENERATION: usize = 65_536;

/// The ids recorded last.
#[derive(Debug)]
pub(super) struct RecentIds {
    /// The greatest time-ordered id recorded so far.
    newest: TransactionId,
    /// No id above it was recorded before the old generation began.
    floor: TransactionId,
    old: HashSet<TransactionId, RandomState>,
    /// No id above it was recorded before the young generation began.
    young_floor: TransactionId,
    young: HashSet<TransactionId, RandomState>,
}

impl RecentIds {
    /// Of books whose greatest time-ordered id is `newest`.
    pub(super) fn after(newest: TransactionId) -> Self {
        Self {
            newest,
            floor: newest,
            old: HashSet::default(),
            young_floor: newest,
            young: HashSet::default(),
        }
    }

    /// The greatest time-ordered id recorded so far.
    pub(super) fn newest(&self) -> TransactionId {
        self.newest
    }

    /// Whether `id` was certainly not recorded.
    pub(super) fn is_new(&self, id: TransactionId) -> bool {
        is_time_ordered(id)
            && (id > self.newest || id > self.floor && !self.young.contains(&id) && !self.old.contains(&id))
    }

    /// Takes note of an id that is recorded.
    pub(super) fn record(&mut self, id: TransactionId) {
        if !is_time_ordered(id) {
            return;
        }
        if self.young.len() >= GENERATION {
            // The sets change places, so that each keeps its room.
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
            self.floor = std::mem::replace(&mut self.young_floor, self.newest);
        }
        self.young.insert(id);
        self.newest = self.newest.max(id);
    }
}

/// Whether ids of this kind come in the order of time: UUIDv7.
fn is_time_ordered(id: TransactionId) -> bool {
    id.as_bytes()[6] >> 4 == 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, version: u8) -> TransactionId {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
        bytes[6] = version << 4;
        TransactionId::from_bytes(bytes)
    }

    #[test]
    fn no_recorded_id_is_ever_taken_for_new() {
        let mut recent = RecentIds::after(id(1_000, 7));
        let mut recorded: Vec<TransactionId> = (1..1_000).map(|number| id(number, 7)).collect();
        // Out of order, and far more than both generations hold.
        for number in 0..300_000_u64 {
            let id = id(1_001 + (number ^ 0x3ff), if number % 10 == 0 { 4 } else { 7 });
            recent.record(id);
            recorded.push(id);
        }
        assert!(recorded.iter().all(|id| !recent.is_new(*id)));
        assert_eq!(Some(recent.newest()), recorded.iter().filter(|id| is_time_ordered(**id)).max().copied());
    }

    #[test]
    fn ids_a_little_out_of_order_are_known_to_be_new_and_scattered_ones_are_not() {
        let mut recent = RecentIds::after(id(1_000, 7));
        (1..200_000_u64).for_each(|number| recent.record(id(1_000 + 2 * number, 7)));
        assert!(recent.is_new(id(401_000, 7)));
        assert!(recent.is_new(id(1_000 + 2 * 199_000 + 1, 7)));
        assert!(!recent.is_new(id(1_001, 7)));
        assert!(!recent.is_new(id(401_000, 4)));
    }
}
