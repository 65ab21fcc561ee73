//! Linearizability of small histories against any sequential specification.
//!
//! The search of Wing and Gong with the memory of Lowe: take any operation that began before the first end among those
//! not yet taken, apply it, go on; go back when nothing fits, and never enter the same set of taken operations with the
//! same state twice. An operation without an answer may take effect at any time after its beginning, or never. (The
//! one crate for this, `todc-utils`, had its last release in 2023 and knows only operations that were answered.)

use std::collections::HashSet;
use std::hash::Hash;

/// A thing that does one operation after the other.
pub trait Specification {
    /// What it remembers.
    type State: Clone + Eq + Hash;
    /// A request together with its answer, if there was one.
    type Operation;

    /// What it remembers at the beginning.
    fn begin(&self) -> Self::State;

    /// What it remembers after the operation; `None` when the answer cannot be given in this state.
    fn apply(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// An operation and its place in time.
#[derive(Clone, Debug)]
pub struct Event<O> {
    /// What was done.
    pub operation: O,
    /// When it began.
    pub begun: u64,
    /// When it was answered; `None` if it never was.
    pub ended: Option<u64>,
}

/// No order explains the answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no order of the operations explains their answers; the longest explained beginning is {longest:?}")]
pub struct NotLinearizable {
    /// The longest beginning of an order that explains its own answers, as indexes of events.
    pub longest: Vec<usize>,
}

/// A set of operations.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Box<[u64]>);

impl Taken {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)].into())
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn toggle(&mut self, index: usize) {
        self.0[index / 64] ^= 1 << (index % 64);
    }
}

/// One decision of the search: the state before it, and the next operation to try instead.
struct Frame<S> {
    state: S,
    next: usize,
}

/// Finds an order of the operations, as indexes of `events`, that explains all answers and keeps the order of those
/// that ended before others began.
///
/// # Errors
/// [`NotLinearizable`].
pub fn linearize<S: Specification>(
    specification: &S,
    events: &[Event<S::Operation>],
) -> Result<Vec<usize>, NotLinearizable> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|index| events[*index].begun);
    let mut taken = Taken::none(events.len());
    let mut left = events.iter().filter(|event| event.ended.is_some()).count();
    let mut seen = HashSet::new();
    let mut frames = vec![Frame { state: specification.begin(), next: 0 }];
    let (mut path, mut longest) = (Vec::new(), Vec::new());
    while left > 0 {
        let Some(frame) = frames.last_mut() else { return Err(NotLinearizable { longest }) };
        let first_end =
            order.iter().filter(|index| !taken.has(**index)).filter_map(|index| events[*index].ended);
        let first_end = first_end.min().unwrap_or(u64::MAX);
        let candidate = order[frame.next..].iter().take_while(|index| events[**index].begun < first_end);
        let mut found = None;
        for (offset, index) in candidate.enumerate() {
            if taken.has(*index) {
                continue;
            }
            let Some(state) = specification.apply(&frame.state, &events[*index].operation) else { continue };
            taken.toggle(*index);
            if seen.insert((taken.clone(), state.clone())) {
                found = Some((offset, *index, state));
                break;
            }
            taken.toggle(*index);
        }
        match found {
            Some((offset, index, state)) => {
                frame.next += offset + 1;
                frames.push(Frame { state, next: 0 });
                left -= usize::from(events[index].ended.is_some());
                path.push(index);
                if path.len() > longest.len() {
                    longest.clone_from(&path);
                }
            }
            None => {
                frames.pop();
                if let Some(index) = path.pop() {
                    taken.toggle(index);
                    left += usize::from(events[index].ended.is_some());
                }
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register with a number.
    struct Register;

    #[derive(Clone, Debug)]
    enum Operation {
        Write(u8),
        Read(u8),
    }
    use Operation::{Read, Write};

    impl Specification for Register {
        type State = u8;
        type Operation = Operation;

        fn begin(&self) -> u8 {
            0
        }

        fn apply(&self, state: &u8, operation: &Operation) -> Option<u8> {
            match operation {
                Write(value) => Some(*value),
                Read(value) => (value == state).then_some(*state),
            }
        }
    }

    fn judge(events: &[(Operation, u64, Option<u64>)]) -> Result<Vec<usize>, NotLinearizable> {
        let event = |(operation, begun, ended): &(Operation, u64, Option<u64>)| Event {
            operation: operation.clone(),
            begun: *begun,
            ended: *ended,
        };
        linearize(&Register, &events.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn overlapping_operations_may_be_put_in_an_order_that_explains_them() {
        let events = [(Write(1), 1, Some(6)), (Read(1), 2, Some(3)), (Read(0), 4, Some(5))];
        // The second reader cannot see less than the first one.
        assert_eq!(judge(&events).map_err(|error| error.longest.len()), Err(2));
        let events = [(Write(1), 1, Some(6)), (Read(0), 2, Some(3)), (Read(1), 4, Some(5))];
        assert_eq!(judge(&events), Ok(vec![1, 0, 2]));
    }

    #[test]
    fn what_ended_before_another_began_keeps_its_place() {
        assert!(judge(&[(Write(1), 1, Some(2)), (Write(2), 3, Some(4)), (Read(1), 5, Some(6))]).is_err());
        assert!(judge(&[(Write(1), 1, Some(4)), (Write(2), 2, Some(3)), (Read(1), 5, Some(6))]).is_ok());
    }

    #[test]
    fn what_was_never_answered_may_take_effect_late_or_never() {
        let late = [(Write(7), 1, None), (Read(0), 2, Some(3)), (Read(7), 4, Some(5))];
        assert_eq!(judge(&late), Ok(vec![1, 0, 2]));
        assert_eq!(judge(&[(Write(7), 1, None), (Read(0), 2, Some(3))]), Ok(vec![1]));
        assert!(judge(&[(Read(7), 1, Some(2)), (Write(7), 3, None)]).is_err());
    }

    #[test]
    fn the_search_remembers_what_led_nowhere() {
        // 14 writes at once have 87 billion orders, but only 16 thousand sets.
        let mut events: Vec<_> = (0..14).map(|at| (Write(3), at, Some(1_000 + at))).collect();
        events.push((Read(9), 500, Some(2_000)));
        assert_eq!(judge(&events).map_err(|error| error.longest.len()), Err(14));
    }
}
