//! From the wire to the core's types and back. Only here do texts become ids.

use std::str::FromStr;
use std::time::Duration;

use atm_ledger_core::{
    Account, AccountKind, AccountTerms, Authorization, Balance, Capture, Command, Decline, DeclineReason,
    Hold, LIFETIME_DEFAULT, Resolution, Resolve, Side, StepKind, Suspend, TransactionState, Transfer,
};
use atm_proto::{ledger as wire, types};
use atm_types::{Currency, IdError, TerminalId, Timestamp, TransactionId};

use super::status::Malformed;
use crate::authorization::Authorizer;

/// The authorization that came with a capture or a suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// None, or one that this ledger signed.
    NothingWrong,
    /// One that this ledger did not sign for this id and terminal.
    Forged,
}

pub(super) fn open_account(request: wire::OpenAccountRequest) -> Result<Command, Malformed> {
    let account = request.account.ok_or(Malformed::new("account", "is required"))?;
    let kind = match account.kind() {
        wire::AccountKind::Unspecified => {
            return Err(Malformed::new("account.kind", "must be one of the kinds of accounts"));
        }
        wire::AccountKind::Customer => AccountKind::Customer,
        wire::AccountKind::Cash => AccountKind::Cash,
        wire::AccountKind::Suspense => AccountKind::Suspense,
        wire::AccountKind::OpeningBalance => AccountKind::OpeningBalance,
    };
    Ok(Command::OpenAccount(AccountTerms {
        account_id: id("account.account_id", &account.account_id)?,
        kind,
        currency: currency("account.currency_code", &account.currency_code)?,
        number: account.account_number.into(),
        holder_name: account.holder_name.into(),
        overdraft_limit: account.overdraft_limit_minor_units,
        daily_withdrawal_limit: account.daily_withdrawal_limit_minor_units,
    }))
}

pub(super) fn post(request: &wire::PostTransactionRequest) -> Result<Command, Malformed> {
    Ok(Command::Post {
        id: transaction_id(&request.transaction_id)?,
        terminal: terminal_id(&request.terminal_id)?,
        transfer: transfer(&request.debit_account_id, &request.credit_account_id, request.amount.as_ref())?,
    })
}

pub(super) fn hold(request: &wire::HoldTransactionRequest) -> Result<Command, Malformed> {
    Ok(Command::Hold(Hold {
        id: transaction_id(&request.transaction_id)?,
        terminal: terminal_id(&request.terminal_id)?,
        transfer: transfer(&request.debit_account_id, &request.credit_account_id, request.amount.as_ref())?,
        lifetime: lifetime(request.lifetime)?,
    }))
}

/// The authorization is verified here, at the edge: the core is handed only what this ledger has signed.
pub(super) fn capture(
    request: &wire::CaptureTransactionRequest,
    authorizer: &Authorizer,
) -> Result<(Command, Presented), Malformed> {
    let id = transaction_id(&request.transaction_id)?;
    let terminal = terminal_id(&request.terminal_id)?;
    let (amount, currency) = amount(request.amount.as_ref())?;
    let (authorization, presented) = authorization(id, terminal, &request.authorization, authorizer);
    Ok((Command::Capture(Capture { id, terminal, amount, currency, authorization }), presented))
}

pub(super) fn cancel(request: &wire::CancelTransactionRequest) -> Result<Command, Malformed> {
    Ok(Command::Cancel {
        id: transaction_id(&request.transaction_id)?,
        terminal: terminal_id(&request.terminal_id)?,
    })
}

pub(super) fn suspend(
    request: &wire::SuspendTransactionRequest,
    authorizer: &Authorizer,
) -> Result<(Command, Presented), Malformed> {
    let id = transaction_id(&request.transaction_id)?;
    let terminal = terminal_id(&request.terminal_id)?;
    let suspense = self::id("suspense_account_id", &request.suspense_account_id)?;
    let (authorization, presented) = authorization(id, terminal, &request.authorization, authorizer);
    Ok((Command::Suspend(Suspend { id, terminal, suspense, authorization }), presented))
}

pub(super) fn resolve(request: wire::ResolveTransactionRequest) -> Result<Command, Malformed> {
    let id = transaction_id(&request.transaction_id)?;
    let (amount, currency) = amount(request.amount.as_ref())?;
    let (operator, reason) = (request.operator.into(), request.reason.into());
    Ok(Command::Resolve(Resolve { id, amount, currency, operator, reason }))
}

fn authorization(
    id: TransactionId,
    terminal: TerminalId,
    presented: &[u8],
    authorizer: &Authorizer,
) -> (Option<Authorization>, Presented) {
    match authorizer.verify(id, terminal, presented) {
        None if !presented.is_empty() => (None, Presented::Forged),
        authorization => (authorization, Presented::NothingWrong),
    }
}

pub(super) fn transaction_id(text: &str) -> Result<TransactionId, Malformed> {
    id("transaction_id", text)
}

pub(super) fn id<Id: FromStr<Err = IdError>>(field: &'static str, text: &str) -> Result<Id, Malformed> {
    text.parse().map_err(|error: IdError| Malformed::new(field, error.to_string()))
}

/// The number of things on a page: `default` for 0, and never more than 1,000.
pub(super) fn page_size(asked: i32, default: usize) -> Result<usize, Malformed> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) if size <= 1000 => Ok(size),
        Ok(_) | Err(_) => Err(Malformed::new("page_size", "must be between 0 and 1,000")),
    }
}

fn terminal_id(text: &str) -> Result<TerminalId, Malformed> {
    id("terminal_id", text)
}

