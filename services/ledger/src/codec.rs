//! How a step is written to storage: one version byte, then a flat protobuf message.
//!
//! Protobuf keeps old steps readable when fields are added, and lets anyone look into a row with `protoc
//! --decode_raw`. On the hot path the message has no nested messages and no strings, so that encoding
//! allocates nothing: ids are pairs (or fours) of fixed 64-bit numbers. What only a suspension or a resolution
//! has is in one nested message. Equal steps give equal bytes, which is what the hash chain needs. A step's id
//! and ordinal are its key and not part of the bytes; nor is what follows from the rest: a leg's account is
//! the transfer's, and how the credits change follows from the amount and from how the debit does.

mod numbers;

use atm_ledger_core::{
    AccountTerms, Action, Balance, Decline, DeclineReason, Leg, Resolution, Step, StepKind, Transfer,
};
use atm_types::{AccountId, Timestamp, TransactionId};
use prost::Message as _;

use crate::storage::{StepKey, StoreError};
pub(crate) use numbers::{account_kind_number, account_kind_of};
use numbers::{
    account_of, currency_number, currency_of, entry_numbers, entry_of, terminal_of, terminal_words,
};

/// The version that this program writes, and the only one there is so far.
const VERSION: u8 = 1;

/// Bytes that are not a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored step is unreadable: {0}")]
pub(crate) struct DecodeError(&'static str);

/// A step that no decision makes: its legs contradict its transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the step's legs contradict its transfer")]
pub(crate) struct EncodeError;

/// Appends the bytes of a step.
///
/// # Errors
/// [`EncodeError`] when the legs contradict the transfer, or an opened account's id its step's.
pub(crate) fn encode(step: &Step, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let record = Record::of(step)?;
    bytes.push(VERSION);
    // A vector grows, so there is always room; its error type cannot say so.
    record.encode(bytes).map_err(|_| EncodeError)
}

/// Reads the bytes of the step that is stored under `key`.
///
/// # Errors
/// [`DecodeError`] when they are not the bytes of a step.
pub(crate) fn decode(key: StepKey, bytes: &[u8]) -> Result<Step, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, message)) => {
            let record = Record::decode(message).map_err(|_| DecodeError("it is not a message"))?;
            // Protobuf reads bits that it never writes; here each step has exactly one spelling.
            if record.encode_to_vec() != message {
                return Err(DecodeError("it is not spelled as this program spells it"));
            }
            record.into_step(key)
        }
        Some(_) => Err(DecodeError("its version is not known")),
        None => Err(DecodeError("it is empty")),
    }
}

/// [`decode`], with the key in the error.
///
/// # Errors
/// [`StoreError::Damaged`].
pub(crate) fn decode_stored(key: StepKey, bytes: &[u8]) -> Result<Step, StoreError> {
    decode(key, bytes).map_err(|error| StoreError::damaged(format!("{}/{}: {error}", key.id, key.ordinal)))
}

