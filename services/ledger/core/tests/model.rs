//! `decide` against a plain model, on random histories.
//!
//! The model is written to be obviously right and not to be fast: it keeps a list of what happened and adds
//! everything up again for each question. It shares no code with the core. `PROPTEST_CASES=1000000 cargo
//! test -p atm-ledger-core --test model` is the long run; a failure prints its seed and shrinks.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use atm_ledger_core::{
    Action, Capture, Command, DeclineReason, Hold, Refusal, State, TransactionState, Transfer,
};
use atm_types::{Currency, TerminalId};
use proptest::prelude::*;
use support::*;

const CUSTOMERS: [u8; 4] = [ALICE, BOB, OVERDRAWN, LIMITED];

/// One transaction as a bookkeeper would note it on a card.
#[derive(Clone, Debug)]
struct Card {
    terminal: TerminalId,
    is_hold: bool,
    asked: Option<(u8, u8, i64)>,
    state: TransactionState,
    reason: Option<DeclineReason>,
    /// What finally moved.
    moved: i64,
    /// The day that the cash counts against.
    day: i32,
    expires_at: i64,
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
    Malformed,
}

impl Model {
    fn posted(&self, account: u8) -> i64 {
        let opening = if [ALICE, OVERDRAWN, LIMITED].contains(&account) { 1000 } else { 0 };
        self.cards.values().fold(opening, |sum, card| match card.asked {
            Some((debit, _, _)) if debit == account => sum - card.moved,
            Some((_, credit, _)) if credit == account => sum + card.moved,
            _ => sum,
        })
    }

    fn on_hold(&self, account: u8) -> i64 {
        let held = self.cards.values().filter(|card| card.state == TransactionState::Held);
        held.filter_map(|card| card.asked).filter(|asked| asked.0 == account).map(|asked| asked.2).sum()
    }

    fn available(&self, account: u8) -> i64 {
        let overdraft = if account == OVERDRAWN { 50 } else { 0 };
        self.posted(account) - self.on_hold(account) + overdraft
    }

    fn withdrawn(&self, account: u8, day: i32) -> i64 {
        let counts =
            |card: &&Card| card.day == day && card.asked.is_some_and(|a| a.0 == account && a.1 == CASH);
        let amount = |card: &Card| match card.state {
            TransactionState::Held => card.asked.map_or(0, |asked| asked.2),
            _ => card.moved,
        };
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
            Op::Capture { n, amount } => self.capture(n, terminal, amount, day),
            Op::Cancel { n } => self.cancel(n, terminal),
            Op::Wait { .. } => Expected::NotFound,
        }
    }

    fn money(
        &mut self,
        n: u8,
        terminal: TerminalId,
        asked: (u8, u8, i64),
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
                return if own { Expected::Again(card.state) } else { Expected::Reused("transaction_id") };
            };
            return match () {
                () if card.terminal != terminal => Expected::Reused("transaction_id"),
                () if card.is_hold != is_hold => Expected::Reused("kind"),
                () if first.0 != debit => Expected::Reused("debit_account_id"),
                () if first.1 != credit => Expected::Reused("credit_account_id"),
                () if first.2 != amount => Expected::Reused("amount.minor_units"),
                () if card.reason.is_some() => Expected::Again(TransactionState::Declined),
                () if is_hold => Expected::Again(TransactionState::Held),
                () => Expected::Again(TransactionState::Posted),
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
        let moved = if state == TransactionState::Posted { amount } else { 0 };
        let expires_at = now + lifetime.unwrap_or(0);
        let card = Card { terminal, is_hold, asked: Some(asked), state, reason, moved, day, expires_at };
        self.cards.insert(n, card);
        Expected::New(state, reason)
    }

    fn capture(&mut self, n: u8, terminal: TerminalId, amount: i64, day: i32) -> Expected {
        if amount < 0 {
            return Expected::Malformed;
        }
        let Some(card) = self.cards.get_mut(&n).filter(|card| card.terminal == terminal) else {
            return Expected::NotFound;
        };
        let held = card.asked.map_or(0, |asked| asked.2);
        match card.state {
            TransactionState::Captured | TransactionState::CapturedLate if card.moved == amount => {
                Expected::Again(card.state)
            }
            TransactionState::Captured | TransactionState::CapturedLate => {
                Expected::Reused("amount.minor_units")
            }
            TransactionState::Posted | TransactionState::Declined => Expected::Nothing(card.state),
            TransactionState::Cancelled if card.asked.is_none() => Expected::Nothing(card.state),
            _ if amount > held => Expected::TooMuch(held),
            TransactionState::Held => {
                card.moved = amount;
                card.state = TransactionState::Captured;
                Expected::New(card.state, None)
            }
            TransactionState::Cancelled | TransactionState::Expired => {
                card.moved = amount;
                card.day = day;
                card.state = TransactionState::CapturedLate;
                Expected::New(card.state, None)
            }
        }
    }

    fn cancel(&mut self, n: u8, terminal: TerminalId) -> Expected {
        match self.cards.get_mut(&n) {
            None => {
                let state = TransactionState::Cancelled;
                let (day, expires_at) = (0, 0);
                let card = Card {
                    terminal,
                    is_hold: false,
                    asked: None,
                    state,
                    reason: None,
                    moved: 0,
                    day,
                    expires_at,
                };
                self.cards.insert(n, card);
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

    fn expire(&mut self, now: i64) {
        let due = |card: &&mut Card| card.state == TransactionState::Held && card.expires_at <= now;
        self.cards.values_mut().filter(due).for_each(|card| card.state = TransactionState::Expired);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Post { n: u8, debit: u8, credit: u8, amount: i64 },
    Hold { n: u8, debit: u8, credit: u8, amount: i64, seconds: i64 },
    Capture { n: u8, amount: i64 },
    Cancel { n: u8 },
    Wait { seconds: u64, next_day: bool },
}

impl Op {
    fn command(&self, terminal: TerminalId) -> Option<Command> {
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
            Self::Capture { n, amount } => Command::Capture(Capture {
                id: id(n),
                terminal,
                amount,
                currency: Currency::BDT,
                authorization: None,
            }),
            Self::Cancel { n } => Command::Cancel { id: id(n), terminal },
            Self::Wait { .. } => return None,
        })
    }
}

fn got(answer: &Got) -> Expected {
    let state = |step: &atm_ledger_core::Step| step.action.state().expect("no account ids here");
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
            Refusal::NothingToCapture { state } => Expected::Nothing(state),
            Refusal::CaptureExceedsHold { held, .. } => Expected::TooMuch(held),
            Refusal::Invalid { .. } => Expected::Malformed,
            Refusal::CurrencyMismatch { .. } | Refusal::CannotPost => panic!("not in these histories"),
        },
    }
}

