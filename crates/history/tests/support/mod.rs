//! A real ledger on SQLite behind real gRPC, and callers who write down all that they ask and are told.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atm_history::{Answer, Ask, History, Recorder, Step, account_read, opened, told, trial_balance};
use atm_ledger::config::Config;
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::ledger::{self as wire, AccountKind};
use atm_proto::types::Money;
use atm_rpc::channel::{ChannelConfig, lazy_channel};
use atm_rpc::credentials::{AttachToken, BearerToken};
use atm_types::{AccountId, Currency, IdSource, ManualClock, SeededIds, SystemIds, Timestamp};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

type Client = LedgerServiceClient<InterceptedService<Channel, AttachToken>>;

/// Days in Dhaka begin six hours before those of UTC.
pub const UTC_OFFSET_SECONDS: i64 = 6 * 60 * 60;

const TERMINALS: [&str; 2] = [
    "5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0de5ec0",
    "badbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbadbad0",
];
const CUSTOMERS: [&str; 6] = ["Farhan", "Sami", "Moyeed", "Kader", "Joty", "Ahona"];
/// How many transactions are remembered to be asked for again.
const REMEMBERED: usize = 40;

/// The ledger.
pub struct Bank {
    _directory: TempDir,
    client: Client,
    pub clock: ManualClock,
    pub recorder: Arc<Recorder>,
    /// Transactions that were begun, with what was asked of them first.
    begun: Arc<Mutex<Vec<wire::HoldTransactionRequest>>>,
    ids: Arc<SeededIds>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), atm_ledger::Error>>,
    read: u64,
}

