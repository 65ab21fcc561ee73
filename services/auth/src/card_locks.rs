//! One verification per card at a time: a lock for each card that somebody is trying right now.
//!
//! Locks live only as long as somebody holds or waits for them, and few may wait for one: a thousand guesses
//! at one card fill this short line and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::domain::NumberKey;

/// Callers at one card at once, the one who holds the lock included.
const MOST_AT_ONE_CARD: usize = 8;

/// Cards that are tried at once.
const MOST_CARDS: usize = 4096;

/// All locks. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct CardLocks {
    locks: Arc<Mutex<HashMap<NumberKey, Entry>>>,
}

#[derive(Default)]
struct Entry {
    lock: Arc<tokio::sync::Mutex<()>>,
    callers: usize,
}

/// Too many callers wait for this card, or too many cards are being tried.
#[derive(Debug)]
pub(crate) struct Crowded;

/// Holds a card; others wait until it is dropped.
pub(crate) struct CardGuard {
    // Fields are dropped in this order: the lock is free before the place in the line is.
    _lock: OwnedMutexGuard<()>,
    _place: Place,
}

impl CardLocks {
    /// Waits for the card.
    pub(crate) async fn hold(&self, key: NumberKey) -> Result<CardGuard, Crowded> {
        let (lock, place) = self.line_up(key)?;
        Ok(CardGuard { _lock: lock.lock_owned().await, _place: place })
    }

    fn line_up(&self, key: NumberKey) -> Result<(Arc<tokio::sync::Mutex<()>>, Place), Crowded> {
        let mut locks = self.lock();
        if !locks.contains_key(&key) && locks.len() >= MOST_CARDS {
            return Err(Crowded);
        }
        let entry = locks.entry(key).or_default();
        if entry.callers >= MOST_AT_ONE_CARD {
            return Err(Crowded);
        }
        entry.callers += 1;
        Ok((Arc::clone(&entry.lock), Place { locks: self.clone(), key }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NumberKey, Entry>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line for one card, given back on drop.
struct Place {
    locks: CardLocks,
    key: NumberKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        if let Some(entry) = locks.get_mut(&self.key) {
            entry.callers -= 1;
            if entry.callers == 0 {
                locks.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn key(number: u64) -> NumberKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NumberKey::from_bytes(bytes)
    }

    #[tokio::test]
    async fn one_card_is_held_by_one_caller_and_another_card_by_another() {
        let locks = CardLocks::default();
        let first = locks.hold(key(1)).await.unwrap();
        let mut second = Box::pin(locks.hold(key(1)));
        assert!(poll!(&mut second).is_pending());
        locks.hold(key(2)).await.unwrap();
        drop(first);
        second.await.unwrap();
        assert!(locks.lock().is_empty(), "no lock outlives its callers");
    }

    #[tokio::test]
    async fn a_long_line_at_one_card_is_refused_and_shrinks_when_callers_leave() {
        let locks = CardLocks::default();
        let _holder = locks.hold(key(1)).await.unwrap();
        let mut waiting: Vec<_> = (1..MOST_AT_ONE_CARD).map(|_| Box::pin(locks.hold(key(1)))).collect();
        for caller in &mut waiting {
            assert!(poll!(caller).is_pending());
        }
        assert!(locks.hold(key(1)).await.is_err());
        waiting.pop();
        assert!(poll!(Box::pin(locks.hold(key(1)))).is_pending());
    }

    #[tokio::test]
    async fn the_number_of_cards_is_bounded() {
        let locks = CardLocks::default();
        let mut held = Vec::new();
        for number in 0..MOST_CARDS as u64 {
            held.push(locks.hold(key(number)).await.unwrap());
        }
        assert!(locks.hold(key(u64::MAX)).await.is_err());
        held.pop();
        assert!(locks.hold(key(u64::MAX)).await.is_ok());
    }
}
