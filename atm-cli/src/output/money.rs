//! The result of a money command: its JSON keys are a contract.

use atm_proto::types::TransactionState;
use atm_types::{Money, TransactionId};
use serde::Serialize;

use super::Screen;
use crate::exit::{Exit, Failure};
use crate::journal::{AccountBalance, Ending, Kind, Record, State};

/// How a money command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// The cash is out and posted.
    Captured,
    /// The cash is out; the bank will be told until it has said yes.
    CapturePending,
    /// A deposit or transfer is posted.
    Posted,
    /// Refused; nothing moved.
    Declined,
    /// It was not applied and never will be.
    Cancelled,
    /// Not known; the id can be looked up, cancelled or recovered.
    Unknown,
}

/// In which run of the command that happened which a receipt tells of. Only people are told: a repeat has the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In this one.
    Now,
    /// In an earlier one; this one repeats the answer.
    Before,
    /// In an earlier one, and the bank could not be asked now: the journal says so, and nobody's PIN was checked.
    BeforeUnasked,
}

/// What is printed about one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: TransactionId,
    pub(crate) kind: Option<Kind>,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) amount: Option<Money>,
    pub(crate) balance: Option<AccountBalance>,
    /// Needs a person: machine and bank disagree.
    pub(crate) suspect: bool,
    pub(crate) when: When,
}

/// The seven keys, always all of them; null where nothing is known.
#[derive(Serialize)]
struct Keys {
    transaction_id: Option<String>,
    status: Status,
    reason: Option<String>,
    amount: Option<String>,
    balance: Option<String>,
    available: Option<String>,
    currency: String,
}

impl Receipt {
    /// What the journal knows about a transaction.
    pub(crate) fn of(record: &Record) -> Self {
        let status = match (record.state, record.ending) {
            (State::Done | State::StackPending, Some(Ending::Posted)) => Status::Posted,
            // Everything was taken back: the capture of nothing releases the hold.
            (State::Done | State::CapturePending, _) if record.taken().minor_units() == 0 => {
                Status::Cancelled
            }
            (State::Done | State::StackPending, _) => Status::Captured,
            (State::Voided | State::ReturnPending, Some(Ending::Declined)) => Status::Declined,
            (State::Voided | State::ReturnPending, _) => Status::Cancelled,
            (State::CapturePending, _) => Status::CapturePending,
            (
                State::Intent
                | State::Authorized
                | State::Dispensing
                // How much of it was taken the device was not asked yet.
                | State::Presented
                | State::VoidPending
                | State::SuspendPending
                | State::Suspect,
                _,
            ) => Status::Unknown,
        };
        let not_taken =
            status == Status::Cancelled && matches!(record.state, State::Done | State::CapturePending);
        Self {
            id: record.id(),
            kind: Some(record.intent.kind),
            status,
            reason: if not_taken { Some("not_taken".to_owned()) } else { record.reason.clone() },
            amount: Some(if not_taken { record.intent.amount } else { record.taken() }),
            // Of a hold that is not released yet the bank has not said what will be there.
            balance: record.balance.filter(|_| !not_taken || record.state == State::Done),
            suspect: matches!(record.state, State::SuspendPending | State::Suspect),
            when: When::Now,
        }
    }

