//! One batch: order, duplicates, deadlines, the queue's end, and commits that fail.

use std::sync::Arc;
use std::time::Duration;

use atm_ledger::handle::{Answer, ExecuteError, Ledger, Options};
use atm_ledger::storage::View as _;
use atm_ledger::storage::memory::{Fault, MemoryDisk};
use atm_ledger_core::{AccountKind, Command, DeclineReason, Refusal, TransactionState};
use atm_rpc::deadline::Deadline;
use atm_types::{Clock, Timestamp};
use futures_util::FutureExt as _;

use crate::books::*;

#[tokio::test]
async fn the_second_of_two_equal_commands_in_a_batch_gets_the_answer_of_the_first() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let answers = books.ledger.execute(vec![hold(2, 900), hold(2, 900)], None).await.unwrap();
    assert_eq!(step(&answers[0]), step(&answers[1]));
    assert!(!is_replay(&answers[0]) && is_replay(&answers[1]));
    assert_eq!(books.balance(CUSTOMER).await.available, 100);
}

#[tokio::test]
async fn an_answer_tells_where_the_transaction_stands_at_the_end_of_its_batch() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let answers = books.ledger.execute(vec![hold(2, 900), cancel(2)], None).await.unwrap();
    // Nobody may dispense on the first answer.
    let states: Vec<_> = answers.iter().map(state).collect();
    assert_eq!(states, [Some(TransactionState::Cancelled); 2]);
}

#[tokio::test]
async fn a_batch_is_decided_in_order_and_numbered_without_gaps() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let commands = vec![hold(2, 900), hold(3, 900), capture(2, 1_000), capture(2, 400), hold(4, 600)];
    let answers = books.ledger.execute(commands, None).await.unwrap();
    assert_eq!(declined(&answers[1]), Some(DeclineReason::InsufficientFunds));
    assert!(matches!(answers[2], Answer::Refused(Refusal::CaptureExceedsHold { held: 900, .. })));
    assert_eq!(declined(&answers[4]), None);
    let sequences: Vec<u64> =
        [0, 1, 3, 4].iter().map(|index| step(&answers[*index]).commit_sequence).collect();
    assert_eq!(sequences, [5, 6, 7, 8]);
    assert_eq!(*books.ledger.committed().borrow(), 8);
}

#[tokio::test]
async fn commit_times_rise_even_when_the_clock_goes_back() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let first = books.one(post(2, CUSTOMER, CASH, 1)).await.unwrap();
    books.clock.set(Timestamp::from_seconds(5));
    let second = books.one(post(3, CUSTOMER, CASH, 1)).await.unwrap();
    let nanos = step(&first).commit_time.as_nanos() + 1;
    assert_eq!(step(&second).commit_time, Timestamp::from_nanos(nanos));
}

#[tokio::test]
async fn the_day_is_that_of_the_configured_time_zone() {
    let zone = jiff::tz::TimeZone::get("Asia/Dhaka").unwrap();
    let options = Options { time_zone: zone, ..options(std::path::Path::new("unused")) };
    let books = Books::start_with(Box::new(MemoryDisk::new().open()), options);
    // 18:00 UTC is midnight in Dhaka.
    books.clock.set(Timestamp::from_seconds(20_000 * 86_400 + 18 * 3_600 - 1));
    let before = books.one(open_account(CASH, AccountKind::Cash)).await.unwrap();
    books.clock.advance(Duration::from_secs(1));
    let after = books.one(open_account(CUSTOMER, AccountKind::Customer)).await.unwrap();
    assert_eq!((step(&before).day, step(&after).day), (20_000, 20_001));
    assert_eq!(books.ledger.account(CASH).await.unwrap().unwrap().day, 20_001);
}

