//! The boot rule: of two machines with the same disk, or with a disk and its older copy, one goes on.
//!
//! Each start of a machine mints a [`Boot`] that names the start before it. The bank keeps one [`BootMark`] for
//! each machine and moves it on by compare-and-set: a start is accepted when it names the recorded one as its
//! predecessor, so of all starts that name the same predecessor the first one wins. A counter alone would not
//! do: a clone that starts often would overtake the machine that it was copied from.

use super::BootId;

/// Epochs fit into the signed 64 bits that a database has.
const LAST_EPOCH: u64 = i64::MAX as u64;

/// What the bank keeps of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootMark {
    /// 1 for the first start of a new disk, then one more each time.
    pub epoch: u64,
    /// Minted for this start.
    pub boot_id: BootId,
}

/// One start of a machine, well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    mark: BootMark,
    previous: Option<BootId>,
}

/// Why these parts are no start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// Epochs start at 1.
    #[error("must be 1 to 9223372036854775807")]
    Epoch,
    /// A start after the first one names its predecessor, and only such a start does.
    #[error("must name the start before, and be empty when epoch is 1")]
    Previous,
    /// No start comes before itself.
    #[error("must be another id than boot_id")]
    OwnPredecessor,
}

impl Boot {
    /// A start, if its parts fit together.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn new(epoch: u64, boot_id: BootId, previous: Option<BootId>) -> Result<Self, BootError> {
        if !(1..=LAST_EPOCH).contains(&epoch) {
            return Err(BootError::Epoch);
        }
        if previous.is_some() != (epoch > 1) {
            return Err(BootError::Previous);
        }
        if previous == Some(boot_id) {
            return Err(BootError::OwnPredecessor);
        }
        Ok(Self { mark: BootMark { epoch, boot_id }, previous })
    }

    /// What is kept of it.
    pub fn mark(&self) -> BootMark {
        self.mark
    }
}

/// What a sign-on comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOn {
    /// It is the first one, or follows the recorded one: it takes its place.
    Accepted,
    /// It is the recorded one: its answer was lost, or it asks again.
    Repeated,
    /// Another start took its place, for good.
    Stale,
}

/// The compare-and-set, without the set.
pub fn sign_on(recorded: Option<BootMark>, boot: &Boot) -> SignOn {
    let Some(recorded) = recorded else { return SignOn::Accepted };
    if boot.mark == recorded {
        return SignOn::Repeated;
    }
    let next = recorded.epoch.checked_add(1) == Some(boot.mark.epoch);
    if next && boot.previous == Some(recorded.boot_id) { SignOn::Accepted } else { SignOn::Stale }
}

