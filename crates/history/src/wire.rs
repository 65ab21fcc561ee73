//! From the ledger's messages to what this crate keeps of them.

use std::collections::HashMap;
use std::str::FromStr;

use atm_proto::ledger as wire;
use atm_proto::types;
use atm_types::{AccountId, TerminalId, Timestamp};
use prost::Message;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::answer::{AccountView, Answer, BalanceLine, Refused};
use crate::ask::{Ask, Terms, Transfer};
use crate::model::Totals;
use crate::step::{Balance, Decline, Entry, Kind, Outcome, State, Step};

/// The lifetime of a hold that names none: 24 hours, in nanoseconds.
const LIFETIME_DEFAULT: i64 = 24 * 60 * 60 * 1_000_000_000;

/// A message that no ledger sends, or a request that none can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or cannot be read")]
pub struct Malformed {
    /// The field.
    pub field: &'static str,
}

type Read<T> = Result<T, Malformed>;

fn malformed<E>(field: &'static str) -> impl Fn(E) -> Malformed {
    move |_| Malformed { field }
}

fn parse<T: FromStr>(field: &'static str, text: &str) -> Read<T> {
    text.parse().map_err(malformed(field))
}

fn required<T>(field: &'static str, value: Option<T>) -> Read<T> {
    value.ok_or(Malformed { field })
}

fn transfer(debit: &str, credit: &str, amount: Option<&types::Money>) -> Read<Transfer> {
    let amount = required("amount", amount)?;
    Ok(Transfer {
        debit: parse("debit_account_id", debit)?,
        credit: parse("credit_account_id", credit)?,
        minor_units: amount.minor_units,
        currency: parse("amount.currency_code", &amount.currency_code)?,
    })
}

impl TryFrom<&wire::Account> for Terms {
    type Error = Malformed;

    fn try_from(account: &wire::Account) -> Read<Self> {
        Ok(Self {
            account: parse("account_id", &account.account_id)?,
            kind: unprefixed(account.kind().as_str_name(), "ACCOUNT_KIND_"),
            currency: parse("currency_code", &account.currency_code)?,
            number: account.account_number.clone(),
            holder_name: account.holder_name.clone(),
            overdraft_limit: account.overdraft_limit_minor_units,
            daily_withdrawal_limit: account.daily_withdrawal_limit_minor_units,
        })
    }
}

fn unprefixed(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

impl TryFrom<&wire::OpenAccountRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::OpenAccountRequest) -> Read<Self> {
        Terms::try_from(required("account", asked.account.as_ref())?).map(Self::OpenAccount)
    }
}

impl TryFrom<&wire::PostTransactionRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::PostTransactionRequest) -> Read<Self> {
        Ok(Self::Post {
            id: parse("transaction_id", &asked.transaction_id)?,
            terminal: parse("terminal_id", &asked.terminal_id)?,
            transfer: transfer(&asked.debit_account_id, &asked.credit_account_id, asked.amount.as_ref())?,
        })
    }
}

impl TryFrom<&wire::HoldTransactionRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::HoldTransactionRequest) -> Read<Self> {
        let nanos = |duration: &prost_types::Duration| {
            duration.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(duration.nanos))
        };
        Ok(Self::Hold {
            id: parse("transaction_id", &asked.transaction_id)?,
            terminal: parse("terminal_id", &asked.terminal_id)?,
            transfer: transfer(&asked.debit_account_id, &asked.credit_account_id, asked.amount.as_ref())?,
            lifetime_nanos: asked.lifetime.as_ref().map_or(LIFETIME_DEFAULT, nanos),
        })
    }
}

impl TryFrom<&wire::CaptureTransactionRequest> for Ask {
    type Error = Malformed;

    /// What a signature says is not read here; whoever sends one along knows it and adds it.
    fn try_from(asked: &wire::CaptureTransactionRequest) -> Read<Self> {
        let amount = required("amount", asked.amount.as_ref())?;
        Ok(Self::Capture {
            id: parse("transaction_id", &asked.transaction_id)?,
            terminal: parse("terminal_id", &asked.terminal_id)?,
            minor_units: amount.minor_units,
            currency: parse("amount.currency_code", &amount.currency_code)?,
            signed: None,
        })
    }
}

impl TryFrom<&wire::CancelTransactionRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::CancelTransactionRequest) -> Read<Self> {
        Ok(Self::Cancel {
            id: parse("transaction_id", &asked.transaction_id)?,
            terminal: parse("terminal_id", &asked.terminal_id)?,
        })
    }
}

impl TryFrom<&wire::SuspendTransactionRequest> for Ask {
    type Error = Malformed;

