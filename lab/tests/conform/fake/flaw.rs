//! What a ledger may do wrong.

/// One thing that the fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Every request is new.
    ForgetsIds,
    /// A changed posting gets the old answer.
    IgnoresTheBody,
    /// A changed hold gets the old answer.
    IgnoresTheBodyOfHolds,
    /// A capture of another amount gets the old answer.
    IgnoresTheCapturedAmount,
    /// A declined transaction is decided again.
    RedecidesDeclines,
    /// Looks the id of a posting up, and acts on it a moment later.
    LooksThenPosts,
    /// Looks the id of a hold up, and acts on it a moment later.
    LooksThenHolds,
    /// Looks a hold up, and captures it a moment later.
    LooksThenCaptures,
    /// Does not look at who is asking.
    TrustsStrangers,
    /// Tells strangers which field they have wrong.
    TellsStrangers,
    /// A cancel of what it does not know leaves no trace.
    ForgetsCancels,
    /// A cancel undoes what was posted.
    CancelUndoes,
    /// A repeated hold sets the money aside again.
    HoldsAgain,
    /// A capture after a cancel or an expiry is refused.
    RefusesLateCaptures,
    /// A hold lives for ever.
    NeverExpires,
    /// A repeated suspension moves the money again.
    SuspendsAgain,
    /// A repeated resolution posts the money again.
    ResolvesAgain,
    /// There are no suspensions: no flaw, in a ledger that serves no machines.
    SuspendsNothing,
    /// Forgets everything but the balances when it is restarted.
    ForgetsOnRestart,
    /// Takes what was captured for held when it is restarted.
    ForgetsCapturesOnRestart,
    /// A credit gets lost.
    OneSided,
    /// What is posted never reaches the cash.
    CashIsNeverCredited,
    /// Says that it balances, and nothing else.
    OnlySaysThatItBalances,
    /// Has a trial balance that balances, of other accounts.
    TrialBalanceOfNothing,
}