    /// Whether the bank has answered and nothing is open any more.
    pub(crate) fn is_settled(&self) -> bool {
        match self.status {
            Status::Captured | Status::Posted | Status::Declined | Status::Cancelled => true,
            Status::CapturePending | Status::Unknown => false,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self.status {
            Status::Captured | Status::CapturePending | Status::Posted => Exit::Done,
            Status::Declined | Status::Cancelled => Exit::Declined,
            Status::Unknown => Exit::Unknown,
        }
    }

    /// Prints it, in whatever mode, with what to do next where something is open.
    pub(crate) fn show(&self, screen: Screen, currency: atm_types::Currency) {
        let good = match self.status {
            Status::Captured | Status::CapturePending | Status::Posted => true,
            Status::Declined | Status::Cancelled | Status::Unknown => false,
        };
        self.print(screen, currency, &self.sentence(), good);
    }

    /// Prints it as the answer to the wish that the transaction never takes effect.
    pub(crate) fn show_cancel(&self, screen: Screen, currency: atm_types::Currency) {
        let line = match self.status {
            Status::Cancelled => {
                "It is cancelled. Nothing was moved, and nothing ever will be under this id.".to_owned()
            }
            Status::Declined => format!("There is nothing to cancel. {}", self.sentence()),
            Status::Captured | Status::CapturePending => {
                format!("It cannot be cancelled any more: {} was withdrawn.", self.amount_text())
            }
            Status::Posted => format!("It cannot be cancelled any more: {} is posted.", self.amount_text()),
            Status::Unknown => self.sentence(),
        };
        self.print(screen, currency, &line, self.status == Status::Cancelled);
    }

    fn print(&self, screen: Screen, currency: atm_types::Currency, line: &str, good: bool) {
        let currency = self.amount.map_or(currency, Money::currency);
        let decimal = |units: i64| Money::new(units, currency).to_decimal();
        screen.object(&Keys {
            transaction_id: Some(self.id.to_string()),
            status: self.status,
            reason: self.reason.clone(),
            amount: self.amount.map(Money::to_decimal),
            balance: self.balance.map(|balance| decimal(balance.balance)),
            available: self.balance.map(|balance| decimal(balance.available)),
            currency: currency.to_string(),
        });
        if good {
            screen.good(line);
        } else {
            screen.error(line);
        }
        if let Some(balance) = self.balance {
            let (balance, available) = (decimal(balance.balance), decimal(balance.available));
            screen.result(&format!("Balance {balance} {currency}, available {available} {currency}"));
        }
        match self.status {
            Status::CapturePending => screen.note(
                "The bank has not acknowledged it yet; the next command, or `atm-cli recover`, goes on telling it.",
            ),
            Status::Unknown if self.suspect => screen.alarm(&format!(
                "transaction {} needs a person: {}. Its money is set aside at the bank, and the bank decides.",
                self.id,
                self.reason.as_deref().map_or_else(|| "no reason known".to_owned(), explain),
            )),
            Status::Unknown => screen.note(&format!(
                "What to do next: `atm-cli recover` settles it for good; `atm-cli transaction show {} --card N` \
                 looks it up. Do not repeat it under another id before that.",
                self.id
            )),
            Status::Captured | Status::Posted | Status::Declined | Status::Cancelled => {}
        }
        if self.when == When::BeforeUnasked {
            screen.note("This is what the machine's journal says; the bank did not confirm it, nor the PIN.");
        }
        screen.result(&format!("Transaction {}", self.id));
        if super::lost().is_some() {
            screen.note(&format!(
                "The receipt of transaction {} was not written; `atm-cli transaction show {} --card N` tells it.",
                self.id, self.id
            ));
        }
    }

    fn amount_text(&self) -> String {
        self.amount.map_or_else(|| "an unknown amount".to_owned(), |amount| amount.to_string())
    }

    fn sentence(&self) -> String {
        let amount = self.amount_text();
        let reason = self.reason.as_deref().map_or_else(|| "no reason given".to_owned(), explain);
        let what = self.kind.map_or("transaction", Kind::name);
        let of = self.amount.map_or_else(String::new, |amount| format!(" of {amount}"));
        let repeated = self.when != When::Now;
        match self.status {
            Status::Captured | Status::CapturePending if repeated => {
                format!("This was done before: {amount} was withdrawn. No cash is paid out now.")
            }
            Status::Captured | Status::CapturePending => {
                format!("Withdrawn {amount}. Please take your cash.")
            }
            Status::Posted if repeated => {
                let done = if self.kind == Some(Kind::Transfer) { "transferred" } else { "deposited" };
                format!("This was done before: {amount} was {done}. Nothing is moved now.")
            }
            Status::Posted if self.kind == Some(Kind::Transfer) => format!("Transferred {amount}."),
            Status::Posted => format!("Deposited {amount}."),
            Status::Declined => format!("The {what}{of} was declined: {reason}. Nothing was moved."),
            Status::Cancelled if self.reason.as_deref() == Some("cancelled") => {
                format!(
                    "The {what}{of} is cancelled. Nothing was moved, and nothing ever will be under this id."
                )
            }
            Status::Cancelled => format!("The {what}{of} is cancelled ({reason}). Nothing was moved."),
            Status::Unknown => {
                format!("The outcome of the {what}{of} is not known: transaction {}.", self.id)
            }
        }
    }
}

impl Status {
    /// What a money command that ended without a receipt has to say of its transaction: unless it is not known,
    /// nothing that was sent can have an effect.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        match failure.exit {
            Exit::Unknown => Self::Unknown,
            Exit::Unavailable => Self::Cancelled,
            Exit::Done | Exit::Declined | Exit::WrongUse | Exit::NotAuthenticated => Self::Declined,
        }
    }

    /// The same of a cancel: whoever was not heard knows nothing of the transaction.
    pub(crate) fn of_failed_cancel(failure: &Failure) -> Self {
        match failure.exit {
            Exit::Declined => Self::Declined,
            Exit::Done | Exit::WrongUse | Exit::Unknown | Exit::NotAuthenticated | Exit::Unavailable => {
                Self::Unknown
            }
        }
    }
}