    /// As of a capture.
    fn try_from(asked: &wire::SuspendTransactionRequest) -> Read<Self> {
        Ok(Self::Suspend {
            id: parse("transaction_id", &asked.transaction_id)?,
            terminal: parse("terminal_id", &asked.terminal_id)?,
            suspense: parse("suspense_account_id", &asked.suspense_account_id)?,
            signed: None,
        })
    }
}

impl TryFrom<&wire::ResolveTransactionRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::ResolveTransactionRequest) -> Read<Self> {
        let amount = required("amount", asked.amount.as_ref())?;
        Ok(Self::Resolve {
            id: parse("transaction_id", &asked.transaction_id)?,
            minor_units: amount.minor_units,
            currency: parse("amount.currency_code", &amount.currency_code)?,
            explained: !asked.operator.is_empty() && !asked.reason.is_empty(),
        })
    }
}

impl TryFrom<&wire::GetAccountRequest> for Ask {
    type Error = Malformed;

    fn try_from(asked: &wire::GetAccountRequest) -> Read<Self> {
        Ok(Self::GetAccount { account: parse("account_id", &asked.account_id)? })
    }
}

fn state(value: i32) -> Read<Option<State>> {
    use types::TransactionState as Told;
    Ok(match Told::try_from(value).map_err(malformed("state"))? {
        Told::Unspecified => None,
        Told::Posted => Some(State::Posted),
        Told::Declined => Some(State::Declined),
        Told::Held => Some(State::Held),
        Told::Captured => Some(State::Captured),
        Told::Cancelled => Some(State::Cancelled),
        Told::Expired => Some(State::Expired),
        Told::CapturedLate => Some(State::CapturedLate),
        Told::Suspect => Some(State::Suspect),
    })
}

fn kind(value: wire::StepKind) -> Read<Kind> {
    use wire::StepKind as Told;
    Ok(match value {
        Told::Unspecified => return Err(Malformed { field: "step" }),
        Told::OpenAccount => Kind::OpenAccount,
        Told::Post => Kind::Post,
        Told::Hold => Kind::Hold,
        Told::Capture => Kind::Capture,
        Told::Cancel => Kind::Cancel,
        Told::Expire => Kind::Expire,
        Told::CaptureLate => Kind::CaptureLate,
        Told::Suspend => Kind::Suspend,
        Told::Resolve => Kind::Resolve,
    })
}

fn balance(told: &types::Balance) -> Balance {
    Balance { posted: told.balance_minor_units, available: told.available_minor_units }
}

fn time(told: &prost_types::Timestamp) -> Timestamp {
    let nanos = told.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(told.nanos));
    Timestamp::from_nanos(nanos)
}

impl TryFrom<&wire::Outcome> for Outcome {
    type Error = Malformed;

    fn try_from(told: &wire::Outcome) -> Read<Self> {
        let decline = |decline: &types::Decline| Decline {
            reason: unprefixed(decline.reason().as_str_name(), "DECLINE_REASON_"),
            available: decline.available_minor_units,
        };
        let moves = |_: &types::Money| {
            transfer(&told.debit_account_id, &told.credit_account_id, told.amount.as_ref())
        };
        Ok(Self {
            id: parse("transaction_id", &told.transaction_id)?,
            sequence: told.commit_sequence,
            time: time(required("commit_time", told.commit_time.as_ref())?),
            kind: kind(told.step())?,
            state: state(told.state)?,
            decline: told.decline.as_ref().map(decline),
            transfer: told.amount.as_ref().map(moves).transpose()?,
            balances: [told.debit_balance.as_ref(), told.credit_balance.as_ref()].map(|b| b.map(balance)),
            expire_nanos: told.expire_time.as_ref().map(|at| time(at).as_nanos()),
            bytes: hex::encode(told.encode_to_vec()),
        })
    }
}

impl TryFrom<&wire::Step> for Step {
    type Error = Malformed;

    fn try_from(told: &wire::Step) -> Read<Self> {
        let entry = |entry: &wire::Entry| {
            Ok(Entry {
                account: parse("account_id", &entry.account_id)?,
                credit: entry.side() == wire::Side::Credit,
                posted: entry.posted_minor_units,
                pending: entry.pending_minor_units,
                balance: balance(required("balance", entry.balance.as_ref())?),
            })
        };
        let opened = told.opened_account.as_ref();
        Ok(Self {
            outcome: Outcome::try_from(required("outcome", told.outcome.as_ref())?)?,
            entries: told.entries.iter().map(entry).collect::<Read<_>>()?,
            terminal: parse::<TerminalId>("terminal_id", &told.terminal_id)?,
            opened: opened.map(Terms::try_from).transpose()?,
            opened_bytes: opened.map(|account| hex::encode(account.encode_to_vec())).unwrap_or_default(),
        })
    }
}

