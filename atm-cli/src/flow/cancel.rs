//! A cancel that a person asked for.

use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use atm_types::{Currency, Money, TransactionId};
use tonic::Code;

use super::sign_on::FENCED_OFF;
use super::{Machine, journal_after, journal_before, judge, sign_on};
use crate::client::{Answer, read_failure};
use crate::exit::{Exit, Failure};
use crate::journal::{CardTag, Ending, Record, State};
use crate::output::{Receipt, Status, When};

impl Machine {
    /// Fences a transaction off, unless its cash was presented; says how it stands then.
    pub(crate) async fn cancel_by_customer(
        &mut self,
        id: TransactionId,
        card: &CardTag,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        let Some(record) = self.journal.find(id).map_err(|error| journal_before(&error).in_doubt(id))? else {
            let receipt = self.fence_unjournaled(id, deadline).await;
            return receipt.map_err(|failure| failure.in_doubt(id));
        };
        if record.intent.card.tag != card.tag {
            return Err(not_found());
        }
        let record = match record.state {
            // It never left this machine, or the bank was never asked to forget it. After this it never can: the journal
            // remembers the cancel.
            State::Voided if ended_without_the_bank(&record) => {
                let receipt = self.fence_unjournaled(id, deadline).await;
                return receipt
                    .map_err(|failure| if never_sent(&record) { failure } else { failure.in_doubt(id) });
            }
            // The device knows whether anything came out, and what was taken of it; if nothing, it is cancelled.
            State::Intent | State::Authorized | State::VoidPending | State::Dispensing | State::Presented => {
                self.settle(record, deadline).await.map_err(|error| journal_after(&error, id))?
            }
            // Decided already, or only a person can; what is left is the machine's own business.
            State::Done
            | State::Voided
            | State::CapturePending
            | State::SuspendPending
            | State::Suspect
            | State::StackPending
            | State::ReturnPending => record,
        };
        Ok(told(&record))
    }

    /// Nobody was let in, so nobody was asked to cancel it. Only of an id that this journal began and never sent is it
    /// sure that nothing happened; every other one may have been carried out before, here or, if it is not in the
    /// journal, in a time that it has forgotten.
    pub(crate) fn cancel_not_let_in(
        &self,
        id: TransactionId,
        card: &CardTag,
        failure: Failure,
    ) -> Result<Receipt, Failure> {
        let record = self.journal.find(id).map_err(|error| journal_before(&error).in_doubt(id))?;
        // What a fenced-off machine's disk says may be out of date.
        let believed = failure.reason != FENCED_OFF;
        let record = record.filter(|record| believed && record.intent.card.tag == card.tag);
        match record {
            Some(record) if never_sent(&record) => Err(failure),
            // As for a repeat: what the journal has from the bank is true whether the bank can be reached or not.
            Some(record)
                if failure.exit == Exit::Unavailable
                    && sign_on::leaves_the_journal_true(&failure)
                    && is_decided(record.state)
                    && !ended_without_the_bank(&record) =>
            {
                Ok(Receipt { balance: None, when: When::BeforeUnasked, ..told(&record) })
            }
            Some(_) | None => Err(failure.in_doubt(id)),
        }
    }

    /// An id that this journal never sent: the bank alone knows. The journal remembers the cancel before it leaves, so
    /// that nothing ever begins under this id while the cancel may still be on its way.
    pub(super) async fn fence_unjournaled(
        &mut self,
        id: TransactionId,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        self.journal.fence(id).map_err(|error| journal_before(&error))?;
        match self.bank.cancel(id, deadline).await {
            Ok(answer) => Ok(receipt(id, &answer)),
            Err(error) => failed(id, &error),
        }
    }
}

/// How a transaction stands that no cancel can change any more, or that was just cancelled.
fn told(record: &Record) -> Receipt {
    let mut receipt = Receipt::of(record);
    if receipt.status == Status::CapturePending {
        receipt.reason = Some("cash_presented".to_owned());
    }
    receipt
}

/// Whether nothing that the customer asks for can change how it ends.
fn is_decided(state: State) -> bool {
    match state {
        State::Done
        | State::Voided
        | State::CapturePending
        | State::SuspendPending
        | State::Suspect
        | State::StackPending
        | State::ReturnPending => true,
        State::Intent | State::Authorized | State::VoidPending | State::Dispensing | State::Presented => {
            false
        }
    }
}

/// Whether it ended without a step of the bank's under its id.
fn ended_without_the_bank(record: &Record) -> bool {
    matches!(record.ending, Some(Ending::NotSent | Ending::Refused))
}

fn never_sent(record: &Record) -> bool {
    record.state == State::Voided && record.ending == Some(Ending::NotSent)
}

/// What a failed cancel of an id that this journal never sent means. A cancel is indefinite, too: if it arrived, it holds.
fn failed(id: TransactionId, error: &RetryError) -> Result<Receipt, Failure> {
    match error.status.code() {
        _ if !error.maybe_sent => Err(read_failure(error)),
        Code::NotFound | Code::AlreadyExists => Err(not_found()),
        // The books have no room for it: nothing was changed.
        Code::FailedPrecondition => Err(read_failure(error)),
        _ => Ok(unknown(id)),
    }
}

fn not_found() -> Failure {
    Failure::new(Exit::Declined, "not_found", "there is no such transaction of this machine and card")
}

fn unknown(id: TransactionId) -> Receipt {
    Receipt {
        id,
        kind: None,
        status: Status::Unknown,
        reason: Some("no_answer".to_owned()),
        amount: None,
        balance: None,
        suspect: false,
        when: When::Now,
    }
}

fn receipt(id: TransactionId, answer: &Answer) -> Receipt {
    let outcome = &answer.outcome;
    let (status, reason) = match answer.current_state {
        TransactionState::Posted => (Status::Posted, None),
        TransactionState::Captured | TransactionState::CapturedLate => (Status::Captured, None),
        TransactionState::Declined => (Status::Declined, Some(judge::decline_reason(outcome))),
        TransactionState::Cancelled => (Status::Cancelled, Some("cancelled".to_owned())),
        TransactionState::Expired => (Status::Cancelled, Some("expired".to_owned())),
        TransactionState::Suspect => (Status::Unknown, Some("suspect".to_owned())),
        TransactionState::Held | TransactionState::Unspecified => {
            (Status::Unknown, Some("unexpected_answer".to_owned()))
        }
    };
    let amount = outcome.amount.as_ref().and_then(|amount| {
        let currency: Currency = amount.currency_code.parse().ok()?;
        Some(Money::new(amount.minor_units, currency))
    });
    let balance = judge::balance(outcome);
    Receipt { id, kind: None, status, reason, amount, balance, suspect: false, when: When::Now }
}

#[cfg(test)]
mod tests {
    use tonic::Status as Answered;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_cancel_that_may_have_arrived_never_says_that_nothing_happened() {
        let id = TransactionId::from_uuid(Uuid::from_u128(42));
        let failed = |code, maybe_sent| {
            let status = Answered::new(code, "text");
            failed(id, &RetryError { status, attempts: 1, maybe_sent, deadline_over: false })
        };
        for code in [Code::Internal, Code::Unavailable, Code::Unauthenticated, Code::ResourceExhausted] {
            assert_eq!(failed(code, true).unwrap().status, Status::Unknown, "{code:?}");
        }
        assert_eq!(failed(Code::Unavailable, false).unwrap_err().exit, Exit::Unavailable);
        for code in [Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition] {
            assert_eq!(failed(code, true).unwrap_err().exit, Exit::Declined, "{code:?}");
        }
    }
}
