//! An auditor who comes when everything has ended and tries what nobody should: asks again for what was recorded, under
//! known ids for something else, with sessions that are over or another machine's, and guesses a PIN.
//!
//! The machines never do any of this, so without him nothing would be seen of a bank that allows it.

use std::sync::Arc;

use atm_auth::storage::{CommitFault, MemoryStore};
use atm_ledger::evidence;
use atm_ledger::storage::memory::MemoryDisk;
use atm_ledger_core::{Action, Step, StepKind, Transfer};
use atm_proto::gateway::atm_service_client::AtmServiceClient;
use atm_proto::gateway::{ChangePinRequest, GetBalanceRequest, LogInRequest, LogOutRequest};
use atm_proto::ledger::ledger_service_client::LedgerServiceClient;
use atm_proto::ledger::{
    CancelTransactionRequest, CaptureTransactionRequest, HoldTransactionRequest, Outcome,
    PostTransactionRequest,
};
use atm_proto::types::{Money, TransactionState};
use atm_rpc::channel::{ChannelConfig, lazy_channel_over};
use atm_rpc::credentials::AttachToken;
use atm_types::{IdSource, TerminalId};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::services::{Secrets, Start, url_of};
use super::shared::Host;
use crate::evidence::{LogLine, Probe};
use crate::plan::CUSTOMERS;

/// How many transactions he asks for again.
const MOST: usize = 8;

type Ledger = LedgerServiceClient<InterceptedService<Channel, AttachToken>>;
type Told = Result<(u64, i32), Code>;

/// What he works with.
pub(super) struct Auditor {
    start: Start,
    ledger: Ledger,
    gateway: AtmServiceClient<Channel>,
    books: MemoryDisk,
    cards: MemoryStore,
    probes: Vec<Probe>,
    /// The ids of his attempts at PINs.
    own: Vec<String>,
}

impl Auditor {
    /// Nothing when a channel cannot even be made.
    pub(super) fn new(
        start: Start,
        secrets: &Secrets,
        (books, cards): (MemoryDisk, MemoryStore),
    ) -> Option<Self> {
        let network = start.network();
        let channel = |host| lazy_channel_over(&url_of(host), &ChannelConfig::default(), Some(&network)).ok();
        let token = AttachToken::new(secrets.service_token.clone());
        let ledger = LedgerServiceClient::with_interceptor(channel(Host::WireToLedger)?, token);
        let gateway = AtmServiceClient::new(channel(Host::Gateway)?);
        Some(Self { start, ledger, gateway, books, cards, probes: Vec::new(), own: Vec::new() })
    }

    /// Tries everything; what came of it.
    pub(super) async fn audit(mut self, machine_key: [u8; 32]) -> Vec<Probe> {
        let Ok(recorded) = evidence::recorded(&self.books) else { return self.probes };
        let before = recorded.head.sequence;
        let customers = |step: &&Step| step.ordinal == 0 && step.terminal != TerminalId::SERVICE;
        let firsts: Vec<Step> = recorded.steps.iter().filter(customers).take(MOST).cloned().collect();
        for first in &firsts {
            self.ask_again(first, &recorded.steps).await;
        }
        // Holds may expire meanwhile, and machines may tell of cash that they moved.
        let added: Vec<Step> = evidence::steps_after(&self.books, before).map_or_else(
            |_| Vec::new(),
            |(_, steps)| {
                let asked = |step: &Step| firsts.iter().any(|first| first.id == step.id);
                let expired = |step: &Step| matches!(step.action, Action::Expire { .. });
                steps.into_iter().filter(|step| asked(step) && !expired(step)).collect()
            },
        );
        let ids: Vec<String> = added.iter().map(|step| format!("{}/{}", step.id, step.ordinal)).collect();
        self.note(4, "asking again for what is recorded adds no step", ids.is_empty(), ids.join(", "));
        self.try_new_ids(&recorded.steps).await;
        self.try_sessions(machine_key).await;
        self.change_pins(machine_key).await;
        self.guess(machine_key).await;
        self.guess_on_a_failing_disk(machine_key).await;
        self.probes
    }

