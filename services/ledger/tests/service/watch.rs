//! The stream of recorded steps: no gaps, nothing twice, from any place on.

use atm_proto::ledger::batch_command::Command;
use atm_proto::ledger::{BatchCommand, BatchExecuteRequest, Step, WatchEntriesRequest, WatchEntriesResponse};
use tonic::{Code, Streaming};

use crate::support::*;

async fn watch(client: &mut Client, after_sequence: u64) -> Streaming<WatchEntriesResponse> {
    client.watch_entries(WatchEntriesRequest { after_sequence }).await.unwrap().into_inner()
}

/// Reads from the stream until it has told the step with this sequence.
async fn read_to(stream: &mut Streaming<WatchEntriesResponse>, last: u64) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    while steps.last().is_none_or(|step| step.outcome.as_ref().unwrap().commit_sequence < last) {
        let message = soon(stream.message()).await.unwrap().expect("a watch does not end by itself");
        assert!(!message.steps.is_empty());
        steps.extend(message.steps);
    }
    steps
}

async fn transfers(client: &mut Client, count: usize) {
    let commands = (0..count)
        .map(|_| BatchCommand {
            command: Some(Command::Post(post(&new_id(), &opening(), &customer("Farhan"), 1))),
        })
        .collect();
    client.batch_execute(BatchExecuteRequest { commands }).await.unwrap();
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_then_what_comes_the_same_as_is_listed() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    let mut stream = watch(&mut client, 0).await;
    let mut seen = read_to(&mut stream, 3).await;
    for _ in 0..5 {
        transfers(&mut client, 600).await;
        let last = last_sequence(&mut client).await;
        seen.extend(read_to(&mut stream, last).await);
    }
    assert_eq!(seen.len(), 3_003);
    assert_eq!(seen, all_steps(&mut client).await);
}

#[tokio::test]
async fn a_watch_resumes_anywhere_in_the_middle_of_a_batch_too() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    transfers(&mut client, 100).await;
    let all = all_steps(&mut client).await;
    for after in [0, 1, 3, 4, 50, 102, 103] {
        let mut stream = watch(&mut client, after).await;
        transfers(&mut client, 1).await;
        let last = last_sequence(&mut client).await;
        let seen = read_to(&mut stream, last).await;
        assert_eq!(seen.len() as u64, last - after, "after {after}");
        let after = usize::try_from(after).unwrap();
        assert_eq!(seen[..103 - after], all[after..]);
    }
}

#[tokio::test]
async fn a_reader_who_stops_reading_holds_nobody_up_and_misses_nothing_later() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    // The slow reader has a connection of its own, whose window fills up.
    let mut slow = watch(&mut bank.client(), 0).await;
    for _ in 0..4 {
        transfers(&mut client, 8_000).await;
    }
    let last = last_sequence(&mut client).await;
    assert_eq!(last, 32_003);
    let seen = read_to(&mut slow, last).await;
    assert!(
        seen.iter()
            .zip(1..)
            .all(|(step, sequence)| step.outcome.as_ref().unwrap().commit_sequence == sequence)
    );
}

#[tokio::test]
async fn many_watchers_under_concurrent_writes_all_see_one_order() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[("Farhan", 0)]).await;
    let mut streams = Vec::new();
    for after in 0..4 {
        streams.push((after, watch(&mut bank.client(), after).await));
    }
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = bank.client();
            tokio::spawn(async move {
                for _ in 0..50 {
                    client
                        .post_transaction(post(&new_id(), &opening(), &customer("Farhan"), 1))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let all = all_steps(&mut client).await;
    for (after, mut stream) in streams {
        assert_eq!(read_to(&mut stream, 203).await, all[usize::try_from(after).unwrap()..]);
    }
}

#[tokio::test]
async fn a_watcher_who_has_seen_more_than_there_is_learns_it_instead_of_getting_a_gap() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[]).await;
    let status = client.watch_entries(WatchEntriesRequest { after_sequence: 3 }).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(atm_rpc::status::reason(&status).as_deref(), Some("SEQUENCE_AHEAD"));
}

#[tokio::test]
async fn a_watch_does_not_hold_up_the_end_of_the_server() {
    let bank = Bank::open().await;
    let mut client = bank.client();
    endow(&mut client, &[]).await;
    let mut stream = watch(&mut client, 2).await;
    soon(bank.stop()).await.unwrap();
    assert_eq!(soon(stream.message()).await.unwrap_err().code(), Code::Unavailable);
}
