//! A card, and everything that may happen to it.

use std::fmt;
use std::time::Duration;

use atm_faults::{Bug, planted};
use atm_types::{AccountId, TerminalId, Timestamp};
use subtle::ConstantTimeEq;

use super::{AtmId, CardId, NumberKey, Session, SessionId, WrongPins};

/// A card as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Stands for the number.
    pub number_key: NumberKey,
    /// Stands for the card outside this service.
    pub card_id: CardId,
    /// The ledger account behind it.
    pub account_id: AccountId,
    /// All that is kept of the number.
    pub last_four: LastFour,
    /// The PIN, hashed; a card without one is opened by no PIN.
    pub pin: Option<PinHash>,
    /// Wrong PINs since the last right one.
    pub wrong_pins: WrongPins,
    /// Whether an operator has blocked it.
    pub blocked: bool,
    /// The latest time at which a session of this card was opened or all of them were revoked. Later ones get
    /// a later time even if the wall clock was set back, so that "issued at or before" always means what it says.
    pub session_clock: Timestamp,
}

/// What a PIN was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right.
    Right,
    /// Wrong, and more may be tried.
    Wrong,
    /// Wrong, and the card is locked now.
    Locked,
    /// Right, but an operator has blocked the card.
    ///
    /// A blocked card takes and counts PINs like any other, and only the right PIN is told that it is blocked:
    /// unknown numbers are never blocked, so that telling everybody would tell strangers which cards exist.
    Blocked,
}

impl Card {
    /// Counts one verification.
    pub fn judge(&mut self, pin_is_right: bool) -> Verdict {
        if self.wrong_pins.is_locked() {
            return Verdict::Locked;
        }
        if !pin_is_right {
            let before = if planted(Bug::EachWrongPinIsTheFirst) { WrongPins::ZERO } else { self.wrong_pins };
            self.wrong_pins = before.and_one();
            return if self.wrong_pins.is_locked() { Verdict::Locked } else { Verdict::Wrong };
        }
        if self.blocked {
            return Verdict::Blocked;
        }
        self.wrong_pins = WrongPins::ZERO;
        Verdict::Right
    }

    /// Opens a session of `lifetime` that begins now, or just after the last revocation if that seems later.
    pub fn open_session(
        &mut self,
        session_id: SessionId,
        (atm_id, terminal_id): (AtmId, TerminalId),
        now: Timestamp,
        lifetime: Duration,
    ) -> Session {
        let issue_time = now.max(self.session_clock.saturating_add(Duration::from_nanos(1)));
        self.session_clock = issue_time;
        Session {
            session_id,
            card_id: self.card_id,
            account_id: self.account_id,
            atm_id,
            terminal_id,
            issue_time,
            expire_time: issue_time.saturating_add(lifetime),
        }
    }

    /// Blocks the card. Every session that it ever opened was issued at or before the time returned.
    pub fn block(&mut self, now: Timestamp) -> Timestamp {
        self.blocked = true;
        self.session_clock = self.session_clock.max(now);
        self.session_clock
    }

    /// Takes block, lock and count away.
    pub fn unblock(&mut self) {
        self.blocked = false;
        self.wrong_pins = WrongPins::ZERO;
    }
}

/// A card that somebody wants issued; its PIN is hashed already.
#[derive(Clone, Debug)]
pub struct CardToIssue {
    /// Stands for the number.
    pub number_key: NumberKey,
    /// The id that it gets if it is new.
    pub card_id: CardId,
    /// The ledger account behind it.
    pub account_id: AccountId,
    /// All that is kept of the number.
    pub last_four: LastFour,
    /// The PIN, if it is to have one.
    pub pin: Option<PinHash>,
}

/// What issuing a card does. The first two carry the card as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issued {
    /// The card is new.
    New(Card),
    /// The card was there for this account, without a PIN.
    PinSet(Card),
    /// The card was there for this account; nothing changes.
    Unchanged(CardId),
    /// The number belongs to another account; nothing changes.
    OtherAccount,
}

/// Decides what issuing a card does: what is missing is completed, what is there stays.
pub fn issue(existing: Option<Card>, card: CardToIssue) -> Issued {
    match existing {
        None => Issued::New(Card {
            number_key: card.number_key,
            card_id: card.card_id,
            account_id: card.account_id,
            last_four: card.last_four,
            pin: card.pin,
            wrong_pins: WrongPins::ZERO,
            blocked: false,
            session_clock: Timestamp::from_nanos(i64::MIN),
        }),
        Some(existing) if existing.account_id != card.account_id => Issued::OtherAccount,
        Some(existing) if existing.pin.is_none() && card.pin.is_some() => {
            Issued::PinSet(Card { pin: card.pin, ..existing })
        }
        Some(existing) => Issued::Unchanged(existing.card_id),
    }
}

