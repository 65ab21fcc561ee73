//! One transaction as the journal keeps it.

use atm_types::{Money, TransactionId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::machine::{AccountBalance, Ending, Kind, State};

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
        let start = card_number.len().saturating_sub(4);
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
    pub(crate) dispense_id: Option<Uuid>,
    /// What the customer had access to.
    pub(crate) presented: Option<Money>,
    pub(crate) ending: Option<Ending>,
    /// Why it was declined, cancelled, given up or is suspect.
    pub(crate) reason: Option<String>,
    /// The customer's account as the bank last told it.
    pub(crate) balance: Option<AccountBalance>,
}

impl Record {
    pub(crate) fn id(&self) -> TransactionId {
        self.intent.id
    }

    /// Whether the same request may begin again under this id: no attempt ever left the machine, or the only one
    /// was turned away at the door because of who was asking.
    pub(crate) fn may_begin_again(&self) -> bool {
        match self.ending {
            Some(Ending::NotSent) => true,
            Some(Ending::Refused) => {
                matches!(self.reason.as_deref(), Some("not_authenticated" | "permission_denied"))
            }
            Some(Ending::Captured | Ending::Posted | Ending::Declined | Ending::Cancelled) | None => false,
        }
    }
}
