//! What every backend must do. Each promise is checked on SQLite and in memory, through the same [`Store`]
//! that the service uses.

use atm_types::{AccountId, AttemptId, TerminalId, Timestamp};
use tempfile::tempdir;

use super::*;
use crate::domain::{
    BootId, BootMark, CardToIssue, HashCost, Issued, LastFour, Order, Outcome, PinHash, RevocationTarget,
    Session, Tag, issue,
};

/// Runs one promise on every backend.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn on_sqlite() {
                let home = tempdir().unwrap();
                let backend = SqliteBackend::open(home.path(), SqliteOptions::default()).unwrap();
                super::promise::$name(Store::on_a_thread(backend).unwrap()).await;
            }

            #[tokio::test]
            async fn in_memory() {
                super::promise::$name(Store::inline(MemoryStore::new())).await;
            }

            #[tokio::test]
            async fn in_memory_on_a_thread() {
                super::promise::$name(Store::on_a_thread(MemoryStore::new()).unwrap()).await;
            }
        }
    )*};
}

promises!(
    what_is_written_is_read_back,
    a_card_keeps_its_identity_and_changes_its_state,
    a_failed_transaction_has_no_effect,
    writes_are_visible_inside_their_own_transaction,
    the_oldest_unknown_numbers_make_room,
    attempts_are_told_apart_by_machine_card_id_and_tag,
    every_outcome_survives_storage,
    only_opened_attempts_of_the_card_are_forgotten,
    a_machines_name_belongs_to_one_terminal_in_one_start,
    sessions_are_found_by_the_machine_that_they_were_opened_at,
    revocations_are_listed_while_they_matter_oldest_first,
    what_is_over_is_erased_and_nothing_else,
    forgetting_numbers_leaves_cards,
    orders_are_kept_with_what_they_came_to,
    a_name_that_is_released_is_gone_and_the_others_stay,
    transactions_of_many_tasks_lose_no_update,
    a_caller_who_goes_away_does_not_undo_the_transaction,
    a_closed_store_answers_nothing,
);

