//! What operators do to cards: issue, block, unblock.
//!
//! Blocks and unblocks are orders, which count once: see [`crate::orders`].

use std::sync::Arc;

use atm_types::{AccountId, Timestamp};
use futures_util::future::try_join_all;

use crate::attempts::{new_card_id, salt};
use crate::auth::Auth;
use crate::domain::{
    CardId, CardNumber, CardToIssue, Issued, LONGEST_SESSION, NumberKey, Order, OrderId, Pin, PinHash,
    Revocation, RevocationTarget, issue,
};
use crate::failure::Failure;
use crate::orders::{Effect, once};
use crate::storage::{Rows, StorageError};

/// So many PINs are hashed before their cards are committed. A caller whose time runs out in a long call keeps
/// what was committed, and its repetition goes on from there.
const PINS_PER_TRANSACTION: usize = 32;

/// A card that an operator wants issued.
pub(crate) struct Wanted {
    pub(crate) number: CardNumber,
    pub(crate) account_id: AccountId,
    pub(crate) pin: Option<Pin>,
}

/// What became of one card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IssueResult {
    Issued(CardId),
    PinSet(CardId),
    Unchanged(CardId),
    OtherAccount,
}

impl Auth {
    /// Issues cards, or completes what is missing; one result for each, in the same order.
    pub(crate) async fn issue_cards(
        self: &Arc<Self>,
        mut wanted: Vec<Wanted>,
    ) -> Result<Vec<IssueResult>, Failure> {
        let mut results = Vec::with_capacity(wanted.len());
        while !wanted.is_empty() {
            let rest = wanted.split_off(one_transaction(&wanted));
            results.extend(self.issue_some(std::mem::replace(&mut wanted, rest)).await?);
        }
        let new = results.iter().filter(|result| matches!(result, IssueResult::Issued(_))).count();
        tracing::info!(cards = results.len(), new, "issued cards");
        Ok(results)
    }

    async fn issue_some(self: &Arc<Self>, wanted: Vec<Wanted>) -> Result<Vec<IssueResult>, Failure> {
        let mut cards: Vec<CardToIssue> = Vec::with_capacity(wanted.len());
        let mut pins = Vec::with_capacity(wanted.len());
        for one in wanted {
            cards.push(CardToIssue {
                number_key: self.keys.number_key(&one.number),
                card_id: new_card_id(&*self.ids),
                account_id: one.account_id,
                last_four: one.number.last_four(),
                pin: None,
            });
            pins.push(one.pin);
        }
        // Only what is missing is hashed: an import that is run again costs nothing for what it finds done.
        let asked: Vec<_> = cards.iter().map(|card| (card.number_key, card.account_id)).collect();
        let missing = self.store.transaction(move |rows| {
            if rows.has_room() { lack_a_pin(rows, &asked).map(Some) } else { Ok(None) }
        });
        let missing = missing.await?.ok_or(StorageError::Full)?;
        let hashes = pins.into_iter().zip(missing).map(|(pin, missing)| {
            let pin = pin.filter(|_| missing);
            async move {
                match pin {
                    Some(pin) => self.hash_for_operator(pin).await.map(Some),
                    None => Ok(None),
                }
            }
        });
        for (card, hash) in cards.iter_mut().zip(try_join_all(hashes).await?) {
            card.pin = hash;
        }
        let commit = self.store.transaction(move |rows| {
            cards.into_iter().map(|card| commit_one(rows, card)).collect::<Result<Vec<_>, _>>()
        });
        Ok(commit.await?)
    }

    async fn hash_for_operator(&self, pin: Pin) -> Result<PinHash, Failure> {
        let permit = self.pool.permit_for_operator().await?;
        let salt = salt(&*self.ids);
        Ok(self.pool.run(permit, move |hashes| hashes.hash(&pin, salt)).await?)
    }

    /// Blocks a card and revokes its sessions. Tells the card, and until when its sessions are over.
    pub(crate) async fn block_card(
        self: &Arc<Self>,
        id: OrderId,
        number: &CardNumber,
    ) -> Result<(CardId, Timestamp), Failure> {
        let (key, now, auth) = (self.keys.number_key(number), self.clock.now(), Arc::clone(self));
        self.to_the_end(async move {
            let blocked = auth.store.vital_transaction(move |rows| {
                let given = once(rows, id, Order::BlockCard(key), |rows| blocked(rows, &key, now))?;
                Ok((given, rows.card(&key)?))
            });
            let (given, card) = blocked.await?;
            let (done, new) = given.done()?;
            let card = card.filter(|_| done.affected > 0).ok_or(Failure::NoSuchCard)?;
            if let Some(revocation) = new.flatten() {
                auth.announce(revocation);
                tracing::info!(order_id = %id, card_id = %card.card_id, last_four = %card.last_four, "blocked a card");
            }
            Ok((card.card_id, done.time))
        })
        .await
    }

