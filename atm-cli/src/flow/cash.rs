//! Everything that the flows say to the cash device, and what its answers mean for a transaction.
//!
//! The device is right about cash. What it answers becomes one event in the journal together with the cash
//! movements that follow from it, so that the books learn of every note that changed its place, once.

use atm_faults::{Bug, planted};
use atm_types::{Currency, Money};

use super::Machine;
use crate::crash::crash_point;
use crate::device::{self, CannotPay, Dispense, Found, Notes, PresentStatus, Step};
use crate::exit::{Exit, Failure};
use crate::journal::{Account, Event, JournalError, Kind, Movement, PaidIn, Record};

/// An event and the cash that moved by it.
pub(super) type Happened = (Event, Vec<Movement>);

impl Machine {
    /// The notes of an amount, or why there are none: nothing was sent yet, and nothing will be. Transfers need none.
    pub(crate) fn notes_for(&self, kind: Kind, amount: Money) -> Result<Notes, Failure> {
        if kind != Kind::Transfer && amount.currency() != self.currency {
            let message = format!("the notes in this machine are {}", self.currency);
            return Err(Failure::new(Exit::WrongUse, "other_currency", message));
        }
        if kind != Kind::Transfer {
            self.check_device_is_ours()?;
        }
        match kind {
            Kind::Transfer => Ok(Notes::none()),
            Kind::Deposit => Notes::counted_in(amount).ok_or_else(|| cannot_be_paid_in(amount)),
            Kind::Withdrawal => {
                let cassettes = self.cassettes().map_err(|error| super::journal_before(&error))?;
                device::plan(&cassettes, amount.minor_units()).map_err(|nearest| cannot_pay(amount, nearest))
            }
        }
    }

