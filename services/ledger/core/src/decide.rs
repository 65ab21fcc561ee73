//! The decisions. Each command is validated, then looked up under its id, and only then held against the
//! balances, always in this order: a repeat must get the first answer whatever the balances are by now.

mod suspense;

use atm_faults::{Bug, planted};
use atm_types::{Currency, TerminalId, Timestamp, TransactionId};

use crate::account::{AccountKind, AccountTerms};
use crate::command::{Capture, Command, Hold, LIFETIME_MAX, LIFETIME_MIN, Transfer};
use crate::evaluate::{decline_for, legs};
use crate::refusal::Refusal;
use crate::state::State;
use crate::step::{Action, Step, StepKind};
use crate::transaction::{Transaction, TransactionState};

/// When a batch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time on the ledger's clock; later than the batch before.
    pub commit_time: Timestamp,
    /// The day of that time in the bank's time zone, counted from 1970-01-01.
    pub day: i32,
}

/// What becomes of a command.
#[expect(
    clippy::large_enum_variant,
    reason = "most decisions are records, and a box would cost each of them"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'state> {
    /// This is new: record it, and answer it when it is durable.
    Record(Step),
    /// This was recorded before: answer it again.
    Replay(&'state Step),
    /// This contradicts what is recorded; nothing happens.
    Refuse(Refusal),
}

/// A decision before it has a place in the order.
#[expect(clippy::large_enum_variant, reason = "as in `Decision`")]
enum Verdict<'state> {
    Record(TerminalId, Action),
    Replay(&'state Step),
}

type Decided<'state> = Result<Verdict<'state>, Refusal>;

/// Decides one command. The transaction under its id, and then the accounts that [`State::accounts_of`]
/// names, must be at hand if they exist.
pub fn decide<'state>(state: &'state State, command: &Command, moment: Moment) -> Decision<'state> {
    let decided = match command {
        Command::OpenAccount(terms) => open_account(state, terms),
        Command::Post { id, terminal, transfer } => post(state, *id, *terminal, *transfer, moment),
        Command::Hold(asked) => hold(state, asked, moment),
        Command::Capture(asked) => capture(state, asked),
        Command::Cancel { id, terminal } => cancel(state, *id, *terminal),
        Command::Suspend(asked) => suspense::suspend(state, asked),
        Command::Resolve(asked) => suspense::resolve(state, asked),
        Command::Expire { id } => expire(state, *id, moment),
    };
    match decided {
        Ok(Verdict::Replay(step)) => Decision::Replay(step),
        Ok(Verdict::Record(terminal, action)) => Decision::Record(Step {
            id: command.id(),
            ordinal: state.transaction(command.id()).map_or(0, Transaction::next_ordinal),
            commit_sequence: state.commit_sequence() + 1,
            commit_time: moment.commit_time,
            day: moment.day,
            terminal,
            action,
        }),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn open_account<'state>(state: &'state State, terms: &AccountTerms) -> Decided<'state> {
    validate_terms(terms)?;
    let id = TransactionId::from_uuid(terms.account_id.as_uuid());
    let Some(transaction) = state.transaction(id) else {
        return Ok(Verdict::Record(TerminalId::SERVICE, Action::OpenAccount(Box::new(terms.clone()))));
    };
    let Action::OpenAccount(opened) = &transaction.first().action else {
        return Err(Refusal::IdReused { field: "account.account_id" });
    };
    let differing = [
        ("account.kind", opened.kind == terms.kind),
        ("account.currency_code", opened.currency == terms.currency),
        ("account.account_number", opened.number == terms.number),
        ("account.holder_name", opened.holder_name == terms.holder_name),
        ("account.overdraft_limit_minor_units", opened.overdraft_limit == terms.overdraft_limit),
        (
            "account.daily_withdrawal_limit_minor_units",
            opened.daily_withdrawal_limit == terms.daily_withdrawal_limit,
        ),
    ];
    first_difference(&differing)?;
    Ok(Verdict::Replay(transaction.first()))
}

