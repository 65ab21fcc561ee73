//! The state machine against every event in every state, and against random histories.

use atm_types::Currency;
use proptest::prelude::*;

use super::*;

fn every_event() -> Vec<Event> {
    let text = || "reason".to_owned();
    vec![
        Event::Held { authorization: vec![1], balance: None },
        Event::DispenseBegun {
            dispense_id: Uuid::from_u128(7),
            plan: Notes::none(),
            cassettes: Notes::none(),
        },
        Event::Presented { amount: Money::new(100, Currency::BDT) },
        Event::NotPresented,
        Event::PresentationUnknown,
        Event::CaptureBegun { retracted: Money::zero(Currency::BDT) },
        Event::RetractUncounted,
        Event::Captured { balance: None },
        Event::CaptureRefused { reason: text() },
        Event::Suspended,
        Event::SuspendRefused { reason: text() },
        Event::Resolved { amount: Money::zero(Currency::BDT) },
        Event::Resolved { amount: Money::new(100, Currency::BDT) },
        Event::Posted { balance: None },
        Event::Declined { reason: text(), balance: None },
        Event::GivenUp { reason: text() },
        Event::Cancelled { reason: None },
        Event::NotSent,
        Event::Refused { reason: text() },
        Event::Contradicted { reason: text() },
        Event::Stacked,
        Event::Returned,
        Event::Lost { reason: text() },
    ]
}

/// All that may happen from `state`: the states one event away.
fn successors(kind: Kind, state: State) -> Vec<State> {
    every_event().iter().filter_map(|event| next(kind, state, event)).collect()
}

/// All states that can ever follow `state`.
fn reachable(kind: Kind, state: State) -> Vec<State> {
    let mut found = vec![];
    let mut waiting = successors(kind, state);
    while let Some(state) = waiting.pop() {
        if !found.contains(&state) {
            found.push(state);
            waiting.extend(successors(kind, state));
        }
    }
    found
}

#[test]
fn once_given_up_a_transaction_is_never_held_nor_dispensed_again() {
    for &kind in Kind::ALL {
        for state in reachable(kind, State::VoidPending) {
            assert!(
                !matches!(
                    state,
                    State::Intent
                        | State::Authorized
                        | State::Dispensing
                        | State::Presented
                        | State::CapturePending
                ),
                "{kind}: {state}"
            );
        }
        assert!(!reachable(kind, State::VoidPending).contains(&State::VoidPending));
    }
}