fn ops() -> impl Strategy<Value = Vec<(Op, bool)>> {
    let n = || 0..8_u8;
    let debit = || prop::sample::select(vec![ALICE, BOB, OVERDRAWN, LIMITED, CASH, OPENING, NOBODY]);
    let credit = || prop::sample::select(vec![ALICE, BOB, CASH, CASH, CASH, NOBODY]);
    let amount = || prop::sample::select(vec![-1, 0, 1, 20, 60, 100, 400, 900, 1050]);
    let op = prop_oneof![
        3 => (n(), debit(), credit(), amount()).prop_map(|(n, debit, credit, amount)| Op::Post { n, debit, credit, amount }),
        4 => (n(), debit(), credit(), amount(), 1..40_i64)
            .prop_map(|(n, debit, credit, amount, seconds)| Op::Hold { n, debit, credit, amount, seconds }),
        4 => (n(), amount()).prop_map(|(n, amount)| Op::Capture { n, amount }),
        2 => n().prop_map(|n| Op::Cancel { n }),
        2 => (0..30_u64, any::<bool>()).prop_map(|(seconds, next_day)| Op::Wait { seconds, next_day }),
    ];
    prop::collection::vec((op, prop::bool::weighted(0.9)), 1..60)
}

/// The books keep their promises, whatever was asked.
fn check_books(bank: &Bank, model: &Model) {
    let mut sums = [0_i128; 4];
    for n in [ALICE, BOB, OVERDRAWN, LIMITED, DOLLARS, CASH, OPENING] {
        let totals = bank.state.account(account(n)).unwrap().totals;
        sums[0] += i128::from(totals.debits_posted);
        sums[1] += i128::from(totals.credits_posted);
        sums[2] += i128::from(totals.debits_pending);
        sums[3] += i128::from(totals.credits_pending);
    }
    assert_eq!((sums[0], sums[2]), (sums[1], sums[3]), "debits equal credits");
    for n in CUSTOMERS {
        assert_eq!(bank.balance(n), (model.posted(n), model.available(n)), "account {n}");
        let late = |card: &Card| card.state == TransactionState::CapturedLate;
        let red = model.available(n) < 0;
        assert!(!red || model.cards.values().any(late), "account {n} is in the red without a late capture");
    }
    let sequences: Vec<u64> = bank.steps.iter().map(|step| step.commit_sequence).collect();
    assert!(sequences.iter().zip(1..).all(|(have, want)| *have == want), "the sequence has no gaps");
}

/// Everything recorded, replayed from nothing, gives the same books.
fn check_replay(bank: &Bank) {
    let mut state = State::new();
    for step in &bank.steps {
        state.apply(step).unwrap();
        // A replay between batches keeps no settled transactions; it must not need them.
        state.forget_settled();
    }
    for n in [ALICE, BOB, OVERDRAWN, LIMITED, DOLLARS, CASH, OPENING] {
        assert_eq!(state.account(account(n)), bank.state.account(account(n)));
    }
    assert!(state.open_holds().eq(bank.state.open_holds()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_core_agrees_with_a_plain_model(ops in ops()) {
        let mut bank = Bank::open();
        let mut model = Model::default();
        for (op, here) in &ops {
            let terminal = if *here { HERE } else { ELSEWHERE };
            match (op.command(terminal), op) {
                (Some(command), _) => {
                    let answer = bank.run(&command);
                    let expected = model.ask(op, terminal, bank.seconds, bank.day);
                    prop_assert_eq!(got(&answer), expected, "{:?}", op);
                    // A repeat right away gets the very same step.
                    if let Got::Recorded(step) = answer {
                        prop_assert_eq!(bank.run(&command), Got::Replayed(step));
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
        check_replay(&bank);
    }
}

/// Keeps the compiler honest about what a transfer is made of: a new field must enter the fingerprint.
#[test]
fn the_fingerprint_covers_every_field_of_a_transfer() {
    let Transfer { debit: _, credit: _, amount: _, currency: _ } = transfer(ALICE, BOB, 1);
}
