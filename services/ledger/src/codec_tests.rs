//! Goal: every step survives its bytes, equal steps have equal bytes, and no bytes make the decoder panic.

use atm_ledger_core::{AccountKind, EntryRef};
use atm_types::{Currency, TerminalId};
use proptest::prelude::*;

use super::*;

fn id() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![any::<[u8; 16]>(), Just([0; 16]), Just([0xff; 16])]
}

fn currency() -> impl Strategy<Value = Currency> {
    prop::sample::select(vec!["BDT", "JPY", "KWD", "USD"]).prop_map(|code| code.parse().unwrap())
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (id(), id(), any::<i64>(), currency()).prop_map(|(debit, credit, amount, currency)| Transfer {
        debit: AccountId::from_bytes(debit),
        credit: AccountId::from_bytes(credit),
        amount,
        currency,
    })
}

fn balance() -> impl Strategy<Value = Balance> {
    any::<(i64, i64)>().prop_map(|(posted, available)| Balance { posted, available })
}

fn entry() -> impl Strategy<Value = Option<EntryRef>> {
    let leg = prop_oneof![3 => 0..3_u8, 1 => any::<u8>()];
    prop::option::of((id(), any::<u8>(), leg).prop_map(|(id, ordinal, leg)| EntryRef {
        id: TransactionId::from_bytes(id),
        ordinal,
        leg,
    }))
}

fn transfer_and_legs() -> BoxedStrategy<(Transfer, [Leg; 2])> {
    let parts = (transfer(), any::<(i64, i64)>(), balance(), balance(), entry(), entry());
    parts
        .prop_map(|(transfer, (posted, pending), debit, credit, before_debit, before_credit)| {
            let leg = |account_id, balance, previous| Leg { account_id, posted, pending, balance, previous };
            (
                transfer,
                [leg(transfer.debit, debit, before_debit), leg(transfer.credit, credit, before_credit)],
            )
        })
        // Boxed, here and below: these types are too large for the stack of a test.
        .boxed()
}

fn third_leg() -> impl Strategy<Value = Leg> {
    (id(), balance(), entry()).prop_map(|(account, balance, previous)| Leg {
        account_id: AccountId::from_bytes(account),
        posted: 0,
        pending: 0,
        balance,
        previous,
    })
}

fn suspend() -> BoxedStrategy<Action> {
    (transfer_and_legs(), third_leg(), any::<bool>(), 1..i64::MAX)
        .prop_map(|((mut transfer, [mut debit, mut credit]), mut suspense, stood, amount)| {
            transfer.amount = amount;
            (debit.posted, credit.posted) = (0, 0);
            (debit.pending, credit.pending) = if stood { (0, -amount) } else { (amount, 0) };
            suspense.pending = amount;
            Action::Suspend { transfer, legs: Box::new([debit, credit, suspense]) }
        })
        .boxed()
}

fn resolve() -> BoxedStrategy<Action> {
    (transfer_and_legs(), third_leg(), any::<(i64, i64, i32)>(), ".{0,20}", ".{0,20}")
        .prop_map(|((mut transfer, [mut debit, mut credit]), mut suspense, numbers, operator, reason)| {
            let (amount, released, counted_day) = numbers;
            transfer.amount = amount;
            (debit.posted, debit.pending) = (amount, released);
            (credit.posted, credit.pending) = (amount, 0);
            suspense.pending = released;
            let resolution = Resolution { operator: operator.into(), reason: reason.into() };
            Action::Resolve {
                transfer,
                legs: Box::new([debit, credit, suspense]),
                counted_day,
                resolution: Box::new(resolution),
            }
        })
        .boxed()
}

