//! Signing on: the bank is told which start of the machine this is, before anything else is.
//!
//! Of two machines with the same disk, or with a disk and its older copy, only the one that signed on last goes on;
//! the other is refused, and must not even cancel: it may not know that notes are being presented. The
//! answer also tells how far the ledger's order of commits has come. If that is less than this machine has seen, or if
//! the bank does not know any more what it acknowledged to this machine last, the ledger was restored from an older
//! backup, and nothing is paid out until it was told again what it forgot.

use atm_proto::gateway::SignOnResponse;
use atm_rpc::deadline::Deadline;
use tonic::Code;

use super::{Machine, journal_before, judge};
use crate::client::{STALE_BOOT, read_failure, terminal_mismatch};
use crate::exit::{Exit, Failure};
use crate::journal::{Boot, JournalError, Outage};

impl Machine {
    /// Signs on for a command that brings new business: also fails while the machine is out of service.
    pub(crate) async fn sign_on_for_business(&mut self, deadline: Deadline) -> Result<(), Failure> {
        self.sign_on(deadline).await?;
        let status = self.journal.status().map_err(|error| journal_before(&error))?;
        match status.outage {
            Some(Outage::BankWentBack) => Err(bank_went_back()),
            Some(Outage::FencedOff) => Err(fenced_off()),
            None => self.check_name(status.enrolled_as.as_deref()),
        }
    }

    /// Signs on. Only then may anything be sent. Afterwards the machine may still be out of service.
    ///
    /// A machine that is fenced off asks all the same: the bank alone decides which start goes on, and its operators
    /// may have decided anew, for instance after the bank itself had lost what it knew of this machine.
    pub(crate) async fn sign_on(&mut self, deadline: Deadline) -> Result<(), Failure> {
        let status = self.journal.status().map_err(|error| journal_before(&error))?;
        let bound = self.sign_on_once(deadline).await?;
        // A start that was left over has the same id on every copy of the disk, and each of them may repeat it. Of the
        // starts that follow it only one is let in.
        if bound && status.pending.is_some() {
            self.sign_on_once(deadline).await?;
        }
        Ok(())
    }

    /// Signs on with the start that is pending, or with a new one. Whether the bank recorded it, which it does once the
    /// name is bound to this machine.
    async fn sign_on_once(&mut self, deadline: Deadline) -> Result<bool, Failure> {
        let outage = self.journal.status().map_err(|error| journal_before(&error))?.outage;
        let boot = self.journal.boot(self.ids.uuid_v7()).map_err(|error| journal_before(&error))?;
        match self.bank.sign_on(boot, deadline).await {
            Ok(answer) => {
                self.check_currency(&answer)?;
                let remembers = self.is_remembered(deadline).await?;
                self.signed_on(boot, outage, &answer, remembers).map_err(|error| journal_before(&error))?;
                Ok(answer.bound)
            }
            Err(error) => match error.status.code() {
                Code::FailedPrecondition
                    if atm_rpc::status::reason(&error.status).as_deref() == Some(STALE_BOOT) =>
                {
                    self.go_out_of_service(outage, Outage::FencedOff)
                        .map_err(|error| journal_before(&error))?;
                    Err(fenced_off())
                }
                _ if outage == Some(Outage::FencedOff) => Err(fenced_off()),
                Code::PermissionDenied => Err(terminal_mismatch()),
                _ => Err(read_failure(&error)),
            },
        }
    }

    /// Whether the bank still knows what it acknowledged to this machine last. A ledger that was restored from an
    /// older backup has forgotten the newest first; other machines may have made its order of commits longer again
    /// than this one has ever seen it.
    async fn is_remembered(&self, deadline: Deadline) -> Result<bool, Failure> {
        let last = self.journal.last_acknowledged().map_err(|error| journal_before(&error))?;
        let Some((id, event)) = last else { return Ok(true) };
        match self.bank.transaction(None, id, deadline).await {
            Ok(found) => Ok(judge::remembers(&event, found.current_state())),
            Err(error) if error.status.code() == Code::NotFound => Ok(false),
            Err(error) => Err(read_failure(&error)),
        }
    }

