//! What operators do at the opened machine: cash that they move or count, and suspects that they decide.
//!
//! A movement is journaled first, under an id of its own; then the device is told under the same id, which it obeys
//! once; then the bank, until it has said yes. Whatever dies in between, the next command of the machine tells the
//! device, and the next one that has the operators' token tells the bank. A decision goes the other way round: the bank
//! records it first, because only one decision can stand and the bank is where it is made; then the journal ends the
//! withdrawal. If that is missed, a repeat does it, or `recover`, which asks the bank.

use atm_proto::types::TransactionState;
use atm_types::Money;
use tonic::Code;

use super::{Machine, journal_before, judge};
use crate::client::AdminClient;
use crate::device::{Bin, Notes, PresentStatus, denominations};
use crate::exit::{Exit, Failure};
use crate::journal::{Account, JournalError, Movement, Outage, Record, State};

/// What the bank knows now of what operators moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Posted in this run.
    pub(crate) posted: Vec<Movement>,
    /// The bank will not post these, and why.
    pub(crate) refused: Vec<(Movement, String)>,
    /// No answer: the first of those that are still to be told, and why.
    pub(crate) silent: Option<(Movement, String)>,
}

impl Machine {
    /// Whether another start took this one's place, as far as it knows.
    pub(crate) fn is_fenced_off(&self) -> Result<bool, JournalError> {
        Ok(self.journal.status()?.outage == Some(Outage::FencedOff))
    }

    /// Whether operators may work at this machine: it has a name in the books, and its own device.
    pub(crate) fn check_for_operators(&mut self) -> Result<(), Failure> {
        let status = self.journal.status().map_err(|error| journal_before(&error))?;
        if status.enrolled_as.is_none() {
            return Err(Failure::new(
                Exit::Unavailable,
                "not_enrolled",
                "this machine has no name in the books yet: the first right PIN enrols it. Nothing was done",
            ));
        }
        self.check_name(status.enrolled_as.as_deref())?;
        self.check_device()
    }

    /// Writes a movement of the operators' down and does it in the device.
    pub(crate) fn move_by_operators(&mut self, movement: &Movement) -> Result<(), JournalError> {
        self.journal.make_room()?;
        self.journal.move_cash(movement)?;
        self.finish_exchanges()
    }

    /// Movements of the operators' that are in the journal and may not be done in the device yet. Needs no bank.
    pub(crate) fn finish_exchanges(&mut self) -> Result<(), JournalError> {
        if !self.device_is_ours {
            return Ok(());
        }
        for movement in self.journal.operators_movements()? {
            let id = movement.id.as_uuid();
            match (movement.from, movement.to) {
                (Account::Vault, Account::Cassettes) => self.device.load(id, &movement.notes)?,
                // What a count found is what the journal expects from then on, and only of what was counted.
                (place, Account::Suspense) | (Account::Suspense, place) => {
                    let (expected, _) = self.journal.expected()?.notes(place).apart();
                    let counted = self.counted(place)?;
                    let of = |denomination| match movement.notes.of(denomination) {
                        0 => counted.of(denomination),
                        _ => expected.of(denomination),
                    };
                    let all = denominations(self.currency);
                    let target = all.map(|denomination| (denomination, of(denomination))).collect();
                    self.set_counter(id, place, &target)?;
                }
                (place, Account::Vault) if self.counted(place)? == movement.notes => {
                    if let Some(bin) = bin(place) {
                        self.device.unload(id, bin)?;
                    }
                }
                (place, Account::Vault) => {
                    let left = self.counted(place)?.less(&movement.notes).unwrap_or_default();
                    self.set_counter(id, place, &left)?;
                }
                (
                    Account::Vault
                    | Account::Cassettes
                    | Account::Reject
                    | Account::Retract
                    | Account::Deposit,
                    _,
                ) => {}
            }
        }
        Ok(())
    }

