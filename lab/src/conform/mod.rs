//! Does a ledger keep its word? Black-box checks for any server that speaks `atm.ledger.v1`.
//!
//! Every check opens accounts of its own, so the suite can be run against a ledger that is in use, and again and
//! again; it leaves a few small accounts behind. What can only be seen across a crash needs a command that kills the
//! server and starts it again.

mod books;
mod checks;
mod door;
mod holds;
mod restart;
mod restarts;
mod scene;
mod suspects;

use std::fmt;
use std::time::Duration;

use atm_rpc::credentials::BearerToken;
use serde::Serialize;
use tonic::Status;

pub use scene::Scene;

/// Whom to try, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the server listens.
    pub url: String,
    /// What it wants to be shown; nothing when absent.
    pub token: Option<BearerToken>,
    /// The currency of the accounts.
    pub currency: String,
    /// A shell command that kills the server and starts it again on the same data.
    pub restart: Option<String>,
    /// How long an answer may take, and a restart ten times that.
    pub patience: Duration,
}

/// One check and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, unless it passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Why it matters.
    pub why: &'static str,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The server does as it should.
    Pass,
    /// It does not.
    Fail,
    /// It could not be tried.
    NotTried,
}

/// Everything that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Every check.
    pub reports: Vec<Report>,
    /// Why checks were not tried that were asked for: the restart command left the server as it was.
    pub not_restarted: Option<String>,
}

/// Why a check could not be tried, which says nothing against the server.
#[derive(Debug)]
struct NotTried(String);

impl fmt::Display for NotTried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotTried {}

/// What was seen, in one line: a status without the pages of its transport.
fn told(error: &anyhow::Error) -> String {
    let mut line = Vec::new();
    for cause in error.chain() {
        if let Some(status) = cause.downcast_ref::<Status>() {
            line.push(format!("{:?} ({})", status.code(), status.message()));
            break;
        }
        line.push(cause.to_string());
    }
    line.join(": ")
}

/// Tries everything; `tried` hears of each check as it ends.
///
/// # Errors
/// When nothing can be tried: a URL that is none, nobody who listens there, no ledger, or one that does not let us in.
pub async fn run(target: &Target, mut tried: impl FnMut(&Report)) -> anyhow::Result<Tried> {
    let scene = Scene::new(target).await?;
    door::knock(&scene).await?;
    let mut reports = Vec::new();
    macro_rules! check {
        ($name:literal, $check:path, $why:literal) => {
            let (verdict, detail) = match $check(&scene).await {
                Ok(()) => (Verdict::Pass, String::new()),
                Err(error) => match error.downcast_ref::<NotTried>() {
                    Some(NotTried(reason)) => (Verdict::NotTried, reason.clone()),
                    None => (Verdict::Fail, told(&error)),
                },
            };
            let report = Report { name: $name, verdict, detail, why: $why };
            tried(&report);
            reports.push(report);
        };
    }
    check!(
        "same-body",
        checks::same_body,
        "A client whose answer was lost can only ask again; a second effect is stolen money."
    );
    check!(
        "changed-body",
        checks::changed_body,
        "An id that is used for something else is a bug of the client, and hiding it behind the old answer loses a payment."
    );
    check!(
        "changed-hold",
        holds::changed_hold,
        "Whoever is told that another hold is theirs pays out what was never set aside."
    );
    check!(
        "declined-then-funded",
        checks::declined_then_funded,
        "The customer was told no and went away; a repeat that says yes takes their money for nothing."
    );
    check!(
        "concurrent-duplicates",
        checks::concurrent_duplicates,
        "Retries overtake each other; looking the id up and acting on it must be one step."
    );
    check!(
        "concurrent-holds",
        holds::concurrent_holds,
        "Each duplicate that sets money aside takes it from its owner until somebody notices."
    );
    check!(
        "concurrent-captures",
        holds::concurrent_captures,
        "A machine repeats its capture until it is answered; two that meet must not both post."
    );
    check!(
        "another-callers-id",
        checks::another_callers_id,
        "Ids leak; knowing one must not let a stranger learn, take or cancel what belongs to it."
    );
    check!(
        "cancel-before-hold",
        checks::cancel_before_hold,
        "A cancel that finds nothing must keep the late original from ever taking effect."
    );
    check!(
        "late-original",
        checks::late_original,
        "Networks deliver late: a request that was given up and cancelled must find its fence."
    );
    check!(
        "cancel-is-a-fence",
        checks::cancel_is_a_fence,
        "A cancel that comes too late must say so; undoing a posting whose cash is out doubles the loss."
    );
    check!(
        "hold-once",
        holds::hold_once,
        "A repeated hold must not set money aside twice, nor a repeated capture post it twice."
    );
    check!(
        "late-capture",
        holds::late_capture,
        "The cash has left the machine; refusing the capture only makes the books wrong."
    );
    check!(
        "capture-after-expiry",
        holds::capture_after_expiry,
        "A machine may be cut off for longer than a hold lives; its cash is out all the same."
    );
    check!(
        "suspend-once",
        suspects::suspend_once,
        "Nobody knows whether the cash left: the money must stay where it is, whoever asks again, until a person decides."
    );
    check!(
        "resolve-once",
        suspects::resolve_once,
        "A decision is repeated like anything else, and a second one must not overrule the first unseen."
    );
    check!(
        "both-sides",
        books::both_sides,
        "A debit without its credit is money that vanished; only the customer would notice the reverse."
    );
    check!("lost-answer", checks::lost_answer, "The commonest fault of all: it worked, and nobody was told.");
    check!(
        "crash-after-commit",
        restarts::crash_after_commit,
        "A server that dies between its commit and its answer must remember what it did."
    );
    check!(
        "repeat-after-restart",
        restarts::repeat_after_restart,
        "Ids that are kept in memory protect until the first deployment."
    );
    check!(
        "capture-after-restart",
        restarts::capture_after_restart,
        "The machine repeats its capture across the crash; a hold that stands again is posted again."
    );
    check!(
        "books-balance",
        books::books_balance,
        "Whatever was tried above, debits have to equal credits, added up here and not only said."
    );
    Ok(Tried { reports, not_restarted: scene.not_restarted.get().cloned() })
}
