//! `plot`: draws results again.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Verdict;
use crate::screen::Screen;
use crate::{plot, row};

const EXAMPLES: &str = "\
Examples:
  atm-lab plot results/c3-resend.csv
  atm-lab plot docs/plots/*.csv --out docs/plots";

/// What is drawn, and where it goes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Results of `run`.
    #[arg(required = true, value_name = "FILE.csv")]
    files: Vec<PathBuf>,
    /// The directory for the pictures; beside each file when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Draws.
///
/// # Errors
/// When a file cannot be read or a picture cannot be written.
pub fn run(arguments: &Arguments, screen: Screen) -> anyhow::Result<Verdict> {
    let mut drawn = Vec::new();
    for file in &arguments.files {
        let beside = file.parent().map(PathBuf::from).unwrap_or_default();
        drawn.extend(plot::draw_all(&row::read(file)?, arguments.out.as_ref().unwrap_or(&beside))?);
    }
    for path in &drawn {
        screen.line(path.display());
    }
    screen.object(&drawn);
    Ok(Verdict::Good)
}