    /// Sets what the device counts in a place, once for each id.
    pub(crate) fn set_counter(
        &mut self,
        id: uuid::Uuid,
        place: Account,
        counted: &Notes,
    ) -> Result<(), JournalError> {
        match bin(place) {
            Some(bin) => Ok(self.device.recount(id, bin, counted).map(drop)?),
            None => Ok(()),
        }
    }

    /// Tells the bank of everything that operators moved and that it does not know, oldest first.
    pub(crate) async fn tell_for_operators(&mut self, admin: &AdminClient) -> Result<Told, JournalError> {
        self.finish_loads()?;
        let mut told = Told::default();
        for movement in self.journal.operators_movements()? {
            let refused = match admin.move_cash(self.bank.atm_id(), &movement).await {
                Ok(outcome) if outcome.state() == TransactionState::Posted => {
                    self.journal.saw(outcome.commit_sequence);
                    None
                }
                Ok(outcome) if outcome.state() == TransactionState::Declined => {
                    Some(judge::decline_reason(&outcome))
                }
                Ok(_) => Some("unexpected_answer".to_owned()),
                Err(error) => match error.status.code() {
                    code @ (Code::AlreadyExists | Code::InvalidArgument) => {
                        Some(format!("movement_refused_{}", judge::code_name(code)))
                    }
                    // The next one would not be answered either.
                    code => {
                        told.silent = Some((movement, judge::code_name(code)));
                        return Ok(told);
                    }
                },
            };
            self.journal.end_movement(&movement, refused.as_deref())?;
            match refused {
                None => told.posted.push(movement),
                Some(reason) => told.refused.push((movement, reason)),
            }
        }
        Ok(told)
    }

    /// What the device counts in a place.
    pub(crate) fn counted(&self, place: Account) -> Result<Notes, JournalError> {
        let units = self.device.cash_units()?;
        Ok(match place {
            Account::Cassettes => units.cassettes,
            Account::Reject => units.reject,
            Account::Retract => units.retract,
            Account::Deposit => units.deposit,
            Account::Vault | Account::Suspense => Notes::none(),
        })
    }

    /// The bank knows how a suspect was decided: it ends here as well, and the device says where its notes are. What
    /// the device lost and a person found in `found_in` is counted there from now on.
    pub(crate) fn end_suspect(
        &mut self,
        record: &Record,
        amount: Money,
        found_in: Option<Account>,
    ) -> Result<Record, JournalError> {
        if record.state != State::Suspect {
            return Ok(record.clone());
        }
        let (event, mut movements) = self.resolved(record, amount)?;
        if let Some(place) = found_in
            && movements.is_empty()
            && let Some(lost) = self.lost(record)?
        {
            let mut there = self.counted(place)?;
            there.add_all(&lost);
            // Under the withdrawal's own id, so that a repeat counts them once.
            self.set_counter(record.id().as_uuid(), place, &there)?;
            if place != Account::Cassettes {
                let id = self.ids.transaction_id();
                let places = (Account::Cassettes, place);
                movements.push(Movement::new(id, places, &lost, self.currency, Some(record.id())));
            }
        }
        self.journal.apply_with(record.id(), &event, &movements)
    }

    /// The notes that the device lost track of, if it did.
    fn lost(&self, record: &Record) -> Result<Option<Notes>, JournalError> {
        let Some(id) = record.dispense_id.filter(|_| self.device_is_ours) else { return Ok(None) };
        let lost = self.device.recall(id)?.filter(|dispense| dispense.status() == PresentStatus::Unknown);
        Ok(lost.map(|dispense| dispense.stacked))
    }
}

/// The bin of a place that has one.
fn bin(place: Account) -> Option<Bin> {
    match place {
        Account::Cassettes => Some(Bin::Cassettes),
        Account::Reject => Some(Bin::Reject),
        Account::Retract => Some(Bin::Retract),
        Account::Deposit => Some(Bin::Deposit),
        Account::Vault | Account::Suspense => None,
    }
}
