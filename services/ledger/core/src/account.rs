//! Accounts: their terms, which never change, and their running totals, which every step moves.

use atm_types::{AccountId, Currency, Timestamp};

use crate::step::EntryRef;

/// What an account is for; decides its normal side and whether limits bind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// A customer's deposits: a liability. Debits are bounded by the available balance.
    Customer,
    /// The cash in a machine: an asset. Unbounded.
    Cash,
    /// Money whose fate is not known yet: a liability. Unbounded.
    Suspense,
    /// Where opening balances come from: an asset. Unbounded.
    OpeningBalance,
}

impl AccountKind {
    /// The side that raises the balance of such an account.
    pub const fn normal_side(self) -> Side {
        match self {
            Self::Customer | Self::Suspense => Side::Credit,
            Self::Cash | Self::OpeningBalance => Side::Debit,
        }
    }
}

/// The left or the right of a double entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The left side.
    Debit,
    /// The right side.
    Credit,
}

/// What an account is opened with; fixed for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTerms {
    /// The account's id, chosen by the caller.
    pub account_id: AccountId,
    /// What the account is for.
    pub kind: AccountKind,
    /// The only currency it holds.
    pub currency: Currency,
    /// The number that customers know it by; may be empty.
    pub number: Box<str>,
    /// Who holds it; may be empty.
    pub holder_name: Box<str>,
    /// How far below zero it may go, in minor units; 0 or more, and 0 save for customers.
    pub overdraft_limit: i64,
    /// The most that may be withdrawn in cash in one day, in minor units; 0 means no limit, and 0 save for
    /// customers.
    pub daily_withdrawal_limit: i64,
}

impl AccountTerms {
    /// Balance and available balance of an account on these terms with these totals. Values beyond 64
    /// bits, which only an absurd overdraft limit can bring about, are cut to the nearest that fits.
    pub fn balance(&self, totals: Totals) -> Balance {
        let (posted, pending) = match self.kind.normal_side() {
            Side::Credit => (totals.credits_posted - totals.debits_posted, totals.debits_pending),
            Side::Debit => (totals.debits_posted - totals.credits_posted, totals.credits_pending),
        };
        let available = i128::from(posted) - i128::from(pending) + i128::from(self.overdraft_limit);
        let clamped = available.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Balance { posted, available: i64::try_from(clamped).unwrap_or(i64::MAX) }
    }
}

/// Sums of both sides, posted and pending, in minor units. None is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Totals {
    /// These totals with one side changed; `None` when a total would leave 0 to `i64::MAX`, or when posted
    /// and pending together would no longer fit (so that a hold can always be captured).
    pub(crate) fn changed(mut self, side: Side, posted: i64, pending: i64) -> Option<Self> {
        let (posted_total, pending_total) = match side {
            Side::Debit => (&mut self.debits_posted, &mut self.debits_pending),
            Side::Credit => (&mut self.credits_posted, &mut self.credits_pending),
        };
        *posted_total = posted_total.checked_add(posted).filter(|total| *total >= 0)?;
        *pending_total = pending_total.checked_add(pending).filter(|total| *total >= 0)?;
        posted_total.checked_add(*pending_total)?;
        Some(self)
    }
}

/// What an account holds and what of it may be spent, in minor units, on its normal side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// All posted money.
    pub posted: i64,
    /// The posted balance less everything on hold against it, plus the overdraft limit.
    pub available: i64,
}

/// Cash withdrawn on one day of the bank's time zone, holds included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// The day, counted from 1970-01-01.
    pub day: i32,
    /// Minor units withdrawn on that day.
    pub amount: i64,
}

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it was opened with.
    pub terms: AccountTerms,
    /// When it was opened.
    pub create_time: Timestamp,
    /// The running totals.
    pub totals: Totals,
    /// The day of the last withdrawal and that day's sum.
    pub withdrawn: Withdrawn,
    /// The account's newest entry, from which its statement walks back.
    pub newest_entry: Option<EntryRef>,
}

impl Account {
    /// A new account with zero totals.
    pub const fn open(terms: AccountTerms, create_time: Timestamp) -> Self {
        Self {
            terms,
            create_time,
            totals: Totals { debits_posted: 0, credits_posted: 0, debits_pending: 0, credits_pending: 0 },
            withdrawn: Withdrawn { day: 0, amount: 0 },
            newest_entry: None,
        }
    }

    /// Balance and available balance.
    pub fn balance(&self) -> Balance {
        self.terms.balance(self.totals)
    }

    /// What is left of the withdrawal limit on `day`, in minor units; `None` when there is no limit. Zero
    /// when a late capture went past the limit.
    pub fn daily_withdrawal_remaining(&self, day: i32) -> Option<i64> {
        let limit = self.terms.daily_withdrawal_limit;
        let used = if self.withdrawn.day == day { self.withdrawn.amount } else { 0 };
        (limit > 0).then(|| limit.saturating_sub(used).max(0))
    }
}