fn decline() -> BoxedStrategy<Action> {
    let reasons = vec![
        DeclineReason::InsufficientFunds,
        DeclineReason::DailyLimitExceeded,
        DeclineReason::DebitAccountNotFound,
        DeclineReason::CreditAccountNotFound,
        DeclineReason::BalanceOverflow,
    ];
    let kind = prop_oneof![Just(StepKind::Post), Just(StepKind::Hold)];
    let balances = [prop::option::of(balance()), prop::option::of(balance())];
    (kind, transfer(), prop::sample::select(reasons), any::<i64>(), balances)
        .prop_map(|(kind, transfer, reason, available, balances)| Action::Decline {
            kind,
            transfer,
            decline: Decline { reason, available },
            balances,
        })
        .boxed()
}

fn action(id: [u8; 16]) -> BoxedStrategy<Action> {
    let kinds =
        vec![AccountKind::Customer, AccountKind::Cash, AccountKind::Suspense, AccountKind::OpeningBalance];
    let terms = (prop::sample::select(kinds), currency(), ".{0,20}", ".{0,20}", any::<(i64, i64)>());
    let open_account =
        terms.prop_map(move |(kind, currency, number, name, (overdraft_limit, daily_withdrawal_limit))| {
            Action::OpenAccount(Box::new(AccountTerms {
                account_id: AccountId::from_bytes(id),
                kind,
                currency,
                number: number.into(),
                holder_name: name.into(),
                overdraft_limit,
                daily_withdrawal_limit,
            }))
        });
    let hold = (transfer_and_legs(), any::<i64>()).prop_map(|((transfer, legs), expire)| Action::Hold {
        transfer,
        legs,
        expire_time: Timestamp::from_nanos(expire),
    });
    prop_oneof![
        open_account.boxed(),
        hold.boxed(),
        decline(),
        Just(Action::Tombstone),
        transfer_and_legs().prop_map(|(transfer, legs)| Action::Post { transfer, legs }),
        transfer_and_legs().prop_map(|(transfer, legs)| Action::Capture { transfer, legs }),
        transfer_and_legs().prop_map(|(transfer, legs)| Action::Cancel { transfer, legs }),
        transfer_and_legs().prop_map(|(transfer, legs)| Action::Expire { transfer, legs }),
        transfer_and_legs().prop_map(|(transfer, legs)| Action::CaptureLate { transfer, legs }),
        suspend(),
        resolve(),
    ]
    .boxed()
}

fn step() -> BoxedStrategy<Step> {
    id().prop_flat_map(|id| (Just(id), any::<(u8, u64, i64, i32)>(), any::<[u8; 32]>(), action(id)))
        .prop_map(|(id, (ordinal, commit_sequence, time, day), terminal, action)| Step {
            id: TransactionId::from_bytes(id),
            ordinal,
            commit_sequence,
            commit_time: Timestamp::from_nanos(time),
            day,
            terminal: TerminalId::from_bytes(terminal),
            action,
        })
        .boxed()
}

fn bytes_of(step: &Step) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(step, &mut bytes).unwrap();
    bytes
}