fn key(byte: u8) -> NumberKey {
    NumberKey::from_bytes([byte; 32])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn card(byte: u8) -> Card {
    let issued = issue(
        None,
        CardToIssue {
            number_key: key(byte),
            card_id: CardId::from_bytes([byte; 16]),
            account_id: AccountId::from_bytes([byte ^ 0xff; 16]),
            last_four: LastFour::from_digits(*b"6789"),
            pin: Some(PinHash { salt: [1; 16], hash: [2; 32], cost: HashCost::FLOOR }),
        },
    );
    match issued {
        Issued::New(card) => card,
        other => panic!("{other:?}"),
    }
}

fn session(byte: u8) -> Session {
    Session {
        session_id: SessionId::from_bytes([byte; 16]),
        card_id: CardId::from_bytes([1; 16]),
        account_id: AccountId::from_bytes([2; 16]),
        atm_id: "ATM-1".parse().unwrap(),
        terminal_id: TerminalId::from_bytes([3; 32]),
        issue_time: Timestamp::from_nanos(-5),
        expire_time: Timestamp::from_nanos(i64::MAX),
    }
}

fn attempt(tag: u8, outcome: Outcome) -> Attempt {
    Attempt {
        number_key: key(1),
        atm_id: "ATM-1".parse().unwrap(),
        attempt_id: AttemptId::from_bytes([1; 16]),
        tag: Tag::from_bytes([tag; 32]),
        time: at(1000),
        outcome,
    }
}

async fn attempts(store: &Store, of: Attempt) -> Vec<Attempt> {
    store.transaction(move |rows| rows.attempts(&of.number_key, &of.atm_id, of.attempt_id)).await.unwrap()
}

mod promise {
    use super::*;

    pub(super) async fn what_is_written_is_read_back(store: Store) {
        let written = card(1);
        let bare = Card { pin: None, blocked: true, session_clock: at(-7), ..card(2) };
        let expected = (written.clone(), bare.clone());
        store
            .transaction(move |rows| {
                assert!(!rows.has_cards()?);
                rows.put_meta(Meta::PepperCanary, b"canary")?;
                rows.put_card(&written)?;
                rows.put_card(&bare)
            })
            .await
            .unwrap();
        store
            .transaction(move |rows| {
                assert!(rows.has_cards()?);
                assert_eq!(rows.meta(Meta::PepperCanary)?.as_deref(), Some(&b"canary"[..]));
                assert_eq!(rows.card(&key(1))?, Some(expected.0.clone()));
                assert_eq!(rows.card_by_id(CardId::from_bytes([1; 16]))?, Some(expected.0));
                assert_eq!(rows.card(&key(2))?, Some(expected.1));
                assert_eq!(rows.card(&key(3))?, None);
                assert_eq!(rows.card_by_id(CardId::from_bytes([3; 16]))?, None);
                Ok(())
            })
            .await
            .unwrap();
    }

    pub(super) async fn a_card_keeps_its_identity_and_changes_its_state(store: Store) {
        let mut changed = card(1);
        store.transaction(|rows| rows.put_card(&card(1))).await.unwrap();
        changed.judge(false);
        changed.block(at(12));
        changed.pin = Some(PinHash { salt: [8; 16], hash: [9; 32], cost: HashCost::CHEAPEST });
        let expected = changed.clone();
        store.transaction(move |rows| rows.put_card(&changed)).await.unwrap();
        let found = store.transaction(|rows| rows.card(&key(1))).await.unwrap();
        assert_eq!(found, Some(expected));
    }

    pub(super) async fn a_failed_transaction_has_no_effect(store: Store) {
        let failed = store
            .transaction(|rows| {
                rows.put_card(&card(1))?;
                rows.put_unknown_number(&key(2), WrongPins::from_count(2), 10)?;
                Err::<(), _>(StorageError::Damaged("test"))
            })
            .await;
        assert!(matches!(failed, Err(StorageError::Damaged("test"))));
        let found = store.transaction(|rows| Ok((rows.has_cards()?, rows.unknown_number(&key(2))?))).await;
        assert_eq!(found.unwrap(), (false, WrongPins::ZERO));
        assert!(!store.has_failed(), "one failed transaction is not the end");
    }

    pub(super) async fn writes_are_visible_inside_their_own_transaction(store: Store) {
        let seen = store
            .transaction(|rows| {
                rows.put_card(&card(1))?;
                rows.card(&key(1))
            })
            .await;
        assert_eq!(seen.unwrap(), Some(card(1)));
    }

    pub(super) async fn the_oldest_unknown_numbers_make_room(store: Store) {
        let counts: Result<Vec<u8>, _> = store
            .transaction(|rows| {
                for byte in 1..=3 {
                    rows.put_unknown_number(&key(byte), WrongPins::from_count(byte), 3)?;
                }
                // Touched again, so that 2 is the oldest now.
                rows.put_unknown_number(&key(1), WrongPins::from_count(2), 3)?;
                rows.put_unknown_number(&key(4), WrongPins::from_count(1), 3)?;
                rows.forget_unknown_number(&key(4))?;
                (1..=4).map(|byte| Ok(rows.unknown_number(&key(byte))?.count())).collect()
            })
            .await;
        assert_eq!(counts.unwrap(), Vec::from([2, 0, 3, 0]));
    }

    pub(super) async fn attempts_are_told_apart_by_machine_card_id_and_tag(store: Store) {
        let first = attempt(1, Outcome::Wrong);
        let others = [
            Attempt { number_key: key(2), ..first.clone() },
            Attempt { atm_id: "ATM-2".parse().unwrap(), ..first.clone() },
            Attempt { attempt_id: AttemptId::from_bytes([9; 16]), ..first.clone() },
        ];
        let second = attempt(2, Outcome::Locked);
        let all: Vec<_> = others.iter().cloned().chain([first.clone(), second]).collect();
        store
            .transaction(move |rows| all.iter().try_for_each(|attempt| rows.put_attempt(attempt)))
            .await
            .unwrap();
        let found = attempts(&store, first).await;
        let tags: Vec<_> = found.iter().map(|attempt| attempt.tag.as_bytes()[0]).collect();
        assert_eq!(tags, [1, 2]);
        for other in others {
            assert_eq!(attempts(&store, other).await.len(), 1);
        }
    }

    pub(super) async fn every_outcome_survives_storage(store: Store) {
        let outcomes = [
            Outcome::Opened(session(7)),
            Outcome::Changed,
            Outcome::Wrong,
            Outcome::Locked,
            Outcome::Blocked,
        ];
        for (tag, outcome) in (1..).zip(&outcomes) {
            let attempt = attempt(tag, outcome.clone());
            store.transaction(move |rows| rows.put_attempt(&attempt)).await.unwrap();
        }
        let found = attempts(&store, attempt(1, Outcome::Wrong)).await;
        assert!(found.iter().map(|attempt| &attempt.outcome).eq(&outcomes));
        assert!(found.iter().all(|attempt| attempt.time == at(1000)));
        // The same tag again: the newer one takes its place.
        store.transaction(|rows| rows.put_attempt(&attempt(1, Outcome::Wrong))).await.unwrap();
        let found = attempts(&store, attempt(1, Outcome::Wrong)).await;
        assert_eq!((found.len(), &found[0].outcome), (5, &Outcome::Wrong));
    }

    pub(super) async fn only_opened_attempts_of_the_card_are_forgotten(store: Store) {
        let other = Attempt { number_key: key(2), ..attempt(1, Outcome::Opened(session(2))) };
        let kept = other.clone();
        store
            .transaction(move |rows| {
                rows.put_attempt(&attempt(1, Outcome::Opened(session(1))))?;
                rows.put_attempt(&attempt(2, Outcome::Wrong))?;
                rows.put_attempt(&other)?;
                rows.forget_opened_attempts(&key(1))
            })
            .await
            .unwrap();
        let left = attempts(&store, attempt(1, Outcome::Wrong)).await;
        assert_eq!(left.iter().map(|attempt| &attempt.outcome).collect::<Vec<_>>(), [&Outcome::Wrong]);
        assert_eq!(attempts(&store, kept).await.len(), 1);
    }

    pub(super) async fn a_machines_name_belongs_to_one_terminal_in_one_start(store: Store) {
        let (one, two): (AtmId, AtmId) = ("ATM-1".parse().unwrap(), "ATM-2".parse().unwrap());
        let bare = Terminal { terminal_id: TerminalId::from_bytes([5; 32]), boot: None };
        let boot = BootMark { epoch: u64::try_from(i64::MAX).unwrap(), boot_id: BootId::from_bytes([7; 16]) };
        let started = Terminal { boot: Some(boot), ..bare };
        let name = one.clone();
        let found = store
            .transaction(move |rows| {
                rows.put_terminal(&one, &bare)?;
                Ok((rows.terminal(&one)?, rows.terminal(&two)?, rows.terminal_count()?))
            })
            .await;
        assert_eq!(found.unwrap(), (Some(bare), None, 1));
        let found = store
            .transaction(move |rows| {
                rows.put_terminal(&name, &started)?;
                Ok((rows.terminal(&name)?, rows.terminal_count()?))
            })
            .await;
        assert_eq!(found.unwrap(), (Some(started), 1));
    }

    pub(super) async fn sessions_are_found_by_the_machine_that_they_were_opened_at(store: Store) {
        let found = store
            .transaction(|rows| {
                for (byte, machine, seconds) in [(1, "A", 30), (2, "A", 20), (3, "B", 30), (4, "A", 10)] {
                    let atm_id = machine.parse().unwrap();
                    rows.put_session(&Session { atm_id, expire_time: at(seconds), ..session(byte) })?;
                }
                let mut there = |name: &str| rows.sessions_at(&name.parse().unwrap(), at(10));
                Ok((there("A")?, there("B")?, there("C")?))
            })
            .await;
        let id = |byte| SessionId::from_bytes([byte; 16]);
        let expected = (vec![(id(2), at(20)), (id(1), at(30))], vec![(id(3), at(30))], vec![]);
        assert_eq!(found.unwrap(), expected);
    }

    pub(super) async fn revocations_are_listed_while_they_matter_oldest_first(store: Store) {
        let revocation = |target, revoke: i64, until: i64| Revocation {
            target,
            revoke_time: at(revoke),
            relevant_until: at(until),
        };
        let of_card = RevocationTarget::Card(CardId::from_bytes([1; 16]));
        let of_session = RevocationTarget::Session(SessionId::from_bytes([1; 16]));
        let over = RevocationTarget::Session(SessionId::from_bytes([2; 16]));
        let found = store
            .transaction(move |rows| {
                rows.put_revocation(&revocation(of_card, 10, 30))?;
                rows.put_revocation(&revocation(of_session, 15, 100))?;
                rows.put_revocation(&revocation(over, 1, 50))?;
                rows.put_revocation(&revocation(of_card, 20, 100))?;
                rows.revocations(at(50))
            })
            .await
            .unwrap();
        assert_eq!(found, [revocation(of_session, 15, 100), revocation(of_card, 20, 100)]);
    }

    pub(super) async fn what_is_over_is_erased_and_nothing_else(store: Store) {
        let id = |byte| SessionId::from_bytes([byte; 16]);
        let erased = store
            .transaction(move |rows| {
                for (tag, seconds) in [(1, 100), (2, 101), (3, 199), (4, 200)] {
                    rows.put_attempt(&Attempt { time: at(seconds), ..attempt(tag, Outcome::Wrong) })?;
                }
                for (byte, seconds) in [(1, 49), (2, 50)] {
                    rows.put_session(&Session { expire_time: at(seconds), ..session(byte) })?;
                    rows.put_revocation(&Revocation {
                        target: RevocationTarget::Session(id(byte)),
                        revoke_time: at(1),
                        relevant_until: at(seconds),
                    })?;
                }
                rows.erase(Expiry {
                    attempts_until: at(100),
                    attempts_from: at(200),
                    sessions_before: at(50),
                })
            })
            .await;
        assert_eq!(erased.unwrap(), 4);
        store.scrub().await.unwrap();
        let left = attempts(&store, attempt(1, Outcome::Wrong)).await;
        assert_eq!(left.iter().map(|attempt| attempt.tag.as_bytes()[0]).collect::<Vec<_>>(), [2, 3]);
        let sessions = store
            .transaction(move |rows| {
                Ok((rows.session_expiry(id(1))?, rows.session_expiry(id(2))?, rows.revocations(at(0))?.len()))
            })
            .await;
        assert_eq!(sessions.unwrap(), (None, Some(at(50)), 1));
    }

    pub(super) async fn forgetting_numbers_leaves_cards(store: Store) {
        let left = store
            .transaction(|rows| {
                rows.put_card(&card(1))?;
                rows.put_unknown_number(&key(2), WrongPins::from_count(3), 10)?;
                rows.put_attempt(&attempt(1, Outcome::Wrong))?;
                rows.forget_numbers()?;
                let attempt = attempt(1, Outcome::Wrong);
                let attempts = rows.attempts(&attempt.number_key, &attempt.atm_id, attempt.attempt_id)?;
                Ok((rows.has_cards()?, rows.unknown_number(&key(2))?, attempts.len()))
            })
            .await;
        assert_eq!(left.unwrap(), (true, WrongPins::ZERO, 0));
    }

    pub(super) async fn orders_are_kept_with_what_they_came_to(store: Store) {
        let atm_id: AtmId = "ATM-1".parse().unwrap();
        let orders = [
            Order::BlockCard(key(1)),
            Order::UnblockCard(key(1)),
            Order::ForgetStart(atm_id.clone()),
            Order::ForgetAllStarts,
            Order::ReleaseTerminal(atm_id),
        ];
        let done = |(byte, order)| DoneOrder {
            id: OrderId::from_bytes([byte; 16]),
            order,
            affected: u64::from(byte) - 1,
            time: at(i64::from(byte)),
        };
        let done: Vec<_> = (1..).zip(orders).map(done).collect();
        let written = done.clone();
        store
            .transaction(move |rows| written.iter().try_for_each(|order| rows.put_order(order)))
            .await
            .unwrap();
        for order in done {
            let id = order.id;
            assert_eq!(store.transaction(move |rows| rows.order(id)).await.unwrap(), Some(order));
        }
        let unknown = store.transaction(|rows| rows.order(OrderId::from_bytes([99; 16]))).await;
        assert_eq!(unknown.unwrap(), None);
    }

    pub(super) async fn a_name_that_is_released_is_gone_and_the_others_stay(store: Store) {
        let names = ["ATM-1", "ATM-2", "ATM-3"].map(|name| name.parse::<AtmId>().unwrap());
        let terminal = Terminal { terminal_id: TerminalId::from_bytes([5; 32]), boot: None };
        let found = store
            .transaction(move |rows| {
                names.iter().rev().try_for_each(|name| rows.put_terminal(name, &terminal))?;
                rows.remove_terminal(&names[1])?;
                Ok((rows.terminal(&names[1])?, rows.terminals()?))
            })
            .await;
        let left = ["ATM-1", "ATM-3"].map(|name| (name.parse().unwrap(), terminal));
        assert_eq!(found.unwrap(), (None, left.to_vec()));
    }

    pub(super) async fn transactions_of_many_tasks_lose_no_update(store: Store) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = store.clone();
            tasks.spawn(async move {
                store
                    .transaction(|rows| {
                        let count = rows.meta(Meta::PepperCanary)?.map_or(0, |value| value[0]);
                        rows.put_meta(Meta::PepperCanary, &[count + 1])
                    })
                    .await
                    .unwrap();
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        let count = store.transaction(|rows| rows.meta(Meta::PepperCanary)).await.unwrap();
        assert_eq!(count, Some(vec![100]));
    }

    pub(super) async fn a_caller_who_goes_away_does_not_undo_the_transaction(store: Store) {
        {
            let transaction = store.transaction(|rows| rows.put_meta(Meta::PepperCanary, b"done"));
            let mut transaction = std::pin::pin!(transaction);
            let _ = futures_util::poll!(&mut transaction);
        }
        let found = store.transaction(|rows| rows.meta(Meta::PepperCanary)).await.unwrap();
        assert_eq!(found.as_deref(), Some(&b"done"[..]));
    }

    pub(super) async fn a_closed_store_answers_nothing(store: Store) {
        store.close().await;
        let answer = store.transaction(|rows| rows.has_cards()).await;
        assert!(matches!(answer, Err(StorageError::Stopped)));
        assert!(!store.has_failed(), "closing is not failing");
        store.close().await;
    }
}

#[tokio::test]
async fn after_a_failed_commit_storage_stops_and_says_so_and_what_was_kept_is_there_again() {
    for (fault, kept) in [(CommitFault::Lost, false), (CommitFault::Kept, true)] {
        let memory = MemoryStore::new();
        let stores = [Store::inline(memory.clone()), Store::on_a_thread(memory.clone()).unwrap()];
        for store in stores {
            memory.fail_next_commit(fault);
            let failed = store.transaction(|rows| rows.put_card(&card(1))).await;
            assert!(matches!(failed, Err(StorageError::Commit(_))));
            assert!(store.has_failed());
            let after = store.transaction(|rows| rows.has_cards()).await;
            assert!(matches!(after, Err(StorageError::Stopped)));
        }
        let reopened = Store::inline(memory);
        assert_eq!(reopened.transaction(|rows| rows.has_cards()).await.unwrap(), kept);
    }
}

#[tokio::test]
async fn a_panic_in_a_transaction_stops_storage_instead_of_hanging_its_callers() {
    let store = Store::on_a_thread(MemoryStore::new()).unwrap();
    let panicked = store.transaction(|_| -> Result<(), StorageError> { panic!("planted") }).await;
    assert!(matches!(panicked, Err(StorageError::Stopped)));
    store.failed().await;
    store.close().await;
}