fn currency(field: &'static str, code: &str) -> Result<Currency, Malformed> {
    // The commonest one needs no look into the list of the world's currencies.
    if code == "BDT" {
        return Ok(Currency::BDT);
    }
    code.parse().map_err(|_| Malformed::new(field, "must be an ISO 4217 code in capitals, such as BDT"))
}

fn amount(money: Option<&types::Money>) -> Result<(i64, Currency), Malformed> {
    let money = money.ok_or(Malformed::new("amount", "is required"))?;
    Ok((money.minor_units, currency("amount.currency_code", &money.currency_code)?))
}

fn transfer(debit: &str, credit: &str, money: Option<&types::Money>) -> Result<Transfer, Malformed> {
    let debit = id("debit_account_id", debit)?;
    let credit = id("credit_account_id", credit)?;
    let (amount, currency) = amount(money)?;
    Ok(Transfer { debit, credit, amount, currency })
}

/// Reads a lifetime by itself: prost's own conversion panics on some durations that only a stranger would send.
fn lifetime(asked: Option<prost_types::Duration>) -> Result<Duration, Malformed> {
    let Some(asked) = asked else { return Ok(LIFETIME_DEFAULT) };
    match (u64::try_from(asked.seconds), u32::try_from(asked.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Malformed::new("lifetime", "must be between 1 second and 30 days")),
    }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_seconds(), nanos: time.subsec_nanos() }
}

pub(super) fn money(minor_units: i64, currency: Currency) -> types::Money {
    types::Money { currency_code: currency.code().to_owned(), minor_units }
}

pub(super) const fn balance(balance: Balance) -> types::Balance {
    types::Balance { balance_minor_units: balance.posted, available_minor_units: balance.available }
}

pub(super) fn decline(decline: Decline) -> types::Decline {
    let reason = match decline.reason {
        DeclineReason::InsufficientFunds => types::DeclineReason::InsufficientFunds,
        DeclineReason::DailyLimitExceeded => types::DeclineReason::DailyLimitExceeded,
        DeclineReason::DebitAccountNotFound => types::DeclineReason::DebitAccountNotFound,
        DeclineReason::CreditAccountNotFound => types::DeclineReason::CreditAccountNotFound,
        DeclineReason::BalanceOverflow => types::DeclineReason::BalanceOverflow,
    };
    types::Decline { reason: reason.into(), available_minor_units: decline.available }
}

pub(super) fn resolution(resolution: &Resolution) -> wire::Resolution {
    wire::Resolution { operator: resolution.operator.to_string(), reason: resolution.reason.to_string() }
}

/// The state on the wire; an account's opening has none.
pub(super) const fn state(state: Option<TransactionState>) -> types::TransactionState {
    match state {
        None => types::TransactionState::Unspecified,
        Some(TransactionState::Posted) => types::TransactionState::Posted,
        Some(TransactionState::Declined) => types::TransactionState::Declined,
        Some(TransactionState::Held) => types::TransactionState::Held,
        Some(TransactionState::Captured) => types::TransactionState::Captured,
        Some(TransactionState::Cancelled) => types::TransactionState::Cancelled,
        Some(TransactionState::Expired) => types::TransactionState::Expired,
        Some(TransactionState::CapturedLate) => types::TransactionState::CapturedLate,
        Some(TransactionState::Suspect) => types::TransactionState::Suspect,
    }
}

pub(super) const fn step_kind(kind: StepKind) -> wire::StepKind {
    match kind {
        StepKind::OpenAccount => wire::StepKind::OpenAccount,
        StepKind::Post => wire::StepKind::Post,
        StepKind::Hold => wire::StepKind::Hold,
        StepKind::Capture => wire::StepKind::Capture,
        StepKind::Cancel => wire::StepKind::Cancel,
        StepKind::Expire => wire::StepKind::Expire,
        StepKind::CaptureLate => wire::StepKind::CaptureLate,
        StepKind::Suspend => wire::StepKind::Suspend,
        StepKind::Resolve => wire::StepKind::Resolve,
    }
}

pub(super) const fn account_kind(kind: AccountKind) -> wire::AccountKind {
    match kind {
        AccountKind::Customer => wire::AccountKind::Customer,
        AccountKind::Cash => wire::AccountKind::Cash,
        AccountKind::Suspense => wire::AccountKind::Suspense,
        AccountKind::OpeningBalance => wire::AccountKind::OpeningBalance,
    }
}

pub(super) const fn side(side: Side) -> wire::Side {
    match side {
        Side::Debit => wire::Side::Debit,
        Side::Credit => wire::Side::Credit,
    }
}

/// An account as it stands on `day`.
pub(super) fn account(account: &Account, day: i32) -> wire::Account {
    let terms = &account.terms;
    wire::Account {
        account_id: terms.account_id.to_string(),
        kind: account_kind(terms.kind).into(),
        currency_code: terms.currency.code().to_owned(),
        account_number: terms.number.to_string(),
        holder_name: terms.holder_name.to_string(),
        overdraft_limit_minor_units: terms.overdraft_limit,
        daily_withdrawal_limit_minor_units: terms.daily_withdrawal_limit,
        create_time: Some(timestamp(account.create_time)),
        debits_posted_minor_units: account.totals.debits_posted,
        credits_posted_minor_units: account.totals.credits_posted,
        debits_pending_minor_units: account.totals.debits_pending,
        credits_pending_minor_units: account.totals.credits_pending,
        balance: Some(balance(account.balance())),
        daily_withdrawal_remaining_minor_units: account.daily_withdrawal_remaining(day),
    }
}
