//! Somebody who types wrong PINs, and now and then the right one. Each attempt is asked until it is answered, whoever is
//! killed meanwhile, and counts exactly once: the third wrong one in a row, and no other, locks the card.

use std::fmt;
use std::sync::Arc;

use atm_lab::scenario::Victim;
use fastrand::Rng;

use crate::machine::open_account;
use crate::program::{Fate, PIN, Program};
use crate::scene::{Alarm, Scene};

const CARD: &str = "499900000000";
const WRONG: &str = "9999";
/// The third wrong PIN locks the card.
const LOCKING: u32 = 3;

pub(crate) struct Guesser {
    program: Program,
    dice: Rng,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guesses {
    wrong: u32,
    locked: u32,
    /// Attempts during which auth, or the gateway, was killed.
    through_kills: u32,
    kills: u32,
}

impl fmt::Display for Guesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wrong, locked, through_kills, kills: _ } = self;
        write!(
            f,
            "{wrong} wrong PINs, each counted once; the card was locked {locked} times; auth or gateway was killed \
             during {through_kills} attempts"
        )
    }
}

impl Guesses {
    /// Whether enough was tried.
    pub(crate) fn check(&self) {
        assert!(self.locked > 0, "no card was locked: {self:?}");
        assert!(
            self.kills < 20 || self.through_kills * 4 >= self.kills,
            "too few attempts met a kill: {self:?}"
        );
    }
}

impl Guesser {
    pub(crate) async fn new(scene: &Arc<Scene>, seed: u64) -> Self {
        let program = Program::new(scene);
        open_account(&program, "guessed", CARD, 0).await;
        Self { program, dice: Rng::with_seed(seed ^ 0x9999) }
    }

    /// Until it is over, and until the card is locked once more.
    pub(crate) async fn guess(mut self) -> Guesses {
        let _alarm = Alarm(Arc::clone(&self.program.scene));
        let mut guesses = Guesses::default();
        let mut counted = 0;
        while !self.program.scene.is_over() || counted > 0 {
            let wrong = self.program.scene.is_over() || self.dice.u32(0..5) > 0;
            let before = self.kills();
            let said = self
                .program
                .run_until(
                    &["balance", "--card", CARD, "--deadline", "5m"],
                    if wrong { WRONG } else { PIN },
                    &Fate::Live,
                )
                .await;
            guesses.through_kills += u32::from(self.kills() > before);
            counted = if wrong { counted + 1 } else { 0 };
            let expected = match counted {
                0 => (Some(0), ""),
                LOCKING => (Some(4), "card_locked"),
                _ => (Some(4), "wrong_card_or_pin"),
            };
            assert_eq!((said.code, said.text("reason")), expected, "after {counted} wrong PINs: {said:?}");
            guesses.wrong += u32::from(wrong);
            if counted == LOCKING {
                guesses.locked += 1;
                self.program.insist(&["admin", "unblock-card", "--card", CARD]).await;
                counted = 0;
            }
        }
        Guesses { kills: self.kills(), ..guesses }
    }

    /// How often one of the two was killed that an attempt goes through.
    fn kills(&self) -> u32 {
        let of = |victim| self.program.scene.look(|state| state.killed.get(&victim).copied().unwrap_or(0));
        of(Victim::Auth) + of(Victim::Gateway)
    }
}