/// The last four digits of a card number: what receipts and operators see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LastFour([u8; 4]);

impl LastFour {
    /// Wraps four ASCII digits.
    pub const fn from_digits(digits: [u8; 4]) -> Self {
        Self(digits)
    }

    /// The four ASCII digits.
    pub const fn digits(&self) -> &[u8; 4] {
        &self.0
    }
}

impl fmt::Display for LastFour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "…{}", std::str::from_utf8(&self.0).unwrap_or("????"))
    }
}

impl fmt::Debug for LastFour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A hashed PIN with what it takes to hash another one the same way.
#[derive(Clone)]
pub struct PinHash {
    /// Random, for this card and this PIN alone.
    pub salt: [u8; 16],
    /// Argon2id of the PIN with the pepper as its secret.
    pub hash: [u8; 32],
    /// What it cost.
    pub cost: HashCost,
}

impl PinHash {
    /// Whether `hash` is this one, in constant time.
    pub fn equals(&self, hash: &[u8; 32]) -> bool {
        self.hash.ct_eq(hash).into()
    }
}

impl PartialEq for PinHash {
    fn eq(&self, other: &Self) -> bool {
        self.salt == other.salt && self.equals(&other.hash) && self.cost == other.cost
    }
}

impl Eq for PinHash {}

impl fmt::Debug for PinHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PinHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// Why a hashing cost is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "hashing a PIN must cost at least {} KiB, {} passes and 1 lane, with 8 KiB for each lane",
    HashCost::FLOOR.memory_kib,
    HashCost::FLOOR.passes
)]
pub struct HashCostError;