    fn note(&mut self, invariant: u8, what: &'static str, as_expected: bool, got: String) {
        self.probes.push(Probe { invariant, what, as_expected, got });
    }

    async fn ask_again(&mut self, first: &Step, steps: &[Step]) {
        let (id, terminal) = (first.id.to_string(), first.terminal.to_string());
        let recorded: Told = Ok((first.commit_sequence, state_of(first)));
        let own = (id.as_str(), terminal.as_str());
        let (kind, transfer) = match (&first.action, first.action.transfer()) {
            (Action::Tombstone, _) => {
                let transfer = some_transfer(steps);
                let Some(transfer) = transfer else { return };
                let told = self.first(StepKind::Hold, own, &transfer).await;
                self.note(
                    13,
                    "a hold under a tombstone is told of it",
                    told == recorded,
                    format!("{id}: {told:?}"),
                );
                return;
            }
            (_, Some(transfer)) => (first.action.kind(), *transfer),
            (_, None) => return,
        };
        let told = self.first(kind, own, &transfer).await;
        self.note(
            6,
            "a repeat is told what was recorded first",
            told == recorded,
            format!("{id}: {told:?}, not {recorded:?}"),
        );
        let other = Transfer { amount: transfer.amount + 1, ..transfer };
        let told = self.first(kind, own, &other).await;
        let refused = told == Err(Code::AlreadyExists);
        self.note(7, "another amount under a known id is refused", refused, format!("{id}: {told:?}"));
        let stranger = TerminalId::from_bytes([0x77; 32]).to_string();
        let told = self.first(kind, (&id, &stranger), &transfer).await;
        let refused = told == Err(Code::AlreadyExists);
        self.note(7, "another terminal's id is refused", refused, format!("{id}: {told:?}"));
        let captured = steps.iter().find(|step| {
            step.id == first.id && matches!(step.action, Action::Capture { .. } | Action::CaptureLate { .. })
        });
        if let Some((step, amount)) = captured.and_then(|step| Some((step, step.action.transfer()?.amount))) {
            let recorded: Told = Ok((step.commit_sequence, state_of(step)));
            let told = self.capture(own, amount).await;
            self.note(
                6,
                "a repeated capture is told the first one",
                told == recorded,
                format!("{id}: {told:?}, not {recorded:?}"),
            );
        }
    }

    /// A decline is recorded, a cancel fences off what never came, and a hold ends with its lifetime.
    async fn try_new_ids(&mut self, steps: &[Step]) {
        let Some(transfer) = some_withdrawal(steps) else { return };
        let terminal = TerminalId::from_bytes([0x77; 32]).to_string();
        let new_id = || self.start.ids.transaction_id().to_string();
        let (declined, fenced, brief) = (new_id(), new_id(), new_id());

        let too_much = Transfer { amount: 1_000_000_000_000, ..transfer };
        if let Ok((sequence, _)) = self.first(StepKind::Hold, (&declined, &terminal), &too_much).await {
            let head = evidence::recorded(&self.books).map_or(0, |recorded| recorded.head.sequence);
            let got = format!("it was told to be step {sequence}, and the books end with {head}");
            self.note(6, "a decline is recorded", sequence <= head, got);
        }

        let cancel =
            CancelTransactionRequest { transaction_id: fenced.clone(), terminal_id: terminal.clone() };
        let cancelled = told(self.ledger.cancel_transaction(cancel).await, |response| response.outcome);
        let held = self.first(StepKind::Hold, (&fenced, &terminal), &transfer).await;
        let same = cancelled.is_err() || held == cancelled;
        self.note(
            13,
            "what was cancelled before it came never holds",
            same,
            format!("{cancelled:?}, {held:?}"),
        );

        let hold = HoldTransactionRequest {
            transaction_id: brief.clone(),
            terminal_id: terminal.clone(),
            debit_account_id: transfer.debit.to_string(),
            credit_account_id: transfer.credit.to_string(),
            amount: Some(money(1)),
            lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        };
        let held = told(self.ledger.hold_transaction(hold).await, |response| response.outcome);
        if held.is_ok_and(|(_, state)| state == i32::from(TransactionState::Held)) {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let cancel = CancelTransactionRequest { transaction_id: brief.clone(), terminal_id: terminal };
            let ended = told(self.ledger.cancel_transaction(cancel).await, |response| response.outcome);
            // On the ledger's clock, which may have been put back.
            let steps =
                evidence::recorded(&self.books).map_or_else(|_| Vec::new(), |recorded| recorded.steps);
            let end = steps.iter().find_map(|step| match &step.action {
                Action::Hold { expire_time, .. } if step.id.to_string() == brief => Some(*expire_time),
                _ => None,
            });
            let cancelled_late = steps.iter().any(|step| {
                step.id.to_string() == brief
                    && matches!(step.action, Action::Cancel { .. })
                    && end.is_none_or(|end| step.commit_time >= end)
            });
            let expired = ended.is_err() || !cancelled_late;
            self.note(23, "a hold ends with its lifetime", expired, format!("{ended:?}"));
        }
    }