#[test]
fn money_that_was_presented_is_captured_or_suspect_and_never_cancelled() {
    for &kind in Kind::ALL {
        for state in [State::Presented, State::CapturePending, State::SuspendPending] {
            let ends = reachable(kind, state);
            assert!(ends.contains(&State::Done) && ends.contains(&State::Suspect), "{kind}: {ends:?}");
            assert!(!ends.contains(&State::VoidPending), "{kind}: {ends:?}");
            // Only a person's decision that the customer got nothing ends without a capture.
            for before in ends.iter().chain([&state]) {
                for event in every_event() {
                    if next(kind, *before, &event) == Some(State::Voided) {
                        assert!(matches!(event, Event::Resolved { .. }), "{kind} {before} {event:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_dispensed_without_a_hold() {
    for &kind in Kind::ALL {
        for &state in State::ALL {
            for event in every_event() {
                match next(kind, state, &event) {
                    Some(State::Dispensing) => assert_eq!(state, State::Authorized),
                    Some(State::Presented) => assert_eq!(state, State::Dispensing),
                    Some(State::Authorized) => {
                        assert_eq!((kind, state), (Kind::Withdrawal, State::Intent));
                        assert!(matches!(event, Event::Held { .. }));
                    }
                    _ => {}
                }
            }
        }
        if kind != Kind::Withdrawal {
            assert!(!reachable(kind, State::Intent).contains(&State::Dispensing), "{kind}");
        }
    }
}

#[test]
fn from_dispensing_only_the_device_itself_leads_to_a_cancel() {
    let events: Vec<_> = every_event()
        .into_iter()
        .filter(|event| next(Kind::Withdrawal, State::Dispensing, event) == Some(State::VoidPending))
        .collect();
    assert_eq!(events, [Event::NotPresented]);
    let cancels = |state: &&State| state.plan() == Plan::Cancel;
    let cancellable: Vec<_> = State::ALL.iter().filter(cancels).collect();
    assert_eq!(cancellable, [&State::Intent, &State::Authorized, &State::VoidPending]);
}

#[test]
fn what_is_over_stays_over_and_says_how_it_ended() {
    for &kind in Kind::ALL {
        assert_eq!(successors(kind, State::Voided), [], "{kind}");
        // A posting that the bank forgot needs a person; nothing else ever follows DONE.
        let forgotten = if kind == Kind::Withdrawal { vec![] } else { vec![State::Suspect] };
        assert_eq!(successors(kind, State::Done), forgotten, "{kind}");
        for &state in State::ALL {
            for event in every_event() {
                let Some(end) = next(kind, state, &event) else { continue };
                let decided = match end {
                    State::Done => state != State::StackPending,
                    State::Voided => state != State::ReturnPending,
                    State::StackPending | State::ReturnPending => true,
                    _ => false,
                };
                assert_eq!(event.ending().is_some(), decided, "{kind} {state} {event:?}");
                if decided {
                    let moved = matches!(event.ending(), Some(Ending::Captured | Ending::Posted));
                    assert_eq!(
                        moved,
                        matches!(end, State::Done | State::StackPending),
                        "{kind} {state} {event:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_was_paid_in_is_handed_back_only_after_the_banks_own_word() {
    let mut states = reachable(Kind::Deposit, State::Intent);
    states.push(State::Intent);
    for state in states {
        for event in every_event() {
            match next(Kind::Deposit, state, &event) {
                Some(State::ReturnPending) => assert!(
                    matches!(
                        event,
                        Event::Declined { .. }
                            | Event::Cancelled { .. }
                            | Event::Refused { .. }
                            | Event::NotSent
                    ),
                    "{event:?}"
                ),
                Some(State::Voided) => assert_eq!(state, State::ReturnPending),
                Some(State::Done) => assert_eq!(state, State::StackPending),
                _ => {}
            }
        }
    }
}

#[test]
fn whatever_a_crash_leaves_has_a_plan_whose_event_exists() {
    for &kind in Kind::ALL {
        let mut states = reachable(kind, State::Intent);
        states.push(State::Intent);
        for state in states {
            let ends = successors(kind, state);
            match state.plan() {
                Plan::Cancel => assert!(
                    state == State::VoidPending || ends.contains(&State::VoidPending),
                    "{kind} {state} can be given up"
                ),
                Plan::AskDispenser => assert_eq!(ends.len(), 3, "{kind} {state}: one end for each answer"),
                Plan::Collect => assert_eq!(ends, [State::CapturePending, State::SuspendPending], "{kind}"),
                Plan::Capture => assert!(reachable(kind, state).contains(&State::Done), "{kind} {state}"),
                Plan::Suspend => assert!(ends.contains(&State::Suspect), "{kind} {state}"),
                Plan::Stack => assert_eq!(ends, [State::Done], "{kind} {state}"),
                Plan::Return => assert_eq!(ends, [State::Voided], "{kind} {state}"),
                Plan::Operator => {
                    let over = |end: &State| matches!(end, State::Done | State::Voided | State::StackPending);
                    assert!(ends.iter().all(over), "{kind} {state}");
                }
                Plan::Nothing => assert!(ends.iter().all(|end| *end == State::Suspect), "{kind} {state}"),
            }
        }
    }
}

#[test]
fn every_name_in_the_journal_is_read_back() {
    for &state in State::ALL {
        assert_eq!(State::of_name(state.name()), Some(state));
    }
    for &kind in Kind::ALL {
        assert_eq!(Kind::of_name(kind.name()), Some(kind));
    }
    for &ending in Ending::ALL {
        assert_eq!(Ending::of_name(ending.name()), Some(ending));
    }
    assert_eq!(State::of_name("intent"), None);
}

proptest! {
    /// Goal: in any history there is at most one dispense, and cash is out exactly when the end is one of
    /// CAPTURE_PENDING, DONE or SUSPECT after a presentation.
    #[test]
    fn in_any_history_cash_leaves_at_most_once_and_is_never_voided(
        kind in prop::sample::select(Kind::ALL),
        choices in prop::collection::vec(0_usize..23, 0..200),
    ) {
        let events = every_event();
        let mut state = State::Intent;
        let (mut dispenses, mut presented, mut by_person, mut suspended) = (0, false, false, false);
        for choice in choices {
            let event = &events[choice];
            let Some(after) = next(kind, state, event) else { continue };
            dispenses += u32::from(matches!(event, Event::DispenseBegun { .. }));
            presented |= matches!(event, Event::Presented { .. });
            state = after;
            prop_assert!(dispenses <= 1);
            let decided = matches!(event, Event::Resolved { .. });
            let unknown = matches!(event, Event::PresentationUnknown) || state == State::SuspendPending;
            if presented && !decided {
                prop_assert!(state != State::VoidPending, "{state}");
                prop_assert!(state != State::Voided || by_person, "{state}");
            } else if kind == Kind::Withdrawal && !decided && !unknown {
                prop_assert!(state != State::Done || by_person || suspended, "no capture without cash");
            }
            by_person |= decided;
            suspended |= unknown;
        }
    }
}
