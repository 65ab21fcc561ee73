//! The life of a transaction in this machine's journal: which event leads from which state to which.
//!
//! ```text
//! INTENT → AUTHORIZED → DISPENSING → PRESENTED → CAPTURE_PENDING → DONE
//!    └────────┴────────────┼──── VOID_PENDING → VOIDED  │  │
//!                          └────── SUSPEND_PENDING ─────┘  └─► SUSPECT → DONE | VOIDED
//!
//! deposits:  INTENT → STACK_PENDING → DONE      INTENT | VOID_PENDING → RETURN_PENDING → VOIDED
//! ```
//!
//! Pure: no clock, no disk, no network. Three rules matter more than all others. Money that was presented is
//! captured or suspended, never cancelled: no event leads from PRESENTED or later to VOID_PENDING, and from
//! DISPENSING only the device's own word that nothing came out does. A transaction that was given up is never
//! dispensed: from VOID_PENDING there is no way back. And what was paid in is handed back only after the bank
//! said that it was not and never will be credited: RETURN_PENDING follows its answer, nothing else.
//!
//! A suspension that the bank has not acknowledged is the state SUSPEND_PENDING; SUSPECT means that only a person
//! can go on, at the bank, and that its decision is all that is waited for.

use atm_types::Money;
use uuid::Uuid;

use crate::device::Notes;

/// What a customer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Withdrawal,
    Deposit,
    Transfer,
}

/// Where a transaction stands, as the journal knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Written down; it may have been sent.
    Intent,
    /// The ledger holds the money and said so in a signed answer.
    Authorized,
    /// The dispenser was, or is about to be, told to pay out.
    Dispensing,
    /// The customer has had access to the notes.
    Presented,
    /// The capture was, or is about to be, sent.
    CapturePending,
    /// The money moved, and the bank said so.
    Done,
    /// Given up; the cancel was, or is about to be, sent.
    VoidPending,
    /// Nothing moved and never will.
    Voided,
    /// The device does not know what came out; the suspension was, or is about to be, sent.
    SuspendPending,
    /// The hold is frozen at the bank, or machine and bank disagree: a person must look.
    Suspect,
    /// The bank credited a deposit; its notes are, or are about to be, stored for good.
    StackPending,
    /// The bank did not credit a deposit and never will; its notes are, or are about to be, handed back.
    ReturnPending,
}

/// What the journal remembers of the customer's account after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountBalance {
    pub(crate) balance: i64,
    pub(crate) available: i64,
}

/// Something that happened to a transaction. Each is on disk before what it announces is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The ledger set the amount aside.
    Held { authorization: Vec<u8>, balance: Option<AccountBalance> },
    /// The dispenser is about to be told to pay out these notes under this id; what it counted before.
    DispenseBegun { dispense_id: Uuid, plan: Notes, cassettes: Notes },
    /// The customer had access to this much.
    Presented { amount: Money },
    /// The dispenser says that nothing came out.
    NotPresented,
    /// The dispenser cannot say whether anything came out.
    PresentationUnknown,
    /// The capture is about to be sent: of what was presented less what was taken back and counted.
    CaptureBegun { retracted: Money },
    /// Something was taken back, and the device could not count it.
    RetractUncounted,
    /// The bank posted what was presented.
    Captured { balance: Option<AccountBalance> },
    /// The bank refused the capture of money that is out.
    CaptureRefused { reason: String },
    /// The bank froze the hold.
    Suspended,
    /// The bank did not freeze it, and another attempt would change nothing.
    SuspendRefused { reason: String },
    /// A person decided at the bank how much the customer got.
    Resolved { amount: Money },
    /// The bank posted a deposit or transfer.
    Posted { balance: Option<AccountBalance> },
    /// The bank refused for a business reason.
    Declined { reason: String, balance: Option<AccountBalance> },
    /// There was no answer in time, or a refusal that may not be the last word: from now on this id can only be
    /// cancelled.
    GivenUp { reason: String },
    /// The bank says that it was not applied and never will be.
    Cancelled { reason: Option<String> },
    /// No attempt left this machine.
    NotSent,
    /// The id belongs to something else, so this was not applied and never will be.
    Refused { reason: String },
    /// The bank says that money moved which this machine never paid out.
    Contradicted { reason: String },
    /// The notes of a deposit are in the deposit box.
    Stacked,
    /// The notes of a deposit went back to the customer.
    Returned,
    /// A bank that went back to an older backup no longer knows a posting, and only its customer could repeat it.
    Lost { reason: String },
}

