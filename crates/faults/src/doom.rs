//! The death of this process: at which point, and at which time that it comes there. Read once, from the environment.

use std::env;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const VARIABLE: &str = "ATM_DIE_AT";

#[derive(Debug)]
struct Doom {
    point: String,
    /// How often the process still comes to the point until it dies there; at 0 it is past that.
    left: AtomicU32,
}

impl Doom {
    /// `POINT` or `POINT:n`. Whoever mistypes it sees a process that does not die.
    fn parse(text: &str) -> Self {
        let counted = text.split_once(':').and_then(|(point, count)| Some((point, count.parse().ok()?)));
        let (point, count) = counted.unwrap_or((text, 1));
        Self { point: point.to_owned(), left: AtomicU32::new(count) }
    }

    /// Whether the process dies here and now. Of several threads that come at once, one is the n-th.
    fn strikes(&self, point: &str) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.point == point && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1)
    }
}

pub(crate) fn reached(point: &str) {
    static DOOM: OnceLock<Option<Doom>> = OnceLock::new();
    let doom = DOOM.get_or_init(|| env::var(VARIABLE).ok().map(|text| Doom::parse(&text)));
    if doom.as_ref().is_some_and(|doom| doom.strikes(point)) {
        crate::die();
    }
}

#[cfg(test)]
mod tests {
    use super::Doom;

    #[test]
    fn a_process_dies_once_at_its_point_and_at_the_nth_time() {
        let times = |text: &str, point: &str| -> Vec<bool> {
            let doom = Doom::parse(text);
            (0..4).map(|_| doom.strikes(point)).collect()
        };
        assert_eq!(times("HERE", "HERE"), [true, false, false, false]);
        assert_eq!(times("HERE:3", "HERE"), [false, false, true, false]);
        assert_eq!(times("HERE:3", "THERE"), [false; 4]);
        assert_eq!(times("HERE:x", "HERE"), [false; 4]);
    }
}
