//! A machine's withdrawals that wait for a person.
//!
//! There is no list of them anywhere: they are what the machine's suspense account still holds. Its entries are walked
//! from the newest to the oldest. A resolution comes before the suspension that it ends, so that each suspension that
//! is met without one is a suspect; and once the suspects add up to what the account holds, there are no more. The
//! work of a call is therefore bounded by the age of the oldest suspect, and in any case by `MOST_PAGES`. All of it
//! is one view of the books: what was recorded after the account was read is passed over.

use std::collections::HashSet;

use atm_proto::gateway::{ListSuspectsRequest, ListSuspectsResponse, Suspect};
use atm_proto::ledger::{GetAccountRequest, ListAccountEntriesRequest, Step};
use atm_rpc::deadline::Deadline;
use atm_types::{AccountId, Money};

use crate::cash::Bin;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::grpc::convert;
use crate::terminal::AtmId;
use crate::upstream::Asked;

/// Entries that the ledger is asked for at once.
const PAGE: i32 = 500;
/// Pages that are read at most, 10,000 entries. Beyond them the answer says that it is not complete.
const MOST_PAGES: usize = 20;
/// Suspects that fit into an answer.
const MOST_SUSPECTS: usize = 1_000;

/// Lists the machine's suspects, newest first.
///
/// # Errors
/// [`Failure::Invalid`] and those of the ledger.
pub async fn suspects(
    gateway: &Gateway,
    deadline: Deadline,
    request: ListSuspectsRequest,
) -> Result<ListSuspectsResponse, Failure> {
    let atm_id: AtmId = request.atm_id.parse()?;
    let account = Bin::Suspense.account(&atm_id, gateway.currency);
    let asked = GetAccountRequest { account_id: account.to_string() };
    let read = match gateway.ledger.get_account(deadline, Asked::Account, asked).await {
        Ok(read) => read,
        Err(Failure::AccountNotFound) => {
            return Ok(ListSuspectsResponse { suspects: Vec::new(), complete: true });
        }
        Err(failure) => return Err(failure),
    };
    let held = read.account.ok_or_else(|| Failure::missing("ledger", "account"))?.credits_pending_minor_units;
    let mut walk = Walk::new(account, read.commit_sequence, held);
    let mut page_token = String::new();
    for _ in 0..MOST_PAGES {
        if walk.is_complete() {
            break;
        }
        let asked = ListAccountEntriesRequest {
            account_id: account.to_string(),
            page_size: PAGE,
            page_token,
            posted_only: false,
        };
        let page = gateway.ledger.list_account_entries(deadline, Asked::Account, asked).await?;
        for step in page.steps {
            walk.meet(step, gateway.currency)?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(ListSuspectsResponse { complete: walk.is_complete(), suspects: walk.suspects })
}

/// What was met so far.
struct Walk {
    account: AccountId,
    /// Where the books stood when the account was read.
    sequence: u64,
    /// What the account held then and no suspect accounts for yet, in minor units.
    unexplained: i64,
    resolved: HashSet<String>,
    suspects: Vec<Suspect>,
}

impl Walk {
    fn new(account: AccountId, sequence: u64, unexplained: i64) -> Self {
        Self { account, sequence, unexplained, resolved: HashSet::new(), suspects: Vec::new() }
    }

    fn is_complete(&self) -> bool {
        self.unexplained == 0
    }

    fn meet(&mut self, step: Step, currency: atm_types::Currency) -> Result<(), Failure> {
        let outcome = step.outcome.ok_or_else(|| Failure::missing("ledger", "outcome"))?;
        if outcome.commit_sequence > self.sequence || self.is_complete() {
            return Ok(());
        }
        let own = |id: &str| convert::account_id(id) == Some(self.account);
        let entry = step.entries.iter().find(|entry| own(&entry.account_id));
        let frozen = entry.ok_or_else(|| Failure::missing("ledger", "entry"))?.pending_minor_units;
        if frozen < 0 {
            self.resolved.insert(outcome.transaction_id);
        } else if frozen > 0
            && !self.resolved.remove(&outcome.transaction_id)
            && self.suspects.len() < MOST_SUSPECTS
        {
            self.unexplained = self.unexplained.saturating_sub(frozen);
            self.suspects.push(Suspect {
                transaction_id: outcome.transaction_id,
                amount: Some(convert::money(Money::new(frozen, currency))),
                account_id: outcome.debit_account_id,
                suspend_time: outcome.commit_time,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use atm_proto::ledger::{Entry, Outcome};
    use atm_types::Currency;

    use super::*;

    fn step(account: AccountId, id: &str, pending: i64, commit_sequence: u64) -> Step {
        let entry = |account: AccountId, pending_minor_units| Entry {
            account_id: account.to_string(),
            pending_minor_units,
            ..Entry::default()
        };
        Step {
            outcome: Some(Outcome {
                transaction_id: id.to_owned(),
                debit_account_id: "customer".to_owned(),
                commit_sequence,
                ..Outcome::default()
            }),
            entries: vec![entry(AccountId::of_number("Farhan"), 0), entry(account, pending)],
            ..Step::default()
        }
    }

    fn walked(held: i64, sequence: u64, entries: &[(&str, i64, u64)]) -> (Vec<String>, bool) {
        let account = AccountId::of_suspense("ATM-1", Currency::BDT);
        let mut walk = Walk::new(account, sequence, held);
        for (id, pending, sequence) in entries {
            walk.meet(step(account, id, *pending, *sequence), Currency::BDT).unwrap();
        }
        let complete = walk.is_complete();
        (walk.suspects.into_iter().map(|suspect| suspect.transaction_id).collect(), complete)
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_suspension_without_a_resolution_is_a_suspect() {
        let entries = [("b", 5, 9), ("a", -7, 8), ("count", 0, 7), ("a", 7, 6), ("c", 3, 5)];
        assert_eq!(walked(8, 9, &entries), (ids(&["b", "c"]), true));
        assert_eq!(walked(8, 9, &entries[..4]), (ids(&["b"]), false), "3 are not accounted for");
    }

    #[test]
    fn what_happens_during_the_walk_is_passed_over() {
        let entries = [("new", 4, 11), ("a", -5, 10), ("a", 5, 6)];
        assert_eq!(walked(5, 9, &entries), (ids(&["a"]), true), "it was a suspect when the account was read");
        assert_eq!(walked(0, 9, &entries), (ids(&[]), true));
    }

    #[test]
    fn an_answer_has_an_end() {
        let many: Vec<String> = (0..=MOST_SUSPECTS).map(|number| number.to_string()).collect();
        let entries: Vec<_> = many.iter().map(|id| (id.as_str(), 1, 1)).collect();
        let (suspects, complete) = walked(i64::try_from(many.len()).unwrap(), 9, &entries);
        assert_eq!((suspects.len(), complete), (MOST_SUSPECTS, false));
    }
}
