//! From the ledger's messages to what a customer may see of them.

use atm_proto::gateway as proto;
use atm_proto::ledger;
use atm_proto::types::{Decline, Money as WireMoney, TransactionState};
use atm_types::{AccountId, Money, TerminalId};

use crate::failure::Failure;

pub use atm_proto::ledger::Side;

/// What a caller may see of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The side whose balance is shown; none strips all balances.
    pub side: Option<Side>,
    /// Whether the caller owns the transaction and may have the ledger's authorization.
    pub owner: bool,
}

impl View {
    /// What the customer who pays, or takes cash, sees at the machine that asked.
    pub const DEBTOR: Self = Self { side: Some(Side::Debit), owner: true };
    /// What the customer who pays cash in sees at the machine that asked.
    pub const CREDITOR: Self = Self { side: Some(Side::Credit), owner: true };
}

/// A recorded step as `view` allows to see it.
///
/// # Errors
/// [`Failure::Defect`] when the ledger left it out.
pub fn outcome(outcome: Option<ledger::Outcome>, view: View) -> Result<proto::Outcome, Failure> {
    let outcome = outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
    let balance = match view.side {
        Some(Side::Debit) => outcome.debit_balance,
        Some(Side::Credit) => outcome.credit_balance,
        Some(Side::Unspecified) | None => None,
    };
    Ok(proto::Outcome {
        transaction_id: outcome.transaction_id,
        state: outcome.state,
        decline: outcome.decline.map(|decline| visible_decline(decline, view)),
        amount: outcome.amount,
        balance,
        commit_sequence: outcome.commit_sequence,
        commit_time: outcome.commit_time,
        expire_time: outcome.expire_time,
        authorization: if view.owner { outcome.authorization } else { Vec::new() },
    })
}

/// What is left to spend is for the debtor's eyes, like the balance.
fn visible_decline(decline: Decline, view: View) -> Decline {
    let available_minor_units =
        if view.side == Some(Side::Debit) { decline.available_minor_units } else { 0 };
    Decline { available_minor_units, ..decline }
}

/// The state in an answer of the ledger.
///
/// # Errors
/// [`Failure::Defect`] when it is none.
pub fn state(state: i32) -> Result<i32, Failure> {
    match TransactionState::try_from(state) {
        Ok(known) if known != TransactionState::Unspecified => Ok(state),
        Ok(_) | Err(_) => Err(Failure::missing("ledger", "state")),
    }
}

/// An account id in an answer of the ledger; none when it is empty.
pub fn account_id(text: &str) -> Option<AccountId> {
    text.parse().ok()
}

/// An owner for the wire, where nothing stands for the bank itself.
pub fn owner(terminal: TerminalId) -> String {
    if terminal == TerminalId::SERVICE { String::new() } else { terminal.to_string() }
}

/// Money for the wire.
pub fn money(money: Money) -> WireMoney {
    WireMoney { currency_code: money.currency().to_string(), minor_units: money.minor_units() }
}

#[cfg(test)]
mod tests {
    use atm_proto::types::{Balance, DeclineReason};

    use super::*;

    fn recorded() -> ledger::Outcome {
        ledger::Outcome {
            transaction_id: "id".to_owned(),
            state: TransactionState::Declined.into(),
            decline: Some(Decline {
                reason: DeclineReason::InsufficientFunds.into(),
                available_minor_units: 700,
            }),
            debit_balance: Some(Balance { balance_minor_units: 1, available_minor_units: 700 }),
            credit_balance: Some(Balance { balance_minor_units: 2, available_minor_units: 2 }),
            authorization: vec![1, 2, 3],
            ..ledger::Outcome::default()
        }
    }

    #[test]
    fn row_06_each_side_sees_its_own_balance_and_no_other() {
        let seen = |side| outcome(Some(recorded()), View { side, owner: false }).unwrap();
        assert_eq!(seen(Some(Side::Debit)).balance.unwrap().balance_minor_units, 1);
        assert_eq!(seen(Some(Side::Credit)).balance.unwrap().balance_minor_units, 2);
        assert_eq!(seen(None).balance, None);
        for side in [Some(Side::Credit), None] {
            assert_eq!(seen(side).decline.unwrap().available_minor_units, 0, "{side:?}");
        }
        assert_eq!(seen(Some(Side::Debit)).decline.unwrap().available_minor_units, 700);
    }

    #[test]
    fn only_the_owner_gets_the_authorization() {
        assert_eq!(outcome(Some(recorded()), View::DEBTOR).unwrap().authorization, [1, 2, 3]);
        let stranger = View { side: Some(Side::Debit), owner: false };
        assert!(outcome(Some(recorded()), stranger).unwrap().authorization.is_empty());
    }

    #[test]
    fn an_answer_without_an_outcome_or_a_state_is_a_defect() {
        assert!(matches!(outcome(None, View::DEBTOR), Err(Failure::Defect(_))));
        for unknown in [0, 99, -1] {
            assert!(matches!(state(unknown), Err(Failure::Defect(_))), "{unknown}");
        }
        assert_eq!(state(1), Ok(1));
    }
}