    /// The bank let a customer in at this start, which it has recorded by then at the latest.
    pub(crate) fn let_in(&mut self) -> Result<(), JournalError> {
        self.journal.booted()
    }

    /// The bank let this start in; whether it remembers what this machine was told.
    ///
    /// A start counts once the bank has recorded it. Until then every start is the same one: if each had an id of its
    /// own, a copy of an early one that a network delivers late could be the first that the bank records, and the
    /// machine would be fenced off by its own past.
    fn signed_on(
        &mut self,
        boot: Boot,
        outage: Option<Outage>,
        answer: &SignOnResponse,
        remembers: bool,
    ) -> Result<(), JournalError> {
        let head = answer.commit_sequence;
        if answer.bound {
            self.journal.booted()?;
        }
        self.boot = Some(boot);
        if outage == Some(Outage::FencedOff) {
            self.journal.serve_again(self.journal.seen(), 0)?;
        }
        if head < self.journal.seen() || !remembers {
            return self.journal.go_out_of_service(Outage::BankWentBack);
        }
        self.journal.saw(head);
        // What ended long ago may still be all that a bank which went back can learn it from.
        if outage.is_none() { self.journal.forget() } else { Ok(()) }
    }

    /// A bank that went back has to be told again, whatever else happens until then.
    fn go_out_of_service(&mut self, before: Option<Outage>, outage: Outage) -> Result<(), JournalError> {
        match before {
            Some(Outage::BankWentBack) => Ok(()),
            Some(Outage::FencedOff) | None => self.journal.go_out_of_service(outage),
        }
    }

    /// Cash in another currency than the bank's must not be counted as the bank's.
    fn check_currency(&self, answer: &SignOnResponse) -> Result<(), Failure> {
        if answer.currency_code == self.currency.code() {
            return Ok(());
        }
        let message = format!(
            "the bank works in {}, and the notes in this machine are {}",
            answer.currency_code, self.currency
        );
        Err(Failure::new(Exit::WrongUse, "other_currency", message))
    }

    /// A machine's cash is booked under the name under which it was enrolled.
    pub(super) fn check_name(&self, enrolled_as: Option<&str>) -> Result<(), Failure> {
        match enrolled_as {
            Some(name) if name != self.bank.atm_id() => {
                let message = format!("this machine was enrolled as {name}; it keeps its --atm-id");
                Err(Failure::new(Exit::WrongUse, "enrolled_as_another", message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The reason of a failure of a machine whose place another start took.
pub(super) const FENCED_OFF: &str = "fenced_off";

/// Whether what the journal says of the past holds, although the machine is kept out for this reason: not when the bank
/// has forgotten a part of it, nor when the machine goes on with another disk.
pub(super) fn leaves_the_journal_true(failure: &Failure) -> bool {
    failure.reason != FENCED_OFF && failure.reason != Outage::BankWentBack.name()
}

/// Until the bank's operators decide otherwise, nothing that this disk says may be believed.
pub(super) fn fenced_off() -> Failure {
    Failure::new(
        Exit::Unavailable,
        FENCED_OFF,
        "this machine is fenced off: another machine with the same disk, or with a newer copy of it, took its place. \
         Do not use this state directory any more: go on with the newer one, or count this \
         machine's cash and start with a new state directory",
    )
    .assuring("nothing was sent")
}

/// Until `recover`.
pub(super) fn bank_went_back() -> Failure {
    Failure::new(
        Exit::Unavailable,
        "bank_went_back",
        "the bank was restored from an older backup and has forgotten what this machine has seen: out of service. \
         Nothing was paid out. Run `atm-cli recover`, which tells the bank again what it forgot",
    )
}