    /// Asks for a hold or a posting.
    async fn first(&mut self, kind: StepKind, (id, terminal): (&str, &str), transfer: &Transfer) -> Told {
        let amount = Some(money(transfer.amount));
        let (debit, credit) = (transfer.debit.to_string(), transfer.credit.to_string());
        if kind == StepKind::Post {
            let request = PostTransactionRequest {
                transaction_id: id.to_owned(),
                terminal_id: terminal.to_owned(),
                debit_account_id: debit,
                credit_account_id: credit,
                amount,
            };
            told(self.ledger.post_transaction(request).await, |response| response.outcome)
        } else {
            let request = HoldTransactionRequest {
                transaction_id: id.to_owned(),
                terminal_id: terminal.to_owned(),
                debit_account_id: debit,
                credit_account_id: credit,
                amount,
                lifetime: None,
            };
            told(self.ledger.hold_transaction(request).await, |response| response.outcome)
        }
    }

    async fn capture(&mut self, (id, terminal): (&str, &str), amount: i64) -> Told {
        let request = CaptureTransactionRequest {
            transaction_id: id.to_owned(),
            terminal_id: terminal.to_owned(),
            amount: Some(money(amount)),
            authorization: Vec::new(),
        };
        told(self.ledger.capture_transaction(request).await, |response| response.outcome)
    }

    /// A session is good at its machine, nowhere else, and not after its log-out.
    async fn try_sessions(&mut self, machine_key: [u8; 32]) {
        for customer in 0..CUSTOMERS.len() {
            // A card that was locked or blocked meanwhile opens none.
            let Some((token, _)) = self.let_in(machine_key, customer).await else { continue };
            // If the clocks of auth and gateway differ by more than a session lives, it is over before it begins.
            if self.balance(machine_key, &token).await.is_err() {
                continue;
            }
            let elsewhere = self.balance([0x42; 32], &token).await;
            let refused = elsewhere == Err(Code::Unauthenticated);
            self.note(21, "a session works at no other machine", refused, format!("{elsewhere:?}"));
            let mut request = Request::new(LogOutRequest {});
            self.dress(&mut request, machine_key, Some(&token));
            let left = self.gateway.log_out(request).await.map(drop).map_err(|status| status.code());
            let after = self.balance(machine_key, &token).await;
            let refused = left.is_err() || after == Err(Code::Unauthenticated);
            self.note(
                21,
                "a session does not work after its log-out",
                refused,
                format!("{left:?}, {after:?}"),
            );
        }
    }

    /// A PIN is changed once, only by who knows the old one, and from then on the new one alone is right.
    async fn change_pins(&mut self, machine_key: [u8; 32]) {
        for (customer, who) in CUSTOMERS.iter().enumerate() {
            let Some((token, old)) = self.let_in(machine_key, customer).await else { continue };
            let late = self.late_attempts();
            let new = if old == who.pin { who.other_pins[0] } else { who.pin };
            let (id, another) = (self.attempt_id(), self.attempt_id());
            let guessed = self.change_pin((machine_key, &token), ("0006", new), &another).await;
            let first = self.change_pin((machine_key, &token), (old, new), &id).await;
            let again = self.change_pin((machine_key, &token), (old, new), &id).await;
            let with_old = self.log_in(machine_key, who.card, old).await.map(drop);
            let with_new = self.log_in(machine_key, who.card, new).await.map(drop);
            let told = [guessed, first, again, with_old, with_new];
            let judged = |told: &Result<(), Code>| matches!(told, Ok(()) | Err(Code::Unauthenticated));
            // A late copy may change it as well, where auth has forgotten the attempt since its clock was set.
            let by_others = self.late_attempts() != late;
            let expected = [Err(Code::Unauthenticated), Ok(()), Ok(()), Err(Code::Unauthenticated), Ok(())];
            if told.iter().all(judged) && !by_others {
                let got = format!("{told:?}");
                self.note(20, "only who knows the old PIN sets another, once", told == expected, got);
            }
        }
    }

