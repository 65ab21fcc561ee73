//! The crash points before and after each durable write of a transaction, named by the state that it leads to. The
//! match is exhaustive: a new state cannot come without its points.

use super::machine::State;
use crate::crash::crash_point;

pub(super) fn before(state: State) {
    match state {
        State::Intent => crash_point!("BEFORE_INTENT"),
        State::Authorized => crash_point!("BEFORE_AUTHORIZED"),
        State::Dispensing => crash_point!("BEFORE_DISPENSING"),
        State::Presented => crash_point!("BEFORE_PRESENTED"),
        State::CapturePending => crash_point!("BEFORE_CAPTURE_PENDING"),
        State::Done => crash_point!("BEFORE_DONE"),
        State::VoidPending => crash_point!("BEFORE_VOID_PENDING"),
        State::Voided => crash_point!("BEFORE_VOIDED"),
        State::SuspendPending => crash_point!("BEFORE_SUSPEND_PENDING"),
        State::Suspect => crash_point!("BEFORE_SUSPECT"),
        State::StackPending => crash_point!("BEFORE_STACK_PENDING"),
        State::ReturnPending => crash_point!("BEFORE_RETURN_PENDING"),
    }
}

pub(super) fn after(state: State) {
    match state {
        State::Intent => crash_point!("INTENT"),
        State::Authorized => crash_point!("AUTHORIZED"),
        State::Dispensing => crash_point!("DISPENSING"),
        State::Presented => crash_point!("PRESENTED"),
        State::CapturePending => crash_point!("CAPTURE_PENDING"),
        State::Done => crash_point!("DONE"),
        State::VoidPending => crash_point!("VOID_PENDING"),
        State::Voided => crash_point!("VOIDED"),
        State::SuspendPending => crash_point!("SUSPEND_PENDING"),
        State::Suspect => crash_point!("SUSPECT"),
        State::StackPending => crash_point!("STACK_PENDING"),
        State::ReturnPending => crash_point!("RETURN_PENDING"),
    }
}
