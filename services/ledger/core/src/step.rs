//! Steps: what is recorded. A step never changes, and the answers are made from it and nothing else.

use atm_types::{AccountId, TerminalId, Timestamp, TransactionId};

use crate::account::{AccountTerms, Balance, Side};
use crate::command::Transfer;
use crate::transaction::TransactionState;

/// One recorded step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The id it was recorded under.
    pub id: TransactionId,
    /// Its place among the steps of this id: 0, 1, 2.
    pub ordinal: u8,
    /// Its place in the ledger's one total order: 1, 2, 3, … without gaps.
    pub commit_sequence: u64,
    /// The time of its batch on the ledger's clock; later than every batch before.
    pub commit_time: Timestamp,
    /// The day of the commit time in the bank's time zone, counted from 1970-01-01. It is recorded, so that
    /// a replay needs no time zone.
    pub day: i32,
    /// Who owns the transaction.
    pub terminal: TerminalId,
    /// What was done.
    pub action: Action,
}

/// What a step did. Where a transfer stands beside legs, its amount is the amount of this step: what was
/// posted, held, released or captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An account was opened.
    OpenAccount(Box<AccountTerms>),
    /// Money moved.
    Post {
        /// What moved.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
    },
    /// Money was set aside.
    Hold {
        /// What is held.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
        /// When the ledger will release it.
        expire_time: Timestamp,
    },
    /// A posting or a hold was refused for a business reason.
    Decline {
        /// [`StepKind::Post`] or [`StepKind::Hold`]: what was asked for.
        kind: StepKind,
        /// What was asked for.
        transfer: Transfer,
        /// Why not.
        decline: Decline,
        /// Debited and credited account at that moment, where they exist.
        balances: [Option<Balance>; 2],
    },
    /// A cancel arrived before anything else: this id never will be.
    Tombstone,
    /// A hold was posted, in whole or in part.
    Capture {
        /// What was posted.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
    },
    /// A hold was released on request.
    Cancel {
        /// What was released.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
    },
    /// A hold was released because its lifetime was over.
    Expire {
        /// What was released.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
    },
    /// The cash had left after the hold was gone: posted without looking at the balance, and flagged.
    CaptureLate {
        /// What was posted.
        transfer: Transfer,
        /// Debit, then credit.
        legs: [Leg; 2],
    },
    /// A hold was frozen. If it stood, the debit stays as it is and the credit that it waits for moves to
    /// the suspense account; if it was gone, both are set up again without looking at the balance.
    Suspend {
        /// What is frozen.
        transfer: Transfer,
        /// Debit, credit, credit on suspense. In a box, as all that is rare: every step has room for the
        /// largest action.
        legs: Box<[Leg; 3]>,
    },
    /// A person decided a frozen hold: a part was posted, the rest was freed.
    Resolve {
        /// What was posted; 0 when all was freed.
        transfer: Transfer,
        /// Debit, credit, credit on suspense.
        legs: Box<[Leg; 3]>,
        /// The day whose withdrawal limit the frozen hold counted against. It is recorded, so that a replay
        /// needs no earlier steps of the transaction.
        counted_day: i32,
        /// Who decided, and why.
        resolution: Box<Resolution>,
    },
}

/// Who decided a frozen hold, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The person.
    pub operator: Box<str>,
    /// What they went by.
    pub reason: Box<str>,
}

/// What a step changed on one account. The first leg of a step is its debit; all others are credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The account.
    pub account_id: AccountId,
    /// Change of the posted total on the leg's side, in minor units; never negative.
    pub posted: i64,
    /// Change of the pending total on the leg's side, in minor units; negative when a hold ends.
    pub pending: i64,
    /// The account right after this leg.
    pub balance: Balance,
    /// The account's entry before this one.
    pub previous: Option<EntryRef>,
}

/// Where an entry stands: which leg of which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRef {
    /// The transaction.
    pub id: TransactionId,
    /// The step's ordinal.
    pub ordinal: u8,
    /// The leg, counted from 0.
    pub leg: u8,
}

/// A business refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decline {
    /// The rule that refused.
    pub reason: DeclineReason,
    /// What was left, in minor units: of the available balance or of the day's limit; otherwise 0.
    pub available: i64,
}

/// The rule that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclineReason {
    /// The debit would exceed the available balance.
    InsufficientFunds,
    /// The day's cash withdrawals would exceed the account's limit.
    DailyLimitExceeded,
    /// The account to debit does not exist.
    DebitAccountNotFound,
    /// The account to credit does not exist.
    CreditAccountNotFound,
    /// A total would no longer fit.
    BalanceOverflow,
}

/// The kinds of steps that a caller can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// An account was opened.
    OpenAccount,
    /// A posting was decided.
    Post,
    /// A hold was decided.
    Hold,
    /// A hold was captured.
    Capture,
    /// A hold was released, or a tombstone was set.
    Cancel,
    /// A hold's lifetime ended.
    Expire,
    /// A capture arrived after the hold was gone.
    CaptureLate,
    /// A hold was frozen.
    Suspend,
    /// A frozen hold was decided.
    Resolve,
}

