//! The trial balance and the verification.

use std::collections::HashMap;

use atm_proto::ledger::{AccountKind, GetTrialBalanceRequest, VerifyLedgerRequest};

use crate::support::*;

#[tokio::test]
async fn the_trial_balance_sums_accounts_by_kind_and_currency() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000), ("Ayesha", 500)]).await;
    client.hold_transaction(hold(&new_id(), &customer("Farhan"), &cash(), 300)).await.unwrap();
    client.post_transaction(post(&new_id(), &customer("Ayesha"), &cash(), 200)).await.unwrap();
    let balance = client.get_trial_balance(GetTrialBalanceRequest {}).await.unwrap().into_inner();
    assert!(balance.balanced);
    assert_eq!(balance.commit_sequence, last_sequence(&mut client).await);
    let lines: HashMap<_, _> = balance
        .lines
        .iter()
        .map(|line| {
            assert_eq!(line.currency_code, "BDT");
            let sums = [
                &line.debits_posted_minor_units,
                &line.credits_posted_minor_units,
                &line.debits_pending_minor_units,
                &line.credits_pending_minor_units,
            ];
            (line.kind(), (line.account_count, sums.map(|sum| sum.parse::<i128>().unwrap())))
        })
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[&AccountKind::Customer], (2, [200, 1_500, 300, 0]));
    assert_eq!(lines[&AccountKind::Cash], (1, [0, 200, 0, 300]));
    assert_eq!(lines[&AccountKind::OpeningBalance], (1, [1_500, 0, 0, 0]));
}

#[tokio::test]
async fn verification_reads_everything_finds_nothing_and_says_when_it_is_complete() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    for amount in 1..20 {
        client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), amount)).await.unwrap();
    }
    let bank = bank.restart().await;
    let mut client = bank.client();
    let mut stream = client.verify_ledger(VerifyLedgerRequest {}).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(message.findings, Vec::<String>::new());
        assert!(!last.is_some_and(|last: atm_proto::ledger::VerifyLedgerResponse| last.complete));
        last = Some(message);
    }
    let last = last.unwrap();
    assert!(last.complete);
    assert_eq!((last.steps_checked, last.steps_total), (23, 23));
    assert_eq!(last.chain_head.len(), 64);
}
