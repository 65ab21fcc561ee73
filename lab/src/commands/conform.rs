//! `conform`: does a ledger keep its word?

use std::path::PathBuf;

use anyhow::anyhow;
use atm_fault_proxy::Span;
use atm_rpc::credentials::BearerToken;
use clap::Args;
use serde_json::json;

use crate::cli::Verdict as Exit;
use crate::conform::{self, Report, Target, Tried, Verdict};
use crate::screen::{BAD, GOOD, QUIET, Screen};

const EXAMPLES: &str = "\
Works with any server that speaks atm.ledger.v1. It opens accounts of its own under random ids.

A connection is held open across each restart, and has to break within the time that a restart may take: a command
that returns proves nothing. If it does not, these checks are not tried and the exit code is 2, as it is where no
ledger answers or lets us in.

Examples:
  atm-lab conform --target http://127.0.0.1:50053 --service-token-file service.token
  atm-lab conform --target http://127.0.0.1:50053 --restart-command 'systemctl kill -s KILL ledger; systemctl start ledger'";

/// Whom to try, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The ledger.
    #[arg(long, value_name = "URL")]
    target: String,
    /// The file of its service token, if it wants one.
    #[arg(long, env = "ATM_SERVICE_TOKEN_FILE", value_name = "FILE")]
    service_token_file: Option<PathBuf>,
    /// A shell command that kills the server (kill -9) and starts it again on the same data, or has it killed and
    /// started a moment later.
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,
    /// The currency of the accounts that are opened.
    #[arg(long, value_name = "CODE", default_value = "BDT")]
    currency: String,
    /// How long an answer may take; a restart may take ten times that, from the command to the next answer.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    patience: Span,
}

/// Tries everything and prints a verdict for each check.
///
/// # Errors
/// When the token cannot be read, no ledger at the URL lets us in, or the restart command restarts nothing.
pub async fn run(arguments: Arguments, screen: Screen) -> anyhow::Result<Exit> {
    let token = arguments.service_token_file.as_deref().map(BearerToken::load).transpose()?;
    let target = Target {
        url: arguments.target,
        token,
        currency: arguments.currency,
        restart: arguments.restart_command,
        patience: arguments.patience.0,
    };
    let Tried { reports, not_restarted } = conform::run(&target, |report| show(report, screen)).await?;
    let count = |verdict| reports.iter().filter(|report| report.verdict == verdict).count();
    let (passed, failed, not_tried) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::NotTried));
    screen.line(format_args!("\n{passed} passed, {failed} failed, {not_tried} not tried"));
    screen.object(&json!({
        "target": target.url, "passed": passed, "failed": failed, "not_tried": not_tried, "checks": reports,
    }));
    if failed > 0 {
        return Ok(Exit::Bad);
    }
    // Whoever asked for restarts must not take their absence for a pass.
    not_restarted.map_or(Ok(Exit::Good), |reason| Err(anyhow!("--restart-command: {reason}")))
}

fn show(report: &Report, screen: Screen) {
    let (style, word) = match report.verdict {
        Verdict::Pass => (GOOD, "pass"),
        Verdict::Fail => (BAD, "FAIL"),
        Verdict::NotTried => (QUIET, "not tried"),
    };
    screen.line(format_args!("{style}{word:9}{style:#} {:22} {}", report.name, report.why));
    if !report.detail.is_empty() {
        screen.line(format_args!("          {:22} {style}{}{style:#}", "", report.detail));
    }
}
