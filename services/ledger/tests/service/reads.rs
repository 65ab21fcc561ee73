//! Reading the ledger page by page, and an account's statement.

use atm_proto::ledger::{ListAccountEntriesRequest, ListEntriesRequest, Step};
use tonic::Code;

use crate::support::*;

fn sequence(step: &Step) -> u64 {
    step.outcome.as_ref().unwrap().commit_sequence
}

#[tokio::test]
async fn the_ledger_is_read_in_commit_order_without_gaps() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    for amount in 1..=10 {
        client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), amount)).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let after_sequence = seen.last().map_or(0, sequence);
        let page = client
            .list_entries(ListEntriesRequest { after_sequence, page_size: 3 })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.last_sequence, 14);
        if page.steps.is_empty() {
            break;
        }
        assert!(page.steps.len() <= 3);
        seen.extend(page.steps);
    }
    assert_eq!(seen.iter().map(sequence).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
    assert_eq!(seen[0].opened_account.as_ref().unwrap().account_id, opening());
    assert!(seen[0].entries.is_empty());
    for step in &seen[4..] {
        let [debit, credit] = &step.entries[..] else { panic!("{step:?}") };
        assert_eq!(debit.posted_minor_units, credit.posted_minor_units);
    }
    for page_size in [-1, 1_001] {
        let status =
            client.list_entries(ListEntriesRequest { after_sequence: 0, page_size }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("page_size"));
    }
}

#[tokio::test]
async fn a_statement_is_read_newest_first_page_by_page_even_while_entries_are_added() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000), ("Ayesha", 1_000)]).await;
    let farhan = customer("Farhan");
    let mut expected = Vec::new();
    for amount in 1..=5 {
        let id = new_id();
        client.post_transaction(post(&id, &farhan, &cash(), amount)).await.unwrap();
        expected.insert(0, id);
        client.post_transaction(post(&new_id(), &customer("Ayesha"), &cash(), amount)).await.unwrap();
    }
    let mut request =
        ListAccountEntriesRequest { account_id: farhan.clone(), page_size: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = client.list_account_entries(request.clone()).await.unwrap().into_inner();
        seen.extend(page.steps.into_iter().map(|step| step.outcome.unwrap()));
        client.post_transaction(post(&new_id(), &farhan, &cash(), 1)).await.unwrap();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let ids: Vec<_> = seen.iter().map(|outcome| outcome.transaction_id.clone()).collect();
    assert_eq!(ids[..5], expected);
    assert_eq!(ids.len(), 6, "the oldest is the opening balance");
    assert_eq!(seen[0].debit_balance.unwrap().balance_minor_units, 1_000 - 15);
}

#[tokio::test]
async fn a_statement_of_what_is_posted_leaves_out_holds_and_releases() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000)]).await;
    let (kept, dropped) = (new_id(), new_id());
    client.hold_transaction(hold(&kept, &customer("Farhan"), &cash(), 300)).await.unwrap();
    client.hold_transaction(hold(&dropped, &customer("Farhan"), &cash(), 200)).await.unwrap();
    client.capture_transaction(capture(&kept, 300)).await.unwrap();
    client.cancel_transaction(cancel(&dropped)).await.unwrap();
    let mut request = ListAccountEntriesRequest { account_id: customer("Farhan"), ..Default::default() };
    let all = client.list_account_entries(request.clone()).await.unwrap().into_inner();
    assert_eq!((all.steps.len(), all.next_page_token.as_str()), (5, ""));
    request.posted_only = true;
    let posted = client.list_account_entries(request).await.unwrap().into_inner().steps;
    assert_eq!(posted.len(), 2);
    assert_eq!(posted[0].outcome.as_ref().unwrap().transaction_id, kept);
}

#[tokio::test]
async fn a_garbled_or_foreign_page_token_is_refused_by_name() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000), ("Ayesha", 1_000)]).await;
    client.post_transaction(post(&new_id(), &customer("Farhan"), &cash(), 1)).await.unwrap();
    let mut request =
        ListAccountEntriesRequest { account_id: customer("Farhan"), page_size: 1, ..Default::default() };
    let token = client.list_account_entries(request.clone()).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    let foreign = ListAccountEntriesRequest {
        account_id: customer("Ayesha"),
        page_token: token.clone(),
        ..request.clone()
    };
    let mut refused = vec![foreign];
    for garbled in ["x".to_owned(), token.replace(&token[..4], "ffff"), token.clone() + "00"] {
        refused.push(ListAccountEntriesRequest { page_token: garbled, ..request.clone() });
    }
    for request in refused {
        let status = client.list_account_entries(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(atm_rpc::status::violated_field(&status).as_deref(), Some("page_token"));
    }
    request.page_token = token;
    assert_eq!(client.list_account_entries(request).await.unwrap().into_inner().steps.len(), 1);
    let nobody = ListAccountEntriesRequest { account_id: customer("nobody"), ..Default::default() };
    assert_eq!(client.list_account_entries(nobody).await.unwrap_err().code(), Code::NotFound);
}