#[tokio::test]
async fn reads_and_repeats_write_nothing() {
    let disk = MemoryDisk::new();
    let books = Books::start(disk.open());
    books.fund(1_000).await;
    let first = books.one(hold(2, 900)).await.unwrap();
    let commits = disk.commits();
    let again = books.one(hold(2, 900)).await.unwrap();
    assert_eq!(step(&first), step(&again));
    assert!(matches!(books.one(capture(9, 1)).await, Ok(Answer::Refused(Refusal::NotFound))));
    assert_eq!(books.balance(CUSTOMER).await.available, 100);
    assert_eq!(disk.commits(), commits);
}

#[tokio::test]
async fn a_command_whose_deadline_passed_in_the_queue_is_never_decided() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    let over = Some(Deadline::after(Duration::ZERO));
    let answers = books.ledger.execute(vec![hold(2, 900), hold(3, 1)], over).await.unwrap();
    assert_eq!(answers, [Answer::Expired, Answer::Expired]);
    assert_eq!(books.ledger.transaction(id(2)).await.unwrap(), None);
    assert_eq!(books.balance(CUSTOMER).await.available, 1_000);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_nothing_back() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    // Polled once, it is queued; dropped, nobody waits for it.
    let _ = books.ledger.execute(vec![hold(2, 900)], None).now_or_never();
    assert_eq!(books.balance(CUSTOMER).await.available, 100);
}

#[tokio::test]
async fn a_full_queue_refuses_but_keeps_room_for_captures_cancels_and_suspensions() {
    for last in [capture(21, 1), cancel(21), suspend(21)] {
        let (books, blocker) = blocked_books(&MemoryDisk::new());
        let stuck = queued(&books, vec![open_account(CASH, AccountKind::Cash)]).unwrap();
        blocker.wait_until_blocked();
        // The writer hangs, so that what follows stays in the queue: seven of eight places.
        let mut waiting = Vec::new();
        for number in 0..7 {
            waiting.push(queued(&books, vec![hold(10 + number, 1)]).expect("there is room"));
        }
        assert!(matches!(queued(&books, vec![hold(20, 1)]), Err(ExecuteError::QueueFull)));
        // A person can wait, and so can a suspension in bad company.
        for full in [vec![resolve(20, 1)], vec![suspend(21), hold(20, 1)]] {
            assert!(matches!(queued(&books, full), Err(ExecuteError::QueueFull)));
        }
        waiting.push(queued(&books, vec![last]).expect("there is room for what ends a hold"));
        assert!(matches!(queued(&books, vec![cancel(22)]), Err(ExecuteError::QueueFull)));
        blocker.release();
        stuck.await.unwrap();
        for call in waiting {
            call.await.unwrap();
        }
    }
}

type Call = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Answer>, ExecuteError>> + Send>>;

/// Puts commands into the queue without waiting for their answer.
fn queued(books: &Books, commands: Vec<Command>) -> Result<Call, ExecuteError> {
    queued_on(&books.ledger, commands)
}

fn queued_on(ledger: &Ledger, commands: Vec<Command>) -> Result<Call, ExecuteError> {
    let ledger = ledger.clone();
    let mut call: Call = Box::pin(async move { ledger.execute(commands, None).await });
    match (&mut call).now_or_never() {
        None => Ok(call),
        Some(Err(error)) => Err(error),
        Some(Ok(answers)) => panic!("answered while the writer hangs: {answers:?}"),
    }
}

/// Books whose clock stops the writer until it is released, at the latest when the test fails: the writer is
/// waited for when its guard goes.
fn blocked_books(disk: &MemoryDisk) -> (Books, Released) {
    let blocker = Arc::new(Blocker::default());
    let options = Options { queue_commands: 8, ..options(std::path::Path::new("unused")) };
    let store = Box::new(disk.open());
    let clock = Arc::clone(&blocker) as Arc<dyn Clock>;
    let (ledger, writer) = Ledger::start(store, options, clock).unwrap();
    (Books { ledger, writer, clock: atm_types::ManualClock::default() }, Released(blocker))
}

struct Released(Arc<Blocker>);

impl std::ops::Deref for Released {
    type Target = Blocker;

    fn deref(&self) -> &Blocker {
        &self.0
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.release();
    }
}