/// An answer that carries a recorded step.
pub trait Told {
    /// The step, and where the transaction stands now.
    fn parts(&self) -> (Option<&wire::Outcome>, i32);
}

macro_rules! told {
    ($($response:ident),+) => {
        $(impl Told for wire::$response {
            fn parts(&self) -> (Option<&wire::Outcome>, i32) {
                (self.outcome.as_ref(), self.current_state)
            }
        })+
    };
}

told!(
    PostTransactionResponse,
    HoldTransactionResponse,
    CaptureTransactionResponse,
    CancelTransactionResponse,
    SuspendTransactionResponse,
    ResolveTransactionResponse
);

fn is_replay<T>(response: &Response<T>) -> bool {
    response.metadata().contains_key("atm-replayed")
}

/// What the answer to a command says.
///
/// # Errors
/// [`Malformed`].
pub fn told<T: Told>(answer: &Result<Response<T>, Status>) -> Read<Answer> {
    let response = match answer {
        Ok(response) => response,
        Err(status) => return Ok(refused(status)),
    };
    let (outcome, now) = response.get_ref().parts();
    Ok(Answer::Recorded {
        outcome: Outcome::try_from(required("outcome", outcome)?)?,
        now: required("current_state", state(now)?)?,
        replayed: is_replay(response),
    })
}

/// What the answer to an opening says.
///
/// # Errors
/// [`Malformed`].
pub fn opened(answer: &Result<Response<wire::OpenAccountResponse>, Status>) -> Read<Answer> {
    let response = match answer {
        Ok(response) => response,
        Err(status) => return Ok(refused(status)),
    };
    let account = required("account", response.get_ref().account.as_ref())?;
    let bytes = hex::encode(account.encode_to_vec());
    Ok(Answer::Opened { terms: Terms::try_from(account)?, bytes, replayed: is_replay(response) })
}

/// What the reading of an account says.
///
/// # Errors
/// [`Malformed`].
pub fn account_read(answer: &Result<Response<wire::GetAccountResponse>, Status>) -> Read<Answer> {
    let response = match answer {
        Ok(response) => response.get_ref(),
        Err(status) => return Ok(refused(status)),
    };
    let account = required("account", response.account.as_ref())?;
    parse::<AccountId>("account_id", &account.account_id)?;
    Ok(Answer::Account(AccountView {
        sequence: response.commit_sequence,
        totals: Totals {
            debits_posted: account.debits_posted_minor_units,
            credits_posted: account.credits_posted_minor_units,
            debits_pending: account.debits_pending_minor_units,
            credits_pending: account.credits_pending_minor_units,
        },
        balance: balance(required("balance", account.balance.as_ref())?),
    }))
}

/// What a trial balance says.
///
/// # Errors
/// [`Malformed`].
pub fn trial_balance(answer: &Result<Response<wire::GetTrialBalanceResponse>, Status>) -> Read<Answer> {
    let response = match answer {
        Ok(response) => response.get_ref(),
        Err(status) => return Ok(refused(status)),
    };
    let line = |line: &wire::TrialBalanceLine| {
        Ok(BalanceLine {
            kind: unprefixed(line.kind().as_str_name(), "ACCOUNT_KIND_"),
            currency: line.currency_code.clone(),
            accounts: line.account_count,
            sums: [
                parse("debits_posted_minor_units", &line.debits_posted_minor_units)?,
                parse("credits_posted_minor_units", &line.credits_posted_minor_units)?,
                parse("debits_pending_minor_units", &line.debits_pending_minor_units)?,
                parse("credits_pending_minor_units", &line.credits_pending_minor_units)?,
            ],
        })
    };
    Ok(Answer::TrialBalance {
        sequence: response.commit_sequence,
        balanced: response.balanced,
        lines: response.lines.iter().map(line).collect::<Read<_>>()?,
    })
}

/// What a failure says: that nothing happened, or nothing at all.
pub fn refused(status: &Status) -> Answer {
    let definite = match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    };
    let Some(info) = status.get_details_error_info().filter(|_| definite) else { return Answer::Unknown };
    let metadata: &HashMap<String, String> = &info.metadata;
    let violation = status
        .get_details_bad_request()
        .and_then(|request| request.field_violations.into_iter().next().map(|violation| violation.field));
    let field = metadata.get("field").cloned().or(violation).unwrap_or_default();
    Answer::Refused(Refused { reason: info.reason, field })
}
