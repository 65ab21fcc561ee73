//! Situations that matter: a checker that never saw one of them proves nothing about it.

use std::collections::BTreeMap;
use std::time::Duration;

use atm_ledger_core::{Action, DeclineReason};

use crate::evidence::{AttemptRow, Call, CountChange, LogLine, Told};
use crate::world::{Host, Outcome};

/// Gives each situation its name and a sentence.
macro_rules! situations {
    ($($(#[doc = $what:literal])+ $situation:ident,)+) => {
        /// Something that a simulation should have seen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Situation {
            $($(#[doc = $what])+ $situation,)+
        }

        impl Situation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$situation),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$situation => stringify!($situation),)+ }
            }
        }
    };
}

situations! {
    /// A cancel arrived before what it cancels: a tombstone.
    CancelBeforeRequest,
    /// A tombstone met the request that it had overtaken, and refused it.
    TombstoneRefusedRequest,
    /// A hold was captured in part.
    PartialCapture,
    /// A hold was captured with nothing, since everything was taken back.
    CaptureOfNothing,
    /// A hold was cancelled.
    HoldCancelled,
    /// A hold's lifetime was over.
    HoldExpired,
    /// Cash had left after its hold was gone.
    LateCapture,
    /// A hold was frozen.
    Suspended,
    /// A person decided that the customer got the money.
    SuspectPosted,
    /// A person decided that the customer got nothing.
    SuspectFreed,
    /// Not enough money.
    InsufficientFunds,
    /// The day's limit.
    DailyLimit,
    /// An account below zero, within its limit.
    Overdraft,
    /// The same id was declined again.
    DeclinedAgain,
    /// A recorded outcome was answered again.
    AnsweredAgain,
    /// Two commands with one id in one batch.
    RepeatedWithinOneBatch,
    /// The answer to a log-in was lost, and its repetition burned no second try.
    LogInAnsweredAgain,
    /// Three wrong PINs.
    CardLocked,
    /// A customer set another PIN.
    PinChanged,
    /// A customer was not told whether her PIN is changed.
    PinMayBeChanged,
    /// A copy of a machine's disk was refused.
    StaleBootRefused,
    /// A deposit was stored.
    DepositStored,
    /// A deposit was handed back.
    DepositHandedBack,
    /// Money went to another customer.
    TransferPosted,
    /// Notes went to the reject bin.
    RejectBin,
    /// Notes were taken back and counted.
    Retracted,
    /// Notes were taken back and not counted.
    RetractedUncounted,
    /// The device did not know whether the notes came out.
    PresentationUnknown,
    /// The ledger died at a fault point.
    LedgerDied,
    /// Auth died at a fault point.
    AuthDied,
    /// The gateway died at a fault point.
    GatewayDied,
    /// A machine died at a fault point.
    MachineDied,
    /// The device's power went.
    PowerLost,
    /// A service gave up after a commit of which it could not know whether it took effect, and started again.
    UnknownCommit,
    /// The ledger made a checkpoint.
    Checkpoint,
    /// Operators put notes in or took them out.
    OperatorsMovedCash,
    /// A ledger found that another one had written to its store.
    TwoLedgers,
    /// An attempt at a call was never answered.
    AnswerLost,
}

