//! A cancel that a person asked for.

use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use atm_types::{Currency, Money, TransactionId};
use tonic::Code;

use super::{Machine, journal_after, journal_before, judge};
use crate::client::{Answer, read_failure};
use crate::exit::{Exit, Failure};
use crate::journal::{CardTag, Ending, State};
use crate::output::{Receipt, Status};

impl Machine {
    /// Fences a transaction off, unless its cash was presented; says how it stands then.
    pub(crate) async fn cancel_by_customer(
        &mut self,
        id: TransactionId,
        card: &CardTag,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        let Some(record) = self.journal.find(id).map_err(|error| journal_before(&error))? else {
            return self.fence_unjournaled(id, deadline).await;
        };
        if record.intent.card.tag != card.tag {
            return Err(not_found());
        }
        let record = match record.state {
            // It never left this machine, or the bank was never asked to forget it. After this it never can: the journal
            // remembers the cancel.
            State::Voided if matches!(record.ending, Some(Ending::NotSent | Ending::Refused)) => {
                return self.fence_unjournaled(id, deadline).await;
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
        let mut receipt = Receipt::of(&record);
        if receipt.status == Status::CapturePending {
            receipt.reason = Some("cash_presented".to_owned());
        }
        Ok(receipt)
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
    Receipt { id, kind: None, status, reason, amount, balance: judge::balance(outcome), suspect: false }
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
