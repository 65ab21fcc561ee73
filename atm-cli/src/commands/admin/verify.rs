//! `admin verify`: recompute the books from the recorded steps.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tonic::{Code, Status};

use super::super::Context;
use crate::client::{AdminClient, read_failure};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Example:
  atm-cli admin verify

Exit code 0: everything agrees. Exit code 1: the findings are printed.";

/// Recompute the books and the hash chain from the recorded steps.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {}

#[derive(Serialize)]
struct Keys {
    verified: bool,
    steps_checked: u64,
    findings: Vec<String>,
    chain_head: String,
}

pub(super) async fn run(
    context: &Context,
    client: &AdminClient,
    _args: &VerifyArgs,
) -> Result<Exit, Failure> {
    let mut stream = client.verify().await.map_err(|status| stream_failure(&status))?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} steps") {
        bar.set_style(style);
    }
    let mut findings = Vec::new();
    let last = loop {
        match stream.message().await {
            Ok(Some(message)) => {
                bar.set_length(message.steps_total);
                bar.set_position(message.steps_checked);
                findings.extend(message.findings.iter().cloned());
                if message.complete {
                    break message;
                }
            }
            Ok(None) => {
                return Err(Failure::unavailable("the verification ended before its end; run it again"));
            }
            Err(status) => return Err(stream_failure(&status)),
        }
    };
    bar.finish_and_clear();
    for finding in &findings {
        context.screen.alarm(finding);
    }
    let verified = findings.is_empty();
    let steps_checked = last.steps_checked;
    if verified {
        context.screen.good(&format!(
            "Verified: {steps_checked} steps agree with the books. Chain head {}",
            last.chain_head
        ));
    } else {
        context.screen.error(&format!("{} findings in {steps_checked} steps", findings.len()));
    }
    context.screen.object(&Keys { verified, steps_checked, findings, chain_head: last.chain_head });
    Ok(if verified { Exit::Done } else { Exit::Declined })
}

fn stream_failure(status: &Status) -> Failure {
    if status.code() == Code::DataLoss {
        // A chain that is broken in the middle cannot be followed further: that is a finding, too.
        return Failure::new(
            Exit::Declined,
            "data_loss",
            format!("the books are damaged: {}", status.message()),
        );
    }
    read_failure(&atm_rpc::retry::RetryError {
        status: status.clone(),
        attempts: 1,
        maybe_sent: !atm_rpc::retry::provably_not_sent(status),
        deadline_over: false,
    })
}