/// How a closed transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Captured,
    Posted,
    Declined,
    Cancelled,
    /// The id was never used outside this machine, so it may be used again for the same request.
    NotSent,
    Refused,
}

/// What has to be done about a transaction that a restart, or a lack of time, left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Fence it off.
    Cancel,
    /// The device knows more than the journal.
    AskDispenser,
    /// See what the customer took; then it can be captured.
    Collect,
    /// Post what is out, until the bank has said yes.
    Capture,
    /// Freeze it, until the bank has said yes.
    Suspend,
    /// Store what was paid in.
    Stack,
    /// Hand back what was paid in.
    Return,
    /// It is over.
    Nothing,
    /// Only a person can decide.
    Operator,
}

/// The state that `event` leads to, or nothing where it must not happen.
pub(crate) fn next(kind: Kind, state: State, event: &Event) -> Option<State> {
    let withdrawal = kind == Kind::Withdrawal;
    let (posted, nothing_moved) = match kind {
        Kind::Deposit => (State::StackPending, State::ReturnPending),
        Kind::Withdrawal | Kind::Transfer => (State::Done, State::Voided),
    };
    match (state, event) {
        (State::Intent, Event::Held { .. }) if withdrawal => Some(State::Authorized),
        (State::Intent | State::VoidPending | State::Suspect, Event::Posted { .. }) if !withdrawal => {
            Some(posted)
        }
        (
            State::Intent,
            Event::Declined { .. } | Event::Cancelled { .. } | Event::NotSent | Event::Refused { .. },
        ) => Some(nothing_moved),
        (State::Intent | State::Authorized, Event::GivenUp { .. }) => Some(State::VoidPending),
        (State::VoidPending, Event::Cancelled { .. } | Event::Declined { .. } | Event::Refused { .. }) => {
            Some(nothing_moved)
        }
        (State::VoidPending, Event::Contradicted { .. }) => Some(State::Suspect),

        (State::Authorized, Event::DispenseBegun { .. }) => Some(State::Dispensing),
        (State::Dispensing, Event::Presented { .. }) => Some(State::Presented),
        (State::Dispensing, Event::NotPresented) => Some(State::VoidPending),
        (State::Dispensing, Event::PresentationUnknown) => Some(State::SuspendPending),
        (State::Presented, Event::CaptureBegun { .. }) => Some(State::CapturePending),
        (State::Presented, Event::RetractUncounted) => Some(State::SuspendPending),
        // What was captured before a suspension stays captured.
        (State::CapturePending | State::SuspendPending, Event::Captured { .. }) => Some(State::Done),
        (State::CapturePending, Event::CaptureRefused { .. }) => Some(State::Suspect),
        (State::SuspendPending, Event::Suspended | Event::SuspendRefused { .. }) => Some(State::Suspect),
        (State::Suspect, Event::Resolved { amount }) if withdrawal => {
            Some(if amount.minor_units() > 0 { State::Done } else { State::Voided })
        }

        (State::StackPending, Event::Stacked) => Some(State::Done),
        (State::ReturnPending, Event::Returned) => Some(State::Voided),
        (State::Done, Event::Lost { .. }) if !withdrawal => Some(State::Suspect),
        _ => None,
    }
}

