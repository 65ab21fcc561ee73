//! Calls with their messages read.

use std::collections::BTreeMap;

use atm_proto::gateway::{self as wire, Outcome};
use atm_proto::types::{Money, TransactionState};
use atm_types::{AccountId, TransactionId};
use prost::Message;

use crate::evidence::{Call, Evidence};
use crate::plan::CUSTOMERS;

/// A call about a transaction.
pub(super) struct Asked<'a> {
    pub(super) call: &'a Call,
    pub(super) id: TransactionId,
    pub(super) amount: Option<Money>,
    /// What came back, if it was an outcome.
    pub(super) told: Option<(Outcome, TransactionState)>,
}

/// Every call about a transaction, in the order in which they began.
pub(super) fn asked(evidence: &Evidence) -> Vec<Asked<'_>> {
    evidence.calls.iter().filter_map(read).collect()
}

fn read(call: &Call) -> Option<Asked<'_>> {
    macro_rules! of {
        ($request:ident, $response:ident, $amount:expr) => {{
            let request = wire::$request::decode(&call.request[..]).ok()?;
            let answer = call.answer.as_ref().and_then(|(_, answer)| answer.as_ref().ok());
            let told =
                answer.and_then(|bytes| wire::$response::decode(&bytes[..]).ok()).and_then(|response| {
                    let state = response.current_state();
                    Some((response.outcome?, state))
                });
            let amount: fn(&wire::$request) -> Option<Money> = $amount;
            Some(Asked { call, id: request.transaction_id.parse().ok()?, amount: amount(&request), told })
        }};
    }
    match call.method {
        "AuthorizeWithdrawal" => {
            of!(AuthorizeWithdrawalRequest, AuthorizeWithdrawalResponse, |r| r.amount.clone())
        }
        "CaptureWithdrawal" => of!(CaptureWithdrawalRequest, CaptureWithdrawalResponse, |r| r.amount.clone()),
        "SuspendWithdrawal" => of!(SuspendWithdrawalRequest, SuspendWithdrawalResponse, |_| None),
        "RecordCashMovement" => {
            of!(RecordCashMovementRequest, RecordCashMovementResponse, |r| r.amount.clone())
        }
        "CancelTransaction" => of!(CancelTransactionRequest, CancelTransactionResponse, |_| None),
        "Deposit" => of!(DepositRequest, DepositResponse, |r| r.amount.clone()),
        "Transfer" => of!(TransferRequest, TransferResponse, |r| r.amount.clone()),
        "Withdraw" => of!(WithdrawRequest, WithdrawResponse, |r| r.amount.clone()),
        _ => None,
    }
}

/// Whether a method decides an amount at first sight: what it is answered with was asked for with this amount.
pub(super) fn decides(method: &str) -> bool {
    matches!(method, "AuthorizeWithdrawal" | "RecordCashMovement" | "Deposit" | "Transfer" | "Withdraw")
}

/// The message of an answer.
pub(super) fn answer<M: Message + Default>(call: &Call) -> Option<M> {
    let (_, answer) = call.answer.as_ref()?;
    M::decode(&answer.as_ref().ok()?[..]).ok()
}

/// The account of each session that was opened, by its token: that of the card that was inserted, whatever the bank says.
pub(super) fn accounts_of_sessions(evidence: &Evidence) -> BTreeMap<String, AccountId> {
    let opened = evidence.calls.iter().filter(|call| call.method == "LogIn").filter_map(|call| {
        let session: wire::LogInResponse = answer(call)?;
        let inserted = wire::LogInRequest::decode(&call.request[..]).ok()?.card_number;
        let owner = CUSTOMERS.iter().find(|who| who.card == inserted)?;
        Some((session.session_token, AccountId::of_number(owner.account)))
    });
    opened.collect()
}

/// The account that a call is about, by its session.
pub(super) fn account_of(call: &Call, accounts: &BTreeMap<String, AccountId>) -> Option<AccountId> {
    accounts.get(token_of(call.session.as_deref()?)).copied()
}

/// The token in what was sent as the header of a call.
pub(super) fn token_of(header: &str) -> &str {
    header.trim_start_matches("Bearer ")
}
