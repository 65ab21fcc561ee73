//! What is known of the ledger's accounts for good: which kind they are, and which were opened.
//!
//! An account's kind never changes and an account is never closed, so this memory can be emptied at any time,
//! and is when it is full, but it can never be wrong.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use atm_proto::ledger::{Account, AccountKind, GetAccountRequest, OpenAccountRequest};
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Currency};

use crate::cash::Bin;
use crate::failure::{Defect, Failure};
use crate::terminal::AtmId;
use crate::upstream::{Asked, Ledger};

/// So many accounts are remembered, some 3 MiB.
const CAPACITY: usize = 65_536;

/// The kinds of accounts that were asked for before.
#[derive(Debug, Default)]
pub struct Accounts {
    kinds: Mutex<HashMap<AccountId, AccountKind>>,
}

impl Accounts {
    /// The account of a place where cash can be, opened if this process never saw it.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn place(
        &self,
        ledger: &Ledger,
        deadline: Deadline,
        bin: Bin,
        atm_id: &AtmId,
        currency: Currency,
    ) -> Result<AccountId, Failure> {
        let id = bin.account(atm_id, currency);
        self.open(ledger, deadline, id, bin.kind(), currency, bin.title(atm_id)).await?;
        Ok(id)
    }

    /// The account that opening balances come from, opened if this process never saw it.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn opening_balances(
        &self,
        ledger: &Ledger,
        deadline: Deadline,
        currency: Currency,
    ) -> Result<AccountId, Failure> {
        let id = AccountId::of_opening_balances(currency);
        let name = "Opening balances".to_owned();
        self.open(ledger, deadline, id, AccountKind::OpeningBalance, currency, name).await?;
        Ok(id)
    }

    /// The kind of an account, or none if there is no such account yet.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn kind(
        &self,
        ledger: &Ledger,
        deadline: Deadline,
        id: AccountId,
    ) -> Result<Option<AccountKind>, Failure> {
        if let Some(kind) = self.known(id) {
            return Ok(Some(kind));
        }
        let request = GetAccountRequest { account_id: id.to_string() };
        match ledger.get_account(deadline, Asked::Account, request).await {
            Ok(answer) => {
                let account = answer.account.ok_or_else(|| Failure::missing("ledger", "account"))?;
                self.remember(id, account.kind());
                Ok(Some(account.kind()))
            }
            Err(Failure::AccountNotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The kind of an account, if it was asked for before.
    pub fn known(&self, id: AccountId) -> Option<AccountKind> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn remember(&self, id: AccountId, kind: AccountKind) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= CAPACITY {
            kinds.clear();
        }
        kinds.insert(id, kind);
    }

    async fn open(
        &self,
        ledger: &Ledger,
        deadline: Deadline,
        id: AccountId,
        kind: AccountKind,
        currency: Currency,
        holder_name: String,
    ) -> Result<(), Failure> {
        if self.known(id) == Some(kind) {
            return Ok(());
        }
        let account = Account {
            account_id: id.to_string(),
            kind: kind.into(),
            currency_code: currency.to_string(),
            holder_name,
            ..Account::default()
        };
        let request = OpenAccountRequest { account: Some(account) };
        match ledger.open_account(deadline, Asked::Opening, request).await {
            Ok(_) => {
                self.remember(id, kind);
                Ok(())
            }
            // The id is derived from the kind: only another program can have taken it for something else.
            Err(Failure::AccountDiffers { field }) => Err(Failure::Defect(Defect {
                upstream: "ledger",
                code: tonic::Code::AlreadyExists,
                message: format!("account {id} of the bank itself differs in {field}"),
            })),
            Err(failure) => Err(failure),
        }
    }
}