impl State {
    /// What to do about it when nobody is at it.
    pub(crate) fn plan(self) -> Plan {
        match self {
            Self::Intent | Self::Authorized | Self::VoidPending => Plan::Cancel,
            Self::Dispensing => Plan::AskDispenser,
            Self::Presented => Plan::Collect,
            Self::CapturePending => Plan::Capture,
            Self::SuspendPending => Plan::Suspend,
            Self::StackPending => Plan::Stack,
            Self::ReturnPending => Plan::Return,
            Self::Done | Self::Voided => Plan::Nothing,
            Self::Suspect => Plan::Operator,
        }
    }
}

impl Event {
    /// How a transaction ended that this event decided.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self {
            Self::Captured { .. } => Some(Ending::Captured),
            Self::Posted { .. } => Some(Ending::Posted),
            Self::Declined { .. } => Some(Ending::Declined),
            Self::Cancelled { .. } => Some(Ending::Cancelled),
            Self::NotSent => Some(Ending::NotSent),
            Self::Refused { .. } => Some(Ending::Refused),
            Self::Resolved { amount } if amount.minor_units() > 0 => Some(Ending::Captured),
            Self::Resolved { .. } => Some(Ending::Cancelled),
            Self::Held { .. }
            | Self::DispenseBegun { .. }
            | Self::Presented { .. }
            | Self::NotPresented
            | Self::PresentationUnknown
            | Self::CaptureBegun { .. }
            | Self::RetractUncounted
            | Self::Suspended
            | Self::SuspendRefused { .. }
            | Self::Stacked
            | Self::Returned
            | Self::Lost { .. }
            | Self::CaptureRefused { .. }
            | Self::GivenUp { .. }
            | Self::Contradicted { .. } => None,
        }
    }

    /// Its name in the journal.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Held { .. } => "HELD",
            Self::DispenseBegun { .. } => "DISPENSE_BEGUN",
            Self::Presented { .. } => "PRESENTED",
            Self::NotPresented => "NOT_PRESENTED",
            Self::PresentationUnknown => "PRESENTATION_UNKNOWN",
            Self::CaptureBegun { .. } => "CAPTURE_BEGUN",
            Self::RetractUncounted => "RETRACT_UNCOUNTED",
            Self::Suspended => "SUSPENDED",
            Self::SuspendRefused { .. } => "SUSPEND_REFUSED",
            Self::Resolved { .. } => "RESOLVED",
            Self::Stacked => "STACKED",
            Self::Returned => "RETURNED",
            Self::Lost { .. } => "LOST",
            Self::Captured { .. } => "CAPTURED",
            Self::CaptureRefused { .. } => "CAPTURE_REFUSED",
            Self::Posted { .. } => "POSTED",
            Self::Declined { .. } => "DECLINED",
            Self::GivenUp { .. } => "GIVEN_UP",
            Self::Cancelled { .. } => "CANCELLED",
            Self::NotSent => "NOT_SENT",
            Self::Refused { .. } => "REFUSED",
            Self::Contradicted { .. } => "CONTRADICTED",
        }
    }
}

/// Gives an enum its names in the journal, both ways.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(crate) fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

pub(super) use names;

names!(Kind { Withdrawal = "withdrawal", Deposit = "deposit", Transfer = "transfer" });
names!(State {
    Intent = "INTENT",
    Authorized = "AUTHORIZED",
    Dispensing = "DISPENSING",
    Presented = "PRESENTED",
    CapturePending = "CAPTURE_PENDING",
    Done = "DONE",
    VoidPending = "VOID_PENDING",
    Voided = "VOIDED",
    SuspendPending = "SUSPEND_PENDING",
    Suspect = "SUSPECT",
    StackPending = "STACK_PENDING",
    ReturnPending = "RETURN_PENDING",
});
names!(Ending {
    Captured = "captured",
    Posted = "posted",
    Declined = "declined",
    Cancelled = "cancelled",
    NotSent = "not_sent",
    Refused = "refused",
});

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
