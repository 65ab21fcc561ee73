//! One transaction as the journal keeps it.

use atm_faults::{Bug, planted};
use atm_types::{Money, Timestamp, TransactionId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::machine::{AccountBalance, Ending, Event, Kind, State};
use crate::device::Notes;

/// What stands for a card in the journal: enough to recognise it, never its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CardTag {
    /// SHA-256 of the terminal's secret key and the number. Without the key, which is kept in another file,
    /// the few possible numbers cannot be tried out.
    pub(crate) tag: [u8; 32],
    /// What a receipt shows.
    pub(crate) last_four: String,
}

impl CardTag {
    pub(crate) fn new(terminal_key: &[u8; 32], card_number: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"atm journal card\0");
        hash.update(terminal_key);
        hash.update(card_number);
        let shown = if planted(Bug::JournalKeepsTheCardNumber) { card_number.len() } else { 4 };
        let start = card_number.len().saturating_sub(shown);
        Self {
            tag: hash.finalize().into(),
            last_four: card_number.get(start..).unwrap_or_default().to_owned(),
        }
    }
}

/// A transaction that is about to begin. A repeat of its id must agree in every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) id: TransactionId,
    pub(crate) kind: Kind,
    /// More than zero.
    pub(crate) amount: Money,
    pub(crate) card: CardTag,
    /// Transfers only: the receiving account, as it was typed.
    pub(crate) to_account: Option<String>,
    /// The trace of the key press, 32 hexadecimal digits.
    pub(crate) trace_id: String,
}

impl Intent {
    /// The first field in which a repeat differs, if any. The trace is another one for each key press.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.kind != other.kind {
            Some("kind")
        } else if self.card.tag != other.card.tag {
            Some("card")
        } else if self.amount != other.amount {
            Some("amount")
        } else if self.to_account != other.to_account {
            Some("to_account")
        } else {
            None
        }
    }
}

/// A transaction in the journal, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) intent: Intent,
    pub(crate) state: State,
    /// The ledger's signed word that it holds the money; sent back with the capture.
    pub(crate) authorization: Vec<u8>,
    /// Withdrawals: the id under which the device was told to pay out.
    pub(crate) dispense_id: Option<Uuid>,
    /// Deposits: the id under which the device counted the notes into escrow.
    pub(crate) cash_in_id: Option<Uuid>,
    /// The notes to pay out, or those that were paid in.
    pub(crate) plan: Notes,
    /// What the cassettes counted before a dispense.
    pub(crate) cassettes_before: Notes,
    /// What the customer had access to.
    pub(crate) presented: Option<Money>,
    /// What of it was taken back and counted.
    pub(crate) retracted: Option<Money>,
    /// Whether something was taken back and could not be counted.
    pub(crate) retract_uncounted: bool,
    /// What a person decided that the customer got.
    pub(crate) resolved: Option<Money>,
    /// The highest commit sequence that this machine had seen when the transaction began.
    pub(crate) noted_sequence: u64,
    /// When it ended, on this machine's clock; only compaction looks at it.
    pub(crate) ended: Option<Timestamp>,
    pub(crate) ending: Option<Ending>,
    /// Why it was declined, cancelled, given up or is suspect.
    pub(crate) reason: Option<String>,
    /// The customer's account as the bank last told it.
    pub(crate) balance: Option<AccountBalance>,
}

/// What a customer paid in before the INTENT of a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PaidIn {
    pub(crate) cash_in_id: Uuid,
    pub(crate) notes: Notes,
}

impl Record {
    /// A transaction at its INTENT.
    pub(super) fn begun(intent: &Intent, paid_in: Option<&PaidIn>, noted_sequence: u64) -> Self {
        Self {
            intent: intent.clone(),
            state: State::Intent,
            authorization: Vec::new(),
            dispense_id: None,
            cash_in_id: paid_in.map(|paid_in| paid_in.cash_in_id),
            plan: paid_in.map(|paid_in| paid_in.notes.clone()).unwrap_or_default(),
            cassettes_before: Notes::none(),
            presented: None,
            retracted: None,
            retract_uncounted: false,
            resolved: None,
            noted_sequence,
            ended: None,
            ending: None,
            reason: None,
            balance: None,
        }
    }

    /// A transaction at its INTENT, for tests that only look at it.
    #[cfg(test)]
    pub(crate) fn for_tests(intent: &Intent) -> Self {
        Self::begun(intent, None, 0)
    }

    /// The record once `event` has led to `state`. What the event does not speak of stays as it was.
    pub(super) fn after(mut self, state: State, event: &Event, now: Timestamp) -> Self {
        self.state = state;
        self.ending = event.ending().or(self.ending);
        self.ended = matches!(state, State::Done | State::Voided).then_some(now);
        match event {
            Event::Held { authorization, balance } => {
                self.authorization.clone_from(authorization);
                self.balance = *balance;
            }
            Event::DispenseBegun { dispense_id, plan, cassettes } => {
                self.dispense_id = Some(*dispense_id);
                self.plan.clone_from(plan);
                self.cassettes_before.clone_from(cassettes);
            }
            Event::Presented { amount } => self.presented = Some(*amount),
            Event::CaptureBegun { retracted } => self.retracted = Some(*retracted),
            Event::RetractUncounted => {
                self.retract_uncounted = true;
                self.reason = Some("retract_uncounted".to_owned());
            }
            Event::Captured { balance } | Event::Posted { balance } => {
                self.balance = *balance;
                self.reason = None;
            }
            Event::Declined { reason, balance } => {
                self.balance = *balance;
                self.reason = Some(reason.clone());
            }
            Event::Cancelled { reason } => {
                // The hold is gone, and with it what the bank said while it stood.
                self.balance = None;
                if reason.is_some() {
                    self.reason.clone_from(reason);
                }
            }
            Event::GivenUp { reason } | Event::Lost { reason } => {
                self.balance = None;
                self.reason = Some(reason.clone());
            }
            Event::CaptureRefused { reason }
            | Event::SuspendRefused { reason }
            | Event::Refused { reason }
            | Event::Contradicted { reason } => self.reason = Some(reason.clone()),
            Event::Resolved { amount } => {
                self.balance = None;
                self.resolved = Some(*amount);
                self.reason = Some("resolved".to_owned());
            }
            Event::NotPresented => self.reason = Some("not_presented".to_owned()),
            Event::PresentationUnknown => self.reason = Some("presentation_unknown".to_owned()),
            Event::NotSent => self.reason = Some("unavailable".to_owned()),
            Event::Suspended | Event::Stacked | Event::Returned => {}
        }
        self
    }

    /// What the customer really got or is taken to have got; of a transaction that is not so far, what was asked
    /// for.
    pub(crate) fn taken(&self) -> Money {
        let presented = self.presented.unwrap_or(self.intent.amount);
        let retracted = self.retracted.map_or(0, Money::minor_units);
        let left = presented.minor_units().saturating_sub(retracted);
        self.resolved.unwrap_or(Money::new(left, presented.currency()))
    }

    pub(crate) fn id(&self) -> TransactionId {
        self.intent.id
    }

    /// Whether the same request may begin again under this id: no attempt ever left the machine.
    pub(crate) fn may_begin_again(&self) -> bool {
        self.state == State::Voided && self.ending == Some(Ending::NotSent)
    }
}
