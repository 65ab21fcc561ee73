//! The bugs that can be planted, and what each of them breaks.

/// Gives each bug its name, the invariants that it breaks, and a sentence.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident breaks [$($invariant:literal),+];)+) => {
        /// A mistake that a tired engineer could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => stringify!($bug),)+ }
            }

            /// What it does, in a sentence.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => concat!($($what),+).trim_ascii(),)+ }
            }

            /// The numbers of the invariants that it breaks; see docs/ARCHITECTURE.md.
            pub const fn breaks(self) -> &'static [u8] {
                match self { $(Self::$bug => &[$($invariant),+],)+ }
            }
        }
    };
}

bugs! {
    // The ledger's decisions.
    /// A credit is one minor unit less than its debit, and nobody adds up.
    CreditIsOneLess breaks [1];
    /// A capture of a part leaves the rest of the hold pending for ever.
    RestOfAHoldStays breaks [2];
    /// What is on hold may be spent again.
    HoldsDoNotCount breaks [3];
    /// A repeated capture posts again.
    CaptureAgain breaks [4];
    /// A capture of a part adds the rest where it should take it away.
    PartOfAHoldHasTheWrongSign breaks [5];
    /// A repeat is answered with what happened last, not with what it was answered first.
    AnswerLatestStep breaks [6];
    /// A repeat is an error and not an answer.
    RepeatIsAnError breaks [6];
    /// Another body under a known id is taken for a repeat.
    AnotherBodyIsARepeat breaks [7];
    /// A hold that has expired cannot be captured, although its cash is out.
    LateCaptureRefused breaks [24];
    /// A suspended withdrawal's money may be spent again.
    SuspensionFreesTheMoney breaks [9];
    /// A hold's lifetime is counted from the time in its id, which is the cash machine's wall clock.
    HoldsEndByTheMachinesClock breaks [23];

    // The ledger's writer.
    /// Ids that are only on the disk are taken for new.
    StoredIdsAreNotLookedUp breaks [4, 6];
    /// Declines are answered and not recorded.
    DeclinesAreNotRecorded breaks [6, 16];
    /// The cancel of an id that never arrived is answered and not recorded.
    TombstonesAreNotRecorded breaks [13];
    /// Holds that are over stay.
    HoldsNeverExpire breaks [23];
    /// The error of a commit is taken for success.
    FailedCommitIsAnswered breaks [14];
    /// A checkpoint misses one of the accounts that changed.
    CheckpointMissesAnAccount breaks [2];
    /// The hash of a batch does not cover the hash before it.
    ChainForgetsItsPast breaks [18];
    /// Balances are read as of the last checkpoint.
    BalancesComeFromTheCheckpoint breaks [17];

    // The ledger's disk.
    /// As with `synchronous=OFF`: what was committed last is gone after a crash.
    CommitsAreNotSynced breaks [14];
    /// What a torn commit left on the disk is not removed.
    TornCommitStays breaks [15];
    /// A batch of several steps does not list its last one.
    BatchForgetsItsLastStep breaks [16];
    /// A batch is committed although another ledger has committed since its books were read.
    HeadIsNotCompared breaks [14, 16];

    // Auth.
    /// A fourth wrong PIN is verified before the card is locked.
    FourWrongPins breaks [19];
    /// Each wrong PIN is counted as the first.
    EachWrongPinIsTheFirst breaks [19];
    /// Wrong PINs are not counted until they lock.
    WrongPinsAreNotCounted breaks [19, 20];
    /// A wrong PIN is answered before its count is on the disk.
    AnswerBeforeTheCount breaks [20];
    /// A log-in that is sent again is counted again.
    RetriesCount breaks [20];
    /// A change of PIN is recorded and told, and the card keeps its old PIN.
    OldPinStays breaks [20];
    /// A session is enough to change the PIN; the old one is not looked at.
    ChangeChecksNoPin breaks [20];
    /// A change of PIN is told before it is on the disk.
    ChangeIsToldBeforeItIsStored breaks [20];
    /// A change of PIN that is sent again is tried again, with an old PIN that is right no longer.
    RepeatedChangeIsTriedAgain breaks [20];

    // The gateway.
    /// A session goes on after its log-out.
    LogOutEndsNothing breaks [21];
    /// A session works at every machine.
    SessionsWorkAnywhere breaks [21];
    /// A transfer takes the money from the account that it was meant for.
    TransferGoesTheWrongWay breaks [21];
    /// Card number and PIN are logged.
    PinsAreLogged breaks [22];

    // The cash machine.
    /// As with `synchronous=OFF` on the journal: what was written last is gone after a power cut.
    JournalIsNotSynced breaks [14];
    /// A repeated order whose first answer was HELD is paid out again.
    RepeatedHoldIsPaidOut breaks [11];
    /// The journal keeps the whole number of the card.
    JournalKeepsTheCardNumber breaks [22];
    /// The books are not told of notes that went to a bin.
    BinsAreNotTold breaks [8];
    /// What was planned is captured, not what was presented.
    PlanIsTakenForPresented breaks [9];
    /// What was taken back is captured as well.
    RetractIsNotSubtracted breaks [9];
    /// The notes of a deposit are handed back before the bank has said that it does not count.
    EscrowIsReturnedTooSoon breaks [9];
    /// The refusal of one copy of a request is taken for the fate of all.
    RefusalNeedsNoFence breaks [9, 23];
    /// No answer is taken for a yes.
    NoAnswerIsAYes breaks [10];
    /// After a restart the cash of a dispense that was under way is paid out again.
    PayOutAgainAfterARestart breaks [11];
    /// The machine cancels a withdrawal although its notes were presented.
    CancelAfterDispense breaks [12];
    /// Captures are dropped instead of sent until they are acknowledged.
    CapturesAreDropped breaks [23];
    /// A withdrawal is suspended although the dispenser says that nothing came out.
    SuspectWithoutDoubt breaks [24];
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn each_of_the_first_24_invariants_is_broken_by_a_bug() {
        let broken = |invariant| Bug::ALL.iter().any(|bug| bug.breaks().contains(&invariant));
        assert_eq!((1..=24).filter(|invariant| !broken(*invariant)).collect::<Vec<_>>(), []);
        assert!(Bug::ALL.len() >= 30);
    }
}
