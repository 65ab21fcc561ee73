//! The ledger's log replayed against the plain model of atm-history, which shares no code with the ledger.

use atm_history::{Audit, Balance, Decline, Entry, Kind, Outcome, Rule, State, Step, Terms, Transfer};
use atm_ledger_core as core;

use super::Violation;
use crate::evidence::Evidence;

/// Days in Dhaka begin six hours before those of UTC.
const UTC_OFFSET_SECONDS: i64 = 6 * 60 * 60;

/// 1, 2, 3, 4, 13, 16: every step is what the model would have recorded at its place.
pub(super) fn replay(evidence: &Evidence) -> Vec<Violation> {
    let steps: Vec<Step> = evidence.ledger.steps.iter().map(step).collect();
    let mut audit = Audit::new(UTC_OFFSET_SECONDS);
    audit.replay(&steps);
    let number = |rule| match rule {
        Rule::Sequence => 16,
        Rule::Sums => 1,
        Rule::RealTime => 17,
        Rule::Bytes => 6,
        Rule::NobodyAsked | Rule::Answer | Rule::CurrentState => 7,
        Rule::Reading => 15,
        // Whatever differs from the model shows in what it did to the accounts.
        Rule::Decision => 2,
    };
    audit
        .findings()
        .iter()
        .map(|finding| Violation::new(number(finding.rule), finding.what.clone()))
        .collect()
}

fn step(step: &core::Step) -> Step {
    let balance = |balance: core::Balance| Balance { posted: balance.posted, available: balance.available };
    let transfer = step.action.transfer().map(|transfer| Transfer {
        debit: transfer.debit,
        credit: transfer.credit,
        minor_units: transfer.amount,
        currency: transfer.currency,
    });
    let legs = step.action.legs();
    let (decline, balances, expire_nanos) = match &step.action {
        core::Action::Decline { decline, balances, .. } => {
            let decline = Decline { reason: reason(decline.reason).to_owned(), available: decline.available };
            (Some(decline), balances.map(|b| b.map(balance)), None)
        }
        core::Action::Hold { expire_time, .. } => (
            None,
            [0, 1].map(|index| legs.get(index).map(|leg| balance(leg.balance))),
            Some(expire_time.as_nanos()),
        ),
        _ => (None, [0, 1].map(|index| legs.get(index).map(|leg| balance(leg.balance))), None),
    };
    let entry = |(index, leg): (u8, &core::Leg)| Entry {
        account: leg.account_id,
        credit: index > 0,
        posted: leg.posted,
        pending: leg.pending,
        balance: balance(leg.balance),
    };
    Step {
        outcome: Outcome {
            id: step.id,
            sequence: step.commit_sequence,
            time: step.commit_time,
            kind: kind(step.action.kind()),
            state: step.action.state().map(state),
            decline,
            transfer,
            balances,
            expire_nanos,
            bytes: String::new(),
        },
        entries: step.entries().map(entry).collect(),
        terminal: step.terminal,
        opened: match &step.action {
            core::Action::OpenAccount(terms) => Some(opened(terms)),
            _ => None,
        },
        opened_bytes: String::new(),
    }
}

fn opened(terms: &core::AccountTerms) -> Terms {
    let kind = match terms.kind {
        core::AccountKind::Customer => "CUSTOMER",
        core::AccountKind::Cash => "CASH",
        core::AccountKind::Suspense => "SUSPENSE",
        core::AccountKind::OpeningBalance => "OPENING_BALANCE",
    };
    Terms {
        account: terms.account_id,
        kind: kind.to_owned(),
        currency: terms.currency,
        number: terms.number.to_string(),
        holder_name: terms.holder_name.to_string(),
        overdraft_limit: terms.overdraft_limit,
        daily_withdrawal_limit: terms.daily_withdrawal_limit,
    }
}

const fn reason(reason: core::DeclineReason) -> &'static str {
    match reason {
        core::DeclineReason::InsufficientFunds => "INSUFFICIENT_FUNDS",
        core::DeclineReason::DailyLimitExceeded => "DAILY_LIMIT_EXCEEDED",
        core::DeclineReason::DebitAccountNotFound => "DEBIT_ACCOUNT_NOT_FOUND",
        core::DeclineReason::CreditAccountNotFound => "CREDIT_ACCOUNT_NOT_FOUND",
        core::DeclineReason::BalanceOverflow => "BALANCE_OVERFLOW",
    }
}

const fn kind(kind: core::StepKind) -> Kind {
    match kind {
        core::StepKind::OpenAccount => Kind::OpenAccount,
        core::StepKind::Post => Kind::Post,
        core::StepKind::Hold => Kind::Hold,
        core::StepKind::Capture => Kind::Capture,
        core::StepKind::Cancel => Kind::Cancel,
        core::StepKind::Expire => Kind::Expire,
        core::StepKind::CaptureLate => Kind::CaptureLate,
        core::StepKind::Suspend => Kind::Suspend,
        core::StepKind::Resolve => Kind::Resolve,
    }
}

const fn state(state: core::TransactionState) -> State {
    match state {
        core::TransactionState::Posted => State::Posted,
        core::TransactionState::Declined => State::Declined,
        core::TransactionState::Held => State::Held,
        core::TransactionState::Captured => State::Captured,
        core::TransactionState::Cancelled => State::Cancelled,
        core::TransactionState::Expired => State::Expired,
        core::TransactionState::CapturedLate => State::CapturedLate,
        core::TransactionState::Suspect => State::Suspect,
    }
}
