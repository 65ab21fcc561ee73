//! Opening an account together with its opening balance.
//!
//! Both carry ids that derive from the account's number, so that a repetition completes what is missing and posts
//! nothing twice. An opening balance of nothing is made as final as any other: its id is cancelled, so that a
//! later request with another opening balance is told apart from a first one that was cut off.

use atm_proto::gateway::{NewAccount, OpenAccountResponse};
use atm_proto::ledger::{
    Account, AccountKind, CancelTransactionRequest, OpenAccountRequest, Outcome, PostTransactionRequest,
};
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Currency, Money, TransactionId, TransactionIdKind};

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert;
use crate::request;
use crate::upstream::Asked;

/// An account that may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Derived from its number.
    pub account_id: AccountId,
    /// Whose currency is the account's.
    pub opening_balance: Money,
    terms: Account,
}

/// The command that settles the opening balance.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// There is one: post it.
    Post(PostTransactionRequest),
    /// There is none, and never will be.
    Never(CancelTransactionRequest),
}

impl Opening {
    /// Checks an account to open.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn of(account: Option<NewAccount>) -> Result<Self, Failure> {
        let new = account.ok_or_else(|| Failure::invalid("account", "is required"))?;
        let account_id = request::account_number(&new.account_number)?;
        let name_fits = (1..=100).contains(&new.holder_name.chars().count());
        if !name_fits || new.holder_name.chars().any(char::is_control) {
            let rule = "must be 1 to 100 characters and no control characters";
            return Err(Failure::invalid("account.holder_name", rule));
        }
        let money =
            new.opening_balance.ok_or_else(|| Failure::invalid("account.opening_balance", "is required"))?;
        let currency: Currency = money.currency_code.parse().map_err(|error: atm_types::MoneyError| {
            Failure::invalid("account.opening_balance.currency_code", error.to_string())
        })?;
        for (field, minor_units) in [
            ("account.opening_balance.minor_units", money.minor_units),
            ("account.overdraft_limit_minor_units", new.overdraft_limit_minor_units),
            ("account.daily_withdrawal_limit_minor_units", new.daily_withdrawal_limit_minor_units),
        ] {
            if minor_units < 0 {
                return Err(Failure::invalid(field, "must be 0 or more"));
            }
        }
        let terms = Account {
            account_id: account_id.to_string(),
            kind: AccountKind::Customer.into(),
            currency_code: currency.to_string(),
            account_number: new.account_number,
            holder_name: new.holder_name,
            overdraft_limit_minor_units: new.overdraft_limit_minor_units,
            daily_withdrawal_limit_minor_units: new.daily_withdrawal_limit_minor_units,
            ..Account::default()
        };
        Ok(Self { account_id, opening_balance: Money::new(money.minor_units, currency), terms })
    }

    /// The command that opens the account.
    pub fn open(&self) -> OpenAccountRequest {
        OpenAccountRequest { account: Some(self.terms.clone()) }
    }

    /// The command that settles its opening balance.
    pub fn settle(&self) -> Settlement {
        let id = TransactionId::derived(TransactionIdKind::OpeningBalance, self.account_id).to_string();
        if self.opening_balance.minor_units() == 0 {
            return Settlement::Never(CancelTransactionRequest {
                transaction_id: id,
                terminal_id: String::new(),
            });
        }
        Settlement::Post(PostTransactionRequest {
            transaction_id: id,
            terminal_id: String::new(),
            debit_account_id: AccountId::of_opening_balances(self.opening_balance.currency()).to_string(),
            credit_account_id: self.account_id.to_string(),
            amount: Some(convert::money(self.opening_balance)),
        })
    }

    /// Whether the recorded outcome is what was asked for.
    ///
    /// # Errors
    /// [`Failure::AccountDiffers`], [`Failure::OpeningBalanceDeclined`], [`Failure::Defect`].
    pub fn settled(&self, outcome: Option<&Outcome>) -> Result<(), Failure> {
        let outcome = outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
        let some = self.opening_balance.minor_units() != 0;
        match outcome.state() {
            TransactionState::Posted if some => Ok(()),
            TransactionState::Cancelled if !some => Ok(()),
            TransactionState::Posted | TransactionState::Cancelled => Err(OPENING_BALANCE_DIFFERS),
            TransactionState::Declined if some => Err(Failure::OpeningBalanceDeclined),
            TransactionState::Declined => Err(OPENING_BALANCE_DIFFERS),
            TransactionState::Unspecified
            | TransactionState::Held
            | TransactionState::Captured
            | TransactionState::Expired
            | TransactionState::CapturedLate
            | TransactionState::Suspect => Err(Failure::missing("ledger", "state of a posting")),
        }
    }
}

