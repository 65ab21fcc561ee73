//! A new transaction from its INTENT to its end.

use std::time::Duration;

use atm_faults::{Bug, planted};
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::RetryError;
use atm_types::TransactionId;
use tokio::time::Instant;

use super::judge::{self, Failed};
use super::{Machine, journal_after, journal_before, sign_on};
use crate::client::{Answer, Session, attempts};
use crate::exit::{Exit, Failure};
use crate::journal::{Ending, Event, Intent, JournalError, Kind, Outage, PaidIn, Plan, Record, State};
use crate::output::{Receipt, Status, When};

/// How long before a hold's end nothing is dispensed on it any more.
const LIFETIME_MARGIN: Duration = Duration::from_secs(60);

const INTERRUPTED: &str = "interrupted";

/// What a customer asked for.
pub(crate) struct Order {
    pub(crate) intent: Intent,
    /// Whether the id was given by the caller, so that it may have been used before.
    pub(crate) id_given: bool,
}

impl Order {
    /// The journal could not be asked about this order. An id that was given may have been used before.
    pub(crate) fn not_looked_up(&self, failure: Failure) -> Failure {
        if self.id_given { failure.in_doubt(self.intent.id) } else { failure }
    }

    fn journal_is_silent(&self, error: &JournalError) -> Failure {
        self.not_looked_up(journal_before(error))
    }
}

impl Machine {
    /// Carries an order out, or repeats the answer if its id was used before. What is not known is a receipt or a
    /// failure with the exit code for that; every other one is definite.
    pub(crate) async fn perform(
        &mut self,
        session: &Session,
        order: &Order,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        let intent = &order.intent;
        let known = self.journal.find(intent.id).map_err(|error| order.journal_is_silent(&error))?;
        let used_before = known.is_some() || order.id_given;
        if let Some(record) = known {
            if let Some(field) = intent.difference(&record.intent) {
                return Err(id_reused(intent.id, &format!("its {field} differs")));
            }
            if !record.may_begin_again() {
                if planted(Bug::RepeatedHoldIsPaidOut) {
                    self.pay_out_on_a_repeat(session, &record, deadline).await?;
                }
                return self.resume(record, deadline).await;
            }
        }
        if self.journal.is_fenced(intent.id).map_err(|error| order.journal_is_silent(&error))? {
            return self.repeat_fenced(session, intent, deadline).await;
        }
        // Also an id that never left this machine may have been fenced off since.
        if used_before && let Some(receipt) = self.replay(session, intent, deadline).await? {
            return Ok(receipt);
        }
        self.begin(intent)?;
        let sent = Instant::now();
        let event = match self.send(session, intent, deadline).await {
            Ok(answer) => {
                let event = still_fresh(judge::answered(intent, &answer), &answer, sent);
                self.believe(intent.id, &answer, event).map_err(|error| journal_after(&error, intent.id))?
            }
            Err(error) => match judge::failed(&error) {
                Failed::Indefinite { .. } if believes_silence(intent) => {
                    Event::Held { authorization: Vec::new(), balance: None }
                }
                Failed::Indefinite { reason } => Event::GivenUp { reason },
                Failed::NotSent => {
                    self.close(intent.id, &Event::NotSent, deadline).await?;
                    return Err(not_sent(&error).about(intent.id));
                }
                Failed::IdReused { how } => {
                    let failure = id_reused(intent.id, &how);
                    let event = Event::Refused { reason: failure.reason.to_owned() };
                    self.close(intent.id, &event, deadline).await?;
                    return Err(failure);
                }
                Failed::TurnedAway { exit, reason, message } => {
                    let failure = refused(exit, reason, &message).about(intent.id);
                    return self.turned_away(intent.id, failure, deadline).await;
                }
            },
        };
        self.finish(intent.id, &event, deadline).await.map_err(|error| journal_after(&error, intent.id))
    }

    /// The id was cancelled here without being known: nothing begins under it any more.
    async fn repeat_fenced(
        &mut self,
        session: &Session,
        intent: &Intent,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        let fenced = self.fence_unjournaled(intent.id, deadline).await;
        let receipt = fenced.map_err(|failure| failure.in_doubt(intent.id))?;
        match receipt.status {
            // The cancel came too late. Whether it was the same order only the bank can say.
            Status::Posted | Status::Captured => {
                let replayed = self.replay(session, intent, deadline).await?;
                replayed.ok_or_else(|| id_reused(intent.id, "it belongs to another transaction"))
            }
            Status::CapturePending | Status::Declined | Status::Cancelled | Status::Unknown => {
                Ok(Receipt { kind: Some(intent.kind), ..receipt })
            }
        }
    }

