//! `admin init-secrets`: what must exist before the first service starts.

use std::path::{Path, PathBuf};

use atm_rpc::process::SecretFile;
use clap::Args;
use serde::Serialize;

use super::super::Context;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  atm-cli admin init-secrets --service-token-file service.token --pepper-file pepper \\
    --operator-token-file operator.token

Running it again makes what is missing and leaves the rest as it is. Keep a copy of the pepper: without it no PIN can \
be checked.";

/// Make the service token, the pepper and the operator's token, where they are missing.
///
/// Each is a file of 32 random bytes in hexadecimal, readable by its owner only. `atm-cli serve` needs none of this:
/// it makes its own.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InitSecretsArgs {
    /// What the services show to each other.
    #[arg(long, env = "ATM_SERVICE_TOKEN_FILE", value_name = "FILE")]
    service_token_file: PathBuf,
    /// What auth mixes into every PIN's hash; to be kept apart from its database.
    #[arg(long, env = "ATM_PEPPER_FILE", value_name = "FILE")]
    pepper_file: PathBuf,
}

#[derive(Serialize)]
struct Keys {
    /// Files that were missing before.
    made: Vec<PathBuf>,
}

pub(super) fn run(context: &Context, args: &InitSecretsArgs, operator_token: &Path) -> Result<Exit, Failure> {
    let mut made = Vec::new();
    for path in [args.service_token_file.as_path(), &args.pepper_file, operator_token] {
        let missing = !path.exists();
        SecretFile::create_or_load(path, &*context.ids)
            .map_err(|error| Failure::invalid(error.to_string()))?;
        if missing {
            context.screen.good(&format!("Made {}", path.display()));
            made.push(path.to_owned());
        }
    }
    if made.is_empty() {
        context.screen.good("All secrets are there; nothing was changed");
    }
    context.screen.object(&Keys { made });
    Ok(Exit::Done)
}
