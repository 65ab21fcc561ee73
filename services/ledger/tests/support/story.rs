//! Tellers who work against a ledger that may be hard to reach, and who write down what they were told; and an
//! auditor who holds the books against all that they wrote.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atm_proto::ledger as wire;
use atm_proto::ledger::{GetTransactionRequest, Outcome, Step, StepKind};
use atm_proto::types::TransactionState;
use atm_rpc::deadline::Deadline;
use atm_rpc::retry::{RetryPolicy, retry};
use atm_rpc::throttle::{Throttle, ThrottleConfig};
use tonic::{Request, Response, Status};

use super::{
    Client, all_steps, audit, balance, bytes, cancel, capture, cash, connect, customer, hold, new_id,
    opening, post, resolve, suspend, suspense,
};

/// The customers of whom all tellers draw money.
pub const CUSTOMERS: [&str; 4] = ["Farhan", "Ayesha", "Rafi", "Nadia"];

/// One command as it is sent, with all its bytes.
#[derive(Clone, Debug)]
pub enum Ask {
    Post(wire::PostTransactionRequest),
    Hold(wire::HoldTransactionRequest),
    Capture(wire::CaptureTransactionRequest),
    Cancel(wire::CancelTransactionRequest),
    Suspend(wire::SuspendTransactionRequest),
    Resolve(wire::ResolveTransactionRequest),
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Told {
    pub outcome: Outcome,
    pub state: TransactionState,
}

/// Told when attempts begin and how they end; the kill test counts with it.
pub trait Observer: Send + Sync {
    fn begun(&self) -> u64;
    fn ended(&self, begun: u64, failed: bool);
}

/// Nobody looks.
pub struct Unobserved;

impl Observer for Unobserved {
    fn begun(&self) -> u64 {
        0
    }

    fn ended(&self, _: u64, _: bool) {}
}

/// One who makes transactions, each with an id of its own, and sends each command until it is answered.
pub struct Teller {
    client: Client,
    dice: fastrand::Rng,
    observer: Arc<dyn Observer>,
    pub diary: Diary,
}

/// All that a teller was told.
#[derive(Default)]
pub struct Diary {
    pub told: Vec<(Ask, Told)>,
    /// Every id that was ever sent, with how it ended: account debited, account credited, amount posted.
    pub ended: BTreeMap<String, (TransactionState, String, String, i64)>,
}

impl Diary {
    pub fn merge(&mut self, other: Self) {
        self.told.extend(other.told);
        self.ended.extend(other.ended);
    }
}

async fn send(client: &mut Client, ask: &Ask, request: Request<()>) -> Result<Response<Told>, Status> {
    macro_rules! call {
        ($method:ident, $asked:expr) => {{
            let response = client.$method(request.map(|()| $asked.clone())).await?;
            Ok(response.map(|response| Told {
                state: response.current_state(),
                outcome: response.outcome.expect("every answer has an outcome"),
            }))
        }};
    }
    match ask {
        Ask::Post(asked) => call!(post_transaction, asked),
        Ask::Hold(asked) => call!(hold_transaction, asked),
        Ask::Capture(asked) => call!(capture_transaction, asked),
        Ask::Cancel(asked) => call!(cancel_transaction, asked),
        Ask::Suspend(asked) => call!(suspend_transaction, asked),
        Ask::Resolve(asked) => call!(resolve_transaction, asked),
    }
}

impl Teller {
    /// A teller whose choices follow from `seed`.
    pub fn new(url: &str, token: &Path, seed: u64, observer: Arc<dyn Observer>) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        Self { client: connect(url, token), dice, observer, diary: Diary::default() }
    }

    /// Sends until there is an answer, at most `attempts` times, and writes it down.
    async fn ask(&mut self, ask: Ask, attempts: Option<u32>) -> Option<Told> {
        let policy = RetryPolicy {
            initial_backoff: Duration::from_millis(2),
            max_backoff: Duration::from_millis(50),
            multiplier: 2.0,
            attempt_timeout: Duration::from_millis(500),
            max_attempts: attempts,
        };
        // Tellers here never give up, so that there is an end to compare with.
        let throttle =
            Throttle::new(ThrottleConfig { max_tokens: 1000, milli_tokens_per_success: 1000, seed: None });
        let patience = Deadline::after(Duration::from_secs(300));
        let (client, observer) = (&self.client, &self.observer);
        let answer = retry(&policy, &throttle, patience, (), |request| {
            let (mut client, ask, observer) = (client.clone(), ask.clone(), Arc::clone(observer));
            async move {
                // Whoever drops this attempt, at its timeout, ends it too.
                let mut attempt = Attempt { begun: observer.begun(), observer, failed: true };
                let answer = send(&mut client, &ask, request).await;
                attempt.failed = answer.is_err();
                answer
            }
        })
        .await;
        match answer {
            Ok(told) => {
                self.diary.told.push((ask, told.clone()));
                Some(told)
            }
            Err(error) => {
                assert!(attempts.is_some(), "{error} to {ask:?}");
                None
            }
        }
    }

