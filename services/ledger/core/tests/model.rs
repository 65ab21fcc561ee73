//! `decide` against a plain model, on random histories.
//!
//! The model is written to be obviously right and not to be fast: it keeps a list of what happened and adds
//! everything up again for each question. It shares no code with the core. `PROPTEST_CASES=1000000 cargo
//! test -p atm-ledger-core --test model` is the long run; a failure prints its seed and shrinks.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use atm_ledger_core::{
    Action, Authorization, Capture, Command, DeclineReason, Hold, Refusal, State, Step, StepKind, Suspend,
    TransactionState, Transfer,
};
use atm_types::{Currency, TerminalId};
use proptest::prelude::*;
use support::*;

const CUSTOMERS: [u8; 4] = [ALICE, BOB, OVERDRAWN, LIMITED];

/// Debit, credit, amount.
type Asked = (u8, u8, i64);

/// One transaction as a bookkeeper would note it on a card.
#[derive(Clone, Debug)]
struct Card {
    terminal: TerminalId,
    is_hold: bool,
    /// What its posting or hold asked for, if that came first.
    asked: Option<Asked>,
    /// What was set aside, ever.
    held: Option<Asked>,
    first: TransactionState,
    state: TransactionState,
    /// What finally moved.
    moved: i64,
    /// The day that the cash counts against.
    day: i32,
    expires_at: i64,
    /// The account that it was frozen on, ever.
    suspense: Option<u8>,
    resolved: Option<i64>,
    /// Posted or set aside without looking at the balance.
    forced: bool,
}

impl Card {
    fn new(terminal: TerminalId, state: TransactionState, day: i32) -> Self {
        Self {
            terminal,
            is_hold: false,
            asked: None,
            held: None,
            first: state,
            state,
            moved: 0,
            day,
            expires_at: 0,
            suspense: None,
            resolved: None,
            forced: false,
        }
    }

    fn transfer(&self) -> Option<Asked> {
        self.held.or(self.asked)
    }

    fn is_set_aside(&self) -> bool {
        matches!(self.state, TransactionState::Held | TransactionState::Suspect)
    }
}

#[derive(Default)]
struct Model {
    cards: HashMap<u8, Card>,
}

/// What the model expects of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    New(TransactionState, Option<DeclineReason>),
    Again(TransactionState),
    Reused(&'static str),
    NotFound,
    Nothing(TransactionState),
    TooMuch(i64),
    Frozen,
    NotFrozen(TransactionState),
    Malformed,
    CannotPost,
}

impl Model {
    fn posted(&self, account: u8) -> i64 {
        let opening = if [ALICE, OVERDRAWN, LIMITED].contains(&account) { 1000 } else { 0 };
        self.cards.values().fold(opening, |sum, card| match card.transfer() {
            Some((debit, _, _)) if debit == account => sum - card.moved,
            Some((_, credit, _)) if credit == account => sum + card.moved,
            _ => sum,
        })
    }

    fn sum_held(&self, counts: impl Fn(&Card, Asked) -> bool) -> i64 {
        let held = self.cards.values().filter(|card| card.is_set_aside());
        let held = held.filter_map(|card| card.held.filter(|held| counts(card, *held)));
        held.map(|held| held.2).sum()
    }

    /// What is pending on an account: debits, and the credits that wait on it.
    fn pending(&self, account: u8) -> (i64, i64) {
        let debits = self.sum_held(|_, held| held.0 == account);
        let credits = self.sum_held(|card, held| match card.state {
            TransactionState::Suspect => card.suspense == Some(account),
            _ => held.1 == account,
        });
        (debits, credits)
    }

    fn available(&self, account: u8) -> i64 {
        let overdraft = if account == OVERDRAWN { 50 } else { 0 };
        self.posted(account) - self.pending(account).0 + overdraft
    }