/// Which situations a run reached, and how often. What the auditor does on purpose does not count.
pub fn reached(outcome: &Outcome) -> BTreeMap<Situation, u64> {
    use Situation as S;
    let mut counts = BTreeMap::new();
    let mut add = |situation: S, count: u64| {
        if count > 0 {
            *counts.entry(situation).or_insert(0) += count;
        }
    };
    let (points, until, last) = match &outcome.unaudited {
        Some(before) => (&before.points, before.until, before.sequence),
        None => (&outcome.points, Duration::MAX, u64::MAX),
    };
    let point = |name: &str| points.get(name).copied().unwrap_or(0);
    add(S::TombstoneRefusedRequest, point("LEDGER_TOMBSTONE_MET_THE_REQUEST"));
    add(S::DeclinedAgain, point("LEDGER_DECLINED_AGAIN"));
    add(S::AnsweredAgain, point("LEDGER_ANSWERED_AGAIN"));
    add(S::RepeatedWithinOneBatch, point("LEDGER_REPEATED_WITHIN_ONE_BATCH"));
    add(S::LogInAnsweredAgain, point("AUTH_ATTEMPT_ANSWERED_AGAIN"));
    add(S::StaleBootRefused, point("AUTH_STALE_BOOT"));
    add(S::Checkpoint, point("LEDGER_CHECKPOINTED"));
    add(S::PowerLost, point(atm_cli::simulation::POWER_LOST));
    add(S::UnknownCommit, outcome.unknown_commits);

    let evidence = &outcome.evidence;
    let mut holds = BTreeMap::new();
    for step in evidence.ledger.steps.iter().filter(|step| step.commit_sequence <= last) {
        match &step.action {
            Action::Tombstone => add(S::CancelBeforeRequest, 1),
            Action::Hold { transfer, .. } => drop(holds.insert(step.id, transfer.amount)),
            Action::Capture { transfer, .. } if transfer.amount == 0 => add(S::CaptureOfNothing, 1),
            Action::Capture { transfer, .. } => {
                add(
                    S::PartialCapture,
                    u64::from(holds.get(&step.id).is_some_and(|held| transfer.amount < *held)),
                );
            }
            Action::Cancel { .. } => add(S::HoldCancelled, 1),
            Action::Expire { .. } => add(S::HoldExpired, 1),
            Action::CaptureLate { .. } => add(S::LateCapture, 1),
            Action::Suspend { .. } => add(S::Suspended, 1),
            Action::Resolve { transfer, .. } if transfer.amount > 0 => add(S::SuspectPosted, 1),
            Action::Resolve { .. } => add(S::SuspectFreed, 1),
            Action::Decline { decline, .. } => match decline.reason {
                DeclineReason::InsufficientFunds => add(S::InsufficientFunds, 1),
                DeclineReason::DailyLimitExceeded => add(S::DailyLimit, 1),
                DeclineReason::DebitAccountNotFound
                | DeclineReason::CreditAccountNotFound
                | DeclineReason::BalanceOverflow => {}
            },
            Action::OpenAccount(_) | Action::Post { .. } => {}
        }
        for leg in step.action.legs() {
            use crate::evidence::Role;
            let customer = matches!(evidence.ledger.roles.get(&leg.account_id), Some(Role::Customer(_)));
            add(S::Overdraft, u64::from(customer && leg.balance.posted < 0));
        }
    }
    let changed = |row: &&AttemptRow| row.seen <= until && row.attempt.outcome == "changed";
    add(S::PinChanged, evidence.auth.attempts.iter().filter(changed).count() as u64);
    let unsure = |told: &&Told| told.kind == "change_pin" && told.status == "unknown";
    add(S::PinMayBeChanged, evidence.told.iter().filter(unsure).count() as u64);
    let locked = |change: &&CountChange| change.at <= until && change.wrong_pins >= 3;
    add(S::CardLocked, evidence.auth.counts.iter().filter(locked).count() as u64);
    for machine in &evidence.machines {
        for record in machine.journal.records.iter().filter(|record| record.is_over) {
            match (record.kind, record.state) {
                ("deposit", "DONE") => add(S::DepositStored, 1),
                ("deposit", _) => add(S::DepositHandedBack, u64::from(record.cash_in_id.is_some())),
                ("transfer", "DONE") => add(S::TransferPosted, 1),
                _ => {}
            }
        }
        for step in &machine.journal.steps {
            add(S::PresentationUnknown, u64::from(step.event == "PRESENTATION_UNKNOWN"));
        }
        for dispense in &machine.device.dispenses {
            add(S::RejectBin, u64::from(dispense.rejected > 0));
            add(S::Retracted, u64::from(dispense.retracted > 0));
            add(S::RetractedUncounted, u64::from(!dispense.counted));
        }
        let operators = machine.journal.movements.iter().filter(|it| it.state.starts_with("OPERATOR"));
        add(S::OperatorsMovedCash, operators.count() as u64);
    }
    for (host, _) in &outcome.died_at {
        let situation = match host {
            Host::Ledger | Host::SecondLedger => S::LedgerDied,
            Host::Auth => S::AuthDied,
            Host::Gateway => S::GatewayDied,
            Host::Machine(_) => S::MachineDied,
            Host::WireToGateway | Host::WireToAuth | Host::WireToLedger | Host::Office | Host::Twin => {
                continue;
            }
        };
        add(situation, 1);
    }
    let two = |line: &&LogLine| line.at <= until && line.text.contains("another writer moved the head");
    add(S::TwoLedgers, evidence.log.iter().filter(two).count() as u64);
    let lost = |call: &&Call| call.began <= until && call.answer.is_none();
    add(S::AnswerLost, evidence.calls.iter().filter(lost).count() as u64);
    counts
}