    async fn insist(&mut self, ask: Ask) -> Told {
        self.ask(ask, None).await.expect("it was asked until it was answered")
    }

    /// Makes one transaction and follows it to its end.
    pub async fn transact(&mut self) {
        let id = new_id();
        let debit = customer(CUSTOMERS[self.dice.usize(0..CUSTOMERS.len())]);
        let other = customer(CUSTOMERS[self.dice.usize(0..CUSTOMERS.len())]);
        let credit = if other == debit || self.dice.bool() { cash() } else { other };
        // Sometimes more than anybody has.
        let amount = if self.dice.u8(0..8) == 0 { 1_000_000_000 } else { self.dice.i64(1..500) };
        let holding = Ask::Hold(hold(&id, &debit, &credit, amount));
        let cancelling = Ask::Cancel(cancel(&id));
        let end = match self.dice.u8(0..8) {
            0 => self.insist(Ask::Post(post(&id, &debit, &credit, amount))).await,
            1 | 2 => {
                let held = self.insist(holding).await;
                if held.state == TransactionState::Held {
                    let part = self.dice.i64(0..=amount);
                    self.insist(Ask::Capture(capture(&id, part))).await
                } else {
                    held
                }
            }
            3 => {
                // It was asked once; nobody knows whether it arrived, or when it will.
                self.ask(holding, Some(1)).await;
                self.insist(cancelling).await
            }
            4 => {
                let fenced = self.insist(cancelling).await;
                assert_eq!(self.insist(holding).await.outcome, fenced.outcome, "a tombstone holds nothing");
                fenced
            }
            5 => {
                let held = self.insist(holding).await;
                let released = self.insist(cancelling).await;
                if held.state == TransactionState::Held {
                    // The cash had left all the same.
                    self.insist(Ask::Capture(capture(&id, amount))).await
                } else {
                    released
                }
            }
            way => {
                let held = self.insist(holding).await;
                if held.state == TransactionState::Held {
                    if way == 6 {
                        self.insist(cancelling).await;
                    }
                    self.freeze(&id, amount).await
                } else {
                    held
                }
            }
        };
        let posted = match end.state {
            TransactionState::Posted | TransactionState::Captured | TransactionState::CapturedLate => {
                end.outcome.amount.expect("a posting has an amount").minor_units
            }
            TransactionState::Declined | TransactionState::Cancelled | TransactionState::Suspect => 0,
            TransactionState::Unspecified | TransactionState::Held | TransactionState::Expired => {
                panic!("{id} did not end: {end:?}")
            }
        };
        self.diary.ended.insert(id, (end.state, debit, credit, posted));
    }

    /// Nobody knows whether the cash left: it stays so, or somebody decides it, perhaps wrongly.
    async fn freeze(&mut self, id: &str, amount: i64) -> Told {
        let frozen = self.insist(Ask::Suspend(suspend(id))).await;
        match self.dice.u8(0..4) {
            0 => frozen,
            1 => {
                self.insist(Ask::Resolve(resolve(id, 0))).await;
                self.insist(Ask::Capture(capture(id, amount))).await
            }
            _ => {
                let part = self.dice.i64(0..=amount);
                self.insist(Ask::Resolve(resolve(id, part))).await
            }
        }
    }
}

/// An attempt that is under way.
struct Attempt {
    begun: u64,
    observer: Arc<dyn Observer>,
    failed: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.observer.ended(self.begun, self.failed);
    }
}

/// Opens the accounts: each customer has this much.
pub async fn endow(client: &mut Client, each: i64) {
    super::endow_with_suspense(client, &CUSTOMERS.map(|name| (name, each))).await;
}

