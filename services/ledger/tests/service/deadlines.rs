//! What the caller's deadline does to a command, and what it does not do.

use std::time::Duration;

use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::{BatchCommand, BatchExecuteRequest};
use atm_proto::types::TransactionState;
use tonic::{Code, Request};

use crate::support::*;

#[tokio::test]
async fn whatever_becomes_of_a_command_under_a_short_deadline_a_cancel_tells_it() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 1_000_000), ("Ayesha", 0)]).await;
    // Full batches keep the writer busy, so that short deadlines pass in every place: on the wire, in the
    // queue, and during the commit.
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let mut client = bank.client();
            tokio::spawn(async move {
                for _ in 0..4 {
                    let post = || post(&new_id(), &opening(), &customer("Ayesha"), 1);
                    let commands = (0..4_000).map(|_| BatchCommand { command: Some(Command::Post(post())) });
                    client.batch_execute(BatchExecuteRequest { commands: commands.collect() }).await.unwrap();
                }
            })
        })
        .collect();
    let mut asked = Vec::new();
    for millis in (3..23).cycle().take(200) {
        let id = new_id();
        let mut request = Request::new(post(&id, &customer("Farhan"), &cash(), 1));
        request.set_timeout(Duration::from_millis(millis));
        asked.push((id, client.post_transaction(request).await));
    }
    for task in busy {
        task.await.unwrap();
    }
    let (mut posted, mut over) = (0, 0);
    for (id, answer) in asked {
        let ended = client.cancel_transaction(cancel(&id)).await.unwrap().into_inner();
        match answer {
            Ok(answer) => {
                assert_eq!(answer.get_ref().outcome, ended.outcome);
                assert_eq!(ended.current_state(), TransactionState::Posted);
            }
            Err(status) => {
                over += 1;
                // Cancelled is what tonic's own client makes of its timeout.
                assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
                // The ledger says so only where it is sure.
                if status.message().contains("nothing was done") {
                    assert_eq!(ended.current_state(), TransactionState::Cancelled);
                }
            }
        }
        posted += i64::from(ended.current_state() == TransactionState::Posted);
    }
    println!("{posted} of 200 were posted, {over} callers did not wait for it");
    assert_eq!(balance(&mut client, customer("Farhan")).await.0, 1_000_000 - posted);
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}
