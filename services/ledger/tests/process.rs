//! The ledger as a process: how it refuses to start, how it leaves, and what it logs.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atm_proto::ledger::GetTransactionRequest;
use support::process::{self, Process};
use support::*;

#[tokio::test]
async fn row_02_nobody_listens_beyond_loopback_without_tls_or_a_word_about_it() {
    let directory = tempfile::tempdir().unwrap();
    let ended = process::run(directory.path(), &["--listen", "0.0.0.0:0"]).await;
    assert!(!ended.status.success());
    assert!(ended.log.contains("--insecure"), "{}", ended.log);
    assert!(!process::data(directory.path()).exists(), "nothing was begun");
}

#[tokio::test]
async fn row_27_a_second_process_on_the_same_books_leaves_at_once_and_names_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let first = Process::start(directory.path()).await;
    let second = process::run(directory.path(), &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.log.contains(&format!("process {}", first.pid())), "{}", second.log);
    // The first one never noticed.
    let mut client = connect(&first.url(), &process::token(directory.path()));
    endow(&mut client, &[("Farhan", 1_000)]).await;
    // Its death, however sudden, gives the books free.
    first.kill().await;
    let third = Process::start(directory.path()).await;
    let mut client = connect(&third.url(), &process::token(directory.path()));
    assert_eq!(balance(&mut client, customer("Farhan")).await.0, 1_000);
}

#[tokio::test]
async fn row_28_books_that_are_damaged_or_from_another_time_are_not_opened_and_it_is_said_plainly() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Process::start(directory.path()).await;
    let mut client = connect(&ledger.url(), &process::token(directory.path()));
    endow(&mut client, &[("Farhan", 1_000)]).await;
    ledger.terminate().await;
    assert!(ledger.ended().await.status.success());
    let database = std::fs::read_dir(process::data(directory.path()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "db"))
        .unwrap();
    let sound = std::fs::read(&database).unwrap();

    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 4711).unwrap();
    let ended = process::run(directory.path(), &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("schema version 4711"), "{}", ended.log);

    // Everything after the first page is gone.
    let mut damaged = sound.clone();
    damaged[4096..].fill(0);
    std::fs::write(&database, &damaged).unwrap();
    let ended = process::run(directory.path(), &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("the books cannot be opened"), "{}", ended.log);

    std::fs::write(&database, b"this has never been a database").unwrap();
    let ended = process::run(directory.path(), &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.status.code(), Some(1));

    std::fs::write(&database, &sound).unwrap();
    let ledger = Process::start(directory.path()).await;
    let mut client = connect(&ledger.url(), &process::token(directory.path()));
    assert_eq!(balance(&mut client, customer("Farhan")).await.0, 1_000);
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_service_token_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let token = process::token(directory.path());
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = process::run(directory.path(), &["--listen", "127.0.0.1:0"]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("0600"), "{}", ended.log);
    assert!(!ended.log.contains("0123456789abcdef"));
}

#[tokio::test]
async fn the_health_command_tells_by_its_exit_code_whether_the_ledger_serves() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Process::start(directory.path()).await;
    let health = |url: String| async move {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_atm-ledger"));
        command.args(["health", "--url", &url]).status().await.unwrap().code()
    };
    assert_eq!(health(ledger.url()).await, Some(0));
    let url = ledger.url();
    ledger.kill().await;
    assert_eq!(health(url).await, Some(1));
}

#[tokio::test]
async fn sigterm_finishes_what_was_begun_keeps_all_that_was_answered_and_exits_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Process::start(directory.path()).await;
    let token = process::token(directory.path());
    endow(&mut connect(&ledger.url(), &token), &[("Farhan", 0)]).await;
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = connect(&ledger.url(), &token);
            let (begun, over) = (Arc::clone(&begun), Arc::clone(&over));
            tokio::spawn(async move {
                let mut answered = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let id = new_id();
                    let request = post(&id, &opening(), &customer("Farhan"), 1);
                    // A status means that it is not known.
                    let Ok(response) = client.post_transaction(request).await else { break };
                    answered.push((id, response.into_inner().outcome.unwrap()));
                    begun.add_permits(1);
                }
                answered
            })
        })
        .collect();
    let _ = begun.acquire_many(200).await.unwrap();
    ledger.terminate().await;
    let ended = ledger.ended().await;
    over.store(true, Ordering::SeqCst);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("in good order"), "{}", ended.log);

    let ledger = Process::start(directory.path()).await;
    let mut client = connect(&ledger.url(), &token);
    let mut count = 0;
    for caller in callers {
        for (id, outcome) in caller.await.unwrap() {
            let read = client.get_transaction(GetTransactionRequest { transaction_id: id }).await.unwrap();
            assert_eq!(read.into_inner().steps[0].outcome, Some(outcome));
            count += 1;
        }
    }
    assert!(count >= 200);
    assert_eq!(audit(&mut client).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_log_follows_a_trace_to_its_commit_and_tells_no_secret() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let directory = tempfile::tempdir().unwrap();
    let log = [("RUST_LOG", "trace")];
    let ledger = Process::start_with(directory.path(), &log).await;
    let mut client = connect(&ledger.url(), &process::token(directory.path()));
    endow_with_suspense(&mut client, &[("Farhan", 100_000)]).await;
    let (id, late, suspect) = (new_id(), new_id(), new_id());
    let mut request = tonic::Request::new(post(&id, &customer("Farhan"), &cash(), 10_000));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    client.post_transaction(request).await.unwrap();
    let held = client.hold_transaction(hold(&late, &customer("Farhan"), &cash(), 5_000)).await.unwrap();
    let authorization = held.into_inner().outcome.unwrap().authorization;
    client.cancel_transaction(cancel(&late)).await.unwrap();
    client.capture_transaction(capture(&late, 5_000)).await.unwrap();
    client.hold_transaction(hold(&suspect, &customer("Farhan"), &cash(), 5_000)).await.unwrap();
    client.suspend_transaction(suspend(&suspect)).await.unwrap();
    let mut decision = resolve(&suspect, 5_000);
    decision.reason = "his sister saw it".to_owned();
    client.resolve_transaction(decision).await.unwrap();
    ledger.terminate().await;
    let log = ledger.ended().await.log;
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about = |id: &str| lines.iter().filter(|line| line["transaction_id"] == id).collect::<Vec<_>>();
    let committed: Vec<_> = about(&id).into_iter().filter(|line| line["message"] == "committed").collect();
    assert_eq!(committed.len(), 1, "one line for each committed command");
    assert_eq!((&committed[0]["trace_id"], &committed[0]["level"]), (&TRACE.into(), &"DEBUG".into()));
    assert_eq!(committed[0]["step"], "STEP_KIND_POST");
    for (id, begins) in [(&late, "CAPTURED_LATE"), (&suspect, "SUSPECT")] {
        let alarms: Vec<_> = about(id).into_iter().filter(|line| line["level"] == "WARN").collect();
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0]["message"].as_str().unwrap().starts_with(begins));
        assert!(alarms[0]["trace_id"].is_string());
    }
    assert!(!log.contains("his sister"), "what a person wrote stands in the books, not in the log");

    let token = std::fs::read_to_string(process::token(directory.path())).unwrap();
    let key = std::fs::read_to_string(process::data(directory.path()).join("ledger.key")).unwrap();
    let signature: String = authorization.iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [token.trim(), key.trim(), &signature[signature.len() - 64..]] {
        assert!(!log.contains(secret));
    }
}