/// Holds the books against all that was told: nothing acknowledged is lost, nothing happened twice, nothing
/// that was not asked for is there, and whoever asks again is told the same bytes.
pub async fn compare(client: &mut Client, diary: &Diary, each: i64) {
    let mut recorded: HashMap<String, Vec<Step>> = HashMap::new();
    for (step, sequence) in all_steps(client).await.into_iter().zip(1..) {
        let outcome = step.outcome.as_ref().expect("every step has an outcome");
        assert_eq!(outcome.commit_sequence, sequence, "the commit sequence has no gaps");
        recorded.entry(outcome.transaction_id.clone()).or_default().push(step);
    }

    let mut expected: HashMap<String, i64> = CUSTOMERS.iter().map(|name| (customer(name), each)).collect();
    expected.insert(cash(), 0);
    let mut frozen: HashMap<String, i64> = HashMap::new();
    for (id, (state, debit, credit, posted)) in &diary.ended {
        let steps = recorded.remove(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_life(id, &steps);
        let last = steps.last().and_then(|step| step.outcome.as_ref()).expect("not empty");
        assert_eq!(last.state(), *state, "{id}");
        if *state == TransactionState::Suspect {
            *frozen.entry(debit.clone()).or_default() += last.amount.as_ref().expect("not empty").minor_units;
        }
        let entries: i64 =
            steps.iter().flat_map(|step| &step.entries).map(|entry| entry.posted_minor_units).sum();
        assert_eq!(entries, 2 * posted, "{id} was posted once, as it was told");
        *expected.get_mut(debit).expect("one of ours") -= posted;
        *expected.get_mut(credit).expect("one of ours") += match *credit == cash() {
            // Paying out lowers the cash of a machine: its normal side is the debit.
            true => -posted,
            false => *posted,
        };
    }
    let strangers: Vec<_> = recorded
        .into_values()
        .flatten()
        .filter(|step| {
            let outcome = step.outcome.as_ref().expect("every step has an outcome");
            outcome.step() != StepKind::OpenAccount && outcome.debit_account_id != opening()
        })
        .collect();
    assert_eq!(strangers, [], "nothing is there that nobody asked for");
    for (account, expected) in expected {
        let held = frozen.get(&account).copied().unwrap_or(0);
        assert_eq!(balance(client, account.clone()).await, (expected, expected - held), "{account}");
    }
    let read = wire::GetAccountRequest { account_id: suspense() };
    let suspense = client.get_account(read).await.unwrap().into_inner().account.expect("it is open");
    assert_eq!(suspense.credits_pending_minor_units, frozen.values().sum::<i64>(), "what nobody knows");

    for (ask, told) in &diary.told {
        let again = send(client, ask, Request::new(())).await.expect("a repeat is answered").into_inner();
        // A cancel tells how a transaction ended, and something may have followed.
        let followed = again.outcome.commit_sequence > told.outcome.commit_sequence;
        if followed && matches!(ask, Ask::Cancel(_)) {
            continue;
        }
        assert_eq!(bytes(&again.outcome), bytes(&told.outcome), "{ask:?}");
    }
    assert_eq!(audit(client).await, Vec::<String>::new());
}

/// At most one hold and one end, save a cancelled hold followed by one late capture, and a suspension
/// followed by one resolution and perhaps one late capture.
fn assert_life(id: &str, steps: &[Step]) {
    use StepKind::{Cancel, Capture, CaptureLate, Hold, Post, Resolve, Suspend};
    let kinds: Vec<_> =
        steps.iter().map(|step| step.outcome.as_ref().expect("every step has an outcome").step()).collect();
    let lives = [
        &[Post][..],
        &[Hold],
        &[Cancel],
        &[Hold, Capture],
        &[Hold, Cancel],
        &[Hold, Cancel, CaptureLate],
        &[Hold, Suspend],
        &[Hold, Suspend, Resolve],
        &[Hold, Suspend, Resolve, CaptureLate],
        &[Hold, Cancel, Suspend],
        &[Hold, Cancel, Suspend, Resolve],
        &[Hold, Cancel, Suspend, Resolve, CaptureLate],
    ];
    assert!(lives.contains(&&kinds[..]), "{id}: {kinds:?}");
}

/// What is recorded under an id.
pub async fn read(client: &mut Client, id: &str) -> Vec<Step> {
    let request = GetTransactionRequest { transaction_id: id.to_owned() };
    client.get_transaction(request).await.unwrap().into_inner().steps
}