/// A step on storage. Tags are for ever; those below 16 take one byte.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    commit_sequence: u64,
    #[prost(sfixed64, tag = "2")]
    commit_time_nanos: i64,
    #[prost(sint32, tag = "3")]
    day: i32,
    /// See [`Variant`].
    #[prost(uint32, tag = "4")]
    action: u32,
    #[prost(fixed64, tag = "5")]
    debit_high: u64,
    #[prost(fixed64, tag = "6")]
    debit_low: u64,
    #[prost(fixed64, tag = "7")]
    credit_high: u64,
    #[prost(fixed64, tag = "8")]
    credit_low: u64,
    #[prost(sint64, tag = "9")]
    amount: i64,
    /// The three letters, the first one in the highest byte used.
    #[prost(fixed32, tag = "10")]
    currency: u32,
    #[prost(sint64, tag = "11")]
    posted: i64,
    #[prost(sint64, tag = "12")]
    pending: i64,
    #[prost(sint64, tag = "13")]
    debit_balance_posted: i64,
    #[prost(sint64, tag = "14")]
    credit_balance_posted: i64,
    #[prost(sint64, tag = "16")]
    debit_balance_available: i64,
    #[prost(sint64, tag = "17")]
    credit_balance_available: i64,
    /// See [`entry_numbers`].
    #[prost(uint32, tag = "18")]
    debit_previous: u32,
    #[prost(fixed64, tag = "19")]
    debit_previous_high: u64,
    #[prost(fixed64, tag = "20")]
    debit_previous_low: u64,
    #[prost(uint32, tag = "21")]
    credit_previous: u32,
    #[prost(fixed64, tag = "22")]
    credit_previous_high: u64,
    #[prost(fixed64, tag = "23")]
    credit_previous_low: u64,
    #[prost(fixed64, tag = "24")]
    terminal_0: u64,
    #[prost(fixed64, tag = "25")]
    terminal_1: u64,
    #[prost(fixed64, tag = "26")]
    terminal_2: u64,
    #[prost(fixed64, tag = "27")]
    terminal_3: u64,
    /// Holds.
    #[prost(sfixed64, tag = "28")]
    expire_time_nanos: i64,
    /// Declines: 1 when a posting was asked for, 2 when a hold was.
    #[prost(uint32, tag = "29")]
    declined_kind: u32,
    #[prost(uint32, tag = "30")]
    decline_reason: u32,
    #[prost(sint64, tag = "31")]
    decline_available: i64,
    /// Declines: 1 when the debited account exists, plus 2 when the credited one does.
    #[prost(uint32, tag = "32")]
    existing_accounts: u32,
    /// Openings.
    #[prost(uint32, tag = "33")]
    account_kind: u32,
    #[prost(string, tag = "34")]
    account_number: String,
    #[prost(string, tag = "35")]
    holder_name: String,
    #[prost(sint64, tag = "36")]
    overdraft_limit: i64,
    #[prost(sint64, tag = "37")]
    daily_withdrawal_limit: i64,
    /// Suspensions and resolutions.
    #[prost(message, optional, boxed, tag = "38")]
    suspense: Option<Box<Suspense>>,
}

/// The leg on the suspense account, and what a resolution says besides.
#[derive(Clone, PartialEq, prost::Message)]
struct Suspense {
    #[prost(fixed64, tag = "1")]
    account_high: u64,
    #[prost(fixed64, tag = "2")]
    account_low: u64,
    #[prost(sint64, tag = "3")]
    balance_posted: i64,
    #[prost(sint64, tag = "4")]
    balance_available: i64,
    /// As in [`Record`].
    #[prost(uint32, tag = "5")]
    previous: u32,
    #[prost(fixed64, tag = "6")]
    previous_high: u64,
    #[prost(fixed64, tag = "7")]
    previous_low: u64,
    /// Resolutions.
    #[prost(sint32, tag = "8")]
    counted_day: i32,
    #[prost(string, tag = "9")]
    operator: String,
    #[prost(string, tag = "10")]
    reason: String,
}

/// The numbers of the actions; for ever.
#[derive(Clone, Copy)]
enum Variant {
    OpenAccount = 1,
    Post = 2,
    Hold = 3,
    Decline = 4,
    Tombstone = 5,
    Capture = 6,
    Cancel = 7,
    Expire = 8,
    CaptureLate = 9,
    Suspend = 10,
    Resolve = 11,
}

impl Record {
    fn of(step: &Step) -> Result<Self, EncodeError> {
        let [terminal_0, terminal_1, terminal_2, terminal_3] = terminal_words(step.terminal);
        let mut record = Self {
            commit_sequence: step.commit_sequence,
            commit_time_nanos: step.commit_time.as_nanos(),
            day: step.day,
            terminal_0,
            terminal_1,
            terminal_2,
            terminal_3,
            ..Self::default()
        };
        let variant = match &step.action {
            Action::OpenAccount(terms) => {
                record.set_terms(step.id, terms)?;
                Variant::OpenAccount
            }
            Action::Tombstone => Variant::Tombstone,
            Action::Decline { kind, transfer, decline, balances } => {
                record.set_transfer(transfer);
                record.set_decline(*kind, decline, balances)?;
                Variant::Decline
            }
            Action::Hold { transfer, legs, expire_time } => {
                record.expire_time_nanos = expire_time.as_nanos();
                record.set_legs(transfer, legs)?;
                Variant::Hold
            }
            Action::Post { transfer, legs } => {
                record.set_legs(transfer, legs)?;
                Variant::Post
            }
            Action::Capture { transfer, legs } => {
                record.set_legs(transfer, legs)?;
                Variant::Capture
            }
            Action::Cancel { transfer, legs } => {
                record.set_legs(transfer, legs)?;
                Variant::Cancel
            }
            Action::Expire { transfer, legs } => {
                record.set_legs(transfer, legs)?;
                Variant::Expire
            }
            Action::CaptureLate { transfer, legs } => {
                record.set_legs(transfer, legs)?;
                Variant::CaptureLate
            }
            Action::Suspend { transfer, legs } => {
                record.set_suspense(transfer, legs, suspended_changes(transfer, legs[0].pending))?;
                Variant::Suspend
            }
            Action::Resolve { transfer, legs, counted_day, resolution } => {
                let suspense =
                    record.set_suspense(transfer, legs, resolved_changes(transfer, legs[0].pending))?;
                suspense.counted_day = *counted_day;
                suspense.operator = resolution.operator.to_string();
                suspense.reason = resolution.reason.to_string();
                Variant::Resolve
            }
        };
        record.action = variant as u32;
        Ok(record)
    }

