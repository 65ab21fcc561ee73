//! Many commands in one round trip, each with its own result.

use atm_ledger_core::Command;
use atm_proto::ledger as wire;
use atm_proto::ledger::batch_command::Command as Asked;
use atm_proto::ledger::batch_result::Result as Told;
use atm_rpc::deadline::Deadline;
use tonic::{Request, Response, Status};

use super::convert::{self, Presented};
use super::execute::{self, Recorded, explain_authorized, recorded};
use super::status::{Failure, Malformed};
use super::{Answer, Api};

/// As many as fit beside each other in one message of 2 MiB, whichever they are (save resolutions with long
/// reasons, and accounts with long names in scripts of several bytes a letter).
pub(super) const MOST_COMMANDS: usize = 8190;

pub(super) async fn execute(
    api: &Api,
    request: Request<wire::BatchExecuteRequest>,
) -> Answer<wire::BatchExecuteResponse> {
    let deadline = Deadline::of(&request);
    let asked = request.into_inner().commands;
    if asked.is_empty() || asked.len() > MOST_COMMANDS {
        return Err(Malformed::new("commands", "must be between 1 and 8,190 commands").into());
    }
    let mut commands = Vec::with_capacity(asked.len());
    let read: Vec<Result<Kind, Malformed>> = asked
        .into_iter()
        .map(|command| {
            let (kind, command) = read(command, api)?;
            commands.push(command);
            Ok(kind)
        })
        .collect();
    let answers = if commands.is_empty() {
        Vec::new()
    } else {
        api.ledger.execute(commands, deadline).await.map_err(|error| api.unanswered(error))?
    };
    if !answers.is_empty() && answers.iter().all(|answer| matches!(answer, crate::handle::Answer::Expired)) {
        return Err(Failure::Expired.into());
    }
    // What could be read has an answer, in the same order.
    let mut answers = answers.into_iter();
    let results = read.into_iter().map(|kind| {
        let told = match kind {
            Err(malformed) => Told::Error(Failure::from(malformed).into()),
            Ok(kind) => {
                let answer = answers.next().ok_or(Failure::Stopped)?;
                match recorded(answer) {
                    Ok(recorded) => tell(kind, &recorded, api)?,
                    Err(failure) => Told::Error(explain(kind, failure).into()),
                }
            }
        };
        Ok(wire::BatchResult { result: Some(told) })
    });
    let results = results.collect::<Result<_, Status>>()?;
    Ok(Response::new(wire::BatchExecuteResponse { results }))
}

/// What was asked for, to answer it in kind.
#[derive(Clone, Copy)]
enum Kind {
    OpenAccount,
    Post,
    Hold,
    Capture(Presented),
    Cancel,
    Suspend(Presented),
    Resolve,
}

fn read(command: wire::BatchCommand, api: &Api) -> Result<(Kind, Command), Malformed> {
    Ok(match command.command.ok_or(Malformed::new("command", "is required"))? {
        Asked::OpenAccount(request) => (Kind::OpenAccount, convert::open_account(request)?),
        Asked::Post(request) => (Kind::Post, convert::post(&request)?),
        Asked::Hold(request) => (Kind::Hold, convert::hold(&request)?),
        Asked::Capture(request) => {
            let (command, presented) = convert::capture(&request, &api.authorizer)?;
            (Kind::Capture(presented), command)
        }
        Asked::Cancel(request) => (Kind::Cancel, convert::cancel(&request)?),
        Asked::Suspend(request) => {
            let (command, presented) = convert::suspend(&request, &api.authorizer)?;
            (Kind::Suspend(presented), command)
        }
        Asked::Resolve(request) => (Kind::Resolve, convert::resolve(request)?),
    })
}

fn tell(kind: Kind, recorded: &Recorded, api: &Api) -> Result<Told, Status> {
    if matches!(kind, Kind::OpenAccount) {
        return execute::opened(&recorded.step).map(Told::OpenAccount);
    }
    let (outcome, current_state) = recorded.on_wire(api);
    Ok(match kind {
        Kind::OpenAccount | Kind::Post => {
            Told::Post(wire::PostTransactionResponse { outcome, current_state })
        }
        Kind::Hold => Told::Hold(wire::HoldTransactionResponse { outcome, current_state }),
        Kind::Capture(_) => Told::Capture(wire::CaptureTransactionResponse { outcome, current_state }),
        Kind::Cancel => Told::Cancel(wire::CancelTransactionResponse { outcome, current_state }),
        Kind::Suspend(_) => Told::Suspend(wire::SuspendTransactionResponse { outcome, current_state }),
        Kind::Resolve => Told::Resolve(wire::ResolveTransactionResponse { outcome, current_state }),
    })
}

fn explain(kind: Kind, failure: Failure) -> Failure {
    match kind {
        Kind::Capture(presented) | Kind::Suspend(presented) => explain_authorized(failure, presented),
        Kind::OpenAccount | Kind::Post | Kind::Hold | Kind::Cancel | Kind::Resolve => failure,
    }
}