    /// Writes the INTENT, once everything is there that the transaction will need: no older withdrawal of this card
    /// that is still open, room on the disk, notes that make the amount.
    fn begin(&mut self, intent: &Intent) -> Result<Record, Failure> {
        let before = |error: &JournalError| journal_before(error);
        if intent.kind == Kind::Withdrawal {
            self.refuse_while_another_is_open(intent)?;
        }
        if intent.kind != Kind::Transfer {
            self.check_device()?;
        }
        let notes = self.notes_for(intent.kind, intent.amount)?;
        self.journal.make_room().map_err(|error| before(&error))?;
        let paid_in: Option<PaidIn> = match intent.kind {
            Kind::Deposit => Some(self.count_in(notes).map_err(|error| before(&error))?),
            Kind::Withdrawal | Kind::Transfer => None,
        };
        self.journal.begin(intent, paid_in.as_ref()).map_err(|error| {
            // Nothing was written: the notes are the customer's. Should that fail too, the next start does it.
            if let Some(Err(error)) = paid_in.as_ref().map(|paid_in| self.hand_back(paid_in)) {
                tracing::warn!(%error, "the escrow was not handed back");
            }
            before(&error)
        })
    }

    /// An answer whose place in the ledger's order was taken before the transaction began comes from a ledger that
    /// has forgotten something. Nothing is paid out on its word.
    fn believe(&mut self, id: TransactionId, answer: &Answer, event: Event) -> Result<Event, JournalError> {
        if self.went_back(id, answer)? && matches!(event, Event::Held { .. }) {
            return Ok(Event::GivenUp { reason: Outage::BankWentBack.name().to_owned() });
        }
        Ok(event)
    }

    /// Notes what an answer says of the ledger's order; takes the machine out of service if that has gone back since
    /// the transaction's INTENT.
    pub(super) fn went_back(&mut self, id: TransactionId, answer: &Answer) -> Result<bool, JournalError> {
        let sequence = answer.outcome.commit_sequence;
        let noted = self.journal.find(id)?.map_or(0, |record| record.noted_sequence);
        let back = sequence != 0 && sequence <= noted;
        if back {
            self.journal.go_out_of_service(Outage::BankWentBack)?;
        } else {
            self.journal.saw(sequence);
        }
        Ok(back)
    }

    /// Whether this id was begun before, so that it needs nothing but its answer.
    pub(crate) fn has_begun(&self, order: &Order) -> Result<bool, Failure> {
        let known = self.journal.find(order.intent.id).map_err(|error| order.journal_is_silent(&error))?;
        Ok(known.is_some_and(|record| !record.may_begin_again()))
    }

    /// Nobody was let in. For a new id that is definite. An id that was sent before is another matter: "nothing
    /// happened" would be a lie that makes somebody withdraw twice.
    pub(crate) fn not_let_in(&self, order: &Order, failure: Failure) -> Result<Receipt, Failure> {
        let Order { intent, .. } = order;
        let id = intent.id;
        let record = self.journal.find(id).map_err(|error| order.journal_is_silent(&error))?;
        let Some(record) = record.filter(|record| !record.may_begin_again()) else {
            let believed = sign_on::leaves_the_journal_true(&failure);
            return Err(if believed { failure } else { order.not_looked_up(failure) });
        };
        if let Some(field) = intent.difference(&record.intent) {
            return Err(id_reused(id, &format!("its {field} differs")));
        }
        if failure.exit == Exit::Unavailable {
            if !sign_on::leaves_the_journal_true(&failure) {
                return Err(failure.in_doubt(id));
            }
            // What the journal knows is true whether the bank can be reached or not; the balance is for those who
            // show their PIN.
            return Ok(Receipt { balance: None, when: When::BeforeUnasked, ..Receipt::of(&record) });
        }
        let message = format!(
            "{}; transaction {id} was sent before, so its outcome is not told. What to do next: run the same command \
             again with the right PIN",
            failure.message
        );
        Err(Failure { exit: Exit::Unknown, message, assurance: "", ..failure }.about(id))
    }

    /// Somebody ended the program. The journal is as if it had been killed; what it says is told before it goes.
    pub(crate) fn stopped(&self, order: &Order, when: When) -> Result<Receipt, Failure> {
        let Order { intent, id_given } = order;
        let id = intent.id;
        let record = self.journal.find(id).map_err(|error| journal_after(&error, id))?;
        let Some(record) = record.filter(|record| !record.may_begin_again()) else {
            let message = format!("stopped by a signal before transaction {id} began");
            let failure =
                Failure::new(Exit::Unavailable, INTERRUPTED, message).assuring("nothing of it was sent");
            return Err(if *id_given { failure.in_doubt(id) } else { failure.about(id) });
        };
        if let Some(field) = intent.difference(&record.intent) {
            return Err(id_reused(id, &format!("its {field} differs")));
        }
        self.screen.error("stopped by a signal");
        let receipt = Receipt { balance: None, when, ..Receipt::of(&record) };
        let reason =
            receipt.reason.or_else(|| (receipt.status == Status::Unknown).then(|| INTERRUPTED.to_owned()));
        Ok(Receipt { reason, ..receipt })
    }

    /// The only attempt was refused at the door. No other copy of it was, or ever will be, let in once the fence is
    /// acknowledged; then the refusal is the answer. A copy that was let in before ended in a way that counts instead.
    async fn turned_away(
        &mut self,
        id: TransactionId,
        failure: Failure,
        deadline: Deadline,
    ) -> Result<Receipt, Failure> {
        let reason = failure.reason.to_owned();
        if planted(Bug::RefusalNeedsNoFence) {
            self.close(id, &Event::Refused { reason }, deadline).await?;
            return Err(failure);
        }
        let ended = self.finish(id, &Event::GivenUp { reason }, deadline).await;
        let receipt = ended.map_err(|error| journal_after(&error, id))?;
        if receipt.status == Status::Cancelled { Err(failure) } else { Ok(receipt) }
    }

