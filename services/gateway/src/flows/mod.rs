//! What a cash machine can ask for, one file each. A flow checks its request, asks auth or the ledger, and
//! says what of the answer its caller may see. It never looks at a balance or a limit: that is the ledger's.

pub mod authorize;
pub mod balance;
pub mod cancel;
pub mod capture;
pub mod cash_movement;
pub mod change_pin;
pub mod deposit;
pub mod log_in;
pub mod log_out;
pub mod sign_on;
pub mod statement;
pub mod suspend;
pub mod transaction;
pub mod transfer;
pub mod withdraw;

use std::time::Duration;

use atm_proto::ledger::{self, AccountKind, PostTransactionRequest, PostTransactionResponse};
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Money, TransactionId};

use crate::caller::{Customer, Terminal};
use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, Side};
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// How long a recorded outcome may wait for the balance that is shown beside it.
const SIDE_TIME: Duration = Duration::from_millis(500);

impl Gateway {
    /// The account of a place in the machine that the customer stands at.
    async fn place_of(&self, customer: &Customer, bin: Bin) -> Result<AccountId, Failure> {
        let atm_id = &customer.session.atm_id;
        self.accounts.place(&self.ledger, customer.deadline, bin, atm_id, self.currency).await
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
    /// one that is none of the machine's places. A transfer is the debtor's.
    ///
    /// None when there is no customer in it, as on a tombstone or when the machine moved its own cash, or when it
    /// cannot be found out now: the recorded outcome matters more than the balance beside it.
    async fn customers_side(&self, terminal: &Terminal, outcome: &ledger::Outcome) -> Option<Side> {
        let debit = convert::account_id(&outcome.debit_account_id)?;
        let credit = convert::account_id(&outcome.credit_account_id)?;
        let place = |account| terminal.atm_id.as_ref().is_some_and(|atm| self.is_place_of(atm, account));
        match (place(debit), place(credit)) {
            (true, true) => return None,
            (false, true) => return Some(Side::Debit),
            (true, false) => return Some(Side::Credit),
            (false, false) => {}
        }
        let deadline = terminal.deadline.min(Deadline::after(SIDE_TIME));
        self.side_among(deadline, outcome).await.ok().flatten()
    }

    /// The side of the customer in a transaction, by the kinds of its accounts. A transfer is the debtor's.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn side_among(
        &self,
        deadline: Deadline,
        outcome: &ledger::Outcome,
    ) -> Result<Option<Side>, Failure> {
        for (account, side) in
            [(&outcome.debit_account_id, Side::Debit), (&outcome.credit_account_id, Side::Credit)]
        {
            let Some(account) = convert::account_id(account) else { continue };
            match self.accounts.kind(&self.ledger, deadline, account).await? {
                Some(AccountKind::Customer) => return Ok(Some(side)),
                Some(
                    AccountKind::Unspecified
                    | AccountKind::Cash
                    | AccountKind::Suspense
                    | AccountKind::OpeningBalance,
                )
                | None => {}
            }
        }
        Ok(None)
    }

    /// Whether an account is a place of this machine, or the vault.
    pub fn is_place_of(&self, atm_id: &AtmId, account: AccountId) -> bool {
        let mut places = Bin::OF_A_MACHINE.into_iter().chain([Bin::Vault]);
        places.any(|bin| bin.account(atm_id, self.currency) == account)
    }
}
