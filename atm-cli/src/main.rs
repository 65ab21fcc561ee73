//! The cash machine's program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    atm_cli::run(std::env::args_os())
}