    /// How many attempts of machines were verified so far. They make none any more: what comes now is late.
    fn late_attempts(&self) -> usize {
        let state = self.start.shared.lock();
        let verified =
            |line: &&LogLine| line.target == "atm_auth::attempts" && line.text.contains("verified");
        state
            .log
            .iter()
            .filter(verified)
            .filter(|line| !self.own.iter().any(|id| line.text.contains(id)))
            .count()
    }

    /// How often a card was unblocked so far.
    fn unblocked(&self) -> usize {
        let told =
            |line: &&LogLine| line.target == "atm_auth::cards" && line.text.contains("unblocked a card");
        self.start.shared.lock().log.iter().filter(told).count()
    }

    /// Of four wrong PINs at most two are told to be wrong: the third locks.
    async fn guess(&mut self, machine_key: [u8; 32]) {
        for who in &CUSTOMERS {
            let (unblocked, late) = (self.unblocked(), self.late_attempts());
            let mut told = Vec::new();
            for pin in ["0001", "0002", "0003", "0004"] {
                let answer = self.log_in(machine_key, who.card, pin).await.map(drop);
                told.push(answer);
                if answer == Err(Code::DeadlineExceeded) {
                    return;
                }
            }
            let judged = |told: &Result<(), Code>| {
                matches!(told, Ok(()) | Err(Code::Unauthenticated | Code::FailedPrecondition))
            };
            // Who was not answered says nothing of the count.
            if !told.iter().all(judged) {
                return;
            }
            // An operator's order that was held up until now unblocks a card. A copy of one that came before does not,
            // and auth does not say so. A late copy of a right PIN begins the count anew, where auth has forgotten the
            // attempt since its clock was set.
            if self.unblocked() != unblocked || self.late_attempts() != late {
                continue;
            }
            let wrong = told.iter().filter(|told| **told == Err(Code::Unauthenticated)).count();
            let locked = told.last() == Some(&Err(Code::FailedPrecondition));
            self.note(19, "the third wrong PIN locks", wrong <= 2 && locked, format!("{told:?}"));
        }
    }

    /// Nobody is told that a PIN was wrong before it is counted. The number is nobody's card: the others are locked.
    async fn guess_on_a_failing_disk(&mut self, machine_key: [u8; 32]) {
        self.cards.fail_after(0, CommitFault::Lost);
        let told = self.log_in(machine_key, "4000001234567899", "0005").await.map(drop);
        self.cards.clear_faults();
        let silent = told != Err(Code::Unauthenticated);
        self.note(20, "a wrong PIN is told only when it is counted", silent, format!("{told:?}"));
    }

    /// Logs a customer in with the PIN that she takes for hers, or else with another that may be; says with which.
    async fn let_in(&mut self, machine_key: [u8; 32], customer: usize) -> Option<(String, &'static str)> {
        let pins = self.start.shared.lock().pins(customer).clone();
        for pin in pins {
            if let Ok(token) = self.log_in(machine_key, CUSTOMERS[customer].card, pin).await {
                self.start.shared.lock().believe(customer, pin);
                return Some((token, pin));
            }
        }
        None
    }

    fn attempt_id(&mut self) -> String {
        let mut id = [0; 16];
        self.start.ids.fill(&mut id);
        let id = uuid::Builder::from_random_bytes(id).into_uuid().to_string();
        self.own.push(id.clone());
        id
    }