    /// What another device has in its cassettes is not this machine's to pay out.
    fn check_device_is_ours(&self) -> Result<(), Failure> {
        if self.device_is_ours {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Unavailable,
            "other_device",
            "this is not the cash device that the journal belongs to; put its dispenser.sqlite3 back",
        )
        .assuring("nothing was sent"))
    }

    /// What is in the cassettes, or will be once a new machine is enrolled.
    fn cassettes(&self) -> Result<Notes, JournalError> {
        if self.journal.status()?.enrolled_as.is_none() {
            return Ok(device::first_load(self.currency));
        }
        Ok(self.device.cash_units()?.cassettes)
    }

    /// Makes sure that the device may be used for new business.
    pub(super) fn check_device(&mut self) -> Result<(), Failure> {
        self.check_device_is_ours()?;
        if self.device.has_room() { Ok(()) } else { Err(super::journal_before(&JournalError::NoRoom)) }
    }

    /// Pays out what the ledger holds. Only ever called in the run that wrote the INTENT, right after the
    /// ledger's answer: a restart in between finds AUTHORIZED, which is cancelled.
    pub(super) fn dispense(&mut self, record: &Record) -> Result<Record, JournalError> {
        let id = record.id();
        let cassettes = self.device.cash_units()?.cassettes;
        let Ok(plan) = device::plan(&cassettes, record.intent.amount.minor_units()) else {
            return self.journal.apply(id, &Event::GivenUp { reason: "notes_ran_out".to_owned() });
        };
        let dispense_id = self.ids.uuid_v7();
        let begun = Event::DispenseBegun { dispense_id, plan: plan.clone(), cassettes };
        let record = self.journal.apply(id, &begun)?;
        crash_point!("BEFORE_DISPENSE");
        let stacked = self.device.dispense(dispense_id, &plan)?;
        crash_point!("DISPENSED");
        if stacked.step == Step::Stacked {
            crash_point!("BEFORE_PRESENT");
            self.device.present(dispense_id)?;
            crash_point!("PRESENT_ANSWERED");
        }
        let (event, movements) = self.ask_device(&record)?;
        self.journal.apply_with(id, &event, &movements)
    }

    /// What the device says of a dispense, whether it was told just now or before a crash. What it did not present
    /// goes to the reject bin first, so that it can never come out.
    pub(super) fn ask_device(&mut self, record: &Record) -> Result<Happened, JournalError> {
        let Some(id) = record.dispense_id.filter(|_| self.device_is_ours) else {
            return Ok((Event::PresentationUnknown, Vec::new()));
        };
        let Some(dispense) = self.device.recall(id)? else {
            return Ok((Event::NotPresented, Vec::new()));
        };
        let event = match dispense.status() {
            PresentStatus::NotPresented if planted(Bug::SuspectWithoutDoubt) => Event::PresentationUnknown,
            PresentStatus::NotPresented => {
                crash_point!("BEFORE_REJECT");
                let dispense = self.device.reject(id)?;
                crash_point!("REJECT_ANSWERED");
                return Ok((Event::NotPresented, self.to_reject_bin(record, &dispense)));
            }
            PresentStatus::Presented => {
                let as_planned = planted(Bug::PlanIsTakenForPresented);
                let notes = if as_planned { &dispense.planned } else { &dispense.presented };
                Event::Presented { amount: notes.worth(self.currency) }
            }
            PresentStatus::Unknown => Event::PresentationUnknown,
        };
        Ok((event, self.to_reject_bin(record, &dispense)))
    }

    /// What a machine does that takes no answer for no cash. Only a planted bug calls it.
    pub(super) fn pay_out_again(&mut self, record: &Record) -> Result<(), JournalError> {
        let dispense = record.dispense_id.map(|id| self.device.recall(id)).transpose()?.flatten();
        if let Some(earlier) = dispense.filter(|earlier| earlier.status() != PresentStatus::NotPresented) {
            let again = self.ids.uuid_v7();
            self.device.dispense(again, &earlier.planned)?;
            self.device.present(again)?;
        }
        Ok(())
    }

    /// What the customer took of what was presented.
    pub(super) fn collect(&mut self, record: &Record) -> Result<Happened, JournalError> {
        let nothing = Event::CaptureBegun { retracted: Money::zero(self.currency) };
        let Some(id) = record.dispense_id.filter(|_| self.device_is_ours) else {
            return Ok((Event::RetractUncounted, Vec::new()));
        };
        // Before there was a device, presented meant taken.
        if self.device.recall(id)?.is_none() {
            return Ok((nothing, Vec::new()));
        }
        crash_point!("BEFORE_COLLECT");
        let dispense = self.device.collect(id)?;
        crash_point!("COLLECTED");
        if dispense.step != Step::Retracted {
            return Ok((nothing, Vec::new()));
        }
        if !dispense.counted {
            return Ok((Event::RetractUncounted, Vec::new()));
        }
        let back = self.moved(record, Account::Retract, &dispense.retracted);
        if planted(Bug::RetractIsNotSubtracted) {
            return Ok((nothing, back));
        }
        Ok((Event::CaptureBegun { retracted: dispense.retracted.worth(self.currency) }, back))
    }

    /// A person decided at the bank; what is found when the device is opened moves in the books as well.
    pub(super) fn resolved(&mut self, record: &Record, amount: Money) -> Result<Happened, JournalError> {
        let found = match record.dispense_id.filter(|_| self.device_is_ours) {
            Some(id) if self.device.recall(id)?.is_some() => self.device.look(id)?,
            Some(_) | None => Found::default(),
        };
        let mut movements = self.moved(record, Account::Reject, &found.rejected);
        movements.extend(self.moved(record, Account::Retract, &found.retracted));
        Ok((Event::Resolved { amount }, movements))
    }

    /// Counts what the customer pays in, into escrow.
    pub(super) fn count_in(&mut self, notes: Notes) -> Result<PaidIn, JournalError> {
        let paid_in = PaidIn { cash_in_id: self.ids.uuid_v7(), notes };
        crash_point!("BEFORE_CASH_IN");
        self.device.cash_in(paid_in.cash_in_id, &paid_in.notes)?;
        crash_point!("CASH_COUNTED_IN");
        Ok(paid_in)
    }

    /// Hands back what was counted in.
    pub(super) fn hand_back(&mut self, paid_in: &PaidIn) -> Result<(), JournalError> {
        Ok(self.device.roll_back(paid_in.cash_in_id)?)
    }

    /// Stores the notes of a deposit that the bank has credited.
    ///
    /// Another device has none of them: that waits until the machine's own one is back.
    pub(super) fn stack(&mut self, record: &Record) -> Result<Option<Event>, JournalError> {
        if let Some(id) = record.cash_in_id {
            if !self.device_is_ours {
                return Ok(None);
            }
            self.device.store(id)?;
        }
        Ok(Some(Event::Stacked))
    }

    /// Hands back the notes of a deposit that the bank will never credit.
    pub(super) fn give_back(&mut self, record: &Record) -> Result<Option<Event>, JournalError> {
        if let Some(id) = record.cash_in_id {
            if !self.device_is_ours {
                return Ok(None);
            }
            self.device.roll_back(id)?;
        }
        Ok(Some(Event::Returned))
    }

    /// Notes in escrow that no transaction speaks of were counted in by a start that died before their INTENT: they
    /// are still the customer's. What another device has in escrow is for its own machine to say.
    pub(crate) fn clear_escrow(&mut self) -> Result<(), JournalError> {
        if !self.device_is_ours {
            return Ok(());
        }
        let Some(escrow) = self.device.escrow()? else { return Ok(()) };
        let open = self.journal.open_transactions()?;
        if !open.iter().any(|record| record.cash_in_id == Some(escrow.id)) {
            self.device.roll_back(escrow.id)?;
            let worth = escrow.notes.worth(self.currency);
            self.screen.note(&format!("{worth} was in escrow for nobody and was handed back."));
        }
        Ok(())
    }

    fn to_reject_bin(&self, record: &Record, dispense: &Dispense) -> Vec<Movement> {
        self.moved(record, Account::Reject, &dispense.rejected)
    }

    /// Notes that left the cassettes for a bin; none at all are no movement.
    fn moved(&self, record: &Record, to: Account, notes: &Notes) -> Vec<Movement> {
        if notes.is_empty() || planted(Bug::BinsAreNotTold) {
            return Vec::new();
        }
        let id = self.ids.transaction_id();
        vec![Movement::new(id, (Account::Cassettes, to), notes, self.currency, Some(record.id()))]
    }
}