fn post(
    state: &State,
    id: TransactionId,
    terminal: TerminalId,
    transfer: Transfer,
    moment: Moment,
) -> Decided<'_> {
    validate_transfer(&transfer)?;
    if let Some(transaction) = state.transaction(id) {
        return repeat(transaction, terminal, StepKind::Post, &transfer);
    }
    let action = match decline_for(state, StepKind::Post, transfer, moment.day)? {
        Some(decline) => decline,
        None => {
            let legs = legs(state, transfer.debit, transfer.credit, transfer.amount, 0);
            Action::Post { transfer, legs: legs.ok_or(Refusal::CannotPost)? }
        }
    };
    Ok(Verdict::Record(terminal, action))
}

fn hold<'state>(state: &'state State, asked: &Hold, moment: Moment) -> Decided<'state> {
    let Hold { id, terminal, transfer, lifetime } = *asked;
    validate_transfer(&transfer)?;
    if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
        return Err(Refusal::Invalid { field: "lifetime", rule: "must be between 1 second and 30 days" });
    }
    if let Some(transaction) = state.transaction(id) {
        return repeat(transaction, terminal, StepKind::Hold, &transfer);
    }
    let action = match decline_for(state, StepKind::Hold, transfer, moment.day)? {
        Some(decline) => decline,
        None => {
            let legs = legs(state, transfer.debit, transfer.credit, 0, transfer.amount);
            let began =
                if planted(Bug::HoldsEndByTheMachinesClock) { minted(id) } else { moment.commit_time };
            let expire_time = began.saturating_add(lifetime);
            Action::Hold { transfer, legs: legs.ok_or(Refusal::CannotPost)?, expire_time }
        }
    };
    Ok(Verdict::Record(terminal, action))
}

/// The time in an id. Only a planted bug asks for it: it is that of a cash machine's wall clock.
fn minted(id: TransactionId) -> Timestamp {
    let (seconds, nanos) = id.as_uuid().get_timestamp().map_or((0, 0), |time| time.to_unix());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos)))
}

/// Answers a posting or a hold whose id is known: the first outcome if it asks for the same, whatever
/// became of it since; also the tombstone, late capture or suspension that was here before it.
fn repeat<'state>(
    transaction: &'state Transaction,
    terminal: TerminalId,
    kind: StepKind,
    transfer: &Transfer,
) -> Decided<'state> {
    let first = transaction.first();
    let of_caller = first.terminal == terminal && !matches!(first.action, Action::OpenAccount(_));
    first_difference(&[("transaction_id", of_caller && !planted(Bug::RepeatIsAnError))])?;
    let (Action::Post { transfer: recorded, .. }
    | Action::Hold { transfer: recorded, .. }
    | Action::Decline { transfer: recorded, .. }) = &first.action
    else {
        return Ok(Verdict::Replay(first));
    };
    first_difference(&[
        ("kind", first.action.kind() == kind),
        ("debit_account_id", recorded.debit == transfer.debit),
        ("credit_account_id", recorded.credit == transfer.credit),
        ("amount.minor_units", recorded.amount == transfer.amount),
        ("amount.currency_code", recorded.currency == transfer.currency),
    ])?;
    Ok(Verdict::Replay(if planted(Bug::AnswerLatestStep) { transaction.last() } else { first }))
}

