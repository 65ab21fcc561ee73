//! The life of a transaction in this machine's journal: which event leads from which state to which.
//!
//! ```text
//! INTENT → AUTHORIZED → DISPENSING → PRESENTED → CAPTURE_PENDING → DONE
//!    └────────┴────────────┴── VOID_PENDING → VOIDED     └── SUSPECT
//! ```
//!
//! Pure: no clock, no disk, no network. Two rules matter more than all others. Money that was presented is
//! captured, never cancelled: no event leads from PRESENTED or later to VOID_PENDING, and from DISPENSING only
//! the device's own word that nothing came out does. And a transaction that was given up is never dispensed:
//! from VOID_PENDING there is no way back.

use std::fmt;

use atm_types::Money;
use uuid::Uuid;

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
    /// Machine and bank disagree, or the device does not know: a person must look.
    Suspect,
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
    /// The dispenser is about to be told to pay out under this id.
    DispenseBegun { dispense_id: Uuid },
    /// The customer had access to this much.
    Presented { amount: Money },
    /// The dispenser says that nothing came out.
    NotPresented,
    /// The dispenser cannot say whether anything came out.
    PresentationUnknown,
    /// The capture is about to be sent.
    CaptureBegun,
    /// The bank posted what was presented.
    Captured { balance: Option<AccountBalance> },
    /// The bank refused the capture of money that is out.
    CaptureRefused { reason: String },
    /// The bank posted a deposit or transfer.
    Posted { balance: Option<AccountBalance> },
    /// The bank refused for a business reason.
    Declined { reason: String, balance: Option<AccountBalance> },
    /// There was no answer in time: from now on this id can only be cancelled.
    GivenUp { reason: String },
    /// The bank says that it was not applied and never will be.
    Cancelled { reason: Option<String> },
    /// No attempt left this machine.
    NotSent,
    /// The only attempt was refused before it reached the ledger, or the id belongs to something else.
    Refused { reason: String },
    /// The bank says that money moved which this machine never paid out.
    Contradicted { reason: String },
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
    /// Post what is out, until the bank has said yes.
    Capture,
    /// It is over.
    Nothing,
    /// Only a person can decide.
    Operator,
}

/// The state that `event` leads to, or nothing where it must not happen.
pub(crate) fn next(kind: Kind, state: State, event: &Event) -> Option<State> {
    let withdrawal = kind == Kind::Withdrawal;
    match (state, event) {
        (State::Intent, Event::Held { .. }) if withdrawal => Some(State::Authorized),
        (State::Intent, Event::Posted { .. }) if !withdrawal => Some(State::Done),
        (
            State::Intent,
            Event::Declined { .. } | Event::Cancelled { .. } | Event::NotSent | Event::Refused { .. },
        ) => Some(State::Voided),
        (State::Intent | State::Authorized, Event::GivenUp { .. }) => Some(State::VoidPending),

        (State::Authorized, Event::DispenseBegun { .. }) => Some(State::Dispensing),
        (State::Dispensing, Event::Presented { .. }) => Some(State::Presented),
        (State::Dispensing, Event::NotPresented) => Some(State::VoidPending),
        (State::Dispensing, Event::PresentationUnknown) => Some(State::Suspect),
        (State::Presented, Event::CaptureBegun) => Some(State::CapturePending),
        (State::CapturePending, Event::Captured { .. }) => Some(State::Done),
        (State::CapturePending, Event::CaptureRefused { .. }) => Some(State::Suspect),

        (State::VoidPending, Event::Cancelled { .. } | Event::Declined { .. } | Event::Refused { .. }) => {
            Some(State::Voided)
        }
        // A deposit or transfer that was applied before the fence came counts.
        (State::VoidPending, Event::Posted { .. }) if !withdrawal => Some(State::Done),
        (State::VoidPending, Event::Contradicted { .. }) => Some(State::Suspect),
        _ => None,
    }
}

impl State {
    /// What to do about it when nobody is at it.
    pub(crate) fn plan(self) -> Plan {
        match self {
            Self::Intent | Self::Authorized | Self::VoidPending => Plan::Cancel,
            Self::Dispensing => Plan::AskDispenser,
            Self::Presented | Self::CapturePending => Plan::Capture,
            Self::Done | Self::Voided => Plan::Nothing,
            Self::Suspect => Plan::Operator,
        }
    }

    /// Whether a person may still ask for a cancel: not once notes may have been presented.
    pub(crate) fn may_be_cancelled(self) -> bool {
        matches!(self, Self::Intent | Self::Authorized | Self::VoidPending)
    }
}

impl Event {
    /// How a transaction ended that this event closed.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self {
            Self::Captured { .. } => Some(Ending::Captured),
            Self::Posted { .. } => Some(Ending::Posted),
            Self::Declined { .. } => Some(Ending::Declined),
            Self::Cancelled { .. } => Some(Ending::Cancelled),
            Self::NotSent => Some(Ending::NotSent),
            Self::Refused { .. } => Some(Ending::Refused),
            Self::Held { .. }
            | Self::DispenseBegun { .. }
            | Self::Presented { .. }
            | Self::NotPresented
            | Self::PresentationUnknown
            | Self::CaptureBegun
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
            Self::CaptureBegun => "CAPTURE_BEGUN",
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

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

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
    Suspect = "SUSPECT",
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