    /// From the first answer, or the lack of one, to the end.
    async fn finish(
        &mut self,
        id: TransactionId,
        event: &Event,
        deadline: Deadline,
    ) -> Result<Receipt, JournalError> {
        let mut record = self.journal.apply(id, event)?;
        if record.state == State::Authorized {
            record = self.dispense(&record)?;
        }
        let record = self.settle(record, self.at_least_grace(deadline)).await?;
        Ok(Receipt::of(&record))
    }

    /// The id was begun here before: finish what is open and say how it stands. Nothing is dispensed.
    async fn resume(&mut self, record: Record, deadline: Deadline) -> Result<Receipt, Failure> {
        let id = record.id();
        let record = self.settle(record, deadline).await.map_err(|error| journal_after(&error, id))?;
        match (record.ending, &record.reason) {
            // The first answer, repeated.
            (Some(Ending::Refused), Some(reason)) if reason == "id_reused" => {
                Err(id_reused(id, "it belongs to another transaction"))
            }
            _ => Ok(Receipt { when: When::Before, ..Receipt::of(&record) }),
        }
    }

    /// What a machine does that looks at the outcome, which is frozen, and not at where the transaction stands. Only a
    /// planted bug calls it.
    async fn pay_out_on_a_repeat(
        &mut self,
        session: &Session,
        record: &Record,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let answer = self.send(session, &record.intent, deadline).await;
        if answer.is_ok_and(|answer| answer.outcome.state() == TransactionState::Held) {
            self.pay_out_again(record).map_err(|error| journal_after(&error, record.id()))?;
        }
        Ok(())
    }

    /// A machine that does not know how a card's last transaction ended pays out nothing on that card.
    fn refuse_while_another_is_open(&self, intent: &Intent) -> Result<(), Failure> {
        let open = self.journal.open_transactions().map_err(|error| journal_before(&error))?;
        let other = open.iter().find(|record| {
            record.intent.card.tag == intent.card.tag && record.state.plan() != Plan::Operator
        });
        other.map_or(Ok(()), |other| {
            let message = format!(
                "an earlier {} of this card, {}, is still {}; nothing was dispensed. Try again, or run `atm-cli \
                 recover`",
                other.intent.kind,
                other.id(),
                other.state
            );
            Err(Failure::new(Exit::Unavailable, "earlier_open", message))
        })
    }

    /// The first, and any repeated, sending of an intent: same id, same fields.
    pub(super) async fn send(
        &self,
        session: &Session,
        intent: &Intent,
        deadline: Deadline,
    ) -> Result<Answer, RetryError> {
        let (id, amount) = (intent.id, intent.amount);
        match intent.kind {
            Kind::Withdrawal => self.bank.authorize(session, id, amount, deadline).await,
            Kind::Deposit => self.bank.deposit(session, id, amount, deadline).await,
            Kind::Transfer => {
                let to = intent.to_account.as_deref().unwrap_or_default();
                self.bank.transfer(session, id, amount, to, deadline).await
            }
        }
    }

    /// It ended before it began; what was paid in goes back.
    async fn close(&mut self, id: TransactionId, event: &Event, deadline: Deadline) -> Result<(), Failure> {
        let after = |error: JournalError| journal_after(&error, id);
        let record = self.journal.apply(id, event).map_err(after)?;
        self.settle(record, deadline).await.map_err(after)?;
        Ok(())
    }
}

/// A hold that is about to end is not dispensed on. The time is this machine's monotonic time since it sent the
/// first attempt, so the hold is at most that old.
fn still_fresh(event: Event, answer: &Answer, sent: Instant) -> Event {
    let lifetime = judge::hold_lifetime(&answer.outcome);
    let over = lifetime.is_none_or(|lifetime| sent.elapsed() >= lifetime.saturating_sub(LIFETIME_MARGIN));
    match event {
        Event::Held { .. } if over => Event::GivenUp { reason: "hold_too_old".to_owned() },
        event => event,
    }
}

pub(super) fn id_reused(id: TransactionId, how: &str) -> Failure {
    let message = format!("transaction id {id} was used before for something else ({how}); nothing happened");
    Failure::new(Exit::WrongUse, "id_reused", message).about(id)
}

fn refused(exit: Exit, reason: &'static str, message: &str) -> Failure {
    Failure::new(exit, reason, format!("the bank refused it, and nothing happened: {message}"))
}

fn not_sent(error: &RetryError) -> Failure {
    Failure::unavailable(format!(
        "the bank cannot be reached ({}): nothing was sent, nothing happened",
        attempts(error)
    ))
}

/// Whether a bug is planted that takes no answer for a yes.
fn believes_silence(intent: &Intent) -> bool {
    planted(Bug::NoAnswerIsAYes) && intent.kind == Kind::Withdrawal
}
