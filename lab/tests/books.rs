//! The check of the books has to find what must never be. It is tried against a real bank by telling it wrongly what
//! the client knows.
#![allow(clippy::unwrap_used, reason = "test code, in functions that clippy does not know as such")]

use std::collections::BTreeSet;

use atm_lab::bank::{Bank, Customer};
use atm_lab::binaries::Binaries;
use atm_lab::books::{check_customer, check_ledger};
use atm_lab::client::Client;
use atm_lab::scenario::Call;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::retry::RetryPolicy;
use atm_types::{IdSource, SystemIds};

async fn withdraw(bank: &Bank, customer: &Customer) -> String {
    let client = Client {
        channel: lazy_channel(bank.gateway_url(), &ChannelConfig::default()).unwrap(),
        policy: RetryPolicy::default(),
        deadline: None,
        customer: customer.clone(),
        call: Call::Withdraw,
    };
    let id = SystemIds.transaction_id().to_string();
    let sample = client.run(&id, 1).await.unwrap();
    assert!(sample.known && sample.attempts >= 1);
    id
}

#[tokio::test]
async fn a_posting_too_many_or_too_few_is_found_and_named() {
    let bank = Bank::start(&Binaries::find().unwrap()).await.unwrap();
    let (customer, other) = (bank.customer(1).await.unwrap(), bank.customer(2).await.unwrap());
    let (first, second) = (withdraw(&bank, &customer).await, withdraw(&bank, &customer).await);
    let elsewhere = withdraw(&bank, &other).await;
    let mut books = bank.books().unwrap();
    let mut complaint = async |known: &[&String]| {
        let known: BTreeSet<String> = known.iter().map(|id| (*id).clone()).collect();
        check_customer(&mut books, &customer, &known).await.err().map(|error| error.to_string())
    };
    assert_eq!(complaint(&[&first, &second]).await, None);
    let too_many = complaint(&[&first]).await.unwrap();
    assert!(too_many.contains(&second) && too_many.contains("never will be"), "{too_many}");
    let too_few = complaint(&[&first, &second, &elsewhere]).await.unwrap();
    assert!(too_few.contains(&elsewhere) && too_few.contains("not posted"), "{too_few}");
    check_ledger(&mut books).await.unwrap();

    // What was never sent is fenced off; what was applied is found applied.
    let never = SystemIds.transaction_id().to_string();
    assert!(!bank.settle(&customer, &never).await.unwrap());
    assert!(bank.settle(&customer, &first).await.unwrap());
}