    fn withdrawn(&self, account: u8, day: i32) -> i64 {
        let counts =
            |card: &&Card| card.day == day && card.transfer().is_some_and(|a| a.0 == account && a.1 == CASH);
        let amount = |card: &Card| if card.is_set_aside() { card.held.unwrap().2 } else { card.moved };
        self.cards.values().filter(counts).map(amount).sum()
    }

    fn ask(&mut self, op: &Op, terminal: TerminalId, now: i64, day: i32) -> Expected {
        match *op {
            Op::Post { n, debit, credit, amount } => {
                self.money(n, terminal, (debit, credit, amount), None, now, day)
            }
            Op::Hold { n, debit, credit, amount, seconds } => {
                self.money(n, terminal, (debit, credit, amount), Some(seconds), now, day)
            }
            Op::Capture { n, amount, signed } => self.capture(n, terminal, amount, signed, day),
            Op::Cancel { n } => self.cancel(n, terminal),
            Op::Suspend { n, suspense, signed } => self.suspend(n, terminal, suspense, signed, day),
            Op::Resolve { n, amount, why } => self.resolve(n, amount, why),
            Op::Wait { .. } => Expected::NotFound,
        }
    }

    fn money(
        &mut self,
        n: u8,
        terminal: TerminalId,
        asked: Asked,
        lifetime: Option<i64>,
        now: i64,
        day: i32,
    ) -> Expected {
        let (debit, credit, amount) = asked;
        if amount <= 0 || debit == credit {
            return Expected::Malformed;
        }
        let is_hold = lifetime.is_some();
        if let Some(card) = self.cards.get(&n) {
            let Some(first) = card.asked else {
                let own = card.terminal == terminal;
                return if own { Expected::Again(card.first) } else { Expected::Reused("transaction_id") };
            };
            return match () {
                () if card.terminal != terminal => Expected::Reused("transaction_id"),
                () if card.is_hold != is_hold => Expected::Reused("kind"),
                () if first.0 != debit => Expected::Reused("debit_account_id"),
                () if first.1 != credit => Expected::Reused("credit_account_id"),
                () if first.2 != amount => Expected::Reused("amount.minor_units"),
                () => Expected::Again(card.first),
            };
        }
        let customer = CUSTOMERS.contains(&debit);
        let limited = debit == LIMITED && credit == CASH;
        let reason = match () {
            () if debit == NOBODY => Some(DeclineReason::DebitAccountNotFound),
            () if credit == NOBODY => Some(DeclineReason::CreditAccountNotFound),
            () if customer && self.available(debit) < amount => Some(DeclineReason::InsufficientFunds),
            () if limited && self.withdrawn(debit, day) + amount > 100 => {
                Some(DeclineReason::DailyLimitExceeded)
            }
            () => None,
        };
        let state = match (reason, is_hold) {
            (Some(_), _) => TransactionState::Declined,
            (None, true) => TransactionState::Held,
            (None, false) => TransactionState::Posted,
        };
        let card = Card {
            is_hold,
            asked: Some(asked),
            held: Some(asked).filter(|_| state == TransactionState::Held),
            moved: if state == TransactionState::Posted { amount } else { 0 },
            expires_at: now + lifetime.unwrap_or(0),
            ..Card::new(terminal, state, day)
        };
        self.cards.insert(n, card);
        Expected::New(state, reason)
    }

    /// The card of a terminal's transaction, and what was set aside under it: by what was noted, or else by
    /// what this ledger signed. `Err` is what is answered when there is neither.
    fn held(
        &self,
        n: u8,
        terminal: TerminalId,
        signed: Option<Asked>,
        day: i32,
    ) -> Result<(Card, Asked), Expected> {
        let Some(card) = self.cards.get(&n) else {
            let held = signed.ok_or(Expected::NotFound)?;
            let new = Card::new(terminal, TransactionState::Expired, day);
            return Ok((new, held));
        };
        if card.terminal != terminal {
            return Err(Expected::NotFound);
        }
        match (card.held, card.state) {
            (Some(held), _) => Ok((card.clone(), held)),
            (None, TransactionState::Posted) => Err(Expected::Nothing(TransactionState::Posted)),
            (None, state) => Ok((card.clone(), signed.ok_or(Expected::Nothing(state))?)),
        }
    }