    fn set_transfer(&mut self, transfer: &Transfer) {
        (self.debit_high, self.debit_low) = transfer.debit.as_uuid().as_u64_pair();
        (self.credit_high, self.credit_low) = transfer.credit.as_uuid().as_u64_pair();
        self.amount = transfer.amount;
        self.currency = currency_number(transfer.currency);
    }

    fn set_legs(&mut self, transfer: &Transfer, legs: &[Leg; 2]) -> Result<(), EncodeError> {
        let [debit, credit] = legs;
        if debit.posted != credit.posted || debit.pending != credit.pending {
            return Err(EncodeError);
        }
        self.set_debit_and_credit(transfer, debit, credit)
    }

    fn set_debit_and_credit(
        &mut self,
        transfer: &Transfer,
        debit: &Leg,
        credit: &Leg,
    ) -> Result<(), EncodeError> {
        if debit.account_id != transfer.debit || credit.account_id != transfer.credit {
            return Err(EncodeError);
        }
        self.set_transfer(transfer);
        self.set_balances(debit.balance, credit.balance);
        (self.posted, self.pending) = (debit.posted, debit.pending);
        (self.debit_previous, self.debit_previous_high, self.debit_previous_low) =
            entry_numbers(debit.previous);
        (self.credit_previous, self.credit_previous_high, self.credit_previous_low) =
            entry_numbers(credit.previous);
        Ok(())
    }

    /// `changes` is how the legs have to change for the bytes to say it.
    fn set_suspense(
        &mut self,
        transfer: &Transfer,
        legs: &[Leg; 3],
        changes: Option<Changes>,
    ) -> Result<&mut Suspense, EncodeError> {
        let [debit, credit, suspense] = legs;
        let found = [debit, credit, suspense].map(|leg| (leg.posted, leg.pending));
        if changes != Some(found) {
            return Err(EncodeError);
        }
        self.set_debit_and_credit(transfer, debit, credit)?;
        let (account_high, account_low) = suspense.account_id.as_uuid().as_u64_pair();
        let (previous, previous_high, previous_low) = entry_numbers(suspense.previous);
        Ok(self.suspense.insert(Box::new(Suspense {
            account_high,
            account_low,
            balance_posted: suspense.balance.posted,
            balance_available: suspense.balance.available,
            previous,
            previous_high,
            previous_low,
            ..Suspense::default()
        })))
    }

    fn set_balances(&mut self, debit: Balance, credit: Balance) {
        (self.debit_balance_posted, self.debit_balance_available) = (debit.posted, debit.available);
        (self.credit_balance_posted, self.credit_balance_available) = (credit.posted, credit.available);
    }

