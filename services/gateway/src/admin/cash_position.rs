//! What the books say about a machine's cash, place by place.

use atm_proto::gateway::{CashPosition, GetCashPositionRequest, GetCashPositionResponse};
use atm_proto::ledger::{Account, AccountKind, GetAccountRequest, ListEntriesRequest};
use atm_rpc::deadline::Deadline;

use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// Reads every place of the machine, one after the other: they are not one consistent view.
///
/// # Errors
/// [`Failure::Invalid`] and those of the ledger.
pub async fn cash_position(
    gateway: &Gateway,
    deadline: Deadline,
    request: GetCashPositionRequest,
) -> Result<GetCashPositionResponse, Failure> {
    let atm_id: AtmId = request.atm_id.parse()?;
    // A place without an account had none at this point of the books, at least.
    let page = ListEntriesRequest { after_sequence: 0, page_size: 1 };
    let before = gateway.ledger.list_entries(deadline, Asked::Books, page).await?.last_sequence;
    let mut positions = Vec::with_capacity(Bin::OF_A_MACHINE.len());
    let mut sequences = Vec::with_capacity(Bin::OF_A_MACHINE.len());
    for bin in Bin::OF_A_MACHINE {
        let account_id = bin.account(&atm_id, gateway.currency).to_string();
        let asked = GetAccountRequest { account_id };
        match gateway.ledger.get_account(deadline, Asked::Account, asked).await {
            Ok(answer) => {
                let account = answer.account.ok_or_else(|| Failure::missing("ledger", "account"))?;
                positions.push(position(bin, &account)?);
                sequences.push(answer.commit_sequence);
            }
            Err(Failure::AccountNotFound) => {
                positions.push(CashPosition { bin: bin.wire().into(), ..CashPosition::default() });
                sequences.push(before);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(GetCashPositionResponse {
        positions,
        currency_code: gateway.currency.to_string(),
        commit_sequence: sequences.into_iter().min().unwrap_or(before),
    })
}

fn position(bin: Bin, account: &Account) -> Result<CashPosition, Failure> {
    let (debits, credits) = (account.debits_posted_minor_units, account.credits_posted_minor_units);
    let balance = match bin.kind() {
        AccountKind::Suspense => credits.checked_sub(debits),
        AccountKind::Cash
        | AccountKind::Customer
        | AccountKind::OpeningBalance
        | AccountKind::Unspecified => debits.checked_sub(credits),
    };
    Ok(CashPosition {
        bin: bin.wire().into(),
        balance_minor_units: balance.ok_or_else(|| Failure::missing("ledger", "balance in 64 bits"))?,
        // Holds credit the cassettes, and so does what is suspended the suspense account.
        pending_minor_units: account.credits_pending_minor_units,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cash_is_on_the_debit_side_and_suspense_on_the_credit_side() {
        let account = Account {
            debits_posted_minor_units: 70,
            credits_posted_minor_units: 100,
            credits_pending_minor_units: 5,
            debits_pending_minor_units: 9,
            ..Account::default()
        };
        for bin in Bin::OF_A_MACHINE {
            let line = position(bin, &account).unwrap();
            let expected = if bin == Bin::Suspense { 30 } else { -30 };
            assert_eq!((line.bin(), line.balance_minor_units), (bin.wire(), expected));
            assert_eq!(line.pending_minor_units, 5);
        }
    }

    #[test]
    fn a_balance_that_does_not_fit_is_no_balance() {
        let account = Account {
            debits_posted_minor_units: i64::MIN,
            credits_posted_minor_units: 1,
            ..Account::default()
        };
        assert!(position(Bin::Cassettes, &account).is_err());
    }
}
