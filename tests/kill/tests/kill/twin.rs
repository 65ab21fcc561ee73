//! A machine and an older copy of its disks, which the bank refuses at each start.

use std::sync::Arc;

use crate::judge::Tally;
use crate::machine::{Kind, Machine};
use crate::program::{Fate, Program, copy};
use crate::scene::Scene;

/// No other machine has this number.
const INDEX: usize = 900;

pub(crate) struct Twin {
    machine: Machine,
    copy: Program,
}

impl Twin {
    /// The copy is made, and then the machine goes on.
    pub(crate) async fn new(scene: &Arc<Scene>, seed: u64) -> Self {
        let mut machine = Machine::new(scene, INDEX, seed).await;
        let twin = Program::new(scene);
        copy(&machine.program.state(), &twin.state());
        machine.command(Kind::Withdrawal, &Fate::Live).await;
        Self { machine, copy: twin }
    }

    /// The copy tries to work, however long it takes to be refused.
    pub(crate) async fn is_refused(self: Arc<Self>) {
        let said = self.copy.run(&["recover", "--deadline", "60s"]).await;
        assert_eq!((said.code, said.text("reason")), (Some(5), "fenced_off"), "{said:?}");
    }

    pub(crate) async fn judge(&self) -> Tally {
        self.machine.judge().await
    }
}