    /// Takes block, lock and count from a card.
    pub(crate) async fn unblock_card(
        self: &Arc<Self>,
        id: OrderId,
        number: &CardNumber,
    ) -> Result<CardId, Failure> {
        let (key, now) = (self.keys.number_key(number), self.clock.now());
        let unblocked = self.store.vital_transaction(move |rows| {
            let given = once(rows, id, Order::UnblockCard(key), |rows| unblocked(rows, &key, now))?;
            Ok((given, rows.card(&key)?))
        });
        let (given, card) = unblocked.await?;
        let (done, new) = given.done()?;
        let card = card.filter(|_| done.affected > 0).ok_or(Failure::NoSuchCard)?;
        if new.is_some() {
            tracing::info!(order_id = %id, card_id = %card.card_id, last_four = %card.last_four, "unblocked a card");
        }
        Ok(card.card_id)
    }
}

fn blocked(
    rows: &mut dyn Rows,
    key: &NumberKey,
    now: Timestamp,
) -> Result<Effect<Option<Revocation>>, StorageError> {
    let Some(mut card) = rows.card(key)? else {
        return Ok(Effect { affected: 0, time: now, more: None });
    };
    let revoke_time = card.block(now);
    let revocation = Revocation {
        target: RevocationTarget::Card(card.card_id),
        revoke_time,
        relevant_until: revoke_time.saturating_add(LONGEST_SESSION),
    };
    rows.put_card(&card)?;
    rows.put_revocation(&revocation)?;
    // Or a repeated log-in would be answered with a session that is dead already.
    rows.forget_opened_attempts(key)?;
    Ok(Effect { affected: 1, time: revoke_time, more: Some(revocation) })
}

fn unblocked(rows: &mut dyn Rows, key: &NumberKey, now: Timestamp) -> Result<Effect<()>, StorageError> {
    let Some(mut card) = rows.card(key)? else {
        return Ok(Effect { affected: 0, time: now, more: () });
    };
    card.unblock();
    rows.put_card(&card)?;
    Ok(Effect { affected: 1, time: now, more: () })
}

/// How many of the cards go into the next transaction, at least one.
fn one_transaction(wanted: &[Wanted]) -> usize {
    let mut pins = 0;
    wanted
        .iter()
        .take_while(|card| {
            pins += usize::from(card.pin.is_some());
            pins <= PINS_PER_TRANSACTION
        })
        .count()
}

/// For each card whether a PIN would be set if one is given.
fn lack_a_pin(rows: &mut dyn Rows, asked: &[(NumberKey, AccountId)]) -> Result<Vec<bool>, StorageError> {
    asked
        .iter()
        .map(|(key, account_id)| {
            let found = rows.card(key)?;
            Ok(found.is_none_or(|card| card.account_id == *account_id && card.pin.is_none()))
        })
        .collect()
}

fn commit_one(rows: &mut dyn Rows, card: CardToIssue) -> Result<IssueResult, StorageError> {
    let key = card.number_key;
    Ok(match issue(rows.card(&key)?, card) {
        Issued::New(card) => {
            rows.put_card(&card)?;
            rows.forget_unknown_number(&key)?;
            IssueResult::Issued(card.card_id)
        }
        Issued::PinSet(card) => {
            rows.put_card(&card)?;
            IssueResult::PinSet(card.card_id)
        }
        Issued::Unchanged(card_id) => IssueResult::Unchanged(card_id),
        Issued::OtherAccount => IssueResult::OtherAccount,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pin: Option<&str>) -> Wanted {
        Wanted {
            number: CardNumber::parse("12345678".to_owned()).unwrap(),
            account_id: AccountId::from_bytes([1; 16]),
            pin: pin.map(|pin| Pin::parse(pin.to_owned()).unwrap()),
        }
    }

    #[test]
    fn cards_without_pins_go_into_one_transaction_and_pins_are_committed_in_batches() {
        let bare: Vec<_> = (0..1000).map(|_| wanted(None)).collect();
        assert_eq!(one_transaction(&bare), 1000);
        let full: Vec<_> = (0..1000).map(|_| wanted(Some("1234"))).collect();
        assert_eq!(one_transaction(&full), PINS_PER_TRANSACTION);
        let mixed: Vec<_> = full.into_iter().zip(bare).flat_map(|(a, b)| [a, b]).collect();
        assert_eq!(one_transaction(&mixed), 2 * PINS_PER_TRANSACTION);
    }
}