/// What one hash costs (RFC 9106 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl HashCost {
    /// The least that a real service is started with: 19 MiB, two passes, one lane, the lowest of OWASP's
    /// recommended settings for argon2id. It is also the default: a PIN of four digits is guarded by lockout
    /// and pepper, and ten thousand guesses are soon made at any price.
    pub const FLOOR: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

    /// The cheapest that argon2 allows: 8 KiB and one pass. For tests; no flag reaches it.
    pub const CHEAPEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// A cost for a real service.
    ///
    /// # Errors
    /// [`HashCostError`] below [`HashCost::FLOOR`].
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, HashCostError> {
        let floor = Self::FLOOR;
        let enough = memory_kib >= floor.memory_kib && passes >= floor.passes && (1..=64).contains(&lanes);
        if enough && memory_kib >= 8 * lanes {
            Ok(Self { memory_kib, passes, lanes })
        } else {
            Err(HashCostError)
        }
    }

    /// A cost that was stored with a hash, whatever the floor is by now.
    pub const fn from_stored(memory_kib: u32, passes: u32, lanes: u32) -> Self {
        Self { memory_kib, passes, lanes }
    }

    /// KiB of memory while one hash is computed.
    pub const fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    pub const fn passes(self) -> u32 {
        self.passes
    }

    /// Lanes.
    pub const fn lanes(self) -> u32 {
        self.lanes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::MAX_WRONG_PINS;

    fn to_issue(account: u8, pin: Option<u8>) -> CardToIssue {
        CardToIssue {
            number_key: NumberKey::from_bytes([1; 32]),
            card_id: CardId::from_bytes([2; 16]),
            account_id: AccountId::from_bytes([account; 16]),
            last_four: LastFour::from_digits(*b"6789"),
            pin: pin.map(|byte| PinHash { salt: [0; 16], hash: [byte; 32], cost: HashCost::CHEAPEST }),
        }
    }

    fn card() -> Card {
        match issue(None, to_issue(1, Some(1))) {
            Issued::New(card) => card,
            other => panic!("{other:?}"),
        }
    }

    fn session(card: &mut Card, now: i64) -> Session {
        let place = ("ATM-1".parse().unwrap(), TerminalId::from_bytes([9; 32]));
        card.open_session(
            SessionId::from_bytes([7; 16]),
            place,
            Timestamp::from_seconds(now),
            Duration::from_secs(300),
        )
    }

    #[test]
    fn the_third_wrong_pin_locks_even_against_the_right_one_until_the_card_is_unblocked() {
        let mut card = card();
        assert_eq!([false, false, false].map(|right| card.judge(right)), {
            [Verdict::Wrong, Verdict::Wrong, Verdict::Locked]
        });
        assert_eq!(card.judge(true), Verdict::Locked);
        card.unblock();
        assert_eq!(card.judge(true), Verdict::Right);
    }

    #[test]
    fn a_right_pin_takes_the_count_back() {
        let mut card = card();
        card.judge(false);
        card.judge(false);
        assert_eq!(card.judge(true), Verdict::Right);
        assert_eq!(card.wrong_pins, WrongPins::ZERO);
    }

    #[test]
    fn only_the_right_pin_learns_that_the_card_is_blocked() {
        let mut card = card();
        card.block(Timestamp::from_seconds(1));
        assert_eq!(card.judge(false), Verdict::Wrong);
        assert_eq!(card.judge(true), Verdict::Blocked);
        assert_eq!(card.wrong_pins.count(), 1, "a blocked card forgives nothing");
    }

    #[test]
    fn a_block_reaches_every_session_before_it_and_none_after_it_even_if_the_clock_goes_back() {
        let mut card = card();
        let early = session(&mut card, 1000);
        let revoked = card.block(Timestamp::from_seconds(400));
        assert!(early.issue_time <= revoked);
        card.unblock();
        let late = session(&mut card, 300);
        assert!(late.issue_time > revoked);
        assert_eq!(late.expire_time.saturating_since(late.issue_time), Duration::from_secs(300));
    }

    #[test]
    fn issuing_again_completes_a_missing_pin_and_changes_nothing_else() {
        let Issued::New(mut bare) = issue(None, to_issue(1, None)) else { panic!("not new") };
        bare.wrong_pins = bare.wrong_pins.and_one();
        assert_eq!(issue(Some(bare.clone()), to_issue(1, None)), Issued::Unchanged(bare.card_id));
        let Issued::PinSet(complete) = issue(Some(bare.clone()), to_issue(1, Some(5))) else {
            panic!("no PIN was set")
        };
        assert_eq!(complete.wrong_pins, bare.wrong_pins);
        assert_eq!(issue(Some(complete.clone()), to_issue(1, Some(6))), Issued::Unchanged(complete.card_id));
        assert_eq!(issue(Some(complete), to_issue(2, Some(6))), Issued::OtherAccount);
    }

    #[test]
    fn a_real_service_pays_at_least_the_floor() {
        assert_eq!(HashCost::new(19 * 1024, 2, 1), Ok(HashCost::FLOOR));
        for (memory_kib, passes, lanes) in
            [(8, 1, 1), (19 * 1024 - 1, 2, 1), (19 * 1024, 1, 1), (19 * 1024, 2, 0)]
        {
            assert_eq!(HashCost::new(memory_kib, passes, lanes), Err(HashCostError));
        }
        let text = HashCostError.to_string();
        assert!(text.contains("19456 KiB") && text.contains("2 passes"), "{text}");
    }

    proptest! {
        /// Invariant 19 of the design: at most three wrong PINs are verified between two resets.
        #[test]
        fn no_history_verifies_more_than_three_wrong_pins_between_resets(
            steps in prop::collection::vec(0_u8..6, 0..60)
        ) {
            let mut card = card();
            let mut wrong_since_reset = 0;
            for step in steps {
                match step {
                    0 => {
                        card.unblock();
                        wrong_since_reset = 0;
                    }
                    1 => {
                        card.block(Timestamp::from_seconds(1));
                    }
                    _ if card.wrong_pins.is_locked() => {
                        prop_assert_eq!(card.judge(step == 2), Verdict::Locked);
                    }
                    2 => {
                        if card.judge(true) == Verdict::Right {
                            wrong_since_reset = 0;
                        }
                    }
                    _ => {
                        card.judge(false);
                        wrong_since_reset += 1;
                    }
                }
                prop_assert!(wrong_since_reset <= MAX_WRONG_PINS);
                prop_assert_eq!(card.wrong_pins.count(), wrong_since_reset);
            }
        }

        #[test]
        fn sessions_of_one_card_never_share_a_time_with_a_revocation_before_them(
            steps in prop::collection::vec((any::<bool>(), -1000_i64..1000), 1..40)
        ) {
            let mut card = card();
            let mut revoked = Timestamp::from_nanos(i64::MIN);
            let mut newest = revoked;
            for (block, now) in steps {
                if block {
                    revoked = card.block(Timestamp::from_seconds(now));
                    prop_assert!(newest <= revoked);
                } else {
                    newest = session(&mut card, now).issue_time;
                    prop_assert!(newest > revoked);
                }
            }
        }
    }
}