/// Whether a machine may do business in this start: with nothing recorded any start will do, and whoever has
/// signed on is held to it. A caller that names no start is not asked for one.
pub fn may_serve(recorded: Option<BootMark>, boot: Option<&Boot>) -> bool {
    match (recorded, boot) {
        (None, _) | (_, None) => true,
        (Some(recorded), Some(boot)) => boot.mark == recorded,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(byte: u8) -> BootId {
        BootId::from_bytes([byte; 16])
    }

    fn boot(epoch: u64, own: u8, previous: Option<u8>) -> Boot {
        Boot::new(epoch, id(own), previous.map(id)).unwrap()
    }

    fn mark(epoch: u64, own: u8) -> BootMark {
        BootMark { epoch, boot_id: id(own) }
    }

    #[test]
    fn the_rule_row_by_row() {
        let recorded = Some(mark(7, 7));
        for (what, recorded, boot, verdict) in [
            ("the first boot of a new disk", None, boot(1, 1, None), SignOn::Accepted),
            ("the first boot that the bank hears of", None, boot(9, 9, Some(8)), SignOn::Accepted),
            ("a repeat", recorded, boot(7, 7, Some(6)), SignOn::Repeated),
            ("the next", recorded, boot(8, 8, Some(7)), SignOn::Accepted),
            ("a skipped epoch", recorded, boot(9, 9, Some(7)), SignOn::Stale),
            ("the next of another", recorded, boot(8, 8, Some(77)), SignOn::Stale),
            ("an older epoch", recorded, boot(6, 6, Some(5)), SignOn::Stale),
            ("an older epoch that names the recorded one", recorded, boot(6, 6, Some(7)), SignOn::Stale),
            ("the same epoch, another boot", recorded, boot(7, 70, Some(6)), SignOn::Stale),
            ("the same epoch, naming the recorded one", recorded, boot(7, 70, Some(7)), SignOn::Stale),
            ("another epoch with the recorded id", recorded, boot(8, 7, Some(6)), SignOn::Stale),
            ("a new disk under a known name", recorded, boot(1, 1, None), SignOn::Stale),
        ] {
            assert_eq!(sign_on(recorded, &boot), verdict, "{what}");
        }
    }

    #[test]
    fn the_last_epoch_has_no_next() {
        let last = mark(LAST_EPOCH, 7);
        assert_eq!(Boot::new(LAST_EPOCH + 1, id(8), Some(id(7))), Err(BootError::Epoch));
        assert_eq!(sign_on(Some(last), &boot(1, 8, None)), SignOn::Stale);
        assert_eq!(sign_on(Some(mark(u64::MAX, 7)), &boot(1, 8, None)), SignOn::Stale, "and never wraps");
    }

    #[test]
    fn a_machine_serves_in_the_start_that_is_recorded() {
        let recorded = Some(mark(7, 7));
        for (recorded, asked, may) in [
            (None, None, true),
            (None, Some(boot(3, 3, Some(2))), true),
            (recorded, None, true),
            (recorded, Some(boot(7, 7, Some(6))), true),
            (recorded, Some(boot(8, 8, Some(7))), false),
            (recorded, Some(boot(6, 6, Some(5))), false),
            (recorded, Some(boot(7, 70, Some(6))), false),
        ] {
            assert_eq!(may_serve(recorded, asked.as_ref()), may, "{recorded:?} {asked:?}");
        }
    }

    #[test]
    fn a_start_names_its_predecessor_unless_it_is_the_first() {
        assert!(Boot::new(1, id(1), None).is_ok() && Boot::new(2, id(2), Some(id(1))).is_ok());
        assert_eq!(Boot::new(0, id(1), None), Err(BootError::Epoch));
        assert_eq!(Boot::new(1, id(1), Some(id(2))), Err(BootError::Previous));
        assert_eq!(Boot::new(2, id(1), None), Err(BootError::Previous));
        assert_eq!(Boot::new(2, id(1), Some(id(1))), Err(BootError::OwnPredecessor));
    }

    proptest! {
        /// Two copies of one disk start in any order, as often as they like: whoever signs on first after
        /// the copy goes on, and the other never gets in again.
        #[test]
        fn of_two_clones_only_the_first_ever_goes_on(starts in proptest::collection::vec(any::<bool>(), 1..40)) {
            let mut recorded = Some(mark(1, 1));
            // What each disk holds as its current start; an accepted one becomes current.
            let mut disks = [mark(1, 1); 2];
            let mut minted = 1;
            let mut pending: [Option<Boot>; 2] = [None; 2];
            for &which in &starts {
                let which = usize::from(which);
                let boot = pending[which].unwrap_or_else(|| {
                    minted += 1;
                    boot(disks[which].epoch + 1, minted, Some(disks[which].boot_id.as_bytes()[0]))
                });
                pending[which] = Some(boot);
                match sign_on(recorded, &boot) {
                    SignOn::Accepted => {
                        recorded = Some(boot.mark());
                        disks[which] = boot.mark();
                        pending[which] = None;
                    }
                    SignOn::Repeated => prop_assert!(false, "nothing is sent twice here"),
                    SignOn::Stale => prop_assert_ne!(which, usize::from(starts[0])),
                }
            }
            prop_assert_eq!(recorded, Some(disks[usize::from(starts[0])]));
        }
    }
}