impl Bank {
    pub async fn open(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new(directory.path().join("books"), directory.path().join("service.token"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let clock = ManualClock::new(Timestamp::from_seconds(1_795_000_000));
        let shutdown = CancellationToken::new();
        let (ids, token) = (Arc::new(SystemIds), config.service_token_file.clone());
        let running =
            tokio::spawn(atm_ledger::run(listener, config, Arc::new(clock.clone()), ids, shutdown.clone()));
        while !atm_rpc::server::check_health(&url).await {
            assert!(!running.is_finished(), "the ledger ended");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let channel = lazy_channel(&url, &ChannelConfig::default()).unwrap();
        let token = AttachToken::new(BearerToken::load(&token).unwrap());
        let bank = Self {
            _directory: directory,
            client: LedgerServiceClient::with_interceptor(channel, token),
            clock,
            recorder: Arc::default(),
            begun: Arc::default(),
            ids: Arc::new(SeededIds::new(seed)),
            shutdown,
            running,
            read: 0,
        };
        bank.endow().await;
        bank
    }

    async fn endow(&self) {
        let mut caller = self.caller(0, 0);
        for (account, kind) in [
            (opening(), AccountKind::OpeningBalance),
            (cash(), AccountKind::Cash),
            (suspense(), AccountKind::Suspense),
        ] {
            caller.open(account, kind, 0, 0).await;
        }
        for (name, number) in CUSTOMERS.iter().zip(0..) {
            // One may be overdrawn, one has a limit for each day.
            let limits = [(0, 0), (5_000, 0), (0, 3_000)][number % 3];
            caller.open(customer(name), AccountKind::Customer, limits.0, limits.1).await;
            let mut request = caller.new_request(opening(), customer(name), 100_000);
            request.terminal_id = String::new();
            caller.post(&request).await;
        }
    }

    pub fn caller(&self, number: u64, seed: u64) -> Caller {
        Caller {
            number,
            client: self.client.clone(),
            clock: self.clock.clone(),
            recorder: Arc::clone(&self.recorder),
            begun: Arc::clone(&self.begun),
            ids: Arc::clone(&self.ids),
            dice: fastrand::Rng::with_seed(seed ^ (number << 32)),
            lifetime: 1..40,
        }
    }

    /// What happened since this was last asked. Nothing may be under way.
    pub async fn part(&mut self) -> History {
        let mut steps: Vec<Step> = Vec::new();
        loop {
            let request = wire::ListEntriesRequest { after_sequence: self.read, page_size: 1000 };
            let page = self.client.list_entries(request).await.unwrap().into_inner();
            self.read += page.steps.len() as u64;
            steps.extend(page.steps.iter().map(|step| Step::try_from(step).unwrap()));
            if page.steps.is_empty() || self.read >= page.last_sequence {
                break;
            }
        }
        History { calls: self.recorder.take(), steps }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// One who asks for anything at all.
pub struct Caller {
    number: u64,
    client: Client,
    clock: ManualClock,
    recorder: Arc<Recorder>,
    begun: Arc<Mutex<Vec<wire::HoldTransactionRequest>>>,
    ids: Arc<SeededIds>,
    dice: fastrand::Rng,
    /// How long holds live, in seconds.
    pub lifetime: std::ops::Range<i64>,
}

macro_rules! call {
    ($caller:expr, $method:ident, $request:expr, $told:expr) => {{
        let request = $request;
        let ticket = $caller.recorder.begin($caller.number, Ask::try_from(&request).unwrap());
        let mut client = $caller.client.clone();
        let calling = async move { client.$method(request).await };
        // Now and then the caller does not wait for the answer.
        let answer = if $caller.dice.u8(..) == 0 {
            tokio::time::timeout(Duration::from_micros($caller.dice.u64(0..2_000)), calling).await.ok()
        } else {
            Some(calling.await)
        };
        $caller.recorder.end(&ticket, answer.map_or(Answer::Unknown, |answer| $told(&answer).unwrap()));
    }};
}

impl Caller {
    fn new_request(&mut self, debit: String, credit: String, amount: i64) -> wire::HoldTransactionRequest {
        let lifetime = self.dice.i64(self.lifetime.clone());
        wire::HoldTransactionRequest {
            transaction_id: self.ids.transaction_id().to_string(),
            terminal_id: TERMINALS[0].to_owned(),
            debit_account_id: debit,
            credit_account_id: credit,
            amount: taka(amount),
            lifetime: Some(prost_types::Duration { seconds: lifetime, nanos: 0 }),
        }
    }

    async fn open(&mut self, account_id: String, kind: AccountKind, overdraft: i64, daily: i64) {
        let account = wire::Account {
            account_id,
            kind: kind.into(),
            currency_code: "BDT".to_owned(),
            overdraft_limit_minor_units: overdraft,
            daily_withdrawal_limit_minor_units: daily,
            ..Default::default()
        };
        call!(self, open_account, wire::OpenAccountRequest { account: Some(account) }, opened);
    }

    async fn post(&mut self, like: &wire::HoldTransactionRequest) {
        let wire::HoldTransactionRequest {
            transaction_id,
            terminal_id,
            debit_account_id,
            credit_account_id,
            amount,
            ..
        } = like.clone();
        let request = wire::PostTransactionRequest {
            transaction_id,
            terminal_id,
            debit_account_id,
            credit_account_id,
            amount,
        };
        call!(self, post_transaction, request, told);
    }

    /// Asks for something that was begun, or begins something.
    fn subject(&mut self) -> wire::HoldTransactionRequest {
        let debit = customer(CUSTOMERS[self.dice.usize(0..CUSTOMERS.len())]);
        let debit = if self.dice.u8(0..8) == 0 { opening() } else { debit };
        let other = customer(CUSTOMERS[self.dice.usize(0..CUSTOMERS.len())]);
        let credit = if self.dice.u8(0..3) > 0 { cash() } else { other };
        let amount = [-1, 0, 1_000_000][self.dice.usize(0..3)];
        let amount = if self.dice.u8(0..20) == 0 { amount } else { self.dice.i64(1..1_500) };
        let begun = Arc::clone(&self.begun);
        let mut begun = begun.lock().unwrap();
        if begun.is_empty() || self.dice.u8(0..3) == 0 {
            let mut request = self.new_request(debit, credit, amount);
            if self.dice.u8(0..50) == 0 {
                request.debit_account_id = customer("nobody");
            }
            if begun.len() < REMEMBERED {
                begun.push(request.clone());
            } else {
                let place = self.dice.usize(0..REMEMBERED);
                begun[place] = request.clone();
            }
            return request;
        }
        let mut request = begun[self.dice.usize(0..begun.len())].clone();
        drop(begun);
        // Sometimes it is not the same any more.
        match self.dice.u8(0..40) {
            0 => request.amount = taka(amount),
            1 => request.credit_account_id = credit,
            2 => request.debit_account_id = debit,
            3 => request.terminal_id = TERMINALS[1].to_owned(),
            _ => {}
        }
        request
    }

    pub async fn ask_anything(&mut self) {
        let subject = self.subject();
        let amount = subject.amount.as_ref().unwrap().minor_units;
        let (transaction_id, terminal_id) = (subject.transaction_id.clone(), subject.terminal_id.clone());
        match self.dice.u8(0..24) {
            0..=2 => self.post(&subject).await,
            3..=9 => call!(self, hold_transaction, subject, told),
            10..=14 => {
                let part = if self.dice.bool() { amount } else { self.dice.i64(0..=amount.max(1) + 1) };
                let authorization = Vec::new();
                let request = wire::CaptureTransactionRequest {
                    transaction_id,
                    terminal_id,
                    amount: taka(part),
                    authorization,
                };
                call!(self, capture_transaction, request, told);
            }
            15..=16 => {
                let request = wire::CancelTransactionRequest { transaction_id, terminal_id };
                call!(self, cancel_transaction, request, told);
            }
            17..=18 => {
                let into = if self.dice.u8(0..12) == 0 { cash() } else { suspense() };
                let request = wire::SuspendTransactionRequest {
                    transaction_id,
                    terminal_id,
                    suspense_account_id: into,
                    authorization: Vec::new(),
                };
                call!(self, suspend_transaction, request, told);
            }
            19..=20 => {
                let request = wire::ResolveTransactionRequest {
                    transaction_id,
                    amount: taka(if self.dice.bool() { amount } else { 0 }),
                    operator: "Nadia".to_owned(),
                    reason: if self.dice.u8(0..20) == 0 { "" } else { "counted" }.to_owned(),
                };
                call!(self, resolve_transaction, request, told);
            }
            21..=22 => {
                let request = wire::GetAccountRequest { account_id: subject.debit_account_id };
                call!(self, get_account, request, account_read);
            }
            _ => {
                let ticket = self.recorder.begin(self.number, Ask::GetTrialBalance);
                let answer = self.client.get_trial_balance(wire::GetTrialBalanceRequest {}).await;
                self.recorder.end(&ticket, trial_balance(&answer).unwrap());
            }
        }
        match self.dice.u16(0..2_000) {
            0 => self.clock.advance(Duration::from_secs(9 * 60 * 60)),
            1..60 => self.clock.advance(Duration::from_secs(self.dice.u64(0..4))),
            _ => {}
        }
    }

    /// The same as [`Caller::ask_anything`], but time stands still.
    pub fn at_rest(mut self) -> Self {
        self.clock = ManualClock::default();
        self.lifetime = 1_000_000..1_000_001;
        self
    }
}

fn customer(name: &str) -> String {
    AccountId::of_number(name).to_string()
}

fn cash() -> String {
    AccountId::of_cash("atm-1", Currency::BDT).to_string()
}

fn suspense() -> String {
    AccountId::of_suspense("atm-1", Currency::BDT).to_string()
}

fn opening() -> String {
    AccountId::of_opening_balances(Currency::BDT).to_string()
}

fn taka(minor_units: i64) -> Option<Money> {
    Some(Money { currency_code: "BDT".to_owned(), minor_units })
}

/// A number of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}