impl Step {
    /// Where the leg with this index stands.
    pub const fn entry_ref(&self, leg: u8) -> EntryRef {
        EntryRef { id: self.id, ordinal: self.ordinal, leg }
    }

    /// The legs with their indexes; none where no total changed.
    pub fn entries(&self) -> impl Iterator<Item = (u8, &Leg)> {
        (0_u8..).zip(self.action.legs())
    }
}

impl Leg {
    /// The side of the leg with this index.
    pub const fn side(index: u8) -> Side {
        if index == 0 { Side::Debit } else { Side::Credit }
    }
}

impl Action {
    /// The kind of the step.
    pub const fn kind(&self) -> StepKind {
        match self {
            Self::OpenAccount(_) => StepKind::OpenAccount,
            Self::Post { .. } => StepKind::Post,
            Self::Hold { .. } => StepKind::Hold,
            Self::Decline { kind, .. } => *kind,
            Self::Tombstone | Self::Cancel { .. } => StepKind::Cancel,
            Self::Capture { .. } => StepKind::Capture,
            Self::Expire { .. } => StepKind::Expire,
            Self::CaptureLate { .. } => StepKind::CaptureLate,
            Self::Suspend { .. } => StepKind::Suspend,
            Self::Resolve { .. } => StepKind::Resolve,
        }
    }

    /// The state that the step brings its transaction to; `None` for an account's opening.
    pub const fn state(&self) -> Option<TransactionState> {
        match self {
            Self::OpenAccount(_) => None,
            Self::Post { .. } => Some(TransactionState::Posted),
            Self::Hold { .. } => Some(TransactionState::Held),
            Self::Decline { .. } => Some(TransactionState::Declined),
            Self::Tombstone | Self::Cancel { .. } => Some(TransactionState::Cancelled),
            Self::Capture { .. } => Some(TransactionState::Captured),
            Self::Expire { .. } => Some(TransactionState::Expired),
            Self::CaptureLate { .. } => Some(TransactionState::CapturedLate),
            Self::Suspend { .. } => Some(TransactionState::Suspect),
            Self::Resolve { transfer, .. } if transfer.amount > 0 => Some(TransactionState::Captured),
            Self::Resolve { .. } => Some(TransactionState::Cancelled),
        }
    }

    /// What the step moved, held, released or was asked for; `None` for an opening and a tombstone.
    pub const fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::OpenAccount(_) | Self::Tombstone => None,
            Self::Post { transfer, .. }
            | Self::Hold { transfer, .. }
            | Self::Decline { transfer, .. }
            | Self::Capture { transfer, .. }
            | Self::Cancel { transfer, .. }
            | Self::Expire { transfer, .. }
            | Self::CaptureLate { transfer, .. }
            | Self::Suspend { transfer, .. }
            | Self::Resolve { transfer, .. } => Some(transfer),
        }
    }

    /// Whether a hold that stood does not stand any more.
    pub fn ends_hold(&self) -> bool {
        match self {
            Self::Capture { .. } | Self::Cancel { .. } | Self::Expire { .. } => true,
            // Only a hold that stands has a credit to be taken away.
            Self::Suspend { legs, .. } => legs[1].pending < 0,
            Self::OpenAccount(_)
            | Self::Post { .. }
            | Self::Hold { .. }
            | Self::Decline { .. }
            | Self::Tombstone
            | Self::CaptureLate { .. }
            | Self::Resolve { .. } => false,
        }
    }

    /// Whether such a step may be the first of its transaction, and whether it may follow another.
    pub(crate) fn places(&self) -> (bool, bool) {
        match self {
            Self::OpenAccount(_)
            | Self::Post { .. }
            | Self::Hold { .. }
            | Self::Decline { .. }
            | Self::Tombstone => (true, false),
            // First only on books that were restored from an older backup.
            Self::CaptureLate { .. } => (true, true),
            Self::Suspend { .. } => (!self.ends_hold(), true),
            Self::Capture { .. } | Self::Cancel { .. } | Self::Expire { .. } | Self::Resolve { .. } => {
                (false, true)
            }
        }
    }

    /// The debit leg and after it the credit legs; none where no total changed.
    pub fn legs(&self) -> &[Leg] {
        match self {
            Self::OpenAccount(_) | Self::Decline { .. } | Self::Tombstone => &[],
            Self::Post { legs, .. }
            | Self::Hold { legs, .. }
            | Self::Capture { legs, .. }
            | Self::Cancel { legs, .. }
            | Self::Expire { legs, .. }
            | Self::CaptureLate { legs, .. } => legs,
            Self::Suspend { legs, .. } | Self::Resolve { legs, .. } => &legs[..],
        }
    }
}
