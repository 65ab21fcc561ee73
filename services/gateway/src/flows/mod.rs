//! What a cash machine can ask for, one file each. A flow checks its request, asks auth or the ledger, and
//! says what of the answer its caller may see. It never looks at a balance or a limit: that is the ledger's.

pub mod authorize;
pub mod balance;
pub mod cancel;
pub mod capture;
pub mod change_pin;
pub mod deposit;
pub mod log_in;
pub mod log_out;
pub mod statement;
pub mod transaction;
pub mod transfer;
pub mod withdraw;

use std::time::Duration;

use atm_proto::ledger::{self, AccountKind, PostTransactionRequest, PostTransactionResponse};
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Money, TransactionId};

use crate::caller::{Customer, Terminal};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, Side};
use crate::upstream::Asked;

/// How long a recorded outcome may wait for the balance that is shown beside it.
const SIDE_TIME: Duration = Duration::from_millis(500);

impl Gateway {
    /// The cash account of the machine that the customer stands at.
    async fn cash_of(&self, customer: &Customer) -> Result<AccountId, Failure> {
        let atm_id = &customer.session.atm_id;
        self.accounts.cash(&self.ledger, customer.deadline, atm_id, self.currency).await
    }

    /// Moves money in one step, in the name of the customer's terminal.
    async fn post(
        &self,
        customer: &Customer,
        asked: Asked,
        id: TransactionId,
        amount: Money,
        (debit, credit): (AccountId, AccountId),
    ) -> Result<PostTransactionResponse, Failure> {
        let request = PostTransactionRequest {
            transaction_id: id.to_string(),
            terminal_id: customer.session.terminal_id.to_string(),
            debit_account_id: debit.to_string(),
            credit_account_id: credit.to_string(),
            amount: Some(convert::money(amount)),
        };
        self.ledger.post_transaction(customer.deadline, asked, request).await
    }

    /// The side of the customer in a transaction that the terminal owns, for callers without a session: the
    /// one that is not the machine's cash. A transfer is the debtor's.
    ///
    /// None when there are no accounts, as on a tombstone, or when it cannot be found out now: the recorded
    /// outcome matters more than the balance beside it.
    async fn customers_side(&self, terminal: &Terminal, outcome: &ledger::Outcome) -> Option<Side> {
        let debit = convert::account_id(&outcome.debit_account_id)?;
        let credit = convert::account_id(&outcome.credit_account_id)?;
        let cash = terminal.atm_id.as_ref().map(|atm| AccountId::of_cash(atm.as_str(), self.currency));
        if cash == Some(credit) {
            return Some(Side::Debit);
        }
        if cash == Some(debit) {
            return Some(Side::Credit);
        }
        let deadline = terminal.deadline.min(Deadline::after(SIDE_TIME));
        match self.accounts.kind(&self.ledger, deadline, debit).await {
            Ok(Some(AccountKind::Cash)) => Some(Side::Credit),
            Ok(Some(AccountKind::Customer)) => Some(Side::Debit),
            Ok(
                Some(AccountKind::Unspecified | AccountKind::Suspense | AccountKind::OpeningBalance) | None,
            )
            | Err(_) => None,
        }
    }
}
