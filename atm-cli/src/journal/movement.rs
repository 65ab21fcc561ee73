//! Cash that moved between two places of this machine, or between it and the vault, to be posted until the bank has
//! said yes. Each has an id of its own, minted with the step that caused it.

use atm_proto::gateway::CashBin;
use atm_types::{Money, Timestamp, TransactionId};

use super::machine::names;
use crate::device::Notes;

/// A place that has an account in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    Vault,
    Cassettes,
    Reject,
    Retract,
    Deposit,
    Suspense,
}

impl Account {
    /// Its name on the wire.
    pub(crate) fn wire(self) -> CashBin {
        match self {
            Self::Vault => CashBin::Vault,
            Self::Cassettes => CashBin::Cassettes,
            Self::Reject => CashBin::Reject,
            Self::Retract => CashBin::Retract,
            Self::Deposit => CashBin::Deposit,
            Self::Suspense => CashBin::Suspense,
        }
    }
}

/// How far the bank knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MovementState {
    /// The bank is told until it has said yes.
    Pending,
    /// The bank has posted it.
    Posted,
    /// The bank will not post it: a person must look.
    Refused,
    /// Operators moved it, and the bank is told with their token until it has said yes.
    OperatorPending,
    /// The bank has posted it in the operators' name.
    OperatorPosted,
}

names!(Account {
    Vault = "vault",
    Cassettes = "cassettes",
    Reject = "reject",
    Retract = "retract",
    Deposit = "deposit",
    Suspense = "suspense",
});
names!(MovementState {
    Pending = "PENDING",
    Posted = "POSTED",
    Refused = "REFUSED",
    OperatorPending = "OPERATOR_PENDING",
    OperatorPosted = "OPERATOR_POSTED",
});

/// Notes that went from one place to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) id: TransactionId,
    pub(crate) from: Account,
    pub(crate) to: Account,
    /// More than 0.
    pub(crate) amount: Money,
    pub(crate) notes: Notes,
    /// The customer's transaction that caused it.
    pub(crate) about: Option<TransactionId>,
    pub(crate) state: MovementState,
    pub(crate) reason: Option<String>,
    pub(crate) ended: Option<Timestamp>,
}

impl Movement {
    /// Notes that moved just now; the bank does not know yet.
    pub(crate) fn new(
        id: TransactionId,
        (from, to): (Account, Account),
        notes: &Notes,
        currency: atm_types::Currency,
        about: Option<TransactionId>,
    ) -> Self {
        Self {
            id,
            from,
            to,
            amount: notes.worth(currency),
            notes: notes.clone(),
            about,
            state: MovementState::Pending,
            reason: None,
            ended: None,
        }
    }

    /// The same moved by operators: the bank hears of it from them, and the machine alone cannot tell it.
    pub(crate) fn by_operators(
        id: TransactionId,
        places: (Account, Account),
        notes: &Notes,
        currency: atm_types::Currency,
    ) -> Self {
        Self { state: MovementState::OperatorPending, ..Self::new(id, places, notes, currency, None) }
    }

    /// Whether the bank hears of it from operators.
    pub(crate) fn is_operators(&self) -> bool {
        matches!(self.state, MovementState::OperatorPending | MovementState::OperatorPosted)
    }

    /// Whether these are notes that operators, or the first start, put into the cassettes. The device is told of
    /// them under the movement's own id, and told again until the bank knows.
    pub(crate) fn is_load(&self) -> bool {
        (self.from, self.to) == (Account::Vault, Account::Cassettes)
    }
}