fn capture<'state>(state: &'state State, asked: &Capture) -> Decided<'state> {
    if asked.amount < 0 {
        return Err(Refusal::Invalid { field: "amount.minor_units", rule: "must be 0 or more" });
    }
    let Some(transaction) = state.transaction(asked.id) else {
        return capture_on_authorization(state, asked, Refusal::NotFound);
    };
    if transaction.first().terminal != asked.terminal {
        return Err(Refusal::NotFound);
    }
    let last = transaction.last();
    match (&last.action, transaction.held()) {
        (Action::Capture { .. }, Some(held)) if planted(Bug::CaptureAgain) => {
            capture_late(state, asked, &held, TransactionState::Captured)
        }
        (Action::Capture { transfer, .. } | Action::CaptureLate { transfer, .. }, _) => {
            same_amount(last, transfer, asked.amount, asked.currency)
        }
        (Action::Resolve { transfer, .. }, _) if transfer.amount > 0 => {
            same_amount(last, transfer, asked.amount, asked.currency)
        }
        (Action::Suspend { .. }, _) => Err(Refusal::Suspended),
        (Action::Hold { .. }, Some(held)) => {
            let transfer = captured(&held, asked, TransactionState::Held)?;
            let freed = if planted(Bug::RestOfAHoldStays) { transfer.amount } else { held.amount };
            let legs = legs(state, transfer.debit, transfer.credit, transfer.amount, -freed);
            let action = Action::Capture { transfer, legs: legs.ok_or(Refusal::CannotPost)? };
            Ok(Verdict::Record(asked.terminal, action))
        }
        // A person may have been wrong, too: cash that left is never lost.
        (Action::Cancel { .. } | Action::Resolve { .. }, Some(held)) => {
            capture_late(state, asked, &held, TransactionState::Cancelled)
        }
        (Action::Expire { .. }, Some(_)) if planted(Bug::LateCaptureRefused) => {
            Err(Refusal::NothingToCapture { state: TransactionState::Expired })
        }
        (Action::Expire { .. }, Some(held)) => capture_late(state, asked, &held, TransactionState::Expired),
        (Action::Tombstone, _) => {
            let state_now = TransactionState::Cancelled;
            capture_on_authorization(state, asked, Refusal::NothingToCapture { state: state_now })
        }
        (Action::Decline { .. }, _) => {
            let state_now = TransactionState::Declined;
            capture_on_authorization(state, asked, Refusal::NothingToCapture { state: state_now })
        }
        (Action::Post { .. }, _) => Err(Refusal::NothingToCapture { state: TransactionState::Posted }),
        // An account's id; or steps without their hold, which no books can contain.
        (
            Action::OpenAccount(_)
            | Action::Hold { .. }
            | Action::Cancel { .. }
            | Action::Expire { .. }
            | Action::Resolve { .. },
            None | Some(_),
        ) => Err(Refusal::NotFound),
    }
}

/// Posts cash that left on this ledger's own signature although these books do not know the hold: they
/// were restored from a backup that is older than the hold.
fn capture_on_authorization<'state>(state: &State, asked: &Capture, otherwise: Refusal) -> Decided<'state> {
    let Some(authorization) = &asked.authorization else { return Err(otherwise) };
    let now = match otherwise {
        Refusal::NothingToCapture { state } => state,
        _ => TransactionState::Held,
    };
    capture_late(state, asked, &authorization.transfer, now)
}

fn capture_late<'state>(
    state: &State,
    asked: &Capture,
    held: &Transfer,
    now: TransactionState,
) -> Decided<'state> {
    let transfer = captured(held, asked, now)?;
    let legs = legs(state, transfer.debit, transfer.credit, transfer.amount, 0);
    let action = Action::CaptureLate { transfer, legs: legs.ok_or(Refusal::CannotPost)? };
    Ok(Verdict::Record(asked.terminal, action))
}

/// The part of a hold that is captured.
fn captured(held: &Transfer, asked: &Capture, state: TransactionState) -> Result<Transfer, Refusal> {
    if asked.currency != held.currency {
        return Err(Refusal::CurrencyMismatch { expected: held.currency });
    }
    if asked.amount > held.amount {
        return Err(Refusal::CaptureExceedsHold { held: held.amount, state });
    }
    let wrong_sign = planted(Bug::PartOfAHoldHasTheWrongSign);
    let amount = if wrong_sign { held.amount + (held.amount - asked.amount) } else { asked.amount };
    Ok(Transfer { amount, ..*held })
}