    fn set_decline(
        &mut self,
        kind: StepKind,
        decline: &Decline,
        balances: &[Option<Balance>; 2],
    ) -> Result<(), EncodeError> {
        self.declined_kind = match kind {
            StepKind::Post => 1,
            StepKind::Hold => 2,
            StepKind::OpenAccount
            | StepKind::Capture
            | StepKind::Cancel
            | StepKind::Expire
            | StepKind::CaptureLate
            | StepKind::Suspend
            | StepKind::Resolve => return Err(EncodeError),
        };
        self.decline_reason = match decline.reason {
            DeclineReason::InsufficientFunds => 1,
            DeclineReason::DailyLimitExceeded => 2,
            DeclineReason::DebitAccountNotFound => 3,
            DeclineReason::CreditAccountNotFound => 4,
            DeclineReason::BalanceOverflow => 5,
        };
        self.decline_available = decline.available;
        self.existing_accounts = u32::from(balances[0].is_some()) + 2 * u32::from(balances[1].is_some());
        self.set_balances(balances[0].unwrap_or_default(), balances[1].unwrap_or_default());
        Ok(())
    }

    fn set_terms(&mut self, id: TransactionId, terms: &AccountTerms) -> Result<(), EncodeError> {
        if id.as_uuid() != terms.account_id.as_uuid() {
            return Err(EncodeError);
        }
        self.account_kind = account_kind_number(terms.kind);
        self.currency = currency_number(terms.currency);
        self.account_number = terms.number.to_string();
        self.holder_name = terms.holder_name.to_string();
        self.overdraft_limit = terms.overdraft_limit;
        self.daily_withdrawal_limit = terms.daily_withdrawal_limit;
        Ok(())
    }

    fn into_step(self, key: StepKey) -> Result<Step, DecodeError> {
        let action = self.action(key.id)?;
        let terminal = [self.terminal_0, self.terminal_1, self.terminal_2, self.terminal_3];
        Ok(Step {
            id: key.id,
            ordinal: key.ordinal,
            commit_sequence: self.commit_sequence,
            commit_time: Timestamp::from_nanos(self.commit_time_nanos),
            day: self.day,
            terminal: terminal_of(terminal),
            action,
        })
    }

    fn action(&self, id: TransactionId) -> Result<Action, DecodeError> {
        const fn is(number: u32, variant: Variant) -> bool {
            number == variant as u32
        }
        let number = self.action;
        if is(number, Variant::OpenAccount) {
            return Ok(Action::OpenAccount(Box::new(self.terms(id)?)));
        }
        if is(number, Variant::Tombstone) {
            return Ok(Action::Tombstone);
        }
        let transfer = self.transfer()?;
        if is(number, Variant::Decline) {
            return self.decline(transfer);
        }
        if is(number, Variant::Suspend) || is(number, Variant::Resolve) {
            return self.suspend_or_resolve(transfer, is(number, Variant::Resolve));
        }
        let legs = self.legs(&transfer)?;
        if is(number, Variant::Hold) {
            let expire_time = Timestamp::from_nanos(self.expire_time_nanos);
            return Ok(Action::Hold { transfer, legs, expire_time });
        }
        if is(number, Variant::Post) {
            Ok(Action::Post { transfer, legs })
        } else if is(number, Variant::Capture) {
            Ok(Action::Capture { transfer, legs })
        } else if is(number, Variant::Cancel) {
            Ok(Action::Cancel { transfer, legs })
        } else if is(number, Variant::Expire) {
            Ok(Action::Expire { transfer, legs })
        } else if is(number, Variant::CaptureLate) {
            Ok(Action::CaptureLate { transfer, legs })
        } else {
            Err(DecodeError("its action is not known"))
        }
    }

    fn transfer(&self) -> Result<Transfer, DecodeError> {
        Ok(Transfer {
            debit: account_of(self.debit_high, self.debit_low),
            credit: account_of(self.credit_high, self.credit_low),
            amount: self.amount,
            currency: currency_of(self.currency)?,
        })
    }

    fn balances(&self) -> [Balance; 2] {
        [
            Balance { posted: self.debit_balance_posted, available: self.debit_balance_available },
            Balance { posted: self.credit_balance_posted, available: self.credit_balance_available },
        ]
    }

    fn legs(&self, transfer: &Transfer) -> Result<[Leg; 2], DecodeError> {
        let leg = |account_id, balance, previous| Leg {
            account_id,
            posted: self.posted,
            pending: self.pending,
            balance,
            previous,
        };
        let [debit, credit] = self.balances();
        let debit_previous =
            entry_of(self.debit_previous, self.debit_previous_high, self.debit_previous_low)?;
        let credit_previous =
            entry_of(self.credit_previous, self.credit_previous_high, self.credit_previous_low)?;
        Ok([leg(transfer.debit, debit, debit_previous), leg(transfer.credit, credit, credit_previous)])
    }

