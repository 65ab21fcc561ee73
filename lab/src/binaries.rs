//! Finds the programs of the services: beside the lab's own, or built now.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// Auth.
    pub auth: PathBuf,
    /// The ledger.
    pub ledger: PathBuf,
    /// The gateway.
    pub gateway: PathBuf,
}

const NAMES: [&str; 3] = ["atm-auth", "atm-ledger", "atm-gateway"];

impl Binaries {
    /// Those beside this program; if one is missing, cargo builds them with this program's own profile.
    ///
    /// # Errors
    /// When they are neither there nor can be built, with what to do.
    pub fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program does not know where it is")?;
        let mut directory = own.parent().context("this program is in no directory")?.to_path_buf();
        // A test program is one directory deeper.
        if directory.ends_with("deps") {
            directory.pop();
        }
        if !complete(&directory) {
            build(&directory)?;
        }
        if !complete(&directory) {
            bail!("{} are not in {}; {HELP}", NAMES.join(", "), directory.display());
        }
        let [auth, ledger, gateway] = NAMES.map(|name| directory.join(name));
        Ok(Self { auth, ledger, gateway })
    }
}

const HELP: &str = "build them with `cargo build --release -p atm-auth -p atm-ledger -p atm-gateway`";

fn complete(directory: &Path) -> bool {
    NAMES.iter().all(|name| directory.join(name).is_file())
}

fn build(directory: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    for name in NAMES {
        cargo.args(["-p", name]);
    }
    let built =
        cargo.status().with_context(|| format!("the services are missing and cargo cannot run; {HELP}"))?;
    if !built.success() {
        bail!("the services are missing and could not be built; {HELP}");
    }
    Ok(())
}