/// The fence. A hold is released, an id that never arrived is burnt, and whatever ended before stands.
fn cancel(state: &State, id: TransactionId, terminal: TerminalId) -> Decided<'_> {
    let Some(transaction) = state.transaction(id) else {
        return Ok(Verdict::Record(terminal, Action::Tombstone));
    };
    let first = transaction.first();
    if first.terminal != terminal || matches!(first.action, Action::OpenAccount(_)) {
        return Err(Refusal::NotFound);
    }
    let Some(held) = transaction.open_hold() else { return Ok(Verdict::Replay(transaction.last())) };
    let transfer = held.transfer;
    let legs = legs(state, transfer.debit, transfer.credit, 0, -transfer.amount);
    let action = Action::Cancel { transfer, legs: legs.ok_or(Refusal::CannotPost)? };
    Ok(Verdict::Record(terminal, action))
}

fn expire(state: &State, id: TransactionId, moment: Moment) -> Decided<'_> {
    let transaction = state.transaction(id).ok_or(Refusal::NotFound)?;
    let held = transaction.open_hold().filter(|held| held.expire_time <= moment.commit_time);
    let transfer = held.ok_or(Refusal::NotFound)?.transfer;
    let legs = legs(state, transfer.debit, transfer.credit, 0, -transfer.amount);
    let action = Action::Expire { transfer, legs: legs.ok_or(Refusal::CannotPost)? };
    Ok(Verdict::Record(transaction.first().terminal, action))
}

/// Answers a posting of held money again, if it is asked for with the same amount.
fn same_amount<'state>(
    recorded: &'state Step,
    transfer: &Transfer,
    amount: i64,
    currency: Currency,
) -> Decided<'state> {
    first_difference(&[
        ("amount.minor_units", transfer.amount == amount),
        ("amount.currency_code", transfer.currency == currency),
    ])?;
    Ok(Verdict::Replay(recorded))
}

fn first_difference(fields: &[(&'static str, bool)]) -> Result<(), Refusal> {
    match fields.iter().find(|(_, same)| !same && !planted(Bug::AnotherBodyIsARepeat)) {
        Some((field, _)) => Err(Refusal::IdReused { field }),
        None => Ok(()),
    }
}

fn validate_transfer(transfer: &Transfer) -> Result<(), Refusal> {
    if transfer.amount <= 0 {
        return Err(Refusal::Invalid { field: "amount.minor_units", rule: "must be more than 0" });
    }
    if transfer.debit == transfer.credit {
        return Err(Refusal::Invalid { field: "credit_account_id", rule: "must not be the debited account" });
    }
    Ok(())
}

fn validate_terms(terms: &AccountTerms) -> Result<(), Refusal> {
    let number_fits = terms.number.len() <= 34
        && terms.number.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let name_fits =
        terms.holder_name.chars().count() <= 100 && !terms.holder_name.chars().any(char::is_control);
    let limits_belong = terms.kind == AccountKind::Customer;
    let limit_fits = |limit: i64| limit == 0 || (limit > 0 && limits_belong);
    let rules = [
        ("account.account_number", number_fits, "must be at most 34 characters of A-Z a-z 0-9 . _ -"),
        (
            "account.holder_name",
            name_fits,
            "must be at most 100 characters and must not contain control characters",
        ),
        (
            "account.overdraft_limit_minor_units",
            limit_fits(terms.overdraft_limit),
            "must be 0 or more, and 0 save for customers",
        ),
        (
            "account.daily_withdrawal_limit_minor_units",
            limit_fits(terms.daily_withdrawal_limit),
            "must be 0 or more, and 0 save for customers",
        ),
    ];
    match rules.into_iter().find(|(_, fits, _)| !fits) {
        Some((field, _, rule)) => Err(Refusal::Invalid { field, rule }),
        None => Ok(()),
    }
}