fn key_of(step: &Step) -> StepKey {
    StepKey { id: step.id, ordinal: step.ordinal }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn every_step_survives_its_bytes(step in step()) {
        let bytes = bytes_of(&step);
        prop_assert_eq!(&decode(key_of(&step), &bytes), &Ok(step.clone()));
        prop_assert_eq!(bytes_of(&step.clone()), bytes);
    }

    #[test]
    fn a_changed_step_has_other_bytes(one in step(), other in step()) {
        let same_key = Step { id: one.id, ordinal: one.ordinal, ..other };
        if !matches!(same_key.action, Action::OpenAccount(_)) && one != same_key {
            prop_assert_ne!(bytes_of(&one), bytes_of(&same_key));
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(step in step(), garbage: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
        let key = key_of(&step);
        let _ = decode(key, &garbage);
        let mut flipped = bytes_of(&step);
        let index = at.index(flipped.len());
        let _ = decode(key, &flipped[..index]);
        flipped[index] ^= 1_u8 << bit;
        // Whatever it reads as, it is not taken for the step that was written.
        prop_assert_ne!(decode(key, &flipped), Ok(step));
    }
}

#[test]
fn a_step_whose_legs_contradict_its_transfer_is_not_encoded() {
    let [one, two] = [AccountId::from_bytes([1; 16]), AccountId::from_bytes([2; 16])];
    let transfer = Transfer { debit: one, credit: two, amount: 5, currency: Currency::BDT };
    let leg = |account_id, posted| Leg {
        account_id,
        posted,
        pending: 0,
        balance: Balance::default(),
        previous: None,
    };
    for legs in [[leg(two, 5), leg(one, 5)], [leg(one, 5), leg(two, 6)]] {
        let step = Step {
            id: TransactionId::from_bytes([3; 16]),
            ordinal: 0,
            commit_sequence: 1,
            commit_time: Timestamp::default(),
            day: 0,
            terminal: TerminalId::SERVICE,
            action: Action::Post { transfer, legs },
        };
        assert_eq!(encode(&step, &mut Vec::new()), Err(EncodeError));
    }
}

#[test]
fn a_suspension_or_a_resolution_whose_legs_contradict_its_amount_is_not_encoded() {
    type Change = fn(&mut [Leg; 3]);
    let changes: [(&str, Change); 6] = [
        ("debit", |legs| legs[0].pending += 1),
        ("credit", |legs| legs[1].pending += 1),
        ("suspense", |legs| legs[2].pending += 1),
        ("posted", |legs| legs[2].posted += 1),
        ("account", |legs| legs[0].account_id = AccountId::from_bytes([9; 16])),
        ("other account", |legs| legs[1].account_id = AccountId::from_bytes([9; 16])),
    ];
    for (what, change) in changes {
        for mut step in [suspended(true), suspended(false), resolved()] {
            let encodes = |step: &Step| encode(step, &mut Vec::new());
            assert_eq!(encodes(&step), Ok(()));
            let (Action::Suspend { legs, .. } | Action::Resolve { legs, .. }) = &mut step.action else {
                unreachable!()
            };
            change(legs);
            assert_eq!(encodes(&step), Err(EncodeError), "{what}");
        }
    }
}

#[test]
fn a_place_of_an_entry_that_nothing_has_is_an_error() {
    let before = resolved();
    let mut record = Record::of(&before).unwrap();
    let key = key_of(&before);
    // The last leg of the last ordinal, and the number after it.
    for (place, known) in [(513 + 254 * 256 - 1, true), (513 + 254 * 256, false), (u32::MAX, false)] {
        record.debit_previous = place;
        let bytes = [&[VERSION][..], &record.encode_to_vec()].concat();
        assert_eq!(decode(key, &bytes).is_ok(), known, "{place}");
    }
}

#[test]
fn the_bytes_of_a_posting_never_change() {
    let leg = |byte, posted| Leg {
        account_id: AccountId::from_bytes([byte; 16]),
        posted: 5,
        pending: 0,
        balance: Balance { posted, available: posted },
        previous: (byte == 1).then(|| EntryRef {
            id: TransactionId::from_bytes([9; 16]),
            ordinal: 1,
            leg: 1,
        }),
    };
    let step = Step {
        id: TransactionId::from_bytes([3; 16]),
        ordinal: 0,
        commit_sequence: 7,
        commit_time: Timestamp::from_nanos(1_700_000_000_000_000_001),
        day: 19_675,
        terminal: TerminalId::from_bytes([4; 32]),
        action: Action::Post {
            transfer: Transfer {
                debit: AccountId::from_bytes([1; 16]),
                credit: AccountId::from_bytes([2; 16]),
                amount: 5,
                currency: Currency::BDT,
            },
            legs: [leg(1, 100), leg(2, -5)],
        },
    };
    assert_eq!(hex::encode(bytes_of(&step)), GOLDEN);
}

/// Written down when version 1 was: books on disk are read by every later program.
const GOLDEN: &str = "0108071101002a36fe9c971718b6b3022002290101010101010101310101010101010101\
    390202020202020202410202020202020202480a5554444200580a68c80170098001c801880109900104990109090909090909\
    09a1010909090909090909c1010404040404040404c9010404040404040404d1010404040404040404d9010404040404040404";

fn golden_leg(byte: u8, posted: i64, pending: i64, previous: Option<(u8, u8)>) -> Leg {
    Leg {
        account_id: AccountId::from_bytes([byte; 16]),
        posted,
        pending,
        balance: Balance { posted: 100, available: 100 - i64::from(byte) },
        previous: previous.map(|(ordinal, leg)| EntryRef {
            id: TransactionId::from_bytes([9; 16]),
            ordinal,
            leg,
        }),
    }
}

fn golden(ordinal: u8, action: Action) -> Step {
    Step {
        id: TransactionId::from_bytes([3; 16]),
        ordinal,
        commit_sequence: 7,
        commit_time: Timestamp::from_nanos(1_700_000_000_000_000_001),
        day: 19_675,
        terminal: TerminalId::from_bytes([4; 32]),
        action,
    }
}

fn golden_transfer(amount: i64) -> Transfer {
    Transfer {
        debit: AccountId::from_bytes([1; 16]),
        credit: AccountId::from_bytes([2; 16]),
        amount,
        currency: Currency::BDT,
    }
}

fn suspended(stood: bool) -> Step {
    let (debit, credit) = if stood { (0, -5) } else { (5, 0) };
    let legs = [
        golden_leg(1, 0, debit, Some((0, 0))),
        golden_leg(2, 0, credit, Some((1, 1))),
        golden_leg(3, 0, 5, None),
    ];
    golden(1, Action::Suspend { transfer: golden_transfer(5), legs: Box::new(legs) })
}

fn resolved() -> Step {
    let legs = [
        golden_leg(1, 4, -5, Some((1, 0))),
        golden_leg(2, 4, 0, Some((1, 1))),
        golden_leg(3, 0, -5, Some((1, 2))),
    ];
    let resolution = Resolution { operator: "Nadia".into(), reason: "counted".into() };
    golden(
        2,
        Action::Resolve {
            transfer: golden_transfer(4),
            legs: Box::new(legs),
            counted_day: 19_674,
            resolution: Box::new(resolution),
        },
    )
}

#[test]
fn the_bytes_of_a_suspension_and_of_a_resolution_never_change() {
    let steps = [suspended(true), suspended(false), resolved()];
    assert_eq!(steps.each_ref().map(|step| hex::encode(bytes_of(step))), [STOOD, GONE, RESOLVED]);
    for (step, golden) in steps.into_iter().zip([STOOD, GONE, RESOLVED]) {
        assert_eq!(decode(key_of(&step), &hex::decode(golden).unwrap()), Ok(step));
    }
}

/// Written down when these steps were first recorded.
const STOOD: &str = "0108071101002a36fe9c971718b6b302200a2901010101010101013101010101010101013902020202020202024102020202\
    02020202480a555444420068c80170c8018001c6018801c40190010199010909090909090909a1010909090909090909a801\
    04b1010909090909090909b9010909090909090909c1010404040404040404c9010404040404040404d10104040404040404\
    04d9010404040404040404b2021809030303030303030311030303030303030318c80120c201";
const GONE: &str = "0108071101002a36fe9c971718b6b302200a2901010101010101013101010101010101013902020202020202024102020202\
    02020202480a5554444200600a68c80170c8018001c6018801c40190010199010909090909090909a1010909090909090909\
    a80104b1010909090909090909b9010909090909090909c1010404040404040404c9010404040404040404d1010404040404\
    040404d9010404040404040404b2021809030303030303030311030303030303030318c80120c201";
const RESOLVED: &str = "0108071101002a36fe9c971718b6b302200b2901010101010101013101010101010101013902020202020202024102020202\
    02020202480855544442005808600968c80170c8018001c6018801c40190010399010909090909090909a101090909090909\
    0909a80104b1010909090909090909b9010909090909090909c1010404040404040404c9010404040404040404d101040404\
    0404040404d9010404040404040404b2024109030303030303030311030303030303030318c80120c2012882043109090909\
    0909090939090909090909090940b4b3024a054e616469615207636f756e746564";