/// Prints why a money command ended without a receipt. In JSON mode the object has the same keys.
pub(crate) fn show_failure(
    failure: &Failure,
    status: Status,
    amount: Option<Money>,
    screen: Screen,
    currency: atm_types::Currency,
) {
    screen.object(&Keys {
        transaction_id: failure.transaction_id.map(|id| id.to_string()),
        status,
        reason: Some(failure.reason.to_owned()),
        amount: amount.map(Money::to_decimal),
        balance: None,
        available: None,
        currency: currency.to_string(),
    });
}

/// The words for a reason.
fn explain(reason: &str) -> String {
    match reason {
        "insufficient_funds" => "there is not enough money in the account".to_owned(),
        "daily_limit_exceeded" => "the day's limit for withdrawals would be exceeded".to_owned(),
        "debit_account_not_found" => "the account does not exist".to_owned(),
        "credit_account_not_found" => "the receiving account does not exist".to_owned(),
        "balance_overflow" => "the balance would no longer fit".to_owned(),
        "not_presented" => "the machine could not present the notes".to_owned(),
        "not_taken" => "the notes were not taken and went back into the machine".to_owned(),
        "presentation_unknown" => "the machine does not know whether the notes came out".to_owned(),
        "retract_uncounted" => "notes were taken back and could not be counted".to_owned(),
        "no_answer" => "the bank did not answer in time".to_owned(),
        other => other.replace('_', " "),
    }
}

/// A transaction's state as people and programs see it: lower snake case.
pub(crate) fn state_name(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Unspecified => "unspecified",
        TransactionState::Posted => "posted",
        TransactionState::Declined => "declined",
        TransactionState::Held => "held",
        TransactionState::Captured => "captured",
        TransactionState::Cancelled => "cancelled",
        TransactionState::Expired => "expired",
        TransactionState::CapturedLate => "captured_late",
        TransactionState::Suspect => "suspect",
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::journal::{CardTag, Intent};

    #[test]
    fn nobody_is_asked_to_take_cash_that_went_back_into_the_machine() {
        let amount = Money::new(30_000, atm_types::Currency::BDT);
        let record = Record::for_tests(&Intent {
            id: TransactionId::from_uuid(Uuid::from_u128(42)),
            kind: Kind::Withdrawal,
            amount,
            card: CardTag::new(&[7; 32], "123456789"),
            to_account: None,
            trace_id: String::new(),
        });
        let back = |state, minor| {
            let retracted = Some(Money::new(minor, amount.currency()));
            Receipt::of(&Record { state, presented: Some(amount), retracted, ..record.clone() })
        };
        // Whether the bank has acknowledged it or not.
        for state in [State::CapturePending, State::Done] {
            let receipt = back(state, 30_000);
            assert_eq!((receipt.status, receipt.reason.as_deref()), (Status::Cancelled, Some("not_taken")));
            assert_eq!((receipt.exit(), receipt.amount), (Exit::Declined, Some(amount)), "{state}");
        }
        let partly = back(State::CapturePending, 10_000);
        assert_eq!(
            (partly.status, partly.amount),
            (Status::CapturePending, Some(Money::new(20_000, amount.currency())))
        );
    }
}