    /// Notes a card again; a new one was begun by what is noted now.
    fn note(&mut self, n: u8, mut card: Card) -> Expected {
        let state = card.state;
        card.first = self.cards.get(&n).map_or(state, |card| card.first);
        self.cards.insert(n, card);
        Expected::New(state, None)
    }

    fn capture(
        &mut self,
        n: u8,
        terminal: TerminalId,
        amount: i64,
        signed: Option<Asked>,
        day: i32,
    ) -> Expected {
        if amount < 0 {
            return Expected::Malformed;
        }
        let (card, held) = match self.held(n, terminal, signed, day) {
            Ok(known) => known,
            Err(expected) => return expected,
        };
        match card.state {
            TransactionState::Captured | TransactionState::CapturedLate if card.moved == amount => {
                Expected::Again(card.state)
            }
            TransactionState::Captured | TransactionState::CapturedLate => {
                Expected::Reused("amount.minor_units")
            }
            TransactionState::Suspect => Expected::Frozen,
            _ if amount > held.2 => Expected::TooMuch(held.2),
            _ if [held.0, held.1].contains(&NOBODY) => Expected::CannotPost,
            TransactionState::Held => {
                self.note(n, Card { moved: amount, state: TransactionState::Captured, ..card })
            }
            TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::Declined
            | TransactionState::Posted => {
                let state = TransactionState::CapturedLate;
                self.note(n, Card { moved: amount, held: Some(held), state, day, forced: true, ..card })
            }
        }
    }

    fn cancel(&mut self, n: u8, terminal: TerminalId) -> Expected {
        match self.cards.get_mut(&n) {
            None => {
                let state = TransactionState::Cancelled;
                self.cards.insert(n, Card::new(terminal, state, 0));
                Expected::New(state, None)
            }
            Some(card) if card.terminal != terminal => Expected::NotFound,
            Some(card) if card.state == TransactionState::Held => {
                card.state = TransactionState::Cancelled;
                Expected::New(card.state, None)
            }
            Some(card) => Expected::Again(card.state),
        }
    }

    fn suspend(
        &mut self,
        n: u8,
        terminal: TerminalId,
        suspense: u8,
        signed: Option<Asked>,
        day: i32,
    ) -> Expected {
        let (card, held) = match self.held(n, terminal, signed, day) {
            Ok(known) => known,
            Err(expected) => return expected,
        };
        match (card.suspense, card.state) {
            (Some(before), _) if before == suspense => return Expected::Again(TransactionState::Suspect),
            (Some(_), _) => return Expected::Reused("suspense_account_id"),
            (None, TransactionState::Captured | TransactionState::CapturedLate) => {
                return Expected::Again(card.state);
            }
            (None, _) => {}
        }
        if ![SUSPENSE, SUSPENSE_ELSEWHERE].contains(&suspense) || [held.0, held.1].contains(&suspense) {
            return Expected::Malformed;
        }
        if [held.0, held.1].contains(&NOBODY) {
            return Expected::CannotPost;
        }
        let stood = card.state == TransactionState::Held;
        let frozen = Card {
            state: TransactionState::Suspect,
            held: Some(held),
            suspense: Some(suspense),
            day: if stood { card.day } else { day },
            forced: !stood,
            ..card
        };
        self.note(n, frozen)
    }