const OPENING_BALANCE_DIFFERS: Failure = Failure::AccountDiffers { field: "opening_balance" };

/// Another opening balance under the derived id is another opening balance, not a reused id.
pub fn settlement_failure(failure: Failure) -> Failure {
    match failure {
        Failure::IdReused { .. } => OPENING_BALANCE_DIFFERS,
        other => other,
    }
}

/// Opens an account and settles its opening balance, once.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::AccountDiffers`], [`Failure::OpeningBalanceDeclined`], and those of the
/// ledger.
pub async fn open_account(
    gateway: &Gateway,
    deadline: Deadline,
    account: Option<NewAccount>,
) -> Result<OpenAccountResponse, Failure> {
    let opening = Opening::of(account)?;
    gateway.ledger.open_account(deadline, Asked::Opening, opening.open()).await?;
    let outcome = match opening.settle() {
        Settlement::Post(post) => {
            let currency = opening.opening_balance.currency();
            let balances = gateway.accounts.opening_balances(&gateway.ledger, deadline, currency).await;
            balances.map_err(Failure::after_a_part)?;
            let answer = gateway.ledger.post_transaction(deadline, Asked::Cash, post).await;
            answer.map_err(settlement_failure).map_err(Failure::after_a_part)?.outcome
        }
        Settlement::Never(cancel) => {
            let answer = gateway.ledger.cancel_transaction(deadline, Asked::Transaction, cancel).await;
            answer.map_err(settlement_failure).map_err(Failure::after_a_part)?.outcome
        }
    };
    opening.settled(outcome.as_ref())?;
    Ok(OpenAccountResponse { account_id: opening.account_id.to_string() })
}

#[cfg(test)]
mod tests {
    use atm_proto::types::Money as WireMoney;

    use super::*;

    fn new(minor_units: i64) -> NewAccount {
        NewAccount {
            account_number: "Farhan".to_owned(),
            holder_name: "Farhan".to_owned(),
            opening_balance: Some(WireMoney { currency_code: "BDT".to_owned(), minor_units }),
            overdraft_limit_minor_units: 0,
            daily_withdrawal_limit_minor_units: 0,
        }
    }

    fn field(account: Option<NewAccount>) -> String {
        match Opening::of(account) {
            Err(Failure::Invalid { field, .. }) => field.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn row_24_each_field_is_checked_and_named() {
        assert_eq!(field(None), "account");
        assert_eq!(
            field(Some(NewAccount { account_number: "a\nb".into(), ..new(1) })),
            "account.account_number"
        );
        for name in ["", "a\u{7}", "a\u{85}b", &"x".repeat(101)] {
            let account = NewAccount { holder_name: name.to_owned(), ..new(1) };
            assert_eq!(field(Some(account)), "account.holder_name", "{name:?}");
        }
        let account = NewAccount { opening_balance: None, ..new(1) };
        assert_eq!(field(Some(account)), "account.opening_balance");
        assert_eq!(field(Some(new(-1))), "account.opening_balance.minor_units");
        let account = NewAccount { overdraft_limit_minor_units: -1, ..new(1) };
        assert_eq!(field(Some(account)), "account.overdraft_limit_minor_units");
        assert!(Opening::of(Some(NewAccount { holder_name: "ফারহান".to_owned(), ..new(1) })).is_ok());
    }

    #[test]
    fn no_opening_balance_is_as_final_as_any() {
        let none = Opening::of(Some(new(0))).unwrap();
        let some = Opening::of(Some(new(5))).unwrap();
        assert!(matches!(none.settle(), Settlement::Never(_)));
        let (Settlement::Never(never), Settlement::Post(post)) = (none.settle(), some.settle()) else {
            panic!()
        };
        assert_eq!(never.transaction_id, post.transaction_id, "both stand under the one derived id");
        let outcome = |state: TransactionState| Outcome { state: state.into(), ..Outcome::default() };
        assert_eq!(some.settled(Some(&outcome(TransactionState::Posted))), Ok(()));
        assert_eq!(none.settled(Some(&outcome(TransactionState::Cancelled))), Ok(()));
        let differs = Err(OPENING_BALANCE_DIFFERS);
        assert_eq!(some.settled(Some(&outcome(TransactionState::Cancelled))), differs);
        assert_eq!(none.settled(Some(&outcome(TransactionState::Posted))), differs);
        let declined = some.settled(Some(&outcome(TransactionState::Declined)));
        assert_eq!(declined, Err(Failure::OpeningBalanceDeclined));
    }
}
