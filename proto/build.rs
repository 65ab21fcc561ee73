//! Compiles the protos with protox, so that nobody has to install protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const SERVICES: [&str; 8] = [
    "atm/auth/v1/auth.proto",
    "atm/bench/v1/echo.proto",
    "atm/gateway/v1/admin.proto",
    "atm/gateway/v1/atm.proto",
    "atm/ledger/v1/ledger.proto",
    "atm/text/v1/text.proto",
    "atm/type/v1/terminal.proto",
    "atm/type/v1/transaction.proto",
];

/// Messages that carry a PIN, a token or a key get no `Debug`, so that no log line can print them.
const SECRET_MESSAGES: [&str; 11] = [
    ".atm.auth.v1.VerifyPinRequest",
    ".atm.auth.v1.VerifyPinResponse",
    ".atm.auth.v1.ChangePinRequest",
    ".atm.auth.v1.CardToIssue",
    ".atm.gateway.v1.LogInRequest",
    ".atm.gateway.v1.LogInResponse",
    ".atm.gateway.v1.ChangePinRequest",
    ".atm.gateway.v1.IssueCardRequest",
    ".atm.gateway.v1.ImportRow",
    ".atm.auth.v1.IssueCardsRequest",
    ".atm.gateway.v1.ImportAccountsRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=atm");
    let descriptors = protox::compile(SERVICES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .skip_debug(SECRET_MESSAGES)
        .codec_path("crate::codec::MessageCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