    fn resolve(&mut self, n: u8, amount: i64, why: bool) -> Expected {
        if amount < 0 || !why {
            return Expected::Malformed;
        }
        let Some(card) = self.cards.get_mut(&n) else { return Expected::NotFound };
        let state =
            |amount| if amount > 0 { TransactionState::Captured } else { TransactionState::Cancelled };
        match card.resolved {
            Some(before) if before == amount => return Expected::Again(state(before)),
            Some(_) => return Expected::Reused("amount.minor_units"),
            None if card.state != TransactionState::Suspect => return Expected::NotFrozen(card.state),
            None => {}
        }
        let held = card.held.unwrap().2;
        if amount > held {
            return Expected::TooMuch(held);
        }
        card.resolved = Some(amount);
        card.moved = amount;
        card.state = state(amount);
        Expected::New(card.state, None)
    }

    fn expire(&mut self, now: i64) {
        let due = |card: &&mut Card| card.state == TransactionState::Held && card.expires_at <= now;
        self.cards.values_mut().filter(due).for_each(|card| card.state = TransactionState::Expired);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Post { n: u8, debit: u8, credit: u8, amount: i64 },
    Hold { n: u8, debit: u8, credit: u8, amount: i64, seconds: i64 },
    Capture { n: u8, amount: i64, signed: Option<Asked> },
    Cancel { n: u8 },
    Suspend { n: u8, suspense: u8, signed: Option<Asked> },
    Resolve { n: u8, amount: i64, why: bool },
    Wait { seconds: u64, next_day: bool },
}

impl Op {
    fn command(&self, terminal: TerminalId) -> Option<Command> {
        let authorization = |signed: Option<Asked>| {
            signed.map(|(debit, credit, amount)| Authorization { transfer: transfer(debit, credit, amount) })
        };
        Some(match *self {
            Self::Post { n, debit, credit, amount } => {
                Command::Post { id: id(n), terminal, transfer: transfer(debit, credit, amount) }
            }
            Self::Hold { n, debit, credit, amount, seconds } => Command::Hold(Hold {
                id: id(n),
                terminal,
                transfer: transfer(debit, credit, amount),
                lifetime: Duration::from_secs(seconds.unsigned_abs()),
            }),
            Self::Capture { n, amount, signed } => Command::Capture(Capture {
                id: id(n),
                terminal,
                amount,
                currency: Currency::BDT,
                authorization: authorization(signed),
            }),
            Self::Cancel { n } => Command::Cancel { id: id(n), terminal },
            Self::Suspend { n, suspense, signed } => Command::Suspend(Suspend {
                id: id(n),
                terminal,
                suspense: account(suspense),
                authorization: authorization(signed),
            }),
            Self::Resolve { n, amount, why } => resolve_by(n, amount, "Nadia", if why { "why" } else { "" }),
            Self::Wait { .. } => return None,
        })
    }
}

fn got(answer: &Got) -> Expected {
    let state = |step: &Step| step.action.state().expect("no account ids here");
    match answer {
        Got::Recorded(step) => {
            let reason = match &step.action {
                Action::Decline { decline, .. } => Some(decline.reason),
                _ => None,
            };
            Expected::New(state(step), reason)
        }
        Got::Replayed(step) => Expected::Again(state(step)),
        Got::Refused(refusal) => match *refusal {
            Refusal::IdReused { field } => Expected::Reused(field),
            Refusal::NotFound => Expected::NotFound,
            Refusal::NothingToCapture { state } | Refusal::NothingToSuspend { state } => {
                Expected::Nothing(state)
            }
            Refusal::CaptureExceedsHold { held, .. } | Refusal::ResolutionExceedsHold { held } => {
                Expected::TooMuch(held)
            }
            Refusal::Suspended => Expected::Frozen,
            Refusal::NotSuspended { state } => Expected::NotFrozen(state),
            Refusal::Invalid { .. } => Expected::Malformed,
            Refusal::CannotPost => Expected::CannotPost,
            Refusal::CurrencyMismatch { .. } => panic!("not in these histories"),
        },
    }
}

fn ops() -> impl Strategy<Value = Vec<(Op, bool)>> {
    let n = || 0..8_u8;
    let debit =
        || prop::sample::select(vec![ALICE, BOB, OVERDRAWN, LIMITED, CASH, OPENING, SUSPENSE, NOBODY]);
    let credit = || prop::sample::select(vec![ALICE, BOB, CASH, CASH, CASH, SUSPENSE, NOBODY]);
    let amount = || prop::sample::select(vec![-1, 0, 1, 20, 60, 100, 400, 900, 1050]);
    let suspense =
        || prop::sample::select(vec![SUSPENSE, SUSPENSE, SUSPENSE, SUSPENSE_ELSEWHERE, CASH, NOBODY]);
    // What this ledger signed is well formed, but it may have forgotten the accounts.
    let signed = || {
        let debit = prop::sample::select(vec![ALICE, LIMITED, SUSPENSE, NOBODY]);
        let held =
            (debit, prop::sample::select(vec![CASH, CASH, BOB]), prop::sample::select(vec![20, 60, 900]));
        prop::option::weighted(0.3, held)
    };
    let op = prop_oneof![
        3 => (n(), debit(), credit(), amount()).prop_map(|(n, debit, credit, amount)| Op::Post { n, debit, credit, amount }),
        4 => (n(), debit(), credit(), amount(), 1..40_i64)
            .prop_map(|(n, debit, credit, amount, seconds)| Op::Hold { n, debit, credit, amount, seconds }),
        4 => (n(), amount(), signed()).prop_map(|(n, amount, signed)| Op::Capture { n, amount, signed }),
        2 => n().prop_map(|n| Op::Cancel { n }),
        4 => (n(), suspense(), signed()).prop_map(|(n, suspense, signed)| Op::Suspend { n, suspense, signed }),
        4 => (n(), amount(), prop::bool::weighted(0.9))
            .prop_map(|(n, amount, why)| Op::Resolve { n, amount, why }),
        2 => (0..30_u64, any::<bool>()).prop_map(|(seconds, next_day)| Op::Wait { seconds, next_day }),
    ];
    prop::collection::vec((op, prop::bool::weighted(0.9)), 1..60)
}

/// The books keep their promises, whatever was asked.
fn check_books(bank: &Bank, model: &Model) {
    let mut sums = [0_i128; 4];
    for n in OPEN {
        let totals = bank.state.account(account(n)).unwrap().totals;
        sums[0] += i128::from(totals.debits_posted);
        sums[1] += i128::from(totals.credits_posted);
        sums[2] += i128::from(totals.debits_pending);
        sums[3] += i128::from(totals.credits_pending);
        assert_eq!(bank.pending(n), model.pending(n), "account {n}");
    }
    assert_eq!((sums[0], sums[2]), (sums[1], sums[3]), "debits equal credits");
    for n in CUSTOMERS {
        assert_eq!(bank.balance(n), (model.posted(n), model.available(n)), "account {n}");
        let forced = |card: &Card| card.forced && card.transfer().is_some_and(|transfer| transfer.0 == n);
        let red = model.available(n) < 0;
        assert!(!red || model.cards.values().any(forced), "nothing forced account {n} into the red");
    }
    let limited = bank.state.account(account(LIMITED)).unwrap();
    let left = 100_i64.saturating_sub(model.withdrawn(LIMITED, bank.day)).max(0);
    assert_eq!(limited.daily_withdrawal_remaining(bank.day), Some(left));
    let held = model.cards.iter().filter(|(_, card)| card.state == TransactionState::Held);
    let held: HashSet<_> = held.map(|(n, _)| id(*n)).collect();
    assert_eq!(bank.state.open_holds().map(|hold| hold.id).collect::<HashSet<_>>(), held);
    let sequences: Vec<u64> = bank.steps.iter().map(|step| step.commit_sequence).collect();
    assert!(sequences.iter().zip(1..).all(|(have, want)| *have == want), "the sequence has no gaps");
}

/// Each step adds up by itself, nothing happens twice under an id, and no more is posted than was held.
fn check_lives(bank: &Bank) {
    let mut lives: HashMap<_, Vec<&Step>> = HashMap::new();
    for step in &bank.steps {
        let (mut posted, mut pending) = (0, 0);
        for (index, leg) in step.entries() {
            let sign = if index == 0 { 1 } else { -1 };
            posted += sign * leg.posted;
            pending += sign * leg.pending;
        }
        assert_eq!((posted, pending), (0, 0), "{step:?}");
        lives.entry(step.id).or_default().push(step);
    }
    for steps in lives.values() {
        let kinds: HashSet<StepKind> = steps.iter().map(|step| step.action.kind()).collect();
        assert_eq!(kinds.len(), steps.len(), "something happened twice: {steps:?}");
        let ordinals: Vec<u8> = steps.iter().map(|step| step.ordinal).collect();
        assert!(ordinals.iter().zip(0..).all(|(have, want)| *have == want), "{ordinals:?}");
        let held = steps.iter().find_map(|step| match &step.action {
            Action::Hold { transfer, .. } | Action::Suspend { transfer, .. } => Some(transfer.amount),
            _ => None,
        });
        let posted: i64 =
            steps.iter().filter_map(|step| step.action.legs().first()).map(|leg| leg.posted).sum();
        assert!(held.is_none_or(|held| posted <= held), "{steps:?}");
    }
}

/// Everything recorded, replayed from nothing, gives the same books.
fn check_replay(bank: &Bank) {
    let mut state = State::new();
    for step in &bank.steps {
        state.apply(step).unwrap();
        // A replay between batches keeps no settled transactions; it must not need them.
        state.forget_settled();
    }
    for n in OPEN {
        assert_eq!(state.account(account(n)), bank.state.account(account(n)));
    }
    assert!(state.open_holds().eq(bank.state.open_holds()));
}

/// Whatever came after it, each command gets the step that it made; only a cancel tells how it ended.
fn check_repeats(bank: &mut Bank, made: &[(Command, Step)]) {
    for (command, step) in made {
        if !matches!(command, Command::Cancel { .. }) {
            assert_eq!(bank.run(command), Got::Replayed(step.clone()), "{command:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_core_agrees_with_a_plain_model(ops in ops()) {
        let mut bank = Bank::open();
        let mut model = Model::default();
        let mut made = Vec::new();
        for (op, here) in &ops {
            let terminal = if *here { HERE } else { ELSEWHERE };
            match (op.command(terminal), op) {
                (Some(command), _) => {
                    let answer = bank.run(&command);
                    let expected = model.ask(op, terminal, bank.seconds, bank.day);
                    prop_assert_eq!(got(&answer), expected, "{:?}", op);
                    // A repeat right away gets the very same step.
                    if let Got::Recorded(step) = answer {
                        prop_assert_eq!(bank.run(&command), Got::Replayed(step.clone()));
                        made.push((command, step));
                    }
                }
                (None, Op::Wait { seconds, next_day }) => {
                    bank.day += i32::from(*next_day);
                    // What is due is fixed before the expiries themselves take time.
                    model.expire(bank.seconds + i64::try_from(*seconds).unwrap());
                    bank.wait(Duration::from_secs(*seconds));
                }
                (None, other) => panic!("{other:?} asks for nothing"),
            }
            check_books(&bank, &model);
        }
        check_lives(&bank);
        check_replay(&bank);
        check_repeats(&mut bank, &made);
    }
}

/// Keeps the compiler honest about what a transfer is made of: a new field must enter the fingerprint.
#[test]
fn the_fingerprint_covers_every_field_of_a_transfer() {
    let Transfer { debit: _, credit: _, amount: _, currency: _ } = transfer(ALICE, BOB, 1);
}