    async fn change_pin(
        &mut self,
        (machine_key, token): ([u8; 32], &str),
        (old, new): (&str, &str),
        attempt_id: &str,
    ) -> Result<(), Code> {
        let mut request = Request::new(ChangePinRequest {
            old_pin: old.to_owned(),
            new_pin: new.to_owned(),
            attempt_id: attempt_id.to_owned(),
        });
        self.dress(&mut request, machine_key, Some(token));
        self.gateway.change_pin(request).await.map(drop).map_err(|status| {
            // The machine's next start ended the session, which says nothing of the PIN.
            let no_session = atm_rpc::status::reason(&status).as_deref() == Some("SESSION_REQUIRED");
            if no_session { Code::Aborted } else { status.code() }
        })
    }

    async fn log_in(&mut self, machine_key: [u8; 32], card: &str, pin: &str) -> Result<String, Code> {
        let attempt_id = self.attempt_id();
        let mut request = Request::new(LogInRequest {
            card_number: card.to_owned(),
            pin: pin.to_owned(),
            attempt_id,
            atm_id: Host::Machine(0).name(),
            boot: None,
        });
        self.dress(&mut request, machine_key, None);
        let answer = self.gateway.log_in(request).await;
        answer.map(|response| response.into_inner().session_token).map_err(|status| status.code())
    }

    async fn balance(&mut self, machine_key: [u8; 32], token: &str) -> Result<(), Code> {
        let mut request = Request::new(GetBalanceRequest {});
        self.dress(&mut request, machine_key, Some(token));
        self.gateway.get_balance(request).await.map(drop).map_err(|status| status.code())
    }

    fn dress<T>(&self, request: &mut Request<T>, machine_key: [u8; 32], token: Option<&str>) {
        let mut put = |key: &'static str, text: String| {
            if let Ok(value) = MetadataValue::<Ascii>::try_from(text) {
                request.metadata_mut().insert(key, value);
            }
        };
        put("atm-terminal-key", hex::encode(machine_key));
        put("atm-id", Host::Machine(0).name());
        if let Some(token) = token {
            put("authorization", format!("Bearer {token}"));
        }
    }
}

/// Runs the audit when the world says that it is time.
pub(super) async fn wait_and_audit(
    start: Start,
    secrets: Secrets,
    disks: (MemoryDisk, MemoryStore),
    machine_key: [u8; 32],
) {
    while !start.shared.lock().audit {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let shared = Arc::clone(&start.shared);
    let probes = match Auditor::new(start, &secrets, disks) {
        Some(auditor) => auditor.audit(machine_key).await,
        None => Vec::new(),
    };
    shared.lock().probes = Some(probes);
}

fn told<T>(answer: Result<Response<T>, Status>, outcome: fn(T) -> Option<Outcome>) -> Told {
    let answer = answer.map_err(|status| status.code())?;
    outcome(answer.into_inner()).map(|outcome| (outcome.commit_sequence, outcome.state)).ok_or(Code::Internal)
}

/// The state that a step led to, as the wire numbers it.
fn state_of(step: &Step) -> i32 {
    use atm_ledger_core::TransactionState as Core;
    use atm_proto::types::TransactionState as Wire;
    let state = match step.action.state() {
        None => Wire::Unspecified,
        Some(Core::Posted) => Wire::Posted,
        Some(Core::Declined) => Wire::Declined,
        Some(Core::Held) => Wire::Held,
        Some(Core::Captured) => Wire::Captured,
        Some(Core::Cancelled) => Wire::Cancelled,
        Some(Core::Expired) => Wire::Expired,
        Some(Core::CapturedLate) => Wire::CapturedLate,
        Some(Core::Suspect) => Wire::Suspect,
    };
    state.into()
}

/// What a customer could draw.
fn some_withdrawal(steps: &[Step]) -> Option<Transfer> {
    steps.iter().find_map(|step| match &step.action {
        Action::Hold { transfer, .. } => Some(Transfer { amount: 1, ..*transfer }),
        _ => None,
    })
}

fn some_transfer(steps: &[Step]) -> Option<Transfer> {
    steps.iter().find_map(|step| step.action.transfer()).map(|transfer| Transfer { amount: 100, ..*transfer })
}

fn money(minor_units: i64) -> Money {
    Money { currency_code: "BDT".to_owned(), minor_units }
}