#[derive(Default)]
struct Blocker {
    /// Whether the writer has come, and whether it may go on.
    state: std::sync::Mutex<(bool, bool)>,
    changed: std::sync::Condvar,
}

impl Blocker {
    fn wait_until_blocked(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(came, _)| !*came).unwrap());
    }

    fn release(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

impl Clock for Blocker {
    fn now(&self) -> Timestamp {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, released)| !*released).unwrap());
        Timestamp::from_seconds(1)
    }
}

#[tokio::test]
async fn due_holds_expire_before_anything_else_is_decided() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    books.one(hold(2, 900)).await.unwrap();
    books.clock.advance(2 * DAY);
    // Only possible with the money that the expiry frees.
    assert_eq!(declined(&books.one(post(3, CUSTOMER, CASH, 1_000)).await.unwrap()), None);
    let expired = books.ledger.transaction(id(2)).await.unwrap().unwrap();
    assert_eq!(expired.state(), Some(TransactionState::Expired));
}

#[tokio::test]
async fn a_hold_expires_without_anybody_calling() {
    let books = Books::start(MemoryDisk::new().open());
    books.fund(1_000).await;
    books.one(hold(2, 900)).await.unwrap();
    let mut committed = books.ledger.committed();
    books.clock.advance(2 * DAY);
    committed.wait_for(|sequence| *sequence == 6).await.unwrap();
    assert_eq!(books.balance(CUSTOMER).await.available, 1_000);
}

#[tokio::test]
async fn after_a_failed_commit_nobody_is_answered_and_a_new_start_tells_what_happened() {
    for fault in [Fault::Lost, Fault::Unknown, Fault::Torn(0), Fault::Torn(1)] {
        let disk = MemoryDisk::new();
        let books = Books::start(disk.open());
        books.fund(1_000).await;
        disk.fail_after(0, fault);
        let answer = books.ledger.execute(vec![hold(2, 900), hold(3, 50)], None).await;
        assert!(matches!(answer, Err(ExecuteError::Stopped)), "{fault:?}: {answer:?}");
        books.writer.failed().await;
        assert!(matches!(books.ledger.account(CUSTOMER).await, Err(ExecuteError::Stopped)));
        drop(books);

        let books = Books::start(disk.open());
        let available = if fault == Fault::Unknown { 50 } else { 1_000 };
        assert_eq!(books.balance(CUSTOMER).await.available, available, "{fault:?}");
        // The same commands again: exactly once, whatever happened the first time.
        books.ledger.execute(vec![hold(2, 900), hold(3, 50)], None).await.unwrap();
        assert_eq!(books.balance(CUSTOMER).await.available, 50, "{fault:?}");
        assert_eq!(books.findings().await, [""; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn stopping_answers_what_is_queued() {
    let disk = MemoryDisk::new();
    let (Books { ledger, writer, clock }, blocker) = blocked_books(&disk);
    let books = Books { ledger: ledger.clone(), writer, clock };
    let first = queued(&books, vec![open_account(CASH, AccountKind::Cash)]).unwrap();
    blocker.wait_until_blocked();
    let second = queued(&books, vec![open_account(CUSTOMER, AccountKind::Customer)]).unwrap();
    let mut stopping = Box::pin(books.writer.stop());
    assert!((&mut stopping).now_or_never().is_none());
    let late = queued_on(&ledger, vec![open_account(OPENING, AccountKind::OpeningBalance)]).unwrap();
    blocker.release();
    stopping.await;
    assert_eq!(step(&first.await.unwrap()[0]).commit_sequence, 1);
    assert_eq!(step(&second.await.unwrap()[0]).commit_sequence, 2);
    // What came after the word to stop is not answered, and did nothing.
    assert!(matches!(late.await, Err(ExecuteError::Stopped)));
    assert!(matches!(ledger.execute(vec![hold(3, 1)], None).await, Err(ExecuteError::Stopped)));
    assert_eq!(disk.open().head().unwrap().sequence, 2);
    assert_eq!(disk.open().checkpoint().unwrap().head.sequence, 2);
}
