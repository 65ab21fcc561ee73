//! A plain model of the ledger: what a bookkeeper with cards and an account book would do.
//!
//! It is written to be obviously right and not to be fast, and it shares no code with the ledger: one card for each id
//! with everything that was ever noted under it, one line for each account. Whatever is asked is first looked up on
//! its card (`card`), and only what no card answers is held against the accounts (`books`).

mod books;
mod card;

use std::collections::BTreeMap;

use atm_types::{AccountId, TerminalId, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};

use crate::answer::Refused;
use crate::ask::{Ask, Terms, Transfer};
use crate::step::{Balance, Decline, Kind, State};
pub(crate) use card::{Known, known};

/// Running totals in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Totals {
    /// Debits that moved money.
    pub debits_posted: i64,
    /// Credits that moved money.
    pub credits_posted: i64,
    /// Debits on hold.
    pub debits_pending: i64,
    /// Credits on hold.
    pub credits_pending: i64,
}

/// A line of the account book.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// What it was opened with.
    pub terms: Terms,
    /// What it has come to.
    pub totals: Totals,
}

impl Account {
    /// What it holds, and what of it may be spent.
    pub fn balance(&self) -> Balance {
        balance(&self.terms, &self.totals)
    }
}

/// What an account on these terms holds, and what of it may be spent.
pub(crate) fn balance(terms: &Terms, totals: &Totals) -> Balance {
    let (posted, pending) = if terms.is_liability() {
        (totals.credits_posted - totals.debits_posted, totals.debits_pending)
    } else {
        (totals.debits_posted - totals.credits_posted, totals.credits_pending)
    };
    Balance { posted, available: (posted - pending).saturating_add(terms.overdraft_limit) }
}

/// Something noted on a card.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// Its place in the order.
    pub sequence: u64,
    /// The owner of the card.
    pub terminal: TerminalId,
    /// What was done.
    pub kind: Kind,
    /// The state that it led to.
    pub state: Option<State>,
    /// Why not.
    pub decline: Option<Decline>,
    /// What it was about.
    pub transfer: Option<Transfer>,
    /// What the account was opened with.
    pub terms: Option<Terms>,
    /// The suspense account that it was frozen on.
    pub suspense: Option<AccountId>,
    /// The day whose limit it counts against.
    pub day: i32,
    /// When the hold ends.
    pub expire_nanos: Option<i64>,
    /// The accounts right after it.
    pub balances: [Option<Balance>; 2],
}

/// What a step changes on one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leg {
    /// The account.
    pub account: AccountId,
    /// Whether it is a credit.
    pub credit: bool,
    /// Change of the posted total.
    pub posted: i64,
    /// Change of the pending total.
    pub pending: i64,
}

/// Something new to be noted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    /// The card that it goes on.
    pub id: TransactionId,
    /// What is noted.
    pub recorded: Recorded,
    /// What it changes.
    pub legs: Vec<Leg>,
    /// What of the day's withdrawals it changes: the account, the day, by how much.
    pub withdrawn: Option<(AccountId, i32, i64)>,
}

/// What the model expects of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Something new is recorded.
    New(Box<Effect>),
    /// What was recorded before is answered.
    Again(Box<Recorded>),
    /// Nothing happens.
    Refused(Refused),
}

/// The cards and the account book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Model {
    utc_offset_seconds: i64,
    accounts: BTreeMap<AccountId, Account>,
    cards: BTreeMap<TransactionId, Vec<Recorded>>,
    /// Cash that was withdrawn, by account and day.
    withdrawn: BTreeMap<(AccountId, i32), i64>,
    sequence: u64,
}

impl Model {
    /// Empty books of a bank whose days begin this long before those of UTC.
    pub fn new(utc_offset_seconds: i64) -> Self {
        Self { utc_offset_seconds, ..Self::default() }
    }

    /// The number of the last step.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// An account.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// What is noted under an id, oldest first.
    pub fn card(&self, id: TransactionId) -> &[Recorded] {
        self.cards.get(&id).map_or(&[], Vec::as_slice)
    }

    /// All cards.
    pub fn cards(&self) -> impl Iterator<Item = (TransactionId, &[Recorded])> {
        self.cards.iter().map(|(id, card)| (*id, card.as_slice()))
    }

    /// What is to become of a request at this time. Of a reading nothing becomes.
    pub fn ask(&self, ask: &Ask, time: Timestamp) -> Option<Expected> {
        let id = ask.id()?;
        Some(match known(self.card(id), ask) {
            Known::Again(index) => Expected::Again(Box::new(self.card(id)[index].clone())),
            Known::Refused(refused) => Expected::Refused(refused),
            Known::New(way) => match self.decide(ask, &way, time) {
                Ok(effect) => Expected::New(Box::new(effect)),
                Err(refused) => Expected::Refused(refused),
            },
        })
    }

    /// The day of an instant at the bank, counted from 1970.
    pub(crate) fn day(&self, time: Timestamp) -> i32 {
        let local = time.as_seconds().saturating_add(self.utc_offset_seconds);
        i32::try_from(local.div_euclid(24 * 60 * 60)).unwrap_or(0)
    }

    /// Notes it.
    pub fn apply(&mut self, effect: &Effect) {
        self.sequence += 1;
        if let Some(terms) = &effect.recorded.terms {
            let account = Account { terms: terms.clone(), totals: Totals::default() };
            self.accounts.insert(terms.account, account);
        }
        for leg in &effect.legs {
            let Some(account) = self.accounts.get_mut(&leg.account) else { continue };
            let totals = &mut account.totals;
            let (posted, pending) = match leg.credit {
                false => (&mut totals.debits_posted, &mut totals.debits_pending),
                true => (&mut totals.credits_posted, &mut totals.credits_pending),
            };
            *posted += leg.posted;
            *pending += leg.pending;
        }
        if let Some((account, day, change)) = effect.withdrawn {
            *self.withdrawn.entry((account, day)).or_default() += change;
        }
        self.cards.entry(effect.id).or_default().push(effect.recorded.clone());
    }
}
