//! The places where a machine's cash can be, and how it moves from one to another.
//!
//! Each place has an account in the ledger, opened when it is first used. Cash that moves is a posting like any other:
//! it debits the place where it is now and credits the place where it was. Suspense is the one place that is no
//! asset: a credit raises it, so that it says by how much more was found than there should be.

use atm_proto::gateway::{CashBin, Outcome};
use atm_proto::ledger::{AccountKind, PostTransactionRequest};
use atm_proto::types::Money as WireMoney;
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Currency, Money, TerminalId, TransactionId};

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert::{self, View};
use crate::request;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// A place where cash can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bin {
    /// The bank's vault; all others belong to one machine each.
    Vault,
    /// What is dispensed from.
    Cassettes,
    /// What was picked but could not be presented.
    Reject,
    /// What was presented and taken back.
    Retract,
    /// What customers paid in.
    Deposit,
    /// What nobody can explain yet.
    Suspense,
}

impl Bin {
    /// The places of one machine.
    pub const OF_A_MACHINE: [Self; 5] =
        [Self::Cassettes, Self::Reject, Self::Retract, Self::Deposit, Self::Suspense];

    /// The place that a request names.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn of(wire: i32, field: &'static str) -> Result<Self, Failure> {
        match CashBin::try_from(wire) {
            Ok(CashBin::Vault) => Ok(Self::Vault),
            Ok(CashBin::Cassettes) => Ok(Self::Cassettes),
            Ok(CashBin::Reject) => Ok(Self::Reject),
            Ok(CashBin::Retract) => Ok(Self::Retract),
            Ok(CashBin::Deposit) => Ok(Self::Deposit),
            Ok(CashBin::Suspense) => Ok(Self::Suspense),
            Ok(CashBin::Unspecified) | Err(_) => {
                Err(Failure::invalid(field, "must be a place where cash can be"))
            }
        }
    }

    /// The place for the wire.
    pub fn wire(self) -> CashBin {
        match self {
            Self::Vault => CashBin::Vault,
            Self::Cassettes => CashBin::Cassettes,
            Self::Reject => CashBin::Reject,
            Self::Retract => CashBin::Retract,
            Self::Deposit => CashBin::Deposit,
            Self::Suspense => CashBin::Suspense,
        }
    }

    /// Its account.
    pub fn account(self, atm_id: &AtmId, currency: Currency) -> AccountId {
        match self {
            Self::Vault => AccountId::of_vault(currency),
            Self::Cassettes => AccountId::of_cash(atm_id.as_str(), currency),
            Self::Reject => AccountId::of_reject(atm_id.as_str(), currency),
            Self::Retract => AccountId::of_retract(atm_id.as_str(), currency),
            Self::Deposit => AccountId::of_deposit_box(atm_id.as_str(), currency),
            Self::Suspense => AccountId::of_suspense(atm_id.as_str(), currency),
        }
    }

    /// The kind of its account.
    pub fn kind(self) -> AccountKind {
        match self {
            Self::Vault | Self::Cassettes | Self::Reject | Self::Retract | Self::Deposit => AccountKind::Cash,
            Self::Suspense => AccountKind::Suspense,
        }
    }

    /// What its account is called.
    pub fn title(self, atm_id: &AtmId) -> String {
        match self {
            Self::Vault => "Vault".to_owned(),
            Self::Cassettes => format!("Cash in {atm_id}"),
            Self::Reject => format!("Reject bin of {atm_id}"),
            Self::Retract => format!("Retract bin of {atm_id}"),
            Self::Deposit => format!("Deposit box of {atm_id}"),
            Self::Suspense => format!("Suspense of {atm_id}"),
        }
    }
}

/// Cash that moved, as a request tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    id: TransactionId,
    from: Bin,
    to: Bin,
    amount: Money,
}

impl Movement {
    /// Checks a movement.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn of(
        transaction_id: &str,
        (from, to): (i32, i32),
        amount: Option<&WireMoney>,
        currency: Currency,
    ) -> Result<Self, Failure> {
        let id = request::transaction_id(transaction_id)?;
        let (from, to) = (Bin::of(from, "from")?, Bin::of(to, "to")?);
        if from == to {
            return Err(Failure::invalid("to", "must be another place than from"));
        }
        Ok(Self { id, from, to, amount: request::positive_amount(amount, currency)? })
    }

    /// Refuses what only an operator may say: a machine cannot explain a difference away.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn by_a_machine(self) -> Result<Self, Failure> {
        for (bin, field) in [(self.from, "from"), (self.to, "to")] {
            if bin == Bin::Suspense {
                return Err(Failure::invalid(field, "must not be SUSPENSE, which is for operators"));
            }
        }
        Ok(self)
    }
}