fn cannot_pay(amount: Money, nearest: CannotPay) -> Failure {
    cannot(&format!("{amount} cannot be paid in the notes of this machine"), amount.currency(), nearest)
}

fn cannot_be_paid_in(amount: Money) -> Failure {
    // The smallest piece is one major unit.
    let unit = device::denominations(amount.currency()).last().unwrap_or(1);
    if amount.minor_units() % unit == 0 {
        let message = format!("{amount} is more than this machine can count");
        return Failure::new(Exit::WrongUse, "amount_not_payable", message).assuring("nothing was sent");
    }
    let below = amount.minor_units() - amount.minor_units() % unit;
    let nearest = CannotPay { below: (below > 0).then_some(below), above: below.checked_add(unit) };
    cannot(&format!("there are no notes and coins for {amount}"), amount.currency(), nearest)
}

fn cannot(what: &str, currency: Currency, nearest: CannotPay) -> Failure {
    let money = |units| Money::new(units, currency);
    let instead = match (nearest.below.map(money), nearest.above.map(money)) {
        (Some(below), Some(above)) => format!("the nearest amounts are {below} and {above}"),
        (Some(one), None) | (None, Some(one)) => format!("the nearest amount is {one}"),
        (None, None) => "its cassettes are empty".to_owned(),
    };
    Failure::new(Exit::WrongUse, "amount_not_payable", format!("{what}: {instead}. Nothing was sent"))
}
