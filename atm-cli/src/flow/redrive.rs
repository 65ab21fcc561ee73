//! A bank that was restored from an older backup is told again everything that this machine's journal still keeps.
//!
//! Everything is sent under its old id, so what the bank still knows is answered and nothing happens twice. Captures
//! and suspensions carry the ledger's own signed authorization and are recorded although the hold is forgotten;
//! cancels become tombstones; cash movements are posted anew. A deposit or transfer that was forgotten cannot be
//! repeated without its customer, so it becomes SUSPECT and a person must see to it. The machine serves again only
//! when all of it was answered.

use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use tonic::Code;

use super::movements::Told;
use super::{Machine, judge};
use crate::journal::{Ending, Event, JournalError, Kind, MovementState, Outage, Record, State};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redriven {
    /// Told again, and answered.
    pub(crate) told: usize,
    /// Answered in a way that a person must look into.
    pub(crate) alarms: usize,
    /// Not answered: the machine stays out of service.
    pub(crate) silent: usize,
}

/// What one transaction came to.
enum Ended {
    Told,
    Alarm(String),
    Silent,
}

impl Machine {
    /// Whether the bank has to be told again.
    pub(crate) fn must_redrive(&self) -> Result<bool, JournalError> {
        Ok(self.journal.status()?.outage == Some(Outage::BankWentBack))
    }

    /// Tells the bank again and, if it answered everything, puts the machine back into service. What is open must
    /// have been settled before.
    pub(crate) async fn redrive(&mut self, time: std::time::Duration) -> Result<Redriven, JournalError> {
        let mut redriven = Redriven::default();
        self.redrive_movements(time, &mut redriven).await?;
        for record in self.journal.all_transactions()? {
            if redriven.silent > 0 {
                break;
            }
            match self.redrive_one(&record, Deadline::after(time)).await? {
                Ended::Told => redriven.told += 1,
                Ended::Alarm(why) => {
                    redriven.alarms += 1;
                    self.screen.alarm(&format!("{}: {why}; a person must look", record.id()));
                }
                Ended::Silent => redriven.silent += 1,
            }
        }
        if redriven.silent == 0 {
            let answer = match self.boot {
                Some(boot) => self.bank.sign_on(boot, Deadline::after(time)).await.ok(),
                None => None,
            };
            match answer {
                Some(answer) => self.journal.serve_again(answer.commit_sequence, redriven.alarms)?,
                None => redriven.silent += 1,
            }
        }
        Ok(redriven)
    }

    /// Tells the bank again of all cash movements. They come before all else, also before what is open is settled:
    /// they open the machine's accounts again, which a capture needs and cannot open.
    pub(crate) async fn redrive_movements(
        &mut self,
        time: std::time::Duration,
        redriven: &mut Redriven,
    ) -> Result<(), JournalError> {
        self.finish_loads()?;
        for movement in self.journal.all_movements()? {
            if redriven.silent > 0 {
                break;
            }
            match movement.state {
                MovementState::Refused | MovementState::OperatorPending => continue,
                MovementState::OperatorPosted => {
                    self.journal.tell_again(&movement)?;
                    continue;
                }
                MovementState::Pending | MovementState::Posted => {}
            }
            match self.tell(&movement, Deadline::after(time)).await {
                Told::Posted => redriven.told += 1,
                Told::Refused(_) => redriven.alarms += 1,
                Told::Silence => redriven.silent += 1,
            }
        }
        Ok(())
    }

    async fn redrive_one(&mut self, record: &Record, deadline: Deadline) -> Result<Ended, JournalError> {
        let (id, authorization) = (record.id(), record.authorization.clone());
        let answer = match (record.state, record.intent.kind) {
            (State::Done, Kind::Deposit | Kind::Transfer) => {
                return self.redrive_posting(record, deadline).await;
            }
            (State::Done, Kind::Withdrawal) => {
                self.bank.capture(id, record.taken(), authorization, deadline).await
            }
            (State::Suspect, Kind::Withdrawal) => self.bank.suspend(id, authorization, deadline).await,
            (State::Voided, _) if record.ending != Some(Ending::NotSent) => {
                self.bank.cancel(id, deadline).await
            }
            (State::Voided | State::Suspect, _) => return Ok(Ended::Told),
            // Still open: settling it tells the bank everything, and did not come to an end.
            (
                State::Intent
                | State::Authorized
                | State::Dispensing
                | State::Presented
                | State::CapturePending
                | State::VoidPending
                | State::SuspendPending
                | State::StackPending
                | State::ReturnPending,
                _,
            ) => return Ok(Ended::Silent),
        };
        Ok(match answer {
            Ok(answer) if moved_although_voided(record, &answer.current_state) => {
                Ended::Alarm("the bank says that money moved which was never paid out".to_owned())
            }
            Ok(answer) if answer.current_state == TransactionState::Suspect && record.resolved.is_some() => {
                Ended::Alarm(
                    "the bank has forgotten what a person decided about it: decide it again".to_owned(),
                )
            }
            Ok(_) => Ended::Told,
            Err(error) => match error.status.code() {
                code @ (Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound) => {
                    Ended::Alarm(format!("the bank refuses it ({})", judge::code_name(code)))
                }
                _ => Ended::Silent,
            },
        })
    }

    /// Only its customer could repeat a posting, so this one asks whether it is still known.
    async fn redrive_posting(&mut self, record: &Record, deadline: Deadline) -> Result<Ended, JournalError> {
        match self.bank.transaction(None, record.id(), deadline).await {
            Ok(found) if found.current_state() == TransactionState::Posted => Ok(Ended::Told),
            Err(error) if error.status.code() != Code::NotFound => Ok(Ended::Silent),
            Ok(_) | Err(_) => {
                self.journal.apply(record.id(), &Event::Lost { reason: "bank_forgot_it".to_owned() })?;
                Ok(Ended::Alarm(format!("the bank has forgotten this {}", record.intent.kind)))
            }
        }
    }
}

fn moved_although_voided(record: &Record, state: &TransactionState) -> bool {
    record.state == State::Voided
        && record.resolved.is_none()
        && matches!(
            state,
            TransactionState::Posted | TransactionState::Captured | TransactionState::CapturedLate
        )
}