    fn suspend_or_resolve(&self, transfer: Transfer, resolves: bool) -> Result<Action, DecodeError> {
        const MISSHAPEN: DecodeError = DecodeError("its leg on suspense is not known");
        let suspense = self.suspense.as_ref().ok_or(MISSHAPEN)?;
        let changes = if resolves {
            resolved_changes(&transfer, self.pending)
        } else {
            suspended_changes(&transfer, self.pending)
        };
        let [mut debit, mut credit] = self.legs(&transfer)?;
        let mut on_suspense = Leg {
            account_id: account_of(suspense.account_high, suspense.account_low),
            posted: 0,
            pending: 0,
            balance: Balance { posted: suspense.balance_posted, available: suspense.balance_available },
            previous: entry_of(suspense.previous, suspense.previous_high, suspense.previous_low)?,
        };
        // One spelling only: what follows from the amount is stored all the same, for the debit.
        let changes = changes.filter(|[debit, ..]| *debit == (self.posted, self.pending)).ok_or(MISSHAPEN)?;
        for (leg, (posted, pending)) in [&mut debit, &mut credit, &mut on_suspense].into_iter().zip(changes) {
            (leg.posted, leg.pending) = (posted, pending);
        }
        let legs = Box::new([debit, credit, on_suspense]);
        Ok(if resolves {
            let resolution = Resolution {
                operator: suspense.operator.as_str().into(),
                reason: suspense.reason.as_str().into(),
            };
            let counted_day = suspense.counted_day;
            Action::Resolve { transfer, legs, counted_day, resolution: Box::new(resolution) }
        } else {
            Action::Suspend { transfer, legs }
        })
    }

    fn decline(&self, transfer: Transfer) -> Result<Action, DecodeError> {
        let kind = match self.declined_kind {
            1 => StepKind::Post,
            2 => StepKind::Hold,
            _ => return Err(DecodeError("what was declined is not known")),
        };
        let reason = match self.decline_reason {
            1 => DeclineReason::InsufficientFunds,
            2 => DeclineReason::DailyLimitExceeded,
            3 => DeclineReason::DebitAccountNotFound,
            4 => DeclineReason::CreditAccountNotFound,
            5 => DeclineReason::BalanceOverflow,
            _ => return Err(DecodeError("its reason is not known")),
        };
        let [debit, credit] = self.balances();
        let balances = match self.existing_accounts {
            0 => [None, None],
            1 => [Some(debit), None],
            2 => [None, Some(credit)],
            3 => [Some(debit), Some(credit)],
            _ => return Err(DecodeError("its accounts are not known")),
        };
        let decline = Decline { reason, available: self.decline_available };
        Ok(Action::Decline { kind, transfer, decline, balances })
    }

    fn terms(&self, id: TransactionId) -> Result<AccountTerms, DecodeError> {
        Ok(AccountTerms {
            account_id: AccountId::from_uuid(id.as_uuid()),
            kind: account_kind_of(self.account_kind).ok_or(DecodeError("its account kind is not known"))?,
            currency: currency_of(self.currency)?,
            number: self.account_number.as_str().into(),
            holder_name: self.holder_name.as_str().into(),
            overdraft_limit: self.overdraft_limit,
            daily_withdrawal_limit: self.daily_withdrawal_limit,
        })
    }
}

/// Posted and pending change of debit, credit and credit on suspense.
type Changes = [(i64, i64); 3];

/// How a suspension changes its legs, given the pending change of its debit: none when the hold stood, the
/// amount when it was gone.
fn suspended_changes(transfer: &Transfer, debit_pending: i64) -> Option<Changes> {
    let amount = transfer.amount;
    let credit_pending = debit_pending.checked_sub(amount)?;
    (debit_pending == 0 || debit_pending == amount).then_some([
        (0, debit_pending),
        (0, credit_pending),
        (0, amount),
    ])
}

/// How a resolution changes its legs, given the pending change of its debit: what was frozen, negative.
fn resolved_changes(transfer: &Transfer, debit_pending: i64) -> Option<Changes> {
    Some([(transfer.amount, debit_pending), (transfer.amount, 0), (0, debit_pending)])
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