impl Gateway {
    /// Posts a movement within one machine, or between it and the vault. Returns the recorded outcome and where the
    /// transaction stands now.
    ///
    /// # Errors
    /// [`Failure::IdReused`] and those of the ledger.
    pub async fn move_cash(
        &self,
        deadline: Deadline,
        owner: TerminalId,
        atm_id: &AtmId,
        movement: Movement,
    ) -> Result<(Outcome, i32), Failure> {
        let Movement { id, from, to, amount } = movement;
        let currency = amount.currency();
        let debit = self.accounts.place(&self.ledger, deadline, to, atm_id, currency).await?;
        let credit = self.accounts.place(&self.ledger, deadline, from, atm_id, currency).await?;
        let post = PostTransactionRequest {
            transaction_id: id.to_string(),
            terminal_id: convert::owner(owner),
            debit_account_id: debit.to_string(),
            credit_account_id: credit.to_string(),
            amount: Some(convert::money(amount)),
        };
        let answer = self.ledger.post_transaction(deadline, Asked::CashMovement, post).await?;
        // No customer is concerned, and what is in a place is for operators.
        let view = View { side: None, owner: true };
        Ok((convert::outcome(answer.outcome, view)?, convert::state(answer.current_state)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [CashBin; 6] = [
        CashBin::Vault,
        CashBin::Cassettes,
        CashBin::Reject,
        CashBin::Retract,
        CashBin::Deposit,
        CashBin::Suspense,
    ];

    fn field(failure: Failure) -> String {
        match failure {
            Failure::Invalid { field, .. } => field.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn movement(from: CashBin, to: CashBin) -> Result<Movement, Failure> {
        let amount = WireMoney { currency_code: "BDT".to_owned(), minor_units: 5 };
        let id = "018f4e9a-5b2c-7def-8123-456789abcdef";
        Movement::of(id, (from.into(), to.into()), Some(&amount), Currency::BDT)
    }

    #[test]
    fn every_place_of_every_machine_has_an_account_of_its_own_and_all_share_the_vault() {
        let (one, two): (AtmId, AtmId) = ("ATM-1".parse().unwrap(), "ATM-2".parse().unwrap());
        let bins: Vec<Bin> = ALL.iter().map(|wire| Bin::of((*wire).into(), "bin").unwrap()).collect();
        assert!(bins.iter().zip(ALL).all(|(bin, wire)| bin.wire() == wire));
        let accounts: BTreeSet<AccountId> = [&one, &two]
            .iter()
            .flat_map(|atm| bins.iter().map(|bin| bin.account(atm, Currency::BDT)))
            .collect();
        assert_eq!(accounts.len(), 2 * Bin::OF_A_MACHINE.len() + 1);
        assert_eq!(Bin::Vault.account(&one, Currency::BDT), Bin::Vault.account(&two, Currency::BDT));
        let suspense: Vec<_> = bins.iter().filter(|bin| bin.kind() != AccountKind::Cash).collect();
        assert_eq!(suspense, [&Bin::Suspense]);
    }

    #[test]
    fn cash_moves_between_two_places_that_are_named() {
        assert!(movement(CashBin::Vault, CashBin::Cassettes).is_ok());
        assert_eq!(field(movement(CashBin::Unspecified, CashBin::Vault).unwrap_err()), "from");
        assert_eq!(field(movement(CashBin::Vault, CashBin::Unspecified).unwrap_err()), "to");
        assert_eq!(field(Bin::of(77, "bin").unwrap_err()), "bin");
        for bin in ALL {
            assert_eq!(field(movement(bin, bin).unwrap_err()), "to");
        }
    }

    #[test]
    fn suspense_is_for_operators() {
        for other in ALL.into_iter().filter(|bin| *bin != CashBin::Suspense) {
            let out = movement(CashBin::Suspense, other).unwrap();
            assert_eq!(field(out.by_a_machine().unwrap_err()), "from");
            let back = movement(other, CashBin::Suspense).unwrap();
            assert_eq!(field(back.by_a_machine().unwrap_err()), "to");
        }
        let load = movement(CashBin::Vault, CashBin::Cassettes).unwrap();
        assert_eq!(load.by_a_machine(), Ok(load));
    }
}
